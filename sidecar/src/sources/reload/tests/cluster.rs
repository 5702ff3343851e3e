//! Edits of objects in a cluster, good and bad.

use super::*;
use crate::sources::{
    cluster::{Object, Objects},
    operator::State,
};

const WORDS: [&str; 8] = [
    "--mode",
    "kubernetes",
    "--control-plane-address",
    "o:1",
    "--sentry-address",
    "s:1",
    "--config",
    "conf",
];

fn environment() -> Environment {
    Environment::from([("DAPR_TRUST_ANCHORS", "pem"), ("NAMESPACE", "shop")])
}

/// A state of the operator; a row is kind, name, generation and the rest of the object.
fn state(rows: &[(Kind, &str, i64, &str)]) -> State {
    State::of(objects(rows))
}

fn objects(rows: &[(Kind, &str, i64, &str)]) -> Objects {
    let read = |(kind, name, generation, rest): &(Kind, &str, i64, &str)| {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"shop","generation":{generation}}},{rest}}}"#
        );
        let object = Object::read(*kind, json.as_bytes()).unwrap();
        ((*kind, object.name.clone()), object)
    };
    rows.iter().map(read).collect()
}

struct Rig {
    reloader: Reloader,
    live: watch::Receiver<Arc<Live>>,
    states: watch::Sender<State>,
    _hangup: mpsc::Sender<()>,
    _folder: Folder,
}

impl Rig {
    fn new(rows: &[(Kind, &str, i64, &str)]) -> Self {
        Self::of(state(rows))
    }

    fn of(state: State) -> Self {
        let folder = Folder::new();
        let (states, received) = watch::channel(state);
        let mut disk = folder.disk(&WORDS, environment()).following(received);
        assert!(disk.gather().is_empty());
        let snapshot = disk.read().unwrap();
        let first = disk.compile(&snapshot, &Streamed::Absent, None).unwrap();
        let (sender, live) = watch::channel(Arc::new(first.live));
        let (hangup, asked) = mpsc::channel(1);
        Self {
            reloader: Reloader::new(disk, snapshot, told(sender), asked),
            live,
            states,
            _hangup: hangup,
            _folder: folder,
        }
    }

    fn edit(&mut self, rows: &[(Kind, &str, i64, &str)]) -> Reloaded {
        self.states.send_replace(state(rows));
        self.reloader.reload(false)
    }

    fn generations(&self) -> Vec<(String, i64)> {
        let live = self.live.borrow();
        let all = live.generations.iter();
        all.map(|one| (format!("{}/{}", one.kind, one.name), one.generation))
            .collect()
    }
}

const CONF: (Kind, &str, i64, &str) = (
    Kind::Configuration,
    "conf",
    1,
    r#""spec":{"accessControl":{"defaultAction":"deny","trustDomain":"public"}}"#,
);
const BAD_CONF: (Kind, &str, i64, &str) = (
    Kind::Configuration,
    "conf",
    2,
    r#""spec":{"accessControl":{"defaultAction":"deny","policies":[{"defaultAction":"allow"}]}}"#,
);

fn endpoint_row(generation: i64, spec: &'static str) -> (Kind, &'static str, i64, &'static str) {
    (Kind::HttpEndpoint, "ep", generation, spec)
}

/// KL-01, KL-02, KL-05, KL-07 as far as the state goes: a bad object keeps its last good version, and holds up nothing.
#[test]
fn each_object_is_edited_by_itself() {
    let good = r#""spec":{"baseUrl":"http://127.0.0.1:1"}"#;
    let mut rig = Rig::new(&[CONF, endpoint_row(1, good)]);
    let conf = |n| ("Configuration/conf".to_owned(), n);
    let ep = |n| ("HTTPEndpoint/ep".to_owned(), n);
    assert_eq!(rig.generations(), [conf(1), ep(1)]);
    let policy = Arc::clone(&rig.live.borrow().policy);
    assert_eq!(policy.objects().len(), 1);

    // A bad Configuration beside a good endpoint.
    let other = r#""spec":{"baseUrl":"http://127.0.0.1:2"}"#;
    assert_eq!(
        rig.edit(&[BAD_CONF, endpoint_row(2, other)]),
        Reloaded::Published
    );
    assert_eq!(rig.generations(), [conf(1), ep(2)]);
    assert_eq!(rig.live.borrow().policy.objects(), policy.objects());
    let accepted = rig.reloader.disk.accepted().unwrap();
    let why = accepted.why(Kind::Configuration, "conf").unwrap();
    assert!(why.contains("access control"), "{why}");

    // A bad endpoint beside a corrected Configuration.
    let bad = r#""spec":{"baseUrl":""}"#;
    let corrected = (
        CONF.0,
        CONF.1,
        3,
        r#""spec":{"accessControl":{"defaultAction":"allow"}}"#,
    );
    assert_eq!(
        rig.edit(&[corrected, endpoint_row(3, bad)]),
        Reloaded::Published
    );
    assert_eq!(rig.generations(), [conf(3), ep(2)]);

    // One for another app, and one that goes.
    let scoped = r#""scopes":["other"],"spec":{"baseUrl":"http://127.0.0.1:3"}"#;
    assert_eq!(
        rig.edit(&[corrected, endpoint_row(4, scoped)]),
        Reloaded::Published
    );
    assert_eq!(rig.generations(), [conf(3)]);
    assert!(rig.live.borrow().endpoints.is_empty());
    // KL-03: the last Configuration stays.
    assert_eq!(rig.edit(&[]), Reloaded::Published);
    assert_eq!(rig.generations(), [conf(3)]);
    assert_eq!(rig.edit(&[]), Reloaded::Same);
}

/// Kubernetes 3.8: values of secrets reach headers of endpoints and properties of components.
#[test]
fn secrets_of_the_operator_are_used() {
    let spec = r#""spec":{"baseUrl":"http://127.0.0.1:1","headers":[{"name":"x","value":"cGVhcg==","secretKeyRef":{"name":"s","key":"k"}}]}"#;
    let rig = Rig::new(&[CONF, endpoint_row(1, spec)]);
    let endpoint = rig.reloader.last.loaded.http_endpoints.first().unwrap();
    assert_eq!(endpoint.spec.headers.first().unwrap().text(), "pear");
    assert!(rig.live.borrow().endpoints.contains_key("ep"));
}

/// KL-06: with the feature off, edits wait for the next start; a hangup asks for them.
#[tokio::test]
async fn without_hot_reload_edits_wait() {
    let off = |generation, action: &'static str| (CONF.0, CONF.1, generation, action);
    let one = r#""spec":{"features":[{"name":"HotReload","enabled":false}],"accessControl":{"defaultAction":"deny"}}"#;
    let two = r#""spec":{"features":[{"name":"HotReload","enabled":false}],"accessControl":{"defaultAction":"allow"}}"#;
    let Rig {
        reloader,
        mut live,
        states,
        _hangup: hangup,
        _folder,
    } = Rig::new(&[off(1, one)]);
    let tasks = Tasks::new();
    let watch = reloader.watch();
    tasks.spawn("reload", reloader.run(watch, tasks.token()));
    states.send_replace(state(&[off(2, two)]));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!live.has_changed().unwrap());
    hangup.send(()).await.unwrap();
    let seen = until(&mut live, |live| {
        let one = live.generations.first()?;
        (one.generation == 2).then_some(())
    });
    seen.await;
}

const LIMITED: (Kind, &str, i64, &str) = (
    Kind::Configuration,
    "conf",
    1,
    r#""spec":{"appHttpPipeline":{"handlers":[{"name":"limit","type":"middleware.http.ratelimit"}]}}"#,
);

fn limit_row(generation: i64, spec: &'static str) -> (Kind, &'static str, i64, &'static str) {
    (Kind::Component, "limit", generation, spec)
}

/// What the app's pipeline answers in its place, if it does.
async fn refusal(rig: &Rig) -> Option<http::StatusCode> {
    let live = Arc::clone(&rig.live.borrow());
    let (mut head, ()) = http::Request::new(()).into_parts();
    let passed = live.app_pipeline.request(&mut head).await;
    passed.err().map(|answer| answer.status())
}

/// KL-01: a handler whose component was never good, or was not told yet, is not left out of its pipeline.
#[tokio::test]
async fn a_pipeline_is_closed_while_its_component_is_bad_or_untold() {
    let closed = Some(http::StatusCode::SERVICE_UNAVAILABLE);
    let bad = r#""spec":{"type":"middleware.http.ratelimit","version":"v1","metadata":[{"name":"maxRequestsPerSecond","value":"many"}]}"#;
    let good = r#""spec":{"type":"middleware.http.ratelimit","version":"v1","metadata":[{"name":"maxRequestsPerSecond","value":"100"}]}"#;
    let mut rig = Rig::new(&[LIMITED]);
    assert_eq!(refusal(&rig).await, None, "it is not meant for this app");
    let rows = [LIMITED, limit_row(1, bad)];
    assert_eq!(rig.edit(&rows), Reloaded::Published);
    assert_eq!(refusal(&rig).await, closed);
    assert_eq!(rig.edit(&rows), Reloaded::Same);
    let rows = [LIMITED, limit_row(2, good)];
    assert_eq!(rig.edit(&rows), Reloaded::Published);
    assert_eq!(refusal(&rig).await, None);
    // The last good one stays in force.
    assert_eq!(rig.edit(&[LIMITED, limit_row(3, bad)]), Reloaded::Same);
    assert_eq!(refusal(&rig).await, None);
    // The Configuration stays; what else there is was not told.
    rig.states.send_replace(State::default());
    assert_eq!(rig.reloader.reload(false), Reloaded::Published);
    assert_eq!(refusal(&rig).await, closed);
}

/// Without watching, what the operator says late is still taken in, once.
#[tokio::test]
async fn what_arrives_late_is_taken_though_nothing_is_watched() {
    let fixed = (
        Kind::Configuration,
        "conf",
        1,
        r#""spec":{"features":[{"name":"HotReload","enabled":false}]}"#,
    );
    let good = r#""spec":{"baseUrl":"http://127.0.0.1:1"}"#;
    let Rig {
        reloader,
        mut live,
        states,
        _hangup,
        _folder,
    } = Rig::of(State::partly(objects(&[fixed])));
    assert!(!reloader.watches());
    states.send_replace(state(&[fixed, endpoint_row(1, good)]));
    let watch = reloader.watch();
    let stop = CancellationToken::new();
    let run = reloader.run(watch, stop.clone());
    let taken = async {
        let taken = live.wait_for(|live| live.endpoints.contains_key("ep"));
        let taken = tokio::time::timeout(Duration::from_secs(20), taken).await;
        stop.cancel();
        assert!(taken.unwrap().is_ok());
    };
    tokio::join!(run, taken);
}
