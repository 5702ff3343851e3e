//! A real `injector` beside a fake API server and a fake Sentry, and an API server's way to ask it.

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use ironside_identity::{TrustBundle, pem};
use ironside_testkit::certs::Ca;
use ironside_testkit::kube::{ApiServer, Rule};
use ironside_testkit::sentry::FakeSentry;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const NAMESPACE: &str = "dapr-system";
pub(crate) const WEBHOOK: &str = "sidecar-injector.dapr.io";
const SENTRY: &str = "spiffe://cluster.local/ns/dapr-system/dapr-sentry";
const SERVICE: &str = "dapr-sidecar-injector.dapr-system.svc";
/// What the chart grants.
const CHART: &str = include_str!("../../../charts/ironside/templates/rbac/injector.yaml");

/// A cluster without an injector yet.
pub(crate) struct Cluster {
    pub(crate) ca: Ca,
    pub(crate) api: ApiServer,
    pub(crate) sentry: FakeSentry,
    folder: TempDir,
}

/// A running injector; it is killed with the value.
pub(crate) struct Injector {
    child: Child,
    log: Arc<(Mutex<Vec<String>>, Condvar)>,
}

/// A connection of an API server.
pub(crate) struct Client(hyper::client::conn::http1::SendRequest<Full<Bytes>>);

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) kind: String,
    pub(crate) text: String,
}

/// The one value that the rules name.
const SYSTEM_CONFIGURATION: &str = "{{ .Values.dapr_config.dapr_default_system_config_name }}";

/// The rules of the chart: those of the cluster, and those of the control plane's namespace.
fn chart_rules() -> Vec<Rule> {
    let rules = |name: &str| -> Value {
        let begin = format!("{{{{- define \"ironside.injector.{name}\" }}}}");
        let text = CHART.split(&begin).nth(1).unwrap();
        let text = text.split("{{- end }}").next().unwrap();
        let text = text.replace(SYSTEM_CONFIGURATION, "daprsystem");
        serde_yaml::from_str(&text).unwrap()
    };
    let cluster = Rule::of_role(&json!({"rules": rules("clusterRules")}));
    let own = json!({"metadata": {"namespace": NAMESPACE}, "rules": rules("rules")});
    cluster.into_iter().chain(Rule::of_role(&own)).collect()
}

// === impl Cluster ===

impl Cluster {
    /// A cluster as the chart and Sentry leave it.
    pub(crate) fn new() -> Self {
        let cluster = Self::bare();
        cluster.publish(&cluster.ca.root_pem());
        cluster.put_webhook(None);
        cluster
    }

    /// A cluster without anchors and without a webhook.
    pub(crate) fn bare() -> Self {
        let ca = Ca::new();
        let sentry = FakeSentry::start(&ca, SENTRY);
        let api = ApiServer::start_tls();
        api.restrict(chart_rules());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kubeconfig"), api.kubeconfig()).unwrap();
        fs::write(folder.path().join("token"), "token").unwrap();
        Self {
            ca,
            api,
            sentry,
            folder,
        }
    }

    /// Puts trust anchors into the ConfigMap.
    pub(crate) fn publish(&self, pem: &str) {
        self.api.put(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"ca.crt": pem},
            "metadata": {"name": "dapr-trust-bundle", "namespace": NAMESPACE},
        }));
    }

    /// Puts the webhook's configuration in, behind somebody else's webhook.
    pub(crate) fn put_webhook(&self, bundle: Option<&str>) {
        let mut ours = json!({
            "name": WEBHOOK, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "dapr-sidecar-injector", "namespace": NAMESPACE}},
        });
        if let Some(bundle) = bundle {
            ours["clientConfig"]["caBundle"] = bundle.into();
        }
        let other = json!({
            "name": "other.example", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://other.example"},
        });
        self.api.put(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "dapr-sidecar-injector"}, "webhooks": [other, ours],
        }));
    }

    /// The webhooks as they are.
    pub(crate) fn webhooks(&self) -> Value {
        let version = "admissionregistration.k8s.io/v1";
        let kind = "MutatingWebhookConfiguration";
        let found = self.api.object(version, kind, "", "dapr-sidecar-injector");
        found.unwrap()["webhooks"].clone()
    }

    /// The anchors by which the API server trusts the webhook.
    pub(crate) fn bundle(&self) -> Option<String> {
        use base64::Engine as _;
        let text = self.webhooks()[1]["clientConfig"]["caBundle"]
            .as_str()?
            .to_owned();
        let text = base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap();
        Some(String::from_utf8(text).unwrap())
    }

    /// Says whether mutual TLS is on.
    pub(crate) fn configure(&self, mtls: Value) {
        self.api.put(json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "spec": {"mtls": mtls},
            "metadata": {"name": "daprsystem", "namespace": NAMESPACE},
        }));
    }

    /// The command as the chart runs it, on ports of the system's choice.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
        command
            .env_clear()
            .current_dir(self.folder.path())
            .stdout(Stdio::piped());
        for flag in ["port", "healthz-port", "metrics-port"] {
            command.arg(format!("-{flag}=0"));
        }
        for flag in [
            "listen-address",
            "healthz-listen-address",
            "metrics-listen-address",
        ] {
            command.arg(format!("--{flag}=127.0.0.1"));
        }
        command
            .args([
                "--log-level",
                "debug",
                "--scheduler-enabled=false",
                "--kubeconfig",
            ])
            .arg(self.folder.path().join("kubeconfig"))
            .env("NAMESPACE", NAMESPACE)
            .env("SIDECAR_IMAGE", "registry.example/daprd:1")
            .env("KUBE_CLUSTER_DOMAIN", "cluster.local")
            .env("ACTORS_ENABLED", "false")
            .env("DAPR_TRUST_ANCHORS_CONFIGMAP", "dapr-trust-bundle")
            .env("DAPR_SENTRY_ADDRESS", self.sentry.address().to_string())
            .env("DAPR_SENTRY_TOKEN_FILE", self.folder.path().join("token"))
            .env("DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK", "true");
        command
    }

    pub(crate) fn start(&self) -> Injector {
        Injector::spawn(self.command())
    }

    /// Starts one and waits until it is ready.
    pub(crate) async fn ready(&self) -> Injector {
        let injector = self.start();
        until("readiness", async || injector.healthz().await == 200).await;
        injector
    }

    /// Connects as an API server does: by the bundle of the webhook, to the name of the Service.
    pub(crate) async fn connect(&self, injector: &Injector) -> Client {
        let bundle = self.bundle().unwrap();
        let (stream, _) = handshake(injector.address(), bundle.as_bytes()).await;
        Client::new(stream).await
    }
}

/// Shakes hands; returns the stream and the certificate that was shown.
pub(crate) async fn handshake(
    address: SocketAddr,
    roots: &[u8],
) -> (TlsStream<TcpStream>, CertificateDer<'static>) {
    let mut store = RootCertStore::empty();
    for root in pem::certificates(roots).unwrap() {
        store.add(root).unwrap();
    }
    let config = ClientConfig::builder_with_provider(ironside_transport::provider());
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(store).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(SERVICE).unwrap();
    let stream = connector.connect(name, tcp).await.unwrap();
    let leaf = stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned();
    (stream, leaf)
}

// === impl Client ===

impl Client {
    async fn new(stream: TlsStream<TcpStream>) -> Self {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own connection")]
        tokio::spawn(connection);
        Self(sender)
    }

    /// Sends a body and returns what is answered.
    pub(crate) async fn send(&mut self, path: &str, kind: &str, body: impl Into<Bytes>) -> Reply {
        let request = Request::post(path)
            .header(header::HOST, SERVICE)
            .header(header::CONTENT_TYPE, kind)
            .body(Full::new(body.into()))
            .unwrap();
        self.0.ready().await.unwrap();
        let sent = tokio::time::timeout(SOON, self.0.send_request(request)).await;
        let (head, body) = sent.unwrap().unwrap().into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        let kind = head.headers.get(header::CONTENT_TYPE);
        Reply {
            status: head.status,
            kind: kind.map_or("", |kind| kind.to_str().unwrap()).to_owned(),
            text: String::from_utf8(text.to_vec()).unwrap(),
        }
    }

    /// Whether the other side has ended the connection.
    pub(crate) async fn is_over(&mut self) -> bool {
        self.0.ready().await.is_err()
    }

    /// Sends a review and returns the response in the answer.
    pub(crate) async fn review(&mut self, review: &Value) -> Value {
        let path = "/mutate?timeout=5s";
        let reply = self
            .send(path, "application/json", review.to_string())
            .await;
        assert_eq!(
            (reply.status, reply.kind.as_str()),
            (StatusCode::OK, "application/json"),
            "{}",
            reply.text
        );
        let answer: Value = serde_json::from_str(&reply.text).unwrap();
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["apiVersion"], review["apiVersion"]);
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }
}

// === impl Injector ===

impl Injector {
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (lines, stdout) = (Arc::clone(&log), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.0.lock().unwrap().push(line);
                lines.1.notify_all();
            }
        });
        Self { child, log }
    }

    /// Waits for a line of the log that holds `text`.
    pub(crate) fn line(&self, text: &str) -> String {
        let (lines, changed) = &*self.log;
        let find = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        let lines = lines.lock().unwrap();
        let (lines, _) = changed
            .wait_timeout_while(lines, SOON, |lines| find(lines).is_none())
            .unwrap();
        find(&lines).unwrap_or_else(|| panic!("no line {text:?} in\n{}", lines.join("\n")))
    }

    fn address_after(&self, text: &str) -> SocketAddr {
        let line = self.line(text);
        let rest = line.split(text).nth(1).unwrap();
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
        rest[..end.unwrap_or(rest.len())].parse().unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address_after("Sidecar injector is listening on ")
    }

    /// The status of `/healthz`; 0 while nobody listens.
    pub(crate) async fn healthz(&self) -> u16 {
        let text = get(
            self.address_after("Healthz server is listening on "),
            "/healthz",
        )
        .await;
        text.split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_default()
    }

    /// The value of a series.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let text = get(self.address_after("metrics server started on "), "/").await;
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.and_then(|rest| rest.strip_prefix(' ')?.parse().ok())
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let wait = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, wait).await.unwrap()
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let ask = async {
        let mut io = TcpStream::connect(address).await.ok()?;
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        io.write_all(head.as_bytes()).await.ok()?;
        let mut text = String::new();
        io.read_to_string(&mut text).await.ok()?;
        Some(text)
    };
    let asked = tokio::time::timeout(SOON, ask).await.unwrap();
    asked.unwrap_or_default()
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, wait).await;
    assert!(waited.is_ok(), "{what} does not come");
}

/// `base pod` of the sheet.
pub(crate) fn base() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "app1-7d9-",
            "annotations": {
                "dapr.io/enabled": "true", "dapr.io/app-id": "app1", "dapr.io/app-port": "3000",
            },
        },
        "spec": {"containers": [{"name": "main", "image": "app:1"}]},
    })
}

/// A review of this pod, asked for by this user.
pub(crate) fn review(user: &str, groups: &[&str], pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": "n1",
            "operation": "CREATE", "userInfo": {"username": user, "groups": groups}, "object": pod,
        },
    })
}

/// A review by an administrator.
pub(crate) fn by_admin(pod: &Value) -> Value {
    review("admin", &["system:masters"], pod)
}

/// The pod with the patch of this response.
pub(crate) fn patched(pod: &Value, response: &Value) -> Value {
    use base64::Engine as _;
    assert_eq!(
        (&response["allowed"], &response["patchType"]),
        (&json!(true), &json!("JSONPatch")),
        "{response}"
    );
    let text = response["patch"].as_str().unwrap();
    let text = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&text).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

/// The sidecar of a pod.
pub(crate) fn daprd(pod: &Value) -> Value {
    let lists = ["initContainers", "containers"].iter();
    let mut all = lists.flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    all.find(|one| one["name"] == "daprd").cloned().unwrap()
}

/// The roots in a text.
pub(crate) fn roots(pem: &str) -> TrustBundle {
    TrustBundle::from_pem(pem.as_bytes()).unwrap()
}
