//! The crate against an API server that fails on demand.
#![cfg(test)]

use ironside_cluster::{AnchorsSource, Kind, News, Recorder, Subject, connect, follow_one};
use ironside_identity::TrustBundle;
use ironside_testkit::certs::Ca;
use ironside_testkit::kube::{ApiServer, Fault, Rule, When};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

const SOON: Duration = Duration::from_secs(20);
const NAMESPACE: &str = "dapr-system";
const NAME: &str = "dapr-trust-bundle";

type Anchors = watch::Receiver<Option<Arc<TrustBundle>>>;

async fn client(server: &ApiServer) -> Client {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, server.kubeconfig()).unwrap();
    connect(Some(&path), "test/1").await.unwrap()
}

fn config_map(data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": NAMESPACE}, "data": data,
    })
}

fn anchors(pem: &str) -> Value {
    config_map(json!({"ca.crt": pem}))
}

fn source() -> AnchorsSource {
    AnchorsSource::ConfigMap {
        namespace: NAMESPACE.into(),
        name: NAME.into(),
    }
}

/// Runs the source beside `test`.
async fn beside<F: Future>(
    source: AnchorsSource,
    client: Client,
    test: impl FnOnce(Anchors) -> F,
) -> F::Output {
    let (publish, anchors) = watch::channel(None);
    tokio::select! {
        () = source.follow(client, publish) => panic!("the source ended"),
        done = test(anchors) => done,
    }
}

async fn published(anchors: &mut Anchors, wanted: &TrustBundle) {
    let seen = anchors.wait_for(|held| held.as_deref() == Some(wanted));
    let seen = tokio::time::timeout(SOON, seen).await;
    assert!(seen.expect("in time").is_ok());
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, wait).await;
    assert!(waited.is_ok(), "{what} does not come");
}

#[test]
fn a_file_that_was_asked_for_comes_first_and_the_config_map_second() {
    let choose = |file: Option<&str>, map: Option<&str>| {
        let (file, map) = (file.map(Into::into), map.map(str::to_owned));
        AnchorsSource::choose(file, map, NAMESPACE, Path::new("/default"))
    };
    let file = |path: &str| AnchorsSource::File(path.into());
    assert_eq!(choose(Some("/f"), Some("m")), file("/f"));
    assert_eq!(choose(None, Some(NAME)), source());
    assert_eq!(choose(None, None), file("/default"));
}

/// The control plane is ready as soon as Sentry has written its roots, not when a kubelet has noticed.
#[tokio::test]
async fn anchors_follow_the_config_map_from_before_it_is_filled() {
    let server = ApiServer::start();
    server.put(config_map(json!({})));
    let (one, two) = (Ca::new(), Ca::new());
    beside(source(), client(&server).await, async |mut anchors| {
        until("a watch", || {
            !server.seen(&When::new("watch", "configmaps")).is_empty()
        })
        .await;
        assert!(anchors.borrow().is_none());
        server.put(self::anchors(&one.root_pem()));
        published(&mut anchors, &one.bundle()).await;
        let both = format!(
            "# comments are allowed\n{}{}",
            one.root_pem(),
            two.root_pem()
        );
        server.put(self::anchors(&both));
        published(&mut anchors, &one.bundle().merge(&two.bundle())).await;
        // What cannot be read, and what is not there, changes nothing.
        for bad in [self::anchors("nonsense"), config_map(json!({}))] {
            server.put(bad);
        }
        server.delete(&config_map(json!({})));
        server.put(self::anchors(&two.root_pem()));
        published(&mut anchors, &two.bundle()).await;
    })
    .await;
}

/// The chart grants one object: list and watch must ask for its name.
#[tokio::test]
async fn a_right_to_the_one_config_map_is_enough() {
    let server = ApiServer::start_tls();
    server.restrict(Rule::of_role(&json!({
        "metadata": {"namespace": NAMESPACE},
        "rules": [{
            "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [NAME],
            "verbs": ["get", "list", "watch"],
        }],
    })));
    let ca = Ca::new();
    server.put(anchors(&ca.root_pem()));
    beside(source(), client(&server).await, async |mut anchors| {
        published(&mut anchors, &ca.bundle()).await;
    })
    .await;
}

#[tokio::test]
async fn anchors_come_back_after_the_server_was_away() {
    let server = ApiServer::start();
    let (one, two) = (Ca::new(), Ca::new());
    server.put(anchors(&one.root_pem()));
    server.inject(When::new("list", "configmaps"), Fault::Close, 1);
    beside(source(), client(&server).await, async |mut anchors| {
        published(&mut anchors, &one.bundle()).await;
        server.compact();
        server.put(self::anchors(&two.root_pem()));
        server.drop_watches();
        published(&mut anchors, &two.bundle()).await;
    })
    .await;
}

#[tokio::test]
async fn anchors_follow_a_file_through_links() {
    let server = ApiServer::start();
    let (one, two) = (Ca::new(), Ca::new());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let source = AnchorsSource::File(path("ca.crt"));
    beside(source, client(&server).await, async |mut anchors| {
        std::fs::write(path("v1"), one.root_pem()).unwrap();
        std::os::unix::fs::symlink(path("v1"), path("ca.crt")).unwrap();
        published(&mut anchors, &one.bundle()).await;
        std::fs::write(path("v2"), two.root_pem()).unwrap();
        std::os::unix::fs::symlink(path("v2"), path("next")).unwrap();
        std::fs::rename(path("next"), path("ca.crt")).unwrap();
        published(&mut anchors, &two.bundle()).await;
    })
    .await;
}

/// Everything that is seen of one object, in order; other objects of the kind are not seen.
#[tokio::test]
async fn one_object_is_followed_through_its_life() {
    let server = ApiServer::start();
    let api: Api<ConfigMap> = Api::namespaced(client(&server).await, NAMESPACE);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let follow = follow_one(api, NAME, |map: Option<&ConfigMap>| {
        let text = map.and_then(|map| map.data.as_ref()?.get("ca.crt").cloned());
        told.lock().unwrap().push(text);
    });
    let test = async {
        let count = || seen.lock().unwrap().len();
        until("nothing", || count() == 1).await;
        for (step, text) in ["a", "b"].iter().enumerate() {
            server.put(anchors(text));
            until(text, || count() == step + 2).await;
        }
        server.delete(&anchors(""));
        until("the end", || count() == 4).await;
    };
    tokio::select! {
        () = follow => panic!("it ended"),
        () = test => {}
    }
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(*seen.lock().unwrap(), [None, text("a"), text("b"), None]);
}

fn subject(name: &str) -> Subject {
    Subject {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        namespace: "shop".into(),
        name: name.into(),
        uid: "u-1".into(),
    }
}

fn news(note: &str) -> News {
    News {
        kind: Kind::Warning,
        reason: "SidecarNotInjected",
        action: "Inject",
        note: note.into(),
    }
}

#[tokio::test]
async fn events_are_written_and_repetitions_become_a_series() {
    let server = ApiServer::start();
    let (recorder, writing) = Recorder::new(client(&server).await, "dapr-injector", "pod-0");
    for name in ["orders", "orders", "orders", "carts"] {
        recorder.tell(subject(name), news(&"x".repeat(2000)));
    }
    assert_eq!(recorder.dropped(), 0);
    drop(recorder);
    tokio::time::timeout(SOON, writing)
        .await
        .expect("the queue is emptied, then the task ends");
    let events = server.objects("events.k8s.io/v1", "Event");
    let of = |name: &str| {
        let found = events
            .iter()
            .find(|event| event["regarding"]["name"] == name);
        found.unwrap().clone()
    };
    assert_eq!(events.len(), 2, "{events:#?}");
    let orders = of("orders");
    assert_eq!(orders["series"]["count"], 3);
    assert_eq!(orders["reason"], "SidecarNotInjected");
    assert_eq!(orders["type"], "Warning");
    assert_eq!(orders["regarding"]["uid"], "u-1");
    assert_eq!(orders["reportingController"], "dapr-injector");
    assert_eq!(orders["note"].as_str().map(str::len), Some(1024));
    assert!(of("carts").get("series").is_none_or(Value::is_null));
}

#[tokio::test]
async fn who_tells_too_much_never_waits() {
    let server = ApiServer::start();
    let hold = server.hold(When::new("create", "events"));
    let (recorder, writing) = Recorder::new(client(&server).await, "dapr-injector", "pod-0");
    for number in 0..1000 {
        recorder.tell(subject(&number.to_string()), news("many"));
    }
    assert_eq!(recorder.dropped(), 1000 - 256);
    hold.release();
    drop((recorder, writing));
}

#[tokio::test]
async fn a_refused_event_does_not_end_the_others() {
    let server = ApiServer::start();
    server.inject(When::new("create", "events"), Fault::Status(403), 1);
    let (recorder, writing) = Recorder::new(client(&server).await, "dapr-injector", "pod-0");
    recorder.tell(subject("a"), news("lost"));
    recorder.tell(subject("b"), news("written"));
    drop(recorder);
    tokio::time::timeout(SOON, writing).await.expect("it ends");
    assert_eq!(server.objects("events.k8s.io/v1", "Event").len(), 1);
}

#[tokio::test]
async fn without_a_pod_and_a_kubeconfig_there_is_no_cluster() {
    let nowhere = connect(None, "test/1").await.err().unwrap().to_string();
    assert!(nowhere.starts_with("no cluster: not in a pod"), "{nowhere}");
    let missing = connect(Some(Path::new("/nowhere/config")), "test/1").await;
    let missing = missing.err().unwrap().to_string();
    assert!(missing.contains("kubeconfig /nowhere/config"), "{missing}");
}
