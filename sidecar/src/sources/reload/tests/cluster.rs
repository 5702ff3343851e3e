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
    let read = |(kind, name, generation, rest): &(Kind, &str, i64, &str)| {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"shop","generation":{generation}}},{rest}}}"#
        );
        let object = Object::read(*kind, json.as_bytes()).unwrap();
        ((*kind, object.name.clone()), object)
    };
    State::of(rows.iter().map(read).collect::<Objects>())
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
        let folder = Folder::new();
        let (states, received) = watch::channel(state(rows));
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
    let watch = reloader.watch().unwrap();
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
