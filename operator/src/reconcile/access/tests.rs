//! Whole replicas against a fake API server, and sidecars that speak the protocol over real mutual TLS.

use super::source::DEFINITION;
use super::*;
use crate::index::access::KIND;
use crate::index::sidecars::INJECTED;
use crate::metrics::Metrics;
use crate::relay::Follower;
use crate::serve::api::{Api, Parts as ApiParts, Shelves};
use crate::serve::assigned::LivePods;
use crate::serve::secrets::Secrets;
use crate::serve::{AccessControl, Server, relay};
use ironside_chassis::Tasks;
use ironside_chassis::tasks::Group;
use ironside_discovery::relay::Relay;
use ironside_discovery::{OpenError, PROTOCOL, Settings, Time, Watch};
use ironside_identity::SpiffeId;
use ironside_proto::discovery::{Ack, Hello, ObjectError, WatchResponse, watch_request::Request};
use ironside_testkit::certs::{Ca, now};
use ironside_testkit::kube::{ApiServer, Fault, When};
use ironside_transport::{Identity, IdentityRx, TlsClient, TlsServer};
use serde_json::{Value, json};
use std::sync::Mutex;
use tokio::net::{TcpListener, TcpStream};

const OPERATOR: &str = "spiffe://td/ns/dapr-system/dapr-operator";
const LONG: Duration = Duration::from_secs(30);
const STATUS: &str = "accesscontrols/status";

/// A cluster without an operator.
struct Cluster {
    api: ApiServer,
    ca: Ca,
}

/// One replica; it ends when dropped.
struct Replica {
    tasks: Tasks,
    address: String,
    lead: live::Sender<Leadership>,
    discovery: Discovery,
}

/// A sidecar that takes everything, or refuses it.
struct Fake {
    tasks: Tasks,
    heard: Arc<Mutex<Vec<WatchResponse>>>,
}

impl Cluster {
    fn new() -> Self {
        // Another test may have been quicker.
        ironside_transport::install_provider();
        let cluster = Self {
            api: ApiServer::start(),
            ca: Ca::new(),
        };
        cluster
            .api
            .restrict(crate::tests::rights::of_operator(None));
        cluster.api.put(definition());
        cluster
    }

    fn identity(&self, id: &str) -> IdentityRx {
        let identity = Identity {
            svid: Arc::new(self.ca.svid(id).svid()),
            bundle: Arc::new(self.ca.bundle()),
            generation: 1,
        };
        live::channel(Some(Arc::new(identity))).1
    }

    fn tls(&self, id: &str) -> TlsClient {
        TlsClient::new(self.identity(id), Arc::new(now))
    }

    fn put(&self, name: &str, generation: i64, spec: &Value) {
        self.api.put(json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": KIND,
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": generation},
            "spec": spec,
        }));
    }

    fn pod(&self, name: &str, phase: &str) {
        self.api.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "labels": {INJECTED: "true"},
                "annotations": {"dapr.io/app-id": "orders"}},
            "status": {"phase": phase},
        }));
    }

    fn object(&self, name: &str) -> Value {
        let found = self.api.object("dapr.io/v1alpha1", KIND, "shop", name);
        found.unwrap_or_default()
    }

    /// Reason and message of a condition of the present generation; `yes` in the place of a reason that is true.
    fn condition(&self, name: &str, kind: &str) -> Option<(String, String)> {
        let object = self.object(name);
        let generation = object.pointer("/metadata/generation")?;
        let all = object.pointer("/status/conditions")?.as_array()?.clone();
        let found = all.into_iter().find(|one| one["type"] == *kind)?;
        if found["observedGeneration"] != *generation {
            return None;
        }
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        let reason = if text("status") == "True" {
            "yes".to_owned()
        } else {
            text("reason")
        };
        Some((reason, text("message")))
    }

    async fn becomes(&self, name: &str, kind: &str, reason: &str) -> String {
        let look = || {
            self.condition(name, kind)
                .filter(|(found, _)| found == reason)
        };
        let found = until(look).await;
        found
            .unwrap_or_else(|| panic!("{kind} is not {reason}: {}", self.object(name)))
            .1
    }

    fn writes(&self) -> usize {
        self.api.seen(&When::new("patch", STATUS)).len()
    }

    /// The generations that statuses spoke of after the first `writes`.
    fn generations(&self, writes: usize) -> Vec<i64> {
        let seen = self.api.seen(&When::new("patch", STATUS));
        let later = seen.iter().skip(writes);
        let mut all: Vec<i64> = later
            .filter_map(|seen| seen.body.pointer("/status/observedGeneration")?.as_i64())
            .collect();
        all.dedup();
        all
    }

    fn events(&self) -> Vec<(String, String)> {
        let events = self.api.objects("events.k8s.io/v1", "Event");
        let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        events
            .iter()
            .map(|event| (text(event, "reason"), text(event, "note")))
            .collect()
    }

    async fn told(&self, reason: &str) -> String {
        let look = || {
            let events = self.events().into_iter();
            events.rev().find(|(found, _)| found == reason)
        };
        until(look)
            .await
            .unwrap_or_else(|| panic!("no Event {reason}: {:?}", self.events()))
            .1
    }

    async fn replica(&self, name: &str, lead: Leadership) -> Replica {
        let tasks = Tasks::new();
        let clock = Clock::system();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, self.api.kubeconfig()).unwrap();
        let client = ironside_cluster::connect(Some(&kubeconfig), "test")
            .await
            .unwrap();
        let (recorder, events) = Recorder::new(client.clone(), "dapr-operator", name);
        let stop = tasks.token();
        let ended = tasks.token();
        tasks.spawn("events", async move {
            ended.run_until_cancelled_owned(events).await;
        });
        let calls = Calls::new(client);
        let ticks = clock.clone();
        let time = Time {
            monotonic: Arc::new(move || ticks.monotonic().since_start()),
            wall: Arc::new(now),
        };
        let group = Arc::new(tasks.group("discovery"));
        let discovery = Discovery::new(Settings::default(), time, group, stop.clone());
        let (lead, leadership) = live::channel(lead);
        let (told, relayed) = mpsc::channel(64);
        let own = SpiffeId::parse(OPERATOR).unwrap();
        let reconciler = Reconciler::new(Parts {
            calls: calls.clone(),
            discovery: discovery.clone(),
            recorder: recorder.clone(),
            clock: clock.clone(),
            instance: name.into(),
            only: None,
            leadership: leadership.clone(),
            relayed,
            deny_by_default: false,
            mtls: Mtls::On,
            metrics: AccessMetrics::default(),
        });
        tasks.spawn("access-control", reconciler.run(stop.clone()));
        let follower = Follower {
            discovery: discovery.clone(),
            tls: Arc::new(self.tls(OPERATOR)),
            own: own.clone(),
            instance: name.into(),
            leadership: leadership.clone(),
            connections: tasks.group("relay-connection"),
            clock: clock.clone(),
        };
        tasks.spawn("relay", follower.run(stop.clone()));
        let streams = tasks.group("relay-stream");
        let relay = relay::Relay::new(own, leadership, told, streams, stop.clone());
        let metrics = Metrics::default();
        let api = Api::new(ApiParts {
            shelves: Arc::new(Shelves::new(&clock, &metrics)),
            pods: Arc::new(LivePods::default()),
            secrets: Secrets::new(calls.clone(), clock.clone(), metrics.clone(), recorder),
            calls,
            metrics,
            clock: clock.clone(),
            stop,
        });
        let access = AccessControl {
            discovery: discovery.clone(),
            relay,
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tls = TlsServer::new(self.identity(OPERATOR), Arc::new(now));
        let server = Server::new(tls, api, access, clock, &tasks);
        let connections = tasks.group("grpc-connection");
        tasks.spawn(
            "grpc",
            async move { server.run(listener, connections).await },
        );
        Replica {
            tasks,
            address,
            lead,
            discovery,
        }
    }

    /// A sidecar of `orders` in this pod, which refuses everything if there is a `code`.
    async fn sidecar(&self, pod: &str, replica: &Replica, code: Option<&'static str>) -> Fake {
        let tasks = Tasks::new();
        let connections = tasks.group("connection");
        let id = "spiffe://td/ns/shop/orders";
        let watch = self.watch(id, pod, &replica.address, connections).await;
        let mut watch = watch.unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let stop = tasks.token();
        tasks.spawn("sidecar", async move {
            while let Some(Ok(Some(response))) = stop.run_until_cancelled(watch.next()).await {
                if response.snapshot == 0 {
                    continue;
                }
                let refusal = |code: &str| ObjectError {
                    uid: "uid-p".to_owned(),
                    code: code.to_owned(),
                    message: "it says no".to_owned(),
                    ..ObjectError::default()
                };
                let ack = Ack {
                    snapshot: response.snapshot,
                    accepted: code.is_none(),
                    errors: code.map(refusal).into_iter().collect(),
                };
                hears.lock().unwrap().push(response);
                watch.say(Request::Ack(ack)).unwrap();
            }
        });
        Fake { tasks, heard }
    }

    async fn watch(
        &self,
        id: &str,
        pod: &str,
        address: &str,
        tasks: Group,
    ) -> Result<Watch, OpenError> {
        let tcp = TcpStream::connect(address).await.unwrap();
        let operator = SpiffeId::parse(OPERATOR).unwrap();
        let io = self
            .tls(id)
            .connect_control_plane(tcp, &operator)
            .await
            .unwrap();
        let hello = Hello {
            protocol: PROTOCOL,
            instance: format!("{pod}-01234567"),
            seen: HashMap::new(),
        };
        Watch::open(io, address, tasks, hello).await
    }
}

impl Replica {
    fn set(&self, lead: Leadership) {
        self.lead.send_replace(lead);
    }

    /// Ends it, and with it all its connections.
    async fn kill(self) {
        let left = self.tasks.shutdown(LONG).await;
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

impl Fake {
    /// Names and generations of the last snapshot, and whether it was all there is.
    fn last(&self) -> (Vec<(String, i64)>, bool) {
        let heard = self.heard.lock().unwrap();
        let Some(last) = heard.last() else {
            return Default::default();
        };
        let read = |json: &bytes::Bytes| {
            let value: Value = serde_json::from_slice(json).unwrap();
            let meta = &value["metadata"];
            (
                meta["name"].as_str().unwrap().to_owned(),
                meta["generation"].as_i64().unwrap(),
            )
        };
        (last.objects.iter().map(read).collect(), last.synced)
    }

    fn numbers(&self) -> Vec<u64> {
        self.heard
            .lock()
            .unwrap()
            .iter()
            .map(|one| one.snapshot)
            .collect()
    }

    async fn has(&self, want: &[(&str, i64)], synced: bool) {
        let want: Vec<_> = want
            .iter()
            .map(|(name, generation)| ((*name).to_owned(), *generation))
            .collect();
        let want = (want, synced);
        let found = until(|| (self.last() == want).then_some(())).await;
        assert!(found.is_some(), "{:?} and not {want:?}", self.last());
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

async fn until<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let looks = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, looks).await.ok()
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": DEFINITION},
    })
}

fn deny() -> Value {
    json!({"defaultAction": "deny"})
}

fn leads() -> Leadership {
    Leadership {
        is_leader: true,
        leader_address: None,
    }
}

fn follows(leader: &Replica) -> Leadership {
    Leadership {
        is_leader: false,
        leader_address: Some(leader.address.clone()),
    }
}

/// Fact K197: a change is distributed, and its status is a receipt that names who has not acknowledged it.
#[tokio::test]
async fn a_change_is_distributed_and_its_receipt_is_true() {
    let cluster = Cluster::new();
    cluster.pod("one", "Running");
    cluster.pod("two", "Running");
    cluster.pod("done", "Succeeded");
    let replica = cluster.replica("op-0", leads()).await;
    let one = cluster.sidecar("one", &replica, None).await;
    one.has(&[], true).await;
    cluster.put("p", 1, &deny());
    one.has(&[("p", 1)], true).await;
    let message = cluster.becomes("p", "Programmed", "OutdatedSidecars").await;
    assert_eq!(
        message,
        "1 of 2 sidecars run this generation; not: two (not connected)"
    );
    assert_eq!(
        cluster.becomes("p", "Accepted", "yes").await,
        "the rules can be used"
    );
    assert!(
        cluster
            .told("OutdatedSidecars")
            .await
            .contains("two (not connected)")
    );

    let two = cluster.sidecar("two", &replica, None).await;
    assert_eq!(
        cluster.becomes("p", "Programmed", "yes").await,
        "in force on 2 sidecars"
    );
    assert_eq!(cluster.object("p")["status"]["sidecars"]["summary"], "2/2");
    assert_eq!(cluster.object("p")["status"]["apps"], json!(["orders"]));
    cluster.becomes("p", "LegacyEquivalent", "yes").await;
    cluster.becomes("p", "Conflicted", "NoOverlap").await;
    assert_eq!(
        cluster.told("Programmed").await,
        "generation 1: in force on 2 sidecars"
    );
    // Of all the statuses no sidecar was told anything.
    assert_eq!((one.numbers().len(), two.numbers().len()), (2, 1));
    let numbers = one.numbers();
    assert!(
        numbers.is_sorted() && numbers.iter().all(|number| *number > 0),
        "{numbers:?}"
    );

    // The next generation.
    let writes = cluster.writes();
    cluster.put("p", 2, &json!({"defaultAction": "allow"}));
    cluster.becomes("p", "Programmed", "yes").await;
    assert_eq!(
        cluster.generations(writes),
        [2],
        "nothing is written of an older one"
    );
    let seen = cluster.api.seen(&When::new("patch", STATUS));
    assert_eq!(seen.last().unwrap().body["metadata"]["uid"], "uid-p");
}

/// Facts K203, K204, F6: what cannot be used is refused by name, by the compiler and by sidecars.
#[tokio::test]
async fn what_cannot_be_used_is_told() {
    let cluster = Cluster::new();
    cluster.pod("one", "Running");
    let replica = cluster.replica("op-0", leads()).await;
    let one = cluster
        .sidecar("one", &replica, Some("InvalidPattern"))
        .await;
    cluster.put("p", 1, &json!({"defaultAction": "deny", "mode": "Shadow"}));
    one.has(&[("p", 1)], true).await;
    let message = cluster.becomes("p", "Accepted", "UnknownField").await;
    assert!(message.contains("Shadow"), "{message}");
    let message = cluster.becomes("p", "Programmed", "SidecarRejected").await;
    assert!(
        message.ends_with("not: one (rejected: InvalidPattern: it says no)"),
        "{message}"
    );
    assert!(cluster.told("UnknownField").await.contains("Shadow"));
    assert!(cluster.told("SidecarRejected").await.contains("it says no"));
}

/// Facts K210, F4: sidecars keep everything while the definition goes, and lose it when it was only the objects.
#[tokio::test]
async fn the_definition_takes_no_object_with_it() {
    let cluster = Cluster::new();
    cluster.put("p", 1, &deny());
    let replica = cluster.replica("op-0", leads()).await;
    let one = cluster.sidecar("one", &replica, None).await;
    one.has(&[("p", 1)], true).await;
    // As the API server does it: all objects go, while the definition waits for them.
    let mut going = definition();
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    cluster.api.put(going);
    assert!(cluster.api.delete(&cluster.object("p")));
    one.has(&[], false).await;
    cluster.api.delete(&definition());
    let status = Fault::Status(404);
    cluster
        .api
        .inject(When::new("list", "accesscontrols"), status, usize::MAX);
    cluster.api.drop_watches();
    cluster.api.compact();
    // A sidecar that comes now is told nothing that it could take for all there is.
    let late = cluster.sidecar("late", &replica, None).await;
    late.has(&[], false).await;
    cluster.api.heal();
    cluster.api.put(definition());
    late.has(&[], true).await;
    one.has(&[], true).await;
}

/// Fact K199: the last object of an app is gone.
#[tokio::test]
async fn the_end_of_the_last_object_is_told() {
    let cluster = Cluster::new();
    cluster.pod("one", "Running");
    for name in ["p", "q"] {
        cluster.put(name, 1, &deny());
    }
    let replica = cluster.replica("op-0", leads()).await;
    let one = cluster.sidecar("one", &replica, None).await;
    one.has(&[("p", 1), ("q", 1)], true).await;
    cluster.becomes("q", "Programmed", "yes").await;
    cluster.api.delete(&cluster.object("p"));
    one.has(&[("q", 1)], true).await;
    assert!(
        cluster
            .events()
            .iter()
            .all(|(reason, _)| reason != "LastRemoved")
    );
    cluster.api.delete(&cluster.object("q"));
    one.has(&[], true).await;
    let note = cluster.told("LastRemoved").await;
    assert!(
        note.contains("to orders: every caller is allowed"),
        "{note}"
    );
}

/// Decision on HA: a follower's sidecars count at the leader; when it goes, the next one goes on without a word that is
/// not true.
#[tokio::test]
async fn two_replicas_keep_one_status() {
    let cluster = Cluster::new();
    cluster.pod("one", "Running");
    cluster.pod("two", "Running");
    cluster.put("p", 1, &deny());
    let first = cluster.replica("op-0", leads()).await;
    let second = cluster.replica("op-1", follows(&first)).await;
    let one = cluster.sidecar("one", &first, None).await;
    let two = cluster.sidecar("two", &second, None).await;
    assert_eq!(
        cluster.becomes("p", "Programmed", "yes").await,
        "in force on 2 sidecars"
    );
    cluster.put("p", 2, &json!({"defaultAction": "allow"}));
    cluster.becomes("p", "Programmed", "yes").await;
    assert_eq!(cluster.object("p")["status"]["sidecars"]["summary"], "2/2");
    two.has(&[("p", 2)], true).await;

    // The leader dies; its sidecar comes to the other replica, which leads.
    let writes = cluster.writes();
    first.kill().await;
    drop(one);
    second.set(leads());
    let one = cluster.sidecar("one", &second, None).await;
    cluster.put("p", 3, &deny());
    cluster.becomes("p", "Programmed", "yes").await;
    one.has(&[("p", 3)], true).await;
    assert_eq!(
        cluster.generations(writes),
        [3],
        "what was said of the second is not taken back"
    );

    // Leadership goes back to a new replica while both live: acknowledgements go there.
    let third = cluster.replica("op-0", leads()).await;
    second.set(follows(&third));
    cluster.put("p", 4, &json!({"defaultAction": "allow"}));
    cluster.becomes("p", "Programmed", "yes").await;
    assert_eq!(cluster.object("p")["status"]["sidecars"]["connected"], 2);
    assert_eq!(third.discovery.totals().connected, 0);
}

/// Only an operator of this control plane is listened to, and only by the replica that leads.
#[tokio::test]
async fn nobody_else_tells_what_sidecars_acknowledge() {
    let cluster = Cluster::new();
    let leader = cluster.replica("op-0", leads()).await;
    let other = cluster.replica("op-1", follows(&leader)).await;
    let tasks = Tasks::new();
    for (id, replica, code) in [
        (
            "spiffe://td/ns/shop/orders",
            &leader,
            Some(tonic::Code::PermissionDenied),
        ),
        (
            "spiffe://td/ns/shop/dapr-operator",
            &leader,
            Some(tonic::Code::PermissionDenied),
        ),
        (
            "spiffe://other/ns/dapr-system/dapr-operator",
            &leader,
            Some(tonic::Code::PermissionDenied),
        ),
        (
            "spiffe://td/ns/dapr-system/dapr-sentry",
            &leader,
            Some(tonic::Code::PermissionDenied),
        ),
        (OPERATOR, &other, Some(tonic::Code::FailedPrecondition)),
        (OPERATOR, &leader, None),
    ] {
        let tcp = TcpStream::connect(&replica.address).await.unwrap();
        let operator = SpiffeId::parse(OPERATOR).unwrap();
        let io = cluster
            .tls(id)
            .connect_control_plane(tcp, &operator)
            .await
            .unwrap();
        let opened = Relay::open(io, &replica.address, tasks.group("relay")).await;
        let found = match opened {
            Ok(_relay) => None,
            Err(OpenError::Refused(status)) => Some(status.code()),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(found, code, "{id}");
    }
    tasks.cancel();
}

/// After a restart nothing is written that was written before, and numbers go on growing.
#[tokio::test]
async fn a_restart_repeats_nothing() {
    let cluster = Cluster::new();
    cluster.pod("one", "Running");
    cluster.put("p", 1, &deny());
    let replica = cluster.replica("op-0", leads()).await;
    let one = cluster.sidecar("one", &replica, None).await;
    cluster.becomes("p", "Programmed", "yes").await;
    cluster.becomes("p", "Conflicted", "NoOverlap").await;
    let (writes, numbers) = (cluster.writes(), one.numbers());
    replica.kill().await;
    drop(one);
    let replica = cluster.replica("op-0", leads()).await;
    let one = cluster.sidecar("one", &replica, None).await;
    one.has(&[("p", 1)], true).await;
    assert!(
        one.numbers().first() > numbers.last(),
        "{numbers:?} {:?}",
        one.numbers()
    );
    cluster.put("p", 2, &json!({"defaultAction": "allow"}));
    cluster.becomes("p", "Programmed", "yes").await;
    assert_eq!(cluster.generations(writes), [2]);
}
