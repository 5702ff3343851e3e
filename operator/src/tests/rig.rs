//! What the tests stand on: an API server, a certificate authority, an operator's parts, clients.

use super::rights;
use crate::cluster::Calls;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::reconcile::{Common, services};
use crate::serve::api::{Api, Parts, Shelves};
use crate::serve::assigned::LivePods;
use crate::serve::secrets::Secrets;
use crate::serve::{AccessControl, Server, relay, sources};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use ironside_chassis::{Clock, Tasks};
use ironside_cluster::Recorder;
use ironside_discovery::Discovery;
use ironside_identity::{Namespace, SpiffeId};
use ironside_proto::operator::operator_client::OperatorClient;
use ironside_testkit::certs::Ca;
use ironside_testkit::kube::{ApiServer, Rule};
use ironside_transport::{Identity, IdentityRx, Now, TlsClient, TlsServer};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

pub(super) const OPERATOR: &str = "spiffe://cluster.local/ns/dapr-system/dapr-operator";
/// The namespace whose Secrets the operator may read.
pub(super) const RESOLVED: &str = "ns1";
/// Nothing takes longer, unless it fails.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// An operator's parts in front of a fake API server; they end with the value.
pub(super) struct Rig {
    pub(super) server: ApiServer,
    pub(super) common: Common,
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) tasks: Tasks,
    pub(super) ca: Ca,
    pub(super) shelves: Arc<Shelves>,
    pub(super) pods: Arc<LivePods>,
    _kubeconfig: tempfile::TempDir,
}

pub(super) type Client = OperatorClient<Service>;

/// What the chart grants, and the Secrets of one namespace.
fn granted(watched: Option<&str>) -> Vec<Rule> {
    let mut rules = rights::of_operator(watched);
    rules.extend(rights::to_resolve_secrets(RESOLVED));
    rules
}

impl Rig {
    /// Parts that look at all namespaces, and lead.
    pub(super) async fn start() -> Self {
        Self::start_in(None).await
    }

    pub(super) async fn start_in(watched: Option<&str>) -> Self {
        ironside_transport::install_provider();
        let server = ApiServer::start();
        server.restrict(granted(watched));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, server.kubeconfig()).unwrap();
        let client = ironside_cluster::connect(Some(&path), "test")
            .await
            .unwrap();
        let tasks = Tasks::new();
        let (recorder, events) = Recorder::new(client.clone(), "dapr-operator", "test");
        spawn(&tasks, "events", events);
        let lead = Leadership {
            is_leader: true,
            leader_address: None,
        };
        let (leadership, leads) = watch::channel(lead);
        let common = Common {
            calls: Calls::new(client),
            namespace: Namespace::parse("dapr-system").unwrap(),
            watch_namespace: watched.map(|name| Namespace::parse(name).unwrap()),
            leadership: leads,
            recorder,
            metrics: Metrics::default(),
            clock: Clock::system(),
        };
        let (clock, metrics) = (&common.clock, &common.metrics);
        Self {
            shelves: Arc::new(Shelves::new(clock, metrics)),
            pods: Arc::default(),
            server,
            common,
            leadership,
            tasks,
            ca: Ca::new(),
            _kubeconfig: folder,
        }
    }

    /// Grants more than the chart does with its own values.
    pub(super) fn grant(&self, more: Vec<Rule>) {
        let mut rules = granted(self.watched());
        rules.extend(more);
        self.server.restrict(rules);
    }

    fn watched(&self) -> Option<&str> {
        let watched = self.common.watch_namespace.as_ref();
        watched.map(Namespace::as_str)
    }

    /// Begins to make Services.
    pub(super) fn reconcile_services(&self, mtls: bool) {
        let settings = services::Settings {
            rollouts: false,
            mtls,
        };
        let reconciler = services::Reconciler::new(self.common.clone(), settings);
        spawn(&self.tasks, "services", reconciler.run());
    }

    /// Begins to know resources and pods.
    pub(super) async fn follow(&self) {
        let (shelves, pods) = (Arc::clone(&self.shelves), Arc::clone(&self.pods));
        spawn(
            &self.tasks,
            "resources",
            sources::follow(&self.common, shelves, pods),
        );
        let whole = sources::whole(&self.shelves, &self.pods);
        tokio::time::timeout(LONG, whole).await.unwrap();
    }

    /// Serves the gRPC API, once everything is known; returns where.
    pub(super) async fn serve(&self) -> SocketAddr {
        self.follow().await;
        let Common {
            calls,
            clock,
            metrics,
            recorder,
            ..
        } = self.common.clone();
        let secrets = Secrets::new(calls.clone(), clock.clone(), metrics.clone(), recorder);
        let api = Api::new(Parts {
            shelves: Arc::clone(&self.shelves),
            pods: Arc::clone(&self.pods),
            secrets,
            calls,
            metrics,
            clock: clock.clone(),
            stop: self.tasks.token(),
        });
        let (ticks, wall) = (clock.clone(), clock.clone());
        let time = ironside_discovery::Time {
            monotonic: Arc::new(move || ticks.monotonic().since_start()),
            wall: Arc::new(move || wall.now()),
        };
        let sessions = Arc::new(self.tasks.group("discovery"));
        let discovery = Discovery::new(Default::default(), time, sessions, self.tasks.token());
        let tls = TlsServer::new(identity(&self.ca, OPERATOR, &self.ca), now());
        let (told, _nobody) = mpsc::channel(1);
        let relay = relay::Relay::new(
            SpiffeId::parse(OPERATOR).unwrap(),
            self.leadership.subscribe(),
            told,
            self.tasks.group("relay"),
            self.tasks.token(),
        );
        let access = AccessControl { discovery, relay };
        let server = Server::new(tls, api, access, clock, &self.tasks);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = self.tasks.group("connection");
        self.tasks.spawn("grpc", server.run(listener, connections));
        address
    }

    /// A client that is `spiffe://cluster.local/ns/<path>`.
    pub(super) async fn client(&self, address: SocketAddr, path: &str) -> Client {
        let id = format!("spiffe://cluster.local/ns/{path}");
        let client = TlsClient::new(identity(&self.ca, &id, &self.ca), now());
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let operator = SpiffeId::parse(OPERATOR).unwrap();
        let stream = client.connect_control_plane(tcp, &operator).await.unwrap();
        let group = self.tasks.group("client");
        let (sender, connection) = http2::handshake(group, TokioIo::new(stream)).await.unwrap();
        self.tasks.spawn("client", async { drop(connection.await) });
        let origin = http::Uri::from_static("https://dapr-api");
        OperatorClient::with_origin(Service(sender), origin)
    }

    /// Waits until the API server holds what `found` finds.
    pub(super) async fn until<T>(&self, what: &str, found: impl Fn(&ApiServer) -> Option<T>) -> T {
        let look = async {
            loop {
                if let Some(found) = found(&self.server) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(LONG, look).await {
            Ok(found) => found,
            Err(_elapsed) => panic!("no {what}; asked: {:#?}", self.server.all_seen()),
        }
    }

    pub(super) async fn service(&self, name: &str) -> Value {
        let look = |server: &ApiServer| server.object("v1", "Service", "ns", name);
        self.until(name, look).await
    }

    pub(super) async fn no_service(&self, name: &str) {
        let look = |server: &ApiServer| {
            let found = server.object("v1", "Service", "ns", name);
            found.is_none().then_some(())
        };
        self.until(&format!("end of {name}"), look).await;
    }

    /// Waits for an Event of this reason about an object of this name, and returns its text.
    pub(super) async fn event(&self, reason: &str, about: &str) -> String {
        let look = |server: &ApiServer| {
            let events = server.objects("events.k8s.io/v1", "Event");
            let mut events = events
                .iter()
                .filter(|event| event["reason"] == reason && event["regarding"]["name"] == about);
            events.next().map(|event| event["note"].to_string())
        };
        self.until(&format!("Event {reason} about {about}"), look)
            .await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

fn spawn(tasks: &Tasks, name: &'static str, endless: impl Future<Output = ()> + Send + 'static) {
    let stop = tasks.token();
    tasks.spawn(name, async move {
        stop.run_until_cancelled_owned(endless).await;
    });
}

/// The identity `id` of one authority, which trusts another's root.
pub(super) fn identity(ca: &Ca, id: &str, trusted: &Ca) -> IdentityRx {
    let identity = Identity {
        svid: Arc::new(ca.svid(id).svid()),
        bundle: Arc::new(trusted.bundle()),
        generation: 1,
    };
    watch::channel(Some(Arc::new(identity))).1
}

pub(super) fn now() -> Now {
    Arc::new(|| Clock::system().now())
}

/// A Deployment in the namespace `ns` with annotations on its template.
pub(super) fn deployment(name: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "ns"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}, "annotations": annotations}, "spec": {"containers": []}},
        },
    })
}

/// The annotations of an app.
pub(super) fn app(app_id: &str) -> Value {
    json!({"dapr.io/enabled": "true", "dapr.io/app-id": app_id, "dapr.io/app-port": "3000"})
}

/// hyper's sender as the service that tonic's client wants.
pub(super) struct Service(http2::SendRequest<tonic::body::Body>);

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
