//! Sentry, operator and injector beside a fake API server, and a sidecar that follows the operator.

use std::{path::PathBuf, process::Command, sync::Arc};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use ironside_e2e::{World, binaries, ports, program::Program, wait};
use ironside_identity::pem;
use ironside_testkit::{
    certs::Ca,
    kube::{ApiServer, Token},
};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs::default_provider},
};

use crate::series::Page;

const SYSTEM: &str = "dapr-system";
const SENTRY: &str = "spiffe://cluster.local/ns/dapr-system/dapr-sentry";
const WEBHOOK: &str = "dapr-sidecar-injector.dapr-system.svc";

/// The Secret from which Sentry takes root and issuer.
fn credentials(ca: &Ca) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "dapr-trust-bundle", "namespace": SYSTEM},
        "data": {
            "ca.crt": STANDARD.encode(ca.root_pem()),
            "issuer.crt": STANDARD.encode(ca.issuer_pem()),
            "issuer.key": STANDARD.encode(ca.issuer_key_pem()),
        },
    })
}

/// The machine that everything runs on.
struct Cluster {
    world: World,
    ca: Ca,
    server: ApiServer,
    kubeconfig: PathBuf,
    sentry: u16,
}

/// A program with a metrics port.
struct Running {
    program: Program,
    job: &'static str,
    target: Vec<(&'static str, &'static str)>,
    metrics: u16,
}

/// Runs everything and returns the pages of all that has one.
pub(crate) async fn scrape() -> Result<Vec<Page>> {
    let cluster = Cluster::new();
    let sentry = cluster.sentry();
    let operator_port = ports::free();
    let operator = cluster.operator(operator_port);
    let (injector, webhook) = cluster.injector();
    let sidecar = cluster.sidecar(operator_port);
    // Nobody knows their tokens yet.
    injector
        .until(&["dapr_injector_identity_failures_total{"])
        .await?;
    sentry
        .until(&["dapr_sentry_decisions_total{", "decision=\"denied\""])
        .await?;
    sidecar
        .program
        .logged("error from sentry SignCertificate")
        .await?;
    cluster.admit("cart", "shop", ("dapr.io/app-id", "cart"));
    cluster.admit(
        "dapr-injector",
        SYSTEM,
        ("dapr.io/control-plane", "injector"),
    );
    cluster.services(&operator).await?;
    cluster.objects(&operator, &sidecar).await?;
    injector
        .until(&["dapr_injector_certificate_expiry_timestamp 1"])
        .await?;
    cluster
        .reviews(webhook)
        .await
        .inspect_err(|_| injector.program.show())?;
    cluster.server.put(credentials(&cluster.ca.new_issuer()));
    sentry
        .until(&["dapr_sentry_issuercert_changed_total 1"])
        .await?;
    let mut pages = Vec::new();
    for running in [&sentry, &operator, &injector, &sidecar] {
        pages.push(running.page().await?);
    }
    Ok(pages)
}

// === impl Running ===

impl Running {
    async fn page(&self) -> Result<Page> {
        Page::fetch(self.metrics, self.job, &self.target).await
    }

    async fn until(&self, parts: &[&str]) -> Result<()> {
        let look = || async { self.page().await.ok()?.says(parts).then_some(()) };
        let what = format!("{parts:?} of {:?}", self.target);
        let waited = wait::until(&what, wait::LONG, look).await;
        if waited.is_err() {
            self.program.show();
            eprintln!("{:?}", self.page().await);
        }
        waited
    }
}

// === impl Cluster ===

impl Cluster {
    fn new() -> Self {
        let (world, ca, server) = (World::new(), Ca::new(), ApiServer::start_tls());
        let bundle = json!({"name": "dapr-trust-bundle", "namespace": SYSTEM});
        server.put(credentials(&ca));
        server.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": bundle}));
        let sentry = ports::free();
        let mtls = json!({
            "enabled": true, "controlPlaneTrustDomain": "cluster.local",
            "sentryAddress": format!("127.0.0.1:{sentry}"),
        });
        server.put(json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "spec": {"mtls": mtls},
            "metadata": {"name": "daprsystem", "namespace": SYSTEM},
        }));
        server.put(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "dapr-sidecar-injector"},
            "webhooks": [{
                "name": "sidecar-injector.dapr.io", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"service": {"name": "dapr-sidecar-injector", "namespace": SYSTEM}},
            }],
        }));
        server.put(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "accesscontrols.dapr.io"},
        }));
        let kubeconfig = world.write("kubeconfig", &server.kubeconfig());
        Self {
            world,
            ca,
            server,
            kubeconfig,
            sentry,
        }
    }

    /// A program of ours on this port, in a pod of this namespace.
    fn command(&self, name: &str, port: u16, metrics: u16, namespace: &str) -> Command {
        let mut command = Command::new(binaries::path(name));
        command
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("NAMESPACE", namespace)
            .env("DAPR_TRUST_ANCHORS_CONFIGMAP", "dapr-trust-bundle")
            .env("DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK", "true");
        for (flag, port) in [
            ("port", port),
            ("healthz-port", ports::free()),
            ("metrics-port", metrics),
        ] {
            command.arg(format!("--{flag}={port}"));
        }
        for flag in [
            "listen-address",
            "healthz-listen-address",
            "metrics-listen-address",
        ] {
            command.arg(format!("--{flag}=127.0.0.1"));
        }
        command
    }

    fn run(
        &self,
        name: &'static str,
        app: &'static str,
        metrics: u16,
        command: &mut Command,
    ) -> Running {
        Running {
            program: Program::start(&self.world, name, command),
            job: "ironside-control-plane",
            target: vec![("namespace", SYSTEM), ("pod", "pod-0"), ("app", app)],
            metrics,
        }
    }

    fn sentry(&self) -> Running {
        let metrics = ports::free();
        let mut command = self.command("sentry", self.sentry, metrics, SYSTEM);
        command
            .args([
                "--mode",
                "kubernetes",
                "--trust-domain",
                "cluster.local",
                "--kubeconfig",
            ])
            .arg(&self.kubeconfig);
        self.run("sentry", "dapr-sentry", metrics, &mut command)
    }

    fn operator(&self, port: u16) -> Running {
        let metrics = ports::free();
        let token = self.admit(
            "dapr-operator",
            SYSTEM,
            ("dapr.io/control-plane", "operator"),
        );
        let mut command = self.command("operator", port, metrics, SYSTEM);
        command
            .arg(format!("--webhook-server-port={}", ports::free()))
            .arg("--webhook-server-listen-address=127.0.0.1")
            .env("DAPR_SENTRY_TOKEN_FILE", token);
        self.run("operator", "dapr-operator", metrics, &mut command)
    }

    fn injector(&self) -> (Running, u16) {
        let (port, metrics) = (ports::free(), ports::free());
        let token = self
            .world
            .write("token-of-dapr-injector", "token of dapr-injector");
        let mut command = self.command("injector", port, metrics, SYSTEM);
        command
            .args(["--scheduler-enabled=false", "--kubeconfig"])
            .arg(&self.kubeconfig)
            .env("SIDECAR_IMAGE", "registry.example/daprd:1")
            .env("KUBE_CLUSTER_DOMAIN", "cluster.local")
            .env("ACTORS_ENABLED", "false")
            .env("DAPR_SENTRY_ADDRESS", format!("127.0.0.1:{}", self.sentry))
            .env("DAPR_SENTRY_TOKEN_FILE", token);
        let injector = self.run("injector", "dapr-sidecar-injector", metrics, &mut command);
        (injector, port)
    }

    /// Makes a pod known, and its token; returns the file of the token.
    fn admit(&self, name: &str, namespace: &str, (key, value): (&str, &str)) -> PathBuf {
        let metadata = json!({"name": name, "namespace": namespace});
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
        self.server.put(account);
        let annotations = json!({ key: value });
        let pod = self.server.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
            "spec": {"serviceAccountName": name, "containers": [{"name": "daprd", "image": "daprd:1"}]},
        }));
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let text = format!("token of {name}");
        let token = Token::service_account(namespace, name, &[SENTRY]);
        self.server.accept(&text, token.bound_to(name, uid));
        self.world.write(&format!("token-of-{name}"), &text)
    }

    /// A sidecar as an injector makes it, but for ports.
    fn sidecar(&self, operator: u16) -> Running {
        let token = self.world.write("token-of-cart", "token of cart");
        let metrics = ports::free();
        let mut command = Command::new(binaries::path("daprd"));
        command
            .env_clear()
            .env("NAMESPACE", "shop")
            .env("POD_NAME", "cart")
            .env("DAPR_TRUST_ANCHORS", self.ca.root_pem())
            .env("DAPR_CONTROLPLANE_NAMESPACE", SYSTEM)
            .env("DAPR_CONTROLPLANE_TRUST_DOMAIN", "cluster.local")
            .env("DAPR_SENTRY_TOKEN_FILE", token)
            .env("DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK", "true");
        for (flag, value) in [
            ("app-id", "cart".to_owned()),
            ("mode", "kubernetes".to_owned()),
            ("control-plane-address", format!("127.0.0.1:{operator}")),
            ("sentry-address", format!("127.0.0.1:{}", self.sentry)),
            ("scheduler-host-address", String::new()),
            ("dapr-http-port", ports::free().to_string()),
            ("dapr-grpc-port", ports::free().to_string()),
            ("dapr-internal-grpc-port", ports::free().to_string()),
            ("dapr-public-port", ports::free().to_string()),
            ("dapr-listen-addresses", "127.0.0.1".to_owned()),
            ("dapr-internal-grpc-listen-address", "127.0.0.1".to_owned()),
            ("dapr-public-listen-address", "127.0.0.1".to_owned()),
            ("metrics-port", metrics.to_string()),
            ("metrics-listen-address", "127.0.0.1".to_owned()),
        ] {
            command.arg(format!("--{flag}")).arg(value);
        }
        command.args(["--enable-metrics", "--enable-mtls"]);
        Running {
            program: Program::start(&self.world, "cart", &mut command),
            job: "ironside-sidecars",
            target: vec![
                ("namespace", "shop"),
                ("pod", "cart"),
                ("service", "cart-dapr"),
            ],
            metrics,
        }
    }

    /// A Service that is made, written anew and deleted, and one that cannot be.
    async fn services(&self, operator: &Running) -> Result<()> {
        let deployment = |name: &str, id: &str, port: &str, enabled: &str| {
            let annotations = json!({
                "dapr.io/enabled": enabled, "dapr.io/app-id": id, "dapr.io/metrics-port": port,
            });
            let labels = json!({"app": name});
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels, "annotations": annotations}},
                },
            })
        };
        self.server
            .put(deployment("bad", "Not_A_Name", "9090", "true"));
        self.server.put(deployment("web", "web", "9090", "true"));
        operator
            .until(&["dapr_operator_service_created_total{app_id=\"web\"}"])
            .await?;
        self.server.put(deployment("web", "web", "9191", "true"));
        operator
            .until(&["dapr_operator_service_updated_total{app_id=\"web\"}"])
            .await?;
        self.server.put(deployment("web", "web", "9191", "false"));
        operator
            .until(&["dapr_operator_service_deleted_total{app_id=\"web\"}"])
            .await?;
        operator
            .until(&["dapr_operator_service_problems_total{"])
            .await
    }

    /// Objects for the sidecar: one of each kind that a series tells of.
    async fn objects(&self, operator: &Running, sidecar: &Running) -> Result<()> {
        sidecar
            .until(&["dapr_runtime_operator_connected{", "} 1"])
            .await?;
        self.server.put(json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Resiliency",
            "metadata": {"name": "late", "namespace": "shop", "generation": 1},
            "spec": {"policies": {"timeouts": {"t": "soon"}}, "targets": {"apps": {}}},
        }));
        self.server.put(json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Resiliency",
            "metadata": {"name": "good", "namespace": "shop", "generation": 3},
            "spec": {"policies": {}, "targets": {"apps": {}}},
        }));
        sidecar
            .until(&["dapr_runtime_resource_generation{", "name=\"good\"", "} 3"])
            .await?;
        sidecar
            .until(&[
                "dapr_runtime_resources_refused{",
                "kind=\"Resiliency\"",
                "} 1",
            ])
            .await?;
        operator
            .until(&["dapr_operator_stream_delivery_seconds_count{"])
            .await?;
        operator
            .until(&["dapr_operator_accesscontrol_sidecars{"])
            .await
    }

    /// Pods that the API server asks about: one that gets a sidecar, one that cannot.
    async fn reviews(&self, webhook: u16) -> Result<()> {
        for id in ["cart", "Not_A_Name"] {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"annotations": {"dapr.io/enabled": "true", "dapr.io/app-id": id}},
                "spec": {"containers": [{"name": "main", "image": "app:1"}]},
            });
            let review = json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "request": {
                    "uid": id, "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": "shop",
                    "operation": "CREATE", "object": pod,
                    "userInfo": {"username": "admin", "groups": ["system:masters"]},
                },
            });
            let asked = || async { self.review(webhook, &review).await.ok() };
            wait::until("an answer to a review", wait::LONG, asked).await?;
        }
        Ok(())
    }

    /// Asks the webhook as an API server does.
    async fn review(&self, port: u16, review: &Value) -> Result<()> {
        let mut roots = RootCertStore::empty();
        for root in pem::certificates(self.ca.root_pem().as_bytes())? {
            roots.add(root)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from(WEBHOOK)?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = hyper::Request::post("/mutate")
            .header("host", WEBHOOK)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(review.to_string())))?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            drop(sender);
            anyhow::Ok((status, body))
        };
        let (answer, _ended) = tokio::join!(exchange, connection);
        let (status, body) = answer?;
        let text = String::from_utf8_lossy(&body);
        anyhow::ensure!(status == 200, "{status}: {text}");
        let answer: Value = serde_json::from_slice(&body).with_context(|| text.into_owned())?;
        anyhow::ensure!(
            answer["response"]["uid"] == review["request"]["uid"],
            "{answer}"
        );
        Ok(())
    }
}
