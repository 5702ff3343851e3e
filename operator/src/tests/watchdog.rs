//! Pods without the sidecar that they asked for.

use super::rig::Rig;
use super::rights;
use crate::config::{Rounds, Watchdog as Settings};
use crate::reconcile::watchdog::Watchdog;
use ironside_testkit::kube::{ApiServer, Fault, When};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

fn pod(name: &str, containers: Value, init: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "ns", "annotations": {"dapr.io/enabled": "true", "dapr.io/app-id": name},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": format!("rs-{name}"),
                "controller": true}],
        },
        "spec": {"containers": containers, "initContainers": init}, "status": {"phase": "Running"},
    })
}

fn app() -> Value {
    json!([{"name": "app"}])
}

fn injector(server: &ApiServer, ready: u32) {
    server.put(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "dapr-sidecar-injector", "namespace": "dapr-system",
            "labels": {"app": "dapr-sidecar-injector"}},
        "status": {"readyReplicas": ready},
    }));
}

async fn start(rig: &Rig, rounds: Rounds, labels: bool) {
    if labels {
        rig.grant(rights::to_label_pods());
    }
    rig.follow().await;
    let settings = Settings {
        rounds,
        restarts_per_minute: None,
        labels,
    };
    let watchdog = Watchdog::new(rig.common.clone(), Arc::clone(&rig.pods), settings);
    let stop = rig.tasks.token();
    rig.tasks.spawn("watchdog", async move {
        stop.run_until_cancelled_owned(watchdog.run()).await;
    });
}

fn is_there(server: &ApiServer, name: &str) -> bool {
    server.object("v1", "Pod", "ns", name).is_some()
}

/// KO-23, KO-24, KO-25, KO-26: who is restarted, and who is not.
#[tokio::test]
async fn pods_that_miss_their_sidecar_are_evicted() {
    let rig = Rig::start().await;
    injector(&rig.server, 1);
    let mut bare = pod("bare", app(), Value::Null);
    bare["metadata"]["ownerReferences"] = json!([]);
    rig.server.put(bare);
    rig.server.put(pod(
        "own",
        json!([{"name": "app"}, {"name": "daprd"}]),
        Value::Null,
    ));
    rig.server
        .put(pod("native", app(), json!([{"name": "daprd"}])));
    let mut injected = pod("injected", app(), Value::Null);
    injected["metadata"]["labels"] = json!({"dapr.io/sidecar-injected": "true"});
    rig.server.put(injected);
    rig.server.put(pod("missing", app(), Value::Null));
    let mut system = pod("system", app(), Value::Null);
    system["metadata"]["namespace"] = "kube-system".into();
    rig.server.put(system);
    start(&rig, Rounds::Every(Duration::from_secs(1)), true).await;
    rig.until("an eviction", |server| {
        (!is_there(server, "missing")).then_some(())
    })
    .await;
    rig.event("SidecarMissing", "bare").await;
    rig.until("Events of what was missing and of its eviction", |server| {
        let events = server.objects("events.k8s.io/v1", "Event");
        let told = |words: &str| {
            let mut events = events.iter();
            events.any(|event| {
                let note = event["note"].as_str().unwrap_or_default();
                event["regarding"]["name"] == "missing" && note.contains(words)
            })
        };
        (told("it will be restarted") && told("evicted")).then_some(())
    })
    .await;
    rig.until("a label", |server| {
        let pod = server.object("v1", "Pod", "ns", "native")?;
        (pod["metadata"]["labels"]["dapr.io/watchdog-patched"] == "true").then_some(())
    })
    .await;
    for name in ["bare", "own", "native", "injected"] {
        assert!(is_there(&rig.server, name), "{name}");
    }
    assert_eq!(
        rig.server.seen(&When::new("create", "pods/eviction")).len(),
        1
    );
}

/// KO-24: without the flag a pod with a sidecar of its own is left as it is.
#[tokio::test]
async fn labels_are_written_only_where_that_is_asked_for() {
    let rig = Rig::start().await;
    injector(&rig.server, 1);
    let both = json!([{"name": "app"}, {"name": "daprd"}]);
    let own = rig.server.put(pod("first", both, Value::Null));
    rig.server.put(pod("missing", app(), Value::Null));
    start(&rig, Rounds::Every(Duration::from_secs(1)), false).await;
    // Pods are looked at in the order of their names.
    rig.until("an eviction", |server| {
        (!is_there(server, "missing")).then_some(())
    })
    .await;
    let looked = When::new("get", "pods").named("first");
    assert!(!rig.server.seen(&looked).is_empty());
    assert_eq!(rig.server.object("v1", "Pod", "ns", "first"), Some(own));
}

/// KO-22: nothing is restarted while a new pod would have no sidecar either.
#[tokio::test]
async fn nothing_is_restarted_without_an_injector() {
    let rig = Rig::start().await;
    injector(&rig.server, 0);
    rig.server.put(pod("missing", app(), Value::Null));
    start(&rig, Rounds::Every(Duration::from_secs(1)), false).await;
    rig.event("SidecarMissing", "missing").await;
    let evictions = When::new("create", "pods/eviction");
    assert!(rig.server.seen(&evictions).is_empty());
    assert!(is_there(&rig.server, "missing"));
}

/// Off: found, counted and told of, and left alone.
#[tokio::test]
async fn a_watchdog_that_is_off_still_tells() {
    let rig = Rig::start().await;
    injector(&rig.server, 1);
    rig.server.put(pod("missing", app(), Value::Null));
    start(&rig, Rounds::Off, false).await;
    let text = rig.event("SidecarMissing", "missing").await;
    assert!(text.contains("--watch-interval"), "{text}");
    let metrics = rig.common.metrics.exposition();
    rig.until("the count", |_| {
        metrics()
            .contains("dapr_operator_pods_without_sidecar 1")
            .then_some(())
    })
    .await;
    assert!(is_there(&rig.server, "missing"));
}

/// A disruption budget is respected, and the pod is tried again.
#[tokio::test]
async fn a_budget_is_respected() {
    let rig = Rig::start().await;
    injector(&rig.server, 1);
    rig.server.put(pod("missing", app(), Value::Null));
    let evictions = When::new("create", "pods/eviction");
    rig.server.inject(evictions.clone(), Fault::Status(429), 1);
    start(&rig, Rounds::Every(Duration::from_secs(1)), false).await;
    rig.until("an eviction", |server| {
        (!is_there(server, "missing")).then_some(())
    })
    .await;
    assert!(rig.server.seen(&evictions).len() >= 2);
}
