//! Edits of objects while calls go on.

use ironside_e2e::wait;
use ironside_testkit::http::{self, Answer, Gate, HttpApp, Request, Seen};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    dns::pod_address,
    rig::{Cluster, Pod, Sidecar},
};

const ALLOW: &str = "allow";
const DENY: &str = "deny";

/// What `web` may do, besides `/slow`, which it always may.
fn rules(action: &str) -> serde_json::Value {
    let slow = json!({ "name": "/slow", "httpVerb": ["*"], "action": "allow" });
    let web = json!({
        "appId": "web", "namespace": "shop", "trustDomain": "public",
        "defaultAction": action, "operations": [slow],
    });
    json!({ "accessControl": { "defaultAction": action, "trustDomain": "public", "policies": [web] } })
}

async fn status(web: &Sidecar) -> u16 {
    let reply = web.call("orders", "hi").await.unwrap();
    // Shown if the test fails.
    eprintln!("{}: {}", reply.status(), reply.text());
    reply.status()
}

async fn until(web: &Sidecar, wanted: u16) {
    let look = || async { (status(web).await == wanted).then_some(()) };
    wait::until("the answer", wait::LONG, look).await.unwrap();
}

/// KL-01, KL-02, KL-03, KL-05, KL-08, KO-29: rules change under calls, bad ones and gone ones change nothing, and no
/// process is started again.
#[tokio::test]
async fn rules_change_live_and_never_by_accident() {
    let cluster = Cluster::new(true).await;
    let operator = cluster.operator().await;
    cluster.configure("orders-config", 1, rules(ALLOW));
    let gate = Gate::new();
    let held = gate.clone();
    let app = HttpApp::start(move |seen: &Seen| match seen.path() {
        "/slow" => Answer::status(200).gate(&held).body("done"),
        _ => Answer::text("ok"),
    })
    .await
    .unwrap();
    let callee = pod_address(1);
    let orders = Pod::new("orders", "orders-1", callee)
        .app(app.port())
        .config(Some("orders-config"));
    let mut orders = cluster.start(&orders).await;
    orders.healthy("/v1.0/healthz").await;
    let web = cluster
        .start(&Pod::new("web", "web-1", pod_address(2)))
        .await;
    cluster.dns.set("orders", &[callee]);
    assert_eq!(status(&web).await, 200);
    assert!(
        cluster
            .state
            .pods
            .lock()
            .unwrap()
            .contains(&"orders-1".to_owned())
    );

    // One call is under way while the rules change.
    let port = web.http;
    let mut slow = tokio::task::JoinSet::new();
    slow.spawn(
        async move { http::send(port, &Request::get("/v1.0/invoke/orders/method/slow")).await },
    );
    app.busy(1).await;
    cluster.configure("another-config", 1, rules(DENY));
    cluster.configure("orders-config", 2, rules(DENY));
    orders
        .knows("generation.Configuration.orders-config", "2")
        .await;
    until(&web, 403).await;

    // KL-02: rules that make no sense.
    let bad = json!({ "accessControl": { "defaultAction": "allow", "policies": [{ "defaultAction": "allow" }] } });
    cluster.configure("orders-config", 3, bad);
    orders
        .program
        .logged("Configuration orders-config cannot be used in generation 3")
        .await
        .unwrap();
    assert_eq!(status(&web).await, 403);
    let metrics = http::send(orders.metrics, &Request::get("/"))
        .await
        .unwrap()
        .text();
    let refused = r#"dapr_runtime_resources_refused{app_id="orders",kind="Configuration"} 1"#;
    assert!(metrics.contains(refused), "{metrics}");
    let applied = r#"dapr_runtime_resource_generation{app_id="orders",kind="Configuration",name="orders-config"} 2"#;
    assert!(metrics.contains(applied), "{metrics}");

    // KL-03: rules that are gone.
    cluster.state.delete("Configuration", "orders-config");
    orders
        .program
        .logged("configuration orders-config is gone")
        .await
        .unwrap();
    assert_eq!(status(&web).await, 403);
    cluster.configure("orders-config", 4, rules(ALLOW));
    orders
        .knows("generation.Configuration.orders-config", "4")
        .await;
    until(&web, 200).await;

    // An endpoint with a secret of the operator's.
    let reference = json!({ "name": "s", "key": "k" });
    let header = json!({ "name": "x-key", "value": "cGVhcg==", "secretKeyRef": reference });
    let spec =
        json!({ "baseUrl": format!("http://127.0.0.1:{}", app.port()), "headers": [header] });
    cluster.state.put("HTTPEndpoint", "out", 1, &spec);
    web.knows("generation.HTTPEndpoint.out", "1").await;
    assert_eq!(web.call("out", "there").await.unwrap().status(), 200);
    let seen = app.seen();
    let there = seen.iter().find(|seen| seen.path() == "/there").unwrap();
    assert_eq!(there.header("x-key"), Some("pear"));

    // KL-08: the call that was under way, in the process that was there.
    gate.open();
    let reply = slow.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!((reply.status(), reply.text().as_str()), (200, "done"));
    assert!(orders.program.ended().is_none());
    drop(operator);
}

/// As the log names the stream that ended.
const KINDS: [&str; 4] = [
    ": Configuration: ",
    ": Component: ",
    ": HTTPEndpoint: ",
    ": Resiliency: ",
];

/// KL-04, K124: what changed while the operator was away counts once it is back; with one of the reference, too.
#[tokio::test]
async fn edits_in_the_operators_absence_are_not_missed() {
    for has_snapshots in [true, false] {
        let cluster = Cluster::new(has_snapshots).await;
        let operator = cluster.operator().await;
        let web = cluster
            .start(&Pod::new("web", "web-1", pod_address(10)))
            .await;
        web.knows("generation.Configuration.plain", "1").await;
        web.healthy("/v1.0/healthz").await;
        operator.kill().await;
        web.program
            .logged("cannot follow the operator")
            .await
            .unwrap();
        cluster.configure("plain", 2, rules(DENY));
        cluster.state.put(
            "HTTPEndpoint",
            "out",
            7,
            &json!({ "baseUrl": "http://127.0.0.1:1" }),
        );
        assert_eq!(web.health("/v1.0/healthz").await, 204);
        let _operator = cluster.operator().await;
        web.knows("generation.Configuration.plain", "2").await;
        web.knows("generation.HTTPEndpoint.out", "7").await;
        // One loss, though each of its streams ended: each would make the pause longer.
        let log = web.program.log();
        let streams = log.lines().filter(|line| {
            line.contains("cannot follow the operator")
                && KINDS.iter().any(|kind| line.contains(kind))
        });
        assert_eq!(streams.count(), 1, "{log}");
    }
}

/// KL-06: with the feature off, edits wait for a hangup.
#[tokio::test]
async fn without_hot_reload_edits_wait() {
    let cluster = Cluster::new(true).await;
    let _operator = cluster.operator().await;
    let off = || json!({ "features": [{ "name": "HotReload", "enabled": false }] });
    cluster.configure("off", 1, off());
    cluster.configure("on", 1, json!({}));
    let waiting = Pod::new("web", "web-1", pod_address(20)).config(Some("off"));
    let waiting = cluster.start(&waiting).await;
    let other = Pod::new("other", "other-1", pod_address(21)).config(Some("on"));
    let other = cluster.start(&other).await;
    cluster.configure("off", 2, off());
    cluster.configure("on", 2, json!({}));
    cluster.state.put(
        "HTTPEndpoint",
        "out",
        1,
        &json!({ "baseUrl": "http://127.0.0.1:1" }),
    );
    // The other one has it all, in the order in which it was told.
    other.knows("generation.Configuration.on", "2").await;
    other.knows("generation.HTTPEndpoint.out", "1").await;
    let key = "generation.Configuration.off";
    assert_eq!(waiting.metadata(key).await.as_deref(), Some("1"));
    waiting.program.signal(Signal::HUP);
    waiting.knows(key, "2").await;
}
