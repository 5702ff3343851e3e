//! A real `sentry` under test, and raw clients for it.

use hyper_util::rt::{TokioExecutor, TokioIo};
use ironside_identity::{AppId, Namespace, SpiffeId, TrustBundle};
use ironside_proto::sentry::ca_client::CaClient;
use ironside_proto::sentry::{SignCertificateRequest, SignCertificateResponse};
use ironside_testkit::certs::now;
use ironside_transport::sentry_client::TokenSource;
use ironside_transport::{
    Identity, MinTls, Now, SentryClient, SentryClientConfig, connect_one_sided,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tonic::Status;

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A running Sentry; it is killed with the value.
pub(crate) struct Sentry {
    child: Child,
    log: Arc<(Mutex<Vec<String>>, Condvar)>,
    credentials: PathBuf,
}

/// One connection to a Sentry. Clones share it.
#[derive(Clone)]
pub(crate) struct Client(CaClient<Service>);

#[derive(Clone)]
struct Service(hyper::client::conn::http2::SendRequest<tonic::body::Body>);

pub(crate) fn clock() -> Now {
    Arc::new(now)
}

/// The name of every Sentry here.
pub(crate) fn sentry_id() -> SpiffeId {
    SpiffeId::parse("spiffe://localhost/ns/default/dapr-sentry").unwrap()
}

/// A good request for an app.
pub(crate) fn request(id: &str) -> SignCertificateRequest {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap();
    SignCertificateRequest {
        id: id.into(),
        namespace: "default".into(),
        certificate_signing_request: csr.pem().unwrap().into_bytes().into(),
        ..SignCertificateRequest::default()
    }
}

/// The command for a Sentry on loopback with ports of the system's choice.
pub(crate) fn command(credentials: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sentry"));
    command
        .env_clear()
        .current_dir(credentials)
        .stdout(Stdio::piped());
    command
        .arg("-issuer-credentials")
        .arg(credentials)
        .args(["--log-level", "debug"]);
    for flag in ["port", "healthz-port", "metrics-port"] {
        command.arg(format!("--{flag}=0"));
    }
    for flag in [
        "listen-address",
        "healthz-listen-address",
        "metrics-listen-address",
    ] {
        command.arg(format!("--{flag}=127.0.0.1"));
    }
    command.args(more);
    command
}

// === impl Sentry ===

impl Sentry {
    /// Starts one over a folder and waits until it issues.
    pub(crate) fn start(credentials: &Path, more: &[&str]) -> Self {
        let sentry = Self::spawn(command(credentials, more), credentials);
        sentry.line("Running gRPC server on port ");
        sentry
    }

    /// Starts one without waiting.
    pub(crate) fn spawn(mut command: Command, credentials: &Path) -> Self {
        let mut child = command.spawn().unwrap();
        let log = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (lines, stdout) = (Arc::clone(&log), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.0.lock().unwrap().push(line);
                lines.1.notify_all();
            }
        });
        Self {
            child,
            log,
            credentials: credentials.to_owned(),
        }
    }

    /// Returns the process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of the log that holds `text`.
    pub(crate) fn line(&self, text: &str) -> String {
        self.lines(text, 1).pop().unwrap()
    }

    /// Waits for several lines of the log that hold `text`.
    pub(crate) fn lines(&self, text: &str, count: usize) -> Vec<String> {
        let (lines, changed) = &*self.log;
        let found = |lines: &[String]| -> Vec<String> {
            lines
                .iter()
                .filter(|line| line.contains(text))
                .cloned()
                .collect()
        };
        let lines = lines.lock().unwrap();
        let (lines, waited) = changed
            .wait_timeout_while(lines, SOON, |lines| found(lines).len() < count)
            .unwrap();
        assert!(
            !waited.timed_out(),
            "{count} times {text:?} in\n{}",
            lines.join("\n")
        );
        found(&lines)
    }

    fn address_after(&self, text: &str) -> SocketAddr {
        let line = self.line(text);
        let rest = line.split(text).nth(1).unwrap();
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
        let rest = &rest[..end.unwrap_or(rest.len())];
        let address = if rest.contains(':') {
            rest.to_owned()
        } else {
            format!("127.0.0.1:{rest}")
        };
        address.parse().unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address_after("Running gRPC server on port ")
    }

    pub(crate) fn healthz(&self) -> SocketAddr {
        self.address_after("Healthz server is listening on ")
    }

    pub(crate) fn metrics(&self) -> SocketAddr {
        self.address_after("metrics server started on ")
    }

    pub(crate) fn root_pem(&self) -> String {
        fs::read_to_string(self.credentials.join("ca.crt")).unwrap()
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem(self.root_pem().as_bytes()).unwrap()
    }

    /// Obtains an identity as a sidecar does.
    pub(crate) async fn identity(&self, app_id: &str) -> Arc<Identity> {
        self.identity_trusting(app_id, self.root_pem()).await
    }

    /// Obtains an identity as a sidecar does that was started with these anchors.
    pub(crate) async fn identity_trusting(&self, app_id: &str, anchors: String) -> Arc<Identity> {
        let config = SentryClientConfig {
            address: self.address().to_string(),
            sentry_id: sentry_id(),
            trust_anchors_pem: Some(anchors),
            trust_anchors_file: None,
            trust_anchors_cache: None,
            app_id: AppId::parse(app_id).unwrap(),
            namespace: Namespace::default(),
            trust_domain: None,
            token: TokenSource::Absent,
            jwt_audiences: Vec::new(),
            min_tls: MinTls::default(),
        };
        let (tx, mut rx) = watch::channel(None);
        let obtained = async {
            let wait = rx.wait_for(Option::is_some);
            wait.await.unwrap().clone().unwrap()
        };
        tokio::select! {
            ended = SentryClient::new(config, clock()).run(tx) => panic!("{ended:?}"),
            identity = obtained => identity,
            () = tokio::time::sleep(SOON) => panic!("no identity"),
        }
    }

    /// Connects without a request.
    pub(crate) async fn connect(&self) -> Client {
        self.connect_from("127.0.0.1").await
    }

    /// Connects from another address of this machine: another source to the limiter.
    pub(crate) async fn connect_from(&self, address: &str) -> Client {
        self.connect_to(address, &sentry_id(), self.bundle()).await
    }

    /// Connects from an address, and expects this name below these roots.
    pub(crate) async fn connect_to(
        &self,
        address: &str,
        id: &SpiffeId,
        bundle: TrustBundle,
    ) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(format!("{address}:0").parse().unwrap())
            .unwrap();
        let tcp = socket.connect(self.address()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Client::over(tcp, id, bundle).await
    }

    /// Resident memory in KiB, as the kernel counts it.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let count = line.and_then(|line| line.split_whitespace().nth(1));
        count.unwrap().parse().unwrap()
    }

    /// Asks it to stop and returns its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.exit_code()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end and returns the exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        for _ in 0..2000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("sentry does not end");
    }
}

impl Drop for Sentry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

// === impl Client ===

impl Client {
    async fn over(tcp: TcpStream, id: &SpiffeId, bundle: TrustBundle) -> Self {
        let tls = connect_one_sided(tcp, id, bundle.into(), clock(), MinTls::default());
        let io = TokioIo::new(tls.await.unwrap());
        let http = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (sender, connection) = http.unwrap();
        let executor = TokioExecutor::new();
        hyper::rt::Executor::execute(&executor, async { drop(connection.await) });
        let origin = http::Uri::from_static("https://sentry");
        Self(CaClient::with_origin(Service(sender), origin))
    }

    pub(crate) async fn sign(
        &mut self,
        request: SignCertificateRequest,
    ) -> Result<SignCertificateResponse, Status> {
        let answer = tokio::time::timeout(SOON, self.0.sign_certificate(request)).await;
        answer.unwrap().map(tonic::Response::into_inner)
    }
}

impl tower_service::Service<http::Request<tonic::body::Body>> for Service {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
