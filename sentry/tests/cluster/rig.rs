//! A fake cluster with the chart's objects, pods with tokens, and what a Sentry says of them.

use crate::support::{Client, SOON, Sentry, command, request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ironside_identity::{SpiffeId, TrustBundle, pem, verify};
use ironside_proto::sentry::SignCertificateRequest;
use ironside_testkit::certs::{Ca, now};
use ironside_testkit::kube::{ApiServer, Rule, Token, When};
use serde_json::{Map, Value, json};
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub(crate) const NAMESPACE: &str = "dapr-system";
pub(crate) const NAME: &str = "dapr-trust-bundle";
pub(crate) const SENTRY: &str = "spiffe://cluster.local/ns/dapr-system/dapr-sentry";
pub(crate) const FILES: [&str; 3] = ["ca.crt", "issuer.crt", "issuer.key"];
/// The page that says which rights Sentry needs.
const PAGE: &str = include_str!("../../../docs/security.md");

/// A fake cluster.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    folder: TempDir,
}

/// A pod to be put into the cluster.
#[derive(Clone, Copy)]
pub(crate) struct Pod<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) account: &'a str,
    pub(crate) annotations: &'a [(&'a str, &'a str)],
}

/// What a Sentry has issued.
pub(crate) struct Issued {
    pub(crate) id: String,
    pub(crate) dns: Vec<String>,
    /// The content of the images' extension.
    pub(crate) images: Value,
}

/// The rules that the page shows.
fn documented_rules() -> Vec<Rule> {
    let from = PAGE.find("kind: ClusterRole").unwrap();
    let text = &PAGE[..PAGE[from..].find("```").unwrap() + from];
    let text = &text[text.rfind("```yaml").unwrap() + "```yaml".len()..];
    let roles = text.split("\n---\n");
    let rules = roles.flat_map(|role| {
        let role: Value = serde_yaml::from_str(role).unwrap();
        Rule::of_role(&role)
    });
    rules.collect()
}

// === impl Pod ===

impl Default for Pod<'_> {
    fn default() -> Self {
        Self {
            namespace: "shop",
            name: "orders-7d9",
            account: "orders-sa",
            annotations: &[("dapr.io/app-id", "orders")],
        }
    }
}

impl Pod<'_> {
    fn object(&self) -> Value {
        let annotations: Map<_, _> = self
            .annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).into()))
            .collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "annotations": annotations},
            "spec": {
                "serviceAccountName": self.account,
                "containers": [
                    {"name": "web", "image": "registry.example/web:1"},
                    {"name": "daprd", "image": "registry.example/daprd:1"}],
            },
            "status": {"containerStatuses": [{"name": "web", "imageID": "registry.example/web@sha256:ab"}]},
        })
    }
}

// === impl Cluster ===

impl Cluster {
    /// A cluster as the chart leaves it: two objects without data, and the documented rights.
    pub(crate) fn new() -> Self {
        let server = ApiServer::start_tls();
        server.restrict(documented_rules());
        for kind in ["Secret", "ConfigMap"] {
            let metadata = json!({"name": NAME, "namespace": NAMESPACE});
            server.put(json!({"apiVersion": "v1", "kind": kind, "metadata": metadata}));
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kubeconfig"), server.kubeconfig()).unwrap();
        Self { server, folder }
    }

    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = command(self.folder.path(), &["--mode", "kubernetes"]);
        command
            .args(["--trust-domain", "cluster.local", "--kubeconfig"])
            .arg(self.folder.path().join("kubeconfig"))
            .args(more)
            .env("NAMESPACE", NAMESPACE)
            .env("DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK", "true");
        command
    }

    /// Starts a Sentry without waiting.
    pub(crate) fn spawn(&self, more: &[&str]) -> Sentry {
        Sentry::spawn(self.command(more), self.folder.path())
    }

    /// Starts a Sentry and waits until it issues.
    pub(crate) async fn sentry(&self, more: &[&str]) -> Sentry {
        let sentry = self.spawn(more);
        sentry.line("Running gRPC server on port ");
        until("health", async || healthz(&sentry).await == 200).await;
        sentry
    }

    /// Puts a pod with its service account into the cluster; its token is `token of <pod>`.
    pub(crate) fn run(&self, pod: &Pod<'_>) -> String {
        let metadata = json!({"name": pod.account, "namespace": pod.namespace});
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
        self.server.put(account);
        let put = self.server.put(pod.object());
        let uid = put["metadata"]["uid"].as_str().unwrap().to_owned();
        let text = format!("token of {}", pod.name);
        let token = Token::service_account(pod.namespace, pod.account, &[SENTRY]);
        self.server.accept(&text, token.bound_to(pod.name, &uid));
        text
    }

    /// Puts a Configuration in.
    pub(crate) fn configure(&self, namespace: &str, name: &str, spec: Value) {
        self.server.put(json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        }));
    }

    /// Fills the Secret with an authority of somebody's own.
    pub(crate) fn supply(&self, ca: &Ca) {
        let texts = [ca.root_pem(), ca.issuer_pem(), ca.issuer_key_pem()];
        let texts = FILES.into_iter().zip(texts);
        let data: Map<_, _> = texts
            .map(|(key, text)| (key.to_owned(), STANDARD.encode(text).into()))
            .collect();
        self.server.put(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": NAMESPACE}, "data": data,
        }));
    }

    pub(crate) fn secret(&self) -> Value {
        self.server.object("v1", "Secret", NAMESPACE, NAME).unwrap()
    }

    /// A key of the Secret, decoded.
    pub(crate) fn key(&self, key: &str) -> Option<String> {
        let text = self.secret()["data"][key].as_str()?.to_owned();
        Some(String::from_utf8(STANDARD.decode(text).unwrap()).unwrap())
    }

    /// The roots that the ConfigMap publishes.
    pub(crate) fn published(&self) -> Option<String> {
        let map = self.server.object("v1", "ConfigMap", NAMESPACE, NAME);
        map.unwrap()["data"]["ca.crt"].as_str().map(str::to_owned)
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem(self.key("ca.crt").unwrap().as_bytes()).unwrap()
    }

    /// How many tokens have been reviewed.
    pub(crate) fn reviews(&self) -> usize {
        let reviews = When::new("create", "tokenreviews");
        self.server.seen(&reviews).len()
    }

    pub(crate) async fn client(&self, sentry: &Sentry) -> Client {
        self.client_from(sentry, "127.0.0.1").await
    }

    pub(crate) async fn client_from(&self, sentry: &Sentry, address: &str) -> Client {
        let id = SpiffeId::parse(SENTRY).unwrap();
        sentry.connect_to(address, &id, self.bundle()).await
    }

    /// Connects with roots that are not those of the Secret.
    pub(crate) async fn client_with(&self, sentry: &Sentry, bundle: TrustBundle) -> Client {
        let id = SpiffeId::parse(SENTRY).unwrap();
        sentry.connect_to("127.0.0.1", &id, bundle).await
    }

    /// Asks for a certificate over a connection of its own.
    pub(crate) async fn ask(
        &self,
        sentry: &Sentry,
        request: SignCertificateRequest,
    ) -> Result<Issued, Status> {
        let answer = self.client(sentry).await.sign(request).await?;
        let chain = pem::certificates(&answer.workload_certificate).unwrap();
        let peer = verify(&chain, &self.bundle(), now()).unwrap();
        let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        let mut dns = Vec::new();
        for name in &names.value.general_names {
            if let GeneralName::DNSName(name) = name {
                dns.push((*name).to_owned());
            }
        }
        let images = leaf
            .extensions()
            .iter()
            .find(|one| one.oid.to_id_string() == "1.3.6.1.4.1.57683.100.1");
        let images = images.map_or(Value::Null, |extension| {
            assert!(!extension.critical);
            // The content of an OCTET STRING of less than 64 KiB.
            let json = extension
                .value
                .iter()
                .position(|byte| *byte == b'[')
                .unwrap();
            serde_json::from_slice(&extension.value[json..]).unwrap()
        });
        Ok(Issued {
            id: peer.id.to_string(),
            dns,
            images,
        })
    }

    /// Expects a refusal with this text.
    pub(crate) async fn refused(
        &self,
        sentry: &Sentry,
        request: SignCertificateRequest,
        text: &str,
    ) {
        let status = match self.ask(sentry, request).await {
            Err(status) => status,
            Ok(issued) => panic!("issued {} in the place of {text}", issued.id),
        };
        assert_eq!(
            (status.code(), status.message()),
            (Code::PermissionDenied, text)
        );
    }
}

/// A good request.
pub(crate) fn claim(namespace: &str, id: &str, token: &str) -> SignCertificateRequest {
    SignCertificateRequest {
        namespace: namespace.into(),
        token: token.into(),
        ..request(id)
    }
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert!(waited.is_ok(), "{what} does not come");
}

/// The status of `/healthz`.
pub(crate) async fn healthz(sentry: &Sentry) -> u16 {
    let text = get(sentry.healthz(), "/healthz").await;
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Says whether a metric has this value.
pub(crate) async fn metric(sentry: &Sentry, line: &str) -> bool {
    let text = get(sentry.metrics(), "/metrics").await;
    text.lines().any(|have| have == line)
}

async fn get(address: SocketAddr, path: &str) -> String {
    let ask = async {
        let mut io = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        io.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        io.read_to_string(&mut text).await.unwrap();
        text
    };
    tokio::time::timeout(SOON, ask).await.unwrap()
}
