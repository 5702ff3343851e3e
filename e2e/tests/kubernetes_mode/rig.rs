//! A namespace in one process: API server, Sentry with the validator of clusters, operator, DNS, and pods, each a
//! real sidecar on an address of its own.

use std::{fs, net::Ipv4Addr, path::PathBuf, process::Command, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ironside_e2e::{World, binaries, ports, program::Program, wait};
use ironside_testkit::{
    certs::Ca,
    http::{self, Reply, Request},
    kube::{ApiServer, Token},
};
use serde_json::{Value, json};

use crate::{
    dns::{Dns, shown},
    operator::{Operator, State},
};

pub(crate) const OPERATOR: &str = "spiffe://cluster.local/ns/dapr-system/dapr-operator";
const SENTRY: &str = "spiffe://cluster.local/ns/dapr-system/dapr-sentry";

/// The namespace.
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) ca: Ca,
    server: ApiServer,
    _sentry: Program,
    sentry_port: u16,
    pub(crate) state: Arc<State>,
    pub(crate) operator_port: u16,
    pub(crate) dns: Dns,
    /// The internal port, which all sidecars share.
    pub(crate) internal: u16,
}

/// What a pod is made of.
pub(crate) struct Pod {
    app_id: String,
    name: String,
    address: Ipv4Addr,
    app_port: Option<u16>,
    protocol: &'static str,
    config: Option<String>,
    environment: Vec<(String, String)>,
    flags: Vec<String>,
}

/// A running sidecar of a pod.
pub(crate) struct Sidecar {
    pub(crate) program: Program,
    pub(crate) http: u16,
    pub(crate) grpc: u16,
    pub(crate) public: u16,
    pub(crate) metrics: u16,
}

// === impl Cluster ===

impl Cluster {
    /// A namespace without operator.
    pub(crate) async fn new(has_snapshots: bool) -> Self {
        let world = World::new();
        let (server, ca) = (ApiServer::start_tls(), Ca::new());
        let texts = [
            ("ca.crt", ca.root_pem()),
            ("issuer.crt", ca.issuer_pem()),
            ("issuer.key", ca.issuer_key_pem()),
        ];
        let data: serde_json::Map<String, Value> = texts
            .into_iter()
            .map(|(key, text)| (key.to_owned(), STANDARD.encode(text).into()))
            .collect();
        let metadata = json!({ "name": "dapr-trust-bundle", "namespace": "dapr-system" });
        server.put(
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data }),
        );
        server.put(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata }));
        let kubeconfig = world.write("kubeconfig", &server.kubeconfig());
        let (sentry_port, health) = (ports::free(), ports::free());
        let mut command = Command::new(binaries::path("sentry"));
        command
            .env_clear()
            .env("NAMESPACE", "dapr-system")
            .env("DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK", "true")
            .args([
                "--mode",
                "kubernetes",
                "--trust-domain",
                "cluster.local",
                "--kubeconfig",
            ])
            .arg(kubeconfig);
        for (flag, port) in [
            ("--port", sentry_port),
            ("--healthz-port", health),
            ("--metrics-port", ports::free()),
        ] {
            command.args([flag, &port.to_string()]);
        }
        for flag in [
            "--listen-address",
            "--healthz-listen-address",
            "--metrics-listen-address",
        ] {
            command.args([flag, "127.0.0.1"]);
        }
        let sentry = Program::start(&world, "sentry", &mut command);
        let healthy = || async {
            let reply = http::send(health, &Request::get("/healthz")).await;
            reply.is_ok_and(|reply| reply.status() == 200).then_some(())
        };
        wait::until("health of sentry", 2 * wait::LONG, healthy)
            .await
            .unwrap();
        let dns = Dns::start().await;
        let state = State::new(has_snapshots);
        let cluster = Self {
            world,
            ca,
            server,
            _sentry: sentry,
            sentry_port,
            state,
            operator_port: ports::free(),
            dns,
            internal: ports::free(),
        };
        cluster.configure("plain", 1, json!({}));
        cluster
    }

    pub(crate) async fn operator(&self) -> Operator {
        Operator::start(&self.ca, OPERATOR, self.operator_port, &self.state).await
    }

    /// A Configuration whose sidecars ask the test's DNS.
    pub(crate) fn configure(&self, name: &str, generation: i64, mut spec: Value) {
        let nameservers = self.dns.address.to_string();
        spec["nameResolution"] = json!({
            "component": "kubernetes",
            "configuration": { "nameservers": nameservers },
        });
        self.state.put("Configuration", name, generation, &spec);
    }

    /// Makes the pod known to the API server, and returns the file with its token.
    fn admit(&self, pod: &Pod) -> PathBuf {
        let account = format!("{}-sa", pod.app_id);
        let metadata = json!({ "name": account, "namespace": "shop" });
        self.server
            .put(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }));
        let annotations = json!({ "dapr.io/app-id": pod.app_id });
        let put = self.server.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": pod.name, "namespace": "shop", "annotations": annotations },
            "spec": { "serviceAccountName": account, "containers": [{ "name": "daprd", "image": "daprd:1" }] },
        }));
        let uid = put["metadata"]["uid"].as_str().unwrap();
        let text = format!("token of {}", pod.name);
        let token = Token::service_account("shop", &account, &[SENTRY]);
        self.server.accept(&text, token.bound_to(&pod.name, uid));
        self.world.write(&self.world.fresh("token", "txt"), &text)
    }

    /// Starts a pod's sidecar as an injector would, but for ports, and does not wait.
    pub(crate) fn launch(&self, pod: &Pod) -> Sidecar {
        let token = self.admit(pod);
        let (http, grpc) = (ports::free(), ports::free());
        let (public, metrics) = (ports::free(), ports::free());
        let mut command = Command::new(binaries::path("daprd"));
        command
            .env_clear()
            .env("NAMESPACE", "shop")
            .env("DAPR_TRUST_ANCHORS", self.ca.root_pem())
            .env("POD_NAME", &pod.name)
            .env("DAPR_CONTROLPLANE_NAMESPACE", "dapr-system")
            .env("DAPR_CONTROLPLANE_TRUST_DOMAIN", "cluster.local")
            .env("DAPR_HOST_IP", shown(pod.address))
            .env("DAPR_SENTRY_TOKEN_FILE", token)
            .env("DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK", "true")
            .envs(pod.environment.iter().map(|(name, value)| (name, value)));
        for (flag, value) in [
            ("--dapr-http-port", http.to_string()),
            ("--dapr-grpc-port", grpc.to_string()),
            ("--dapr-internal-grpc-port", self.internal.to_string()),
            ("--dapr-internal-grpc-listen-address", shown(pod.address)),
            ("--dapr-listen-addresses", "[::1],127.0.0.1".to_owned()),
            ("--dapr-public-port", public.to_string()),
            ("--app-id", pod.app_id.clone()),
            ("--app-protocol", pod.protocol.to_owned()),
            ("--log-level", "debug".to_owned()),
            ("--dapr-graceful-shutdown-seconds", "-1".to_owned()),
            ("--mode", "kubernetes".to_owned()),
            (
                "--control-plane-address",
                format!("127.0.0.1:{}", self.operator_port),
            ),
            (
                "--sentry-address",
                format!("127.0.0.1:{}", self.sentry_port),
            ),
            ("--metrics-port", metrics.to_string()),
            ("--scheduler-host-address", String::new()),
            ("--disable-init-endpoints", "config".to_owned()),
        ] {
            command.args([flag, &value]);
        }
        if let Some(port) = pod.app_port {
            command.args(["--app-port", &port.to_string()]);
        }
        if let Some(config) = &pod.config {
            command.args(["--config", config]);
        }
        command
            .args(["--enable-metrics", "--enable-mtls"])
            .args(&pod.flags);
        Sidecar {
            program: Program::start(&self.world, &pod.name, &mut command),
            http,
            grpc,
            public,
            metrics,
        }
    }

    /// Starts it and waits until its startup probe passes.
    pub(crate) async fn start(&self, pod: &Pod) -> Sidecar {
        let sidecar = self.launch(pod);
        sidecar.healthy("/v1.0/healthz/outbound").await;
        sidecar
    }
}

// === impl Pod ===

impl Pod {
    pub(crate) fn new(app_id: &str, name: &str, address: Ipv4Addr) -> Self {
        Self {
            app_id: app_id.to_owned(),
            name: name.to_owned(),
            address,
            app_port: None,
            protocol: "http",
            config: Some("plain".to_owned()),
            environment: Vec::new(),
            flags: Vec::new(),
        }
    }

    pub(crate) fn app(mut self, port: u16) -> Self {
        self.app_port = Some(port);
        self
    }

    /// The same app port, spoken to over gRPC.
    pub(crate) fn grpc(mut self) -> Self {
        self.protocol = "grpc";
        self
    }

    pub(crate) fn config(mut self, name: Option<&str>) -> Self {
        self.config = name.map(str::to_owned);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A flag in one word.
    pub(crate) fn word(mut self, word: &str) -> Self {
        self.flags.push(word.to_owned());
        self
    }

    pub(crate) fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.extend([name.to_owned(), value.to_owned()]);
        self
    }
}

// === impl Sidecar ===

impl Sidecar {
    /// Waits until a path of the public port answers 204.
    pub(crate) async fn healthy(&self, path: &str) {
        let look = || async { (self.health(path).await == 204).then_some(()) };
        let waited = wait::until(path, Duration::from_secs(40), look).await;
        waited.unwrap_or_else(|error| {
            self.program.show();
            panic!("{error:#}");
        });
    }

    /// Status of a path of the public port; 0 if nobody listens.
    pub(crate) async fn health(&self, path: &str) -> u16 {
        let reply = http::send(self.public, &Request::get(path)).await;
        reply.map_or(0, |reply| reply.status())
    }

    /// `GET` of another app's method.
    pub(crate) async fn call(&self, app: &str, path: &str) -> std::io::Result<Reply> {
        let path = format!("/v1.0/invoke/{app}/method/{path}");
        http::send(self.http, &Request::get(&path)).await
    }

    /// A value of the extended metadata.
    pub(crate) async fn metadata(&self, key: &str) -> Option<String> {
        let reply = http::send(self.http, &Request::get("/v1.0/metadata"))
            .await
            .ok()?;
        let view: Value = serde_json::from_str(&reply.text()).ok()?;
        view["extended"][key].as_str().map(str::to_owned)
    }

    /// Waits until a value of the extended metadata is this.
    pub(crate) async fn knows(&self, key: &str, value: &str) {
        let look = || async { (self.metadata(key).await.as_deref() == Some(value)).then_some(()) };
        let waited = wait::until(key, 2 * wait::LONG, look).await;
        waited.unwrap_or_else(|error| {
            self.program.show();
            panic!("{error:#}");
        });
    }
}

/// The roots that a file holds.
pub(crate) fn read(path: &std::path::Path) -> Option<String> {
    fs::read_to_string(path).ok()
}
