//! An operator in the process of the test, as far as access control goes: the real service behind real mutual
//! TLS, or a script that says what no good operator would.
//!
//! Its certificate is signed with the keys of the test's Sentry, as one of the control plane.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ironside_chassis::{Clock, Tasks, tasks::Group};
use ironside_discovery::{Discovery, ObjectStatus, Settings, StoredObject, Time, World};
use ironside_identity::{Svid, TrustBundle, VerifiedPeer, pem};
use ironside_proto::discovery::{
    WatchRequest, WatchResponse,
    access_control_discovery_server::{AccessControlDiscovery, AccessControlDiscoveryServer},
};
use ironside_transport::{Identity, TlsServer};
use rcgen::{CertificateParams, DistinguishedName, Issuer, KeyPair, PKCS_ED25519, SanType};
use rustls_pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{Sentry, wait};

/// Who an operator is to sidecars with the default flags.
pub const OPERATOR: &str = "spiffe://localhost/ns/default/dapr-operator";

/// A running operator; it ends when dropped.
#[derive(Debug)]
pub struct Operator {
    port: u16,
    tasks: Tasks,
    stop: CancellationToken,
    discovery: Service,
}

#[derive(Clone)]
struct Service(Discovery);

/// An operator that does as the test says; it ends when dropped.
#[derive(Debug)]
pub struct Scripted {
    port: u16,
    tasks: Tasks,
    sessions: mpsc::Receiver<Session>,
}

/// One stream of a [`Scripted`] operator.
#[derive(Debug)]
pub struct Session {
    requests: Streaming<WatchRequest>,
    out: mpsc::Sender<Result<WatchResponse, Status>>,
}

/// What becomes of a connection whose client has proved itself.
type Serve = dyn Fn(TlsStream<TcpStream>, VerifiedPeer) -> Pin<Box<dyn Future<Output = ()> + Send>>
    + Send
    + Sync;

// === impl Operator ===

impl Operator {
    /// Starts one on this port that knows `objects`, JSON each.
    ///
    /// # Panics
    /// If the port is taken for long.
    pub async fn start(sentry: &Sentry, port: u16, objects: &[String]) -> Self {
        Self::start_with(sentry, port, objects, Settings::default()).await
    }

    /// The same with other times.
    ///
    /// # Panics
    /// If the port is taken for long.
    pub async fn start_with(
        sentry: &Sentry,
        port: u16,
        objects: &[String],
        settings: Settings,
    ) -> Self {
        let (tasks, clock) = (Tasks::new(), Clock::system());
        let (ticks, wall) = (clock.clone(), clock);
        let time = Time {
            monotonic: Arc::new(move || ticks.monotonic().since_start()),
            wall: Arc::new(move || wall.now()),
        };
        let stop = tasks.token();
        let group = Arc::new(tasks.group("discovery"));
        let now = Arc::clone(&time.monotonic);
        let discovery = Discovery::new(settings, time, group, stop.clone());
        discovery.publish(world(objects));
        // What the test publishes is all there is.
        let truth = discovery.clone();
        let end = stop.clone();
        tasks.spawn("source", async move {
            while end.run_until_cancelled(truth.doubted()).await.is_some() {
                truth.confirm(now());
            }
        });
        let served = discovery.clone();
        listen(&tasks, port, identity(sentry, OPERATOR), move |io, peer| {
            let discovery = served.clone();
            Box::pin(async move { drop(discovery.serve_connection(io, Some(peer)).await) })
        })
        .await;
        Self {
            port,
            tasks,
            stop,
            discovery: Service(discovery),
        }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Replaces all objects.
    pub fn publish(&self, objects: &[String]) {
        self.discovery.0.publish(world(objects));
    }

    /// Replaces the whole state of the world.
    pub fn publish_world(&self, world: World) {
        self.discovery.0.publish(world);
    }

    /// How an object stands.
    #[must_use]
    pub fn status(&self, uid: &str) -> Option<ObjectStatus> {
        let all = self.discovery.0.status();
        all.into_iter().find(|status| &*status.uid == uid)
    }

    /// Connected sidecars.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.discovery.0.totals().connected
    }

    /// Waits until the status of an object satisfies `holds`.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn until(&self, uid: &str, holds: impl Fn(&ObjectStatus) -> bool) -> ObjectStatus {
        let look = || async { self.status(uid).filter(&holds) };
        let found = wait::until("a status", wait::LONG, look).await;
        found.unwrap_or_else(|error| panic!("{error:#}: {:?}", self.status(uid)))
    }

    /// Breaks every connection and gives the port back.
    ///
    /// # Panics
    /// If its tasks do not end.
    pub async fn kill(self) {
        self.stop.cancel();
        let left = self.tasks.shutdown(wait::LONG).await;
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

// === impl Scripted ===

impl Scripted {
    /// Starts one on this port, which says that it is `id`.
    ///
    /// # Panics
    /// If the port is taken for long.
    pub async fn start(sentry: &Sentry, port: u16, id: &str) -> Self {
        let tasks = Tasks::new();
        let (sender, sessions) = mpsc::channel(64);
        let group = tasks.group("script");
        listen(&tasks, port, identity(sentry, id), move |io, _peer| {
            let service = AccessControlDiscoveryServer::new(Script(sender.clone()));
            Box::pin(serve(group.clone(), io, move |request| {
                use tower_service::Service as _;
                service.clone().call(request)
            }))
        })
        .await;
        Self {
            port,
            tasks,
            sessions,
        }
    }

    /// Starts one that has other services only, as the reference's has.
    ///
    /// # Panics
    /// If the port is taken for long.
    pub async fn without_service(sentry: &Sentry, port: u16) -> Self {
        let tasks = Tasks::new();
        let (_sender, sessions) = mpsc::channel(1);
        let group = tasks.group("script");
        listen(
            &tasks,
            port,
            identity(sentry, OPERATOR),
            move |io, _peer| {
                Box::pin(serve(group.clone(), io, |_request| async {
                    let text = "unknown service accesscontrol.v1.AccessControlDiscovery";
                    Ok(Status::unimplemented(text).into_http())
                }))
            },
        )
        .await;
        Self {
            port,
            tasks,
            sessions,
        }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the next stream.
    ///
    /// # Panics
    /// If none comes in time.
    pub async fn session(&mut self) -> Session {
        let next = wait::within("a stream", 4 * wait::LONG, self.sessions.recv()).await;
        next.ok().flatten().expect("a stream")
    }

    /// Breaks every connection and gives the port back.
    ///
    /// # Panics
    /// If its tasks do not end.
    pub async fn kill(self) {
        let left = self.tasks.shutdown(wait::LONG).await;
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

// === impl Session ===

impl Session {
    /// Waits for what the sidecar says next.
    ///
    /// # Panics
    /// If it says nothing in time, or ends the stream.
    pub async fn hear(&mut self) -> ironside_proto::discovery::watch_request::Request {
        let next = wait::within("a request", wait::LONG, self.requests.message()).await;
        let request = next.expect("in time").expect("a live stream");
        let request = request.expect("a request and no end");
        request.request.expect("something said")
    }

    /// True if the sidecar has given the stream up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.out.is_closed()
    }

    /// Says something.
    pub async fn say(&self, response: WatchResponse) {
        // A sidecar that went is seen by whoever listens to it.
        drop(self.out.send(Ok(response)).await);
    }

    /// Sends a complete snapshot of these objects.
    pub async fn snapshot(&self, number: u64, objects: &[String]) {
        self.say(WatchResponse {
            snapshot: number,
            synced: true,
            objects: objects.iter().map(|json| json.clone().into()).collect(),
            ..WatchResponse::default()
        })
        .await;
    }
}

struct Script(mpsc::Sender<Session>);

#[tonic::async_trait]
impl AccessControlDiscovery for Script {
    type WatchStream =
        Pin<Box<dyn futures_util::Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (out, mut responses) = mpsc::channel(4);
        let requests = request.into_inner();
        // A test that has ended wants no more streams.
        drop(self.0.send(Session { requests, out }).await);
        let responses = futures_util::stream::poll_fn(move |cx| responses.poll_recv(cx));
        Ok(Response::new(Box::pin(responses)))
    }
}

/// An object as an API server stores it; its UID is its name.
#[must_use]
pub fn stored(name: &str, generation: i64, spec: &str) -> String {
    stored_for(name, generation, "[]", spec)
}

/// The same with scopes, as JSON.
#[must_use]
pub fn stored_for(name: &str, generation: i64, scopes: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion":"dapr.io/v1alpha1","kind":"AccessControl","metadata":{{"name":"{name}","namespace":"default","uid":"{name}","generation":{generation}}},"scopes":{scopes},"spec":{spec}}}"#
    )
}

/// A `spec` by which `web` may do these operations and nobody anything else.
#[must_use]
pub fn allowing(names: &[&str]) -> String {
    let rule = |name: &&str| format!(r#"{{"name":"{name}","action":"allow"}}"#);
    let rules: Vec<String> = names.iter().map(rule).collect();
    format!(
        r#"{{"policies":[{{"appId":"web","namespace":"default","operations":[{}]}}]}}"#,
        rules.join(",")
    )
}

/// A complete world of these objects.
///
/// # Panics
/// If one has no metadata.
#[must_use]
pub fn world(objects: &[String]) -> World {
    let read = |json: &String| StoredObject::from_json(json.clone().into()).expect("metadata");
    World {
        objects: objects.iter().map(read).collect(),
        synced: true,
        ..World::default()
    }
}

async fn listen<F>(tasks: &Tasks, port: u16, tls: TlsServer, serve: F)
where
    F: Fn(TlsStream<TcpStream>, VerifiedPeer) -> Pin<Box<dyn Future<Output = ()> + Send>>
        + Send
        + Sync
        + 'static,
{
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let bind = || async { TcpListener::bind(address).await.ok() };
    let listener = wait::until("a free port", wait::LONG, bind).await;
    let listener = listener.expect("the port of the operator");
    let (tls, serve): (_, Arc<Serve>) = (Arc::new(tls), Arc::new(serve));
    let (stop, connections) = (tasks.token(), tasks.group("connection"));
    tasks.spawn("listener", async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((tcp, _from)) = accepted else {
                continue;
            };
            let (tls, serve, stop) = (Arc::clone(&tls), Arc::clone(&serve), stop.clone());
            connections.spawn(async move {
                let work = async {
                    if let Ok((io, peer)) = tls.accept(tcp).await {
                        serve(io, peer).await;
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = work => {}
                }
            });
        }
    });
}

async fn serve<F, R>(tasks: Group, io: TlsStream<TcpStream>, answer: F)
where
    F: Fn(http::Request<hyper::body::Incoming>) -> R + Send + 'static,
    R: Future<Output = Result<http::Response<tonic::body::Body>, Infallible>> + Send + 'static,
{
    let io = hyper_util::rt::TokioIo::new(io);
    let service = hyper::service::service_fn(answer);
    let builder = hyper::server::conn::http2::Builder::new(tasks);
    drop(builder.serve_connection(io, service).await);
}

/// A certificate for `id`, signed by the issuer of this Sentry.
fn identity(sentry: &Sentry, id: &str) -> TlsServer {
    let read = |name: &str| fs::read_to_string(sentry.credentials().join(name)).expect("a file");
    let issuer_pem = read("issuer.crt");
    let issuer_key = KeyPair::from_pem(&read("issuer.key")).expect("the issuer's key");
    let issuer = Issuer::from_ca_cert_pem(&issuer_pem, issuer_key).expect("the issuer");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().expect("ASCII"))];
    let now = Clock::system().now();
    params.not_before = (now - Duration::from_secs(60)).into();
    params.not_after = (now + Duration::from_secs(3600)).into();
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let leaf = params.signed_by(&key, &issuer).expect("a leaf");
    let mut chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
    chain.extend(pem::certificates(issuer_pem.as_bytes()).expect("the issuer's chain"));
    let svid = Svid::new(chain, key.into()).expect("an SVID");
    let bundle = TrustBundle::from_pem(sentry.anchors().as_bytes()).expect("roots");
    let identity = Identity {
        svid: Arc::new(svid),
        bundle: Arc::new(bundle),
        generation: 1,
    };
    let (_sender, identity) = watch::channel(Some(Arc::new(identity)));
    let now: ironside_transport::Now = Arc::new(|| -> SystemTime { Clock::system().now() });
    TlsServer::new(identity, now)
}
