//! Claims, plans and the object that is applied.

use super::*;
use crate::index::workloads::tests::read;

fn workload(kind: WorkloadKind, name: &str, app_id: &str) -> Fact<Workload> {
    let annotations = json!({"dapr.io/enabled": "true", "dapr.io/app-id": app_id});
    is(kind, name, annotations)
}

fn is(kind: WorkloadKind, name: &str, annotations: Value) -> Fact<Workload> {
    Fact::Is(("ns".into(), name.into()), read(kind, name, annotations))
}

fn deploy(services: &mut Services, name: &str, app_id: &str) -> Vec<Task> {
    let kind = WorkloadKind::Deployment;
    services.take_workload(kind, workload(kind, name, app_id))
}

fn observe(services: &mut Services, object: &Value) {
    let key = (
        "ns".into(),
        object["metadata"]["name"].as_str().unwrap().into(),
    );
    services.take_service(Fact::Is(key, ServiceView::of(object)));
}

fn lose(services: &mut Services, name: &str) -> Vec<Arc<str>> {
    let key = ("ns".into(), name.into());
    services.take_service(Fact::Gone(key)).gone
}

fn plan(services: &Services, app_id: &str) -> Plan {
    services.plan(&"ns".into(), &app_id.into(), true)
}

fn desired(services: &Services, app_id: &str) -> Desired {
    let Plan::Apply { desired, .. } = plan(services, app_id) else {
        panic!("no Service of {app_id} is wanted");
    };
    *desired
}

/// What the API server holds after an apply.
fn stored(desired: &Desired) -> Value {
    let mut object = desired.to_apply(None);
    object["metadata"]["uid"] = "service-uid".into();
    object
}

fn app(app_id: &str) -> Task {
    Task::App("ns".into(), app_id.into())
}

/// KO-01, M-36: the whole object.
#[test]
fn a_service_is_as_the_references() {
    let mut services = Services::default();
    assert_eq!(deploy(&mut services, "d1", "app1"), [app("app1")]);
    let object = desired(&services, "app1").to_apply(None);
    assert_eq!(
        object,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "app1-dapr", "namespace": "ns", "labels": {"dapr.io/enabled": "true"},
                "annotations": {
                    "dapr.io/app-id": "app1", "prometheus.io/probe": "true", "prometheus.io/scrape": "true",
                    "prometheus.io/port": "9090", "prometheus.io/path": "/",
                },
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d1", "uid": "uid-d1",
                    "controller": true, "blockOwnerDeletion": true}],
            },
            "spec": {
                "clusterIP": "None", "selector": {"app": "d1"},
                "ports": [
                    {"name": "dapr-http", "port": 80, "targetPort": 3500, "protocol": "TCP", "appProtocol": "http"},
                    {"name": "dapr-grpc", "port": 50001, "targetPort": 50001, "protocol": "TCP", "appProtocol": "grpc"},
                    {"name": "dapr-internal", "port": 50002, "targetPort": 50002, "protocol": "TCP",
                        "appProtocol": "tls"},
                    {"name": "dapr-metrics", "port": 9090, "targetPort": 9090, "protocol": "TCP",
                        "appProtocol": "http"},
                ],
            },
        })
    );
}

/// KO-04, KO-05, KO-06.
#[test]
fn annotations_and_settings_shape_it() {
    let mut services = Services::default();
    let annotations = json!({
        "dapr.io/enabled": "true", "dapr.io/app-id": "app1", "dapr.io/enable-metrics": "false",
        "dapr.io/metrics-port": "9999",
        "dapr.io/sidecar-svc-annotations": "a=b, c=d=e ,dapr.io/app-id=x,bad, =y",
    });
    let kind = WorkloadKind::StatefulSet;
    services.take_workload(kind, is(kind, "s", annotations));
    let Plan::Apply { desired, .. } = services.plan(&"ns".into(), &"app1".into(), false) else {
        panic!("a plan");
    };
    let object = desired.to_apply(None);
    let found = &object["metadata"]["annotations"];
    assert_eq!(
        *found,
        json!({"dapr.io/app-id": "app1", "a": "b", "c": "d=e"})
    );
    let ports = object["spec"]["ports"].as_array().unwrap();
    assert_eq!(ports[2]["appProtocol"], "grpc", "mutual TLS is off");
    assert_eq!(ports[3]["port"], 9999, "there even if metrics are off");
    assert_eq!(
        object["metadata"]["ownerReferences"][0]["kind"],
        "StatefulSet"
    );
}

/// KO-15, KO-11: what is as it should be is left alone, whatever others put on it.
#[test]
fn what_others_write_is_theirs() {
    let mut services = Services::default();
    deploy(&mut services, "d1", "app1");
    let want = desired(&services, "app1");
    let mut object = stored(&want);
    let view = |object: &Value| ServiceView::of(object).unwrap();
    assert!(view(&object).is_as(&want));
    object["metadata"]["annotations"]["x"] = "y".into();
    object["metadata"]["labels"]["team"] = "z".into();
    object["spec"]["ports"][1]["nodePort"] = 0.into();
    assert!(view(&object).is_as(&want));
    for (pointer, value) in [
        ("/metadata/annotations/dapr.io~1app-id", json!("other")),
        ("/spec/selector/app", json!("other")),
        ("/spec/ports/1/targetPort", json!(1)),
        ("/metadata/ownerReferences/0/uid", json!("other")),
    ] {
        let mut spoilt = object.clone();
        *spoilt.pointer_mut(pointer).unwrap() = value;
        assert!(!view(&spoilt).is_as(&want), "{pointer}");
    }
}

/// KO-09: nobody claims it any more.
#[test]
fn a_service_goes_when_its_workload_wants_none() {
    let mut services = Services::default();
    deploy(&mut services, "d1", "app1");
    let object = stored(&desired(&services, "app1"));
    observe(&mut services, &object);
    let kind = WorkloadKind::Deployment;
    let off = is(kind, "d1", json!({"dapr.io/app-id": "app1"}));
    assert_eq!(services.take_workload(kind, off), [app("app1")]);
    let Plan::Remove { owner, .. } = plan(&services, "app1") else {
        panic!("it is to go");
    };
    assert_eq!(owner, (kind, "d1".into(), "uid-d1".into()));
}

/// M-35: a Service of an operator's counts as gone, whoever took it away; somebody's own does not.
#[test]
fn a_service_that_is_gone_is_told_once() {
    let mut services = Services::default();
    deploy(&mut services, "d1", "app1");
    let mut object = stored(&desired(&services, "app1"));
    observe(&mut services, &object);
    object["metadata"]["annotations"]["x"] = "y".into();
    observe(&mut services, &object);
    assert_eq!(lose(&mut services, "app1-dapr"), ["app1".into()]);
    assert!(lose(&mut services, "app1-dapr").is_empty());
    observe(&mut services, &object);
    // Its successor is all that the watch has told of its end.
    object["metadata"]["uid"] = "another".into();
    let key = ("ns".into(), "app1-dapr".into());
    let seen = services.take_service(Fact::Is(key, ServiceView::of(&object)));
    assert_eq!(seen.gone, ["app1".into()]);
    assert_eq!(seen.tasks, [app("app1")]);
    object["spec"]["clusterIP"] = "10.0.0.7".into();
    observe(&mut services, &object);
    assert!(lose(&mut services, "app1-dapr").is_empty());
}

/// KO-10.
#[test]
fn another_app_id_means_another_service() {
    let mut services = Services::default();
    deploy(&mut services, "d1", "app1");
    let object = stored(&desired(&services, "app1"));
    observe(&mut services, &object);
    assert_eq!(
        deploy(&mut services, "d1", "app2"),
        [app("app1"), app("app2")]
    );
    assert!(matches!(plan(&services, "app1"), Plan::Remove { .. }));
    assert!(matches!(plan(&services, "app2"), Plan::Apply { .. }));
}

/// KO-12: what is not ours is not touched, and not taken away either.
#[test]
fn a_foreign_service_is_left_alone() {
    let mut services = Services::default();
    deploy(&mut services, "d1", "app1");
    let ours = stored(&desired(&services, "app1"));
    for (pointer, value) in [
        ("/spec/clusterIP", json!("10.0.0.1")),
        ("/metadata/ownerReferences/0/kind", json!("Knative")),
        ("/metadata/annotations/dapr.io~1app-id", json!("other")),
        ("/metadata/labels/dapr.io~1enabled", json!("false")),
    ] {
        let mut foreign = ours.clone();
        foreign["metadata"]["ownerReferences"][0]["uid"] = "another".into();
        *foreign.pointer_mut(pointer).unwrap() = value;
        observe(&mut services, &foreign);
        assert!(
            matches!(plan(&services, "app1"), Plan::Taken { .. }),
            "{pointer}"
        );
    }
    let kind = WorkloadKind::Deployment;
    services.take_workload(kind, Fact::Gone(("ns".into(), "d1".into())));
    assert!(matches!(plan(&services, "app1"), Plan::Nothing));
}

/// What the reference's operator made is ours; so is what lost our label but belongs to the claim.
#[test]
fn a_service_of_the_reference_is_taken_over() {
    let mut services = Services::default();
    deploy(&mut services, "d1", "app1");
    let mut object = stored(&desired(&services, "app1"));
    object["metadata"]["labels"] = json!({});
    observe(&mut services, &object);
    assert!(matches!(
        plan(&services, "app1"),
        Plan::Apply {
            service: Some(_),
            ..
        }
    ));
    object["metadata"]["labels"] = json!({"dapr.io/enabled": "true"});
    object["metadata"]["ownerReferences"] = json!([]);
    observe(&mut services, &object);
    assert!(matches!(
        plan(&services, "app1"),
        Plan::Apply {
            service: Some(_),
            ..
        }
    ));
}

/// KO-13: the first owner keeps it, and both are reached.
#[test]
fn two_claims_settle() {
    let mut services = Services::default();
    deploy(&mut services, "d2", "app1");
    let object = stored(&desired(&services, "app1"));
    observe(&mut services, &object);
    // Of the same age, and before it in the alphabet.
    deploy(&mut services, "d1", "app1");
    let both = desired(&services, "app1");
    let names: Vec<_> = both.claims().iter().map(|claim| &*claim.name).collect();
    assert_eq!(names, ["d2", "d1"]);
    let object = both.to_apply(Some("service-uid"));
    assert_eq!(
        object["spec"]["selector"],
        json!({"dapr.io/app-id": "app1"})
    );
    let owners = &object["metadata"]["ownerReferences"];
    assert_eq!(
        (&owners[0]["controller"], &owners[1]["controller"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(object["metadata"]["uid"], "service-uid");
    observe(&mut services, &object);
    let again = desired(&services, "app1");
    assert_eq!(again, both, "a second look says the same");
    assert!(ServiceView::of(&object).unwrap().is_as(&again));
    let kind = WorkloadKind::Deployment;
    services.take_workload(kind, Fact::Gone(("ns".into(), "d2".into())));
    let left = desired(&services, "app1").to_apply(None);
    assert_eq!(left["spec"]["selector"], json!({"app": "d1"}));
    assert_eq!(left["metadata"]["ownerReferences"][0]["name"], "d1");
}

/// KO-14.
#[test]
fn a_bad_app_id_is_a_task_of_its_own() {
    let mut services = Services::default();
    let bad = Task::BadId(WorkloadKind::Deployment, ("ns".into(), "d1".into()));
    assert_eq!(
        deploy(&mut services, "d1", "Not_An_Id"),
        std::slice::from_ref(&bad)
    );
    assert_eq!(deploy(&mut services, "d1", ""), std::slice::from_ref(&bad));
    assert_eq!(services.all_tasks(), [bad]);
    assert!(matches!(plan(&services, ""), Plan::Nothing));
}

#[test]
fn a_new_leader_looks_at_everything_once() {
    let mut services = Services::default();
    deploy(&mut services, "d1", "app1");
    let mut object = stored(&desired(&services, "app1"));
    observe(&mut services, &object);
    object["metadata"]["name"] = "app9-dapr".into();
    object["metadata"]["annotations"]["dapr.io/app-id"] = "app9".into();
    observe(&mut services, &object);
    object["metadata"]["name"] = "of-a-user".into();
    observe(&mut services, &object);
    assert_eq!(services.all_tasks(), [app("app1"), app("app9")]);
}

#[test]
fn nothing_is_done_before_all_is_known() {
    let mut services = Services::default();
    let kinds = [WorkloadKind::Deployment, WorkloadKind::StatefulSet];
    services.take_service(Fact::Complete);
    services.take_workload(kinds[0], Fact::Complete);
    assert!(!services.is_whole(&kinds));
    services.take_workload(kinds[1], Fact::Complete);
    assert!(services.is_whole(&kinds));
}
