//! The program as a process: what it refuses, what it waits for, how it ends.

#![cfg(test)]

#[path = "../src/tests/rights.rs"]
#[expect(
    dead_code,
    reason = "what is granted on request is asked for beside the parts"
)]
mod rights;

use ironside_testkit::certs::Ca;
use ironside_testkit::kube::{ApiServer, Fault, When};
use ironside_testkit::sentry::FakeSentry;
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Nothing takes longer, unless it fails.
const LONG: Duration = Duration::from_secs(30);

struct Operator {
    child: Child,
    lines: Receiver<String>,
    _folder: tempfile::TempDir,
}

impl Operator {
    fn start(server: &ApiServer, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("config");
        std::fs::write(&kubeconfig, server.kubeconfig()).unwrap();
        std::fs::write(folder.path().join("token"), "token").unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_operator"))
            .args(["--port=0", "--healthz-port=0", "--webhook-server-port=0"])
            .args([
                "--healthz-listen-address=127.0.0.1",
                "--enable-metrics=false",
            ])
            .args(flags)
            .env("KUBECONFIG", &kubeconfig)
            .env("NAMESPACE", "dapr-system")
            .env("DAPR_TRUST_ANCHORS_CONFIGMAP", "dapr-trust-bundle")
            .env("DAPR_SENTRY_TOKEN_FILE", folder.path().join("token"))
            .env_remove("KUBERNETES_SERVICE_HOST")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (told, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            _folder: folder,
        }
    }

    /// The next line that holds this text.
    fn line(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(LONG);
            let line = line.unwrap_or_else(|_| panic!("no line with {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn healthz_port(&self) -> String {
        let line = self.line("Healthz server is listening on");
        let port = line.split("127.0.0.1:").nth(1).unwrap();
        port.chars().take_while(char::is_ascii_digit).collect()
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(done.unwrap().success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Looks until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let mut tries = 0;
    while !is_so() {
        tries += 1;
        assert!(tries < 3000, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A cluster in which the operator has the rights that the chart grants.
fn cluster() -> ApiServer {
    let server = ApiServer::start();
    server.restrict(rights::of_operator(None));
    server
}

/// The system configuration.
fn configure(server: &ApiServer, sentry: &str) {
    let domain = "cluster.local";
    server.put(json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration",
        "metadata": {"name": "daprsystem", "namespace": "dapr-system"},
        "spec": {"mtls": {"enabled": true, "controlPlaneTrustDomain": domain, "sentryAddress": sentry}},
    }));
}

/// The status of `/healthz`.
fn healthz(port: &str) -> String {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.chars().skip("HTTP/1.1 ".len()).take(3).collect()
}

/// KO-27.
#[test]
fn a_bad_interval_is_refused() {
    let server = cluster();
    for interval in ["500ms", "abc"] {
        let mut operator = Operator::start(&server, &["--watch-interval", interval]);
        operator.line("--watch-interval");
        assert_eq!(operator.exit_code(), Some(1), "{interval}");
    }
}

/// KO-20, KO-28, KG-21: it waits, unready, for what is not there yet, and ends gracefully at any time.
#[test]
fn it_waits_for_its_configuration_unready() {
    let server = cluster();
    let mut operator = Operator::start(&server, &[]);
    let port = operator.healthz_port();
    operator.line("Waiting for Configuration dapr-system/daprsystem");
    assert_eq!(healthz(&port), "503");
    configure(&server, "127.0.0.1:1");
    operator.line("Dapr Operator started");
    assert_eq!(healthz(&port), "503", "it has no certificate");
    let holder = || {
        let lease = server.object(
            "coordination.k8s.io/v1",
            "Lease",
            "dapr-system",
            "operator.dapr.io",
        );
        lease.map(|lease| lease["spec"]["holderIdentity"].as_str().unwrap().to_owned())
    };
    until("a leader", || {
        holder().is_some_and(|holder| !holder.is_empty())
    });
    operator.terminate();
    operator.line("operator shut down gracefully");
    assert_eq!(operator.exit_code(), Some(0));
    assert_eq!(holder().as_deref(), Some(""), "released");
}

/// KO-16, KO-21, KO-28: it is ready once it knows what there is, of which a kind may be missing; Services are made
/// unless it is told not to.
#[test]
fn it_becomes_ready_and_makes_services_unless_it_is_told_not_to() {
    let ca = Ca::new();
    let sentry = FakeSentry::start(&ca, "spiffe://cluster.local/ns/dapr-system/dapr-sentry");
    let server = cluster();
    server.put(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"ca.crt": ca.root_pem()},
        "metadata": {"name": "dapr-trust-bundle", "namespace": "dapr-system"},
    }));
    configure(&server, &sentry.address().to_string());
    let template = json!({"metadata": {"labels": {"app": "d1"},
        "annotations": {"dapr.io/enabled": "true", "dapr.io/app-id": "app1"}}});
    server.put(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d1", "namespace": "ns"},
        "spec": {"selector": {"matchLabels": {"app": "d1"}}, "template": template},
    }));
    server.inject(
        When::new("list", "resiliencies"),
        Fault::Status(404),
        usize::MAX,
    );
    let is_made = || server.object("v1", "Service", "ns", "app1-dapr").is_some();
    for flags in [&["--disable-service-reconciler"][..], &[]] {
        let mut operator = Operator::start(&server, flags);
        let port = operator.healthz_port();
        operator.line("Cannot watch resiliencies");
        until("readiness", || healthz(&port) == "200");
        let is_told_not_to = !flags.is_empty();
        if !is_told_not_to {
            until("a Service", is_made);
        }
        operator.terminate();
        operator.line("operator shut down gracefully");
        assert_eq!(operator.exit_code(), Some(0));
        if is_told_not_to {
            assert!(!is_made());
            let asked = server.seen(&When::new("list", "services"));
            assert!(asked.is_empty(), "nobody cares about Services");
        }
    }
}
