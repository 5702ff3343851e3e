//! Services, from a workload's annotation to the object in the API server.

use super::rig::{Rig, app, deployment};
use ironside_testkit::kube::{Fault, When};
use serde_json::{Value, json};
use std::time::Duration;

fn revision(object: &Value) -> String {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// KO-01, KO-02, KO-05 with mutual TLS.
#[tokio::test]
async fn a_workload_has_its_service() {
    let rig = Rig::start().await;
    rig.server.put(deployment("d1", app("app1")));
    let mut stateful = deployment("s1", app("app2"));
    stateful["kind"] = "StatefulSet".into();
    rig.server.put(stateful);
    rig.server.put(deployment("plain", json!({})));
    rig.reconcile_services(true);
    let service = rig.service("app1-dapr").await;
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["spec"]["selector"], json!({"app": "d1"}));
    assert_eq!(service["spec"]["ports"][2]["appProtocol"], "tls");
    assert_eq!(
        service["metadata"]["labels"],
        json!({"dapr.io/enabled": "true"})
    );
    assert_eq!(service["metadata"]["ownerReferences"][0]["name"], "d1");
    let service = rig.service("app2-dapr").await;
    assert_eq!(
        service["metadata"]["ownerReferences"][0]["kind"],
        "StatefulSet"
    );
    assert_eq!(rig.server.objects("v1", "Service").len(), 2);
}

/// KO-04, KO-07, KO-09, KO-10, KO-11, KO-15, KP-14, M-03: a Service over its life.
#[tokio::test]
async fn a_service_follows_its_workload() {
    let rig = Rig::start().await;
    rig.reconcile_services(false);
    rig.server.put(deployment("d1", app("app1")));
    let mut service = rig.service("app1-dapr").await;
    assert_eq!(service["spec"]["ports"][2]["appProtocol"], "grpc", "KO-05");
    // KO-15: what does not matter changes nothing.
    for replicas in 0..100 {
        let mut same = deployment("d1", app("app1"));
        same["spec"]["replicas"] = replicas.into();
        rig.server.put(same);
    }
    // KO-11: what users write survives a change of ours.
    service["metadata"]["annotations"]["x"] = "y".into();
    let edited = rig.server.put(service.clone());
    let mut off = app("app1");
    off["dapr.io/enable-metrics"] = "false".into();
    off["dapr.io/grpc-port"] = "6001".into();
    rig.server.put(deployment("d1", off));
    let changed = rig.until("a changed Service", |server| {
        let service = server.object("v1", "Service", "ns", "app1-dapr")?;
        (service["spec"]["ports"][1]["port"] == 6001 || service["spec"]["ports"][3]["port"] == 6001)
            .then_some(service)
    });
    let changed = changed.await;
    let annotations = json!({"dapr.io/app-id": "app1", "x": "y"});
    assert_eq!(
        changed["metadata"]["annotations"], annotations,
        "KO-04: no scraping"
    );
    assert_eq!(changed["spec"]["ports"].as_array().unwrap().len(), 4);
    assert_ne!(revision(&changed), revision(&edited));
    // KO-07.
    rig.server.delete(&changed);
    rig.service("app1-dapr").await;
    // KO-10.
    rig.server.put(deployment("d1", app("app2")));
    rig.service("app2-dapr").await;
    rig.no_service("app1-dapr").await;
    // KO-09.
    rig.server.put(deployment("d1", json!({})));
    rig.no_service("app2-dapr").await;
}

/// M-35: a Service that goes with its workload is counted, although it is not the operator who deletes it.
#[tokio::test]
async fn a_service_is_counted_when_it_comes_and_when_it_goes() {
    let rig = Rig::start().await;
    rig.reconcile_services(true);
    let workload = rig.server.put(deployment("d1", app("app1")));
    let service = rig.service("app1-dapr").await;
    let exposition = rig.common.metrics.exposition();
    let counted = |line: &str| {
        let line = format!("dapr_operator_service_{line}");
        let text = exposition();
        text.lines().any(|have| have == line).then_some(())
    };
    rig.until("a count", |_| counted("created_total{app_id=\"app1\"} 1"))
        .await;
    // As the API server and the garbage collector do.
    rig.server.delete(&workload);
    rig.server.delete(&service);
    rig.until("a count", |_| counted("deleted_total{app_id=\"app1\"} 1"))
        .await;
    rig.server.put(deployment("d2", app("app2")));
    rig.service("app2-dapr").await;
    // The operator's own deletion counts once as well.
    rig.server.put(deployment("d2", json!({})));
    rig.until("a count", |_| counted("deleted_total{app_id=\"app2\"} 1"))
        .await;
    rig.server.put(deployment("d3", app("last")));
    rig.service("last-dapr").await;
    for app in ["app1", "app2"] {
        assert!(counted(&format!("deleted_total{{app_id=\"{app}\"}} 1")).is_some());
    }
}

/// KO-15 alone: no write where nothing has to change.
#[tokio::test]
async fn an_unrelated_change_writes_nothing() {
    let rig = Rig::start().await;
    rig.reconcile_services(true);
    rig.server.put(deployment("d1", app("app1")));
    let before = rig.service("app1-dapr").await;
    let writes = || rig.server.seen(&When::new("patch", "services")).len();
    for replicas in 0..100 {
        let mut same = deployment("d1", app("app1"));
        same["spec"]["replicas"] = replicas.into();
        rig.server.put(same);
    }
    // Another app's Service comes after all of that.
    rig.server.put(deployment("d2", app("last")));
    rig.service("last-dapr").await;
    let after = rig.service("app1-dapr").await;
    assert_eq!(revision(&before), revision(&after));
    assert_eq!(writes(), 2, "one for each app");
}

/// KO-12.
#[tokio::test]
async fn a_foreign_service_is_not_touched() {
    let rig = Rig::start().await;
    let foreign = rig.server.put(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "app1-dapr", "namespace": "ns"},
        "spec": {"clusterIP": "10.0.0.7", "ports": [{"port": 1}]},
    }));
    rig.server.put(deployment("d1", app("app1")));
    rig.reconcile_services(true);
    let text = rig.event("ServiceNameTaken", "d1").await;
    assert!(text.contains("app1-dapr"), "{text}");
    let now = rig.service("app1-dapr").await;
    assert_eq!(now, foreign);
    assert!(rig.server.seen(&When::new("patch", "services")).is_empty());
    // When it goes, the next change of the workload brings ours.
    rig.server.delete(&foreign);
    rig.server.put(deployment("d1", json!({})));
    rig.server.put(deployment("d1", app("app1")));
    rig.until("a Service of ours", |server| {
        let service = server.object("v1", "Service", "ns", "app1-dapr")?;
        (service["spec"]["clusterIP"] == "None").then_some(())
    })
    .await;
}

/// KO-13: two claims settle, and say so.
#[tokio::test]
async fn two_claims_on_one_app_settle() {
    let rig = Rig::start().await;
    rig.reconcile_services(true);
    rig.server.put(deployment("d1", app("app1")));
    rig.service("app1-dapr").await;
    rig.server.put(deployment("d2", app("app1")));
    let text = rig.event("DuplicateAppID", "d2").await;
    assert!(text.contains("Deployment d1"), "{text}");
    let settled = rig.service("app1-dapr").await;
    assert_eq!(
        settled["spec"]["selector"],
        json!({"dapr.io/app-id": "app1"})
    );
    assert_eq!(
        settled["metadata"]["ownerReferences"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    // Whatever was under way is over when another app has its Service.
    rig.server.put(deployment("d3", app("last")));
    rig.service("last-dapr").await;
    assert_eq!(
        revision(&rig.service("app1-dapr").await),
        revision(&settled)
    );
}

/// KO-14.
#[tokio::test]
async fn a_bad_app_id_is_told_on_the_workload() {
    let rig = Rig::start().await;
    rig.reconcile_services(true);
    rig.server.put(deployment("d1", app("Not_An_Id")));
    rig.server
        .put(deployment("d2", json!({"dapr.io/enabled": "true"})));
    assert!(rig.event("InvalidAppID", "d1").await.contains("Not_An_Id"));
    assert!(
        rig.event("InvalidAppID", "d2")
            .await
            .contains("dapr.io/app-id")
    );
    assert!(rig.server.objects("v1", "Service").is_empty());
}

/// An app ID that begins with a digit, on a server that does not take it.
#[tokio::test]
async fn a_refusal_of_the_api_server_is_told() {
    let rig = Rig::start().await;
    let when = When::new("patch", "services").named("1app-dapr");
    rig.server.inject(when, Fault::Status(422), usize::MAX);
    rig.server.put(deployment("d1", app("1app")));
    rig.reconcile_services(true);
    let text = rig.event("ServiceRefused", "d1").await;
    assert!(text.contains("begins with a letter"), "{text}");
}

/// KO-17.
#[tokio::test]
async fn one_namespace_may_be_all() {
    let rig = Rig::start_in(Some("ns")).await;
    let mut elsewhere = deployment("d1", app("app1"));
    elsewhere["metadata"]["namespace"] = "other".into();
    rig.server.put(elsewhere);
    rig.reconcile_services(true);
    rig.server.put(deployment("d2", app("app2")));
    rig.service("app2-dapr").await;
    assert_eq!(rig.server.objects("v1", "Service").len(), 1);
    let all = rig.server.all_seen();
    assert!(
        all.iter()
            .all(|seen| seen.namespace.as_deref() == Some("ns")),
        "{all:?}"
    );
}

/// A replica that does not lead writes nothing; when it leads it catches up.
#[tokio::test]
async fn only_the_leader_writes() {
    let rig = Rig::start().await;
    rig.leadership.send_modify(|held| held.is_leader = false);
    rig.server.put(deployment("d1", app("app1")));
    rig.reconcile_services(true);
    let watches = |server: &ironside_testkit::kube::ApiServer| {
        let services = server.seen(&When::new("watch", "services"));
        (!services.is_empty()).then_some(())
    };
    rig.until("a watch", watches).await;
    assert!(rig.server.objects("v1", "Service").is_empty());
    rig.leadership.send_modify(|held| held.is_leader = true);
    rig.service("app1-dapr").await;
}

/// A server that fails is asked again.
#[tokio::test]
async fn failures_are_tried_again() {
    let rig = Rig::start().await;
    let when = When::new("patch", "services");
    rig.server.inject(when, Fault::Status(500), 1);
    rig.server.put(deployment("d1", app("app1")));
    rig.reconcile_services(true);
    tokio::time::timeout(Duration::from_secs(20), rig.service("app1-dapr"))
        .await
        .unwrap();
}

/// A Service of the reference's operator is taken over, with its stale parts gone.
#[tokio::test]
async fn a_service_of_the_reference_is_adopted() {
    let rig = Rig::start().await;
    let owner = rig.server.put(deployment("d1", app("app1")));
    rig.server.put(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "app1-dapr", "namespace": "ns", "labels": {"dapr.io/enabled": "true"},
            "annotations": {"dapr.io/app-id": "app1"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d1",
                "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {"clusterIP": "None", "selector": {"old": "one"}, "ports": []},
    }));
    rig.reconcile_services(true);
    let adopted = rig.until("our ports", |server| {
        let service = server.object("v1", "Service", "ns", "app1-dapr")?;
        (service["spec"]["ports"].as_array()?.len() == 4).then_some(service)
    });
    let adopted = adopted.await;
    assert_eq!(
        adopted["metadata"]["ownerReferences"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}
