//! Objects as the API server sends them, and what is kept.

use super::*;
use serde_json::json;

fn pod(object: Value) -> PodView {
    PodView::of(serde_json::from_value(object).unwrap())
}

fn images_of(view: &PodView) -> Value {
    serde_json::from_slice(view.images.as_deref().unwrap()).unwrap()
}

/// Fact: security.md 1.5, 1.7.
#[test]
fn of_a_pod_only_what_matters_is_kept() {
    let view = pod(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"a": "b"}, "annotations": {
            "dapr.io/app-id": "orders", "dapr.io/config": "", "other": "x"}},
        "spec": {
            "serviceAccountName": "sa", "nodeName": "n",
            "containers": [
                {"name": "web", "image": "web:1", "env": [{"name": "A"}]},
                {"name": "daprd", "image": "daprd:1"},
                {"name": "late", "image": "late:1"}],
            "initContainers": [
                {"name": "once", "image": "once:1"},
                {"name": "mesh", "image": "mesh:1", "restartPolicy": "Always"}],
        },
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {"name": "web", "imageID": "docker.io/web@sha256:aa"},
                {"name": "daprd", "imageID": "sha256:bb"},
                {"name": "late", "imageID": ""}],
            "initContainerStatuses": [{"name": "mesh", "imageID": "x@y@sha256:cc"}],
        },
    }));
    let expected = json!([
        {"role": "app", "containerName": "web", "image": "web:1", "digest": "sha256:aa"},
        {"role": "daprd", "containerName": "daprd", "image": "daprd:1", "digest": "sha256:bb"},
        {"role": "app", "containerName": "late", "image": "late:1"},
        {"role": "app", "containerName": "mesh", "image": "mesh:1", "digest": "sha256:cc"},
    ]);
    assert_eq!(images_of(&view), expected);
    let text = |text: &str| Some(Box::from(text));
    assert_eq!(
        view,
        PodView {
            uid: "u".into(),
            service_account: "sa".into(),
            control_plane: None,
            app_id: text("orders"),
            config: None,
            images: view.images.clone(),
        }
    );
}

#[test]
fn a_pod_with_nothing_to_say_is_read() {
    let view = pod(json!({"metadata": {"name": "p"}}));
    assert_eq!(images_of(&view), json!([]));
    assert_eq!((&*view.uid, &*view.service_account), ("", ""));
}

#[test]
fn a_crowd_of_images_is_left_out() {
    let crowd: Vec<_> = (0..100)
        .map(|n| json!({"name": format!("c{n}"), "image": "i".repeat(100)}))
        .collect();
    let view = pod(json!({"metadata": {"name": "p"}, "spec": {"containers": crowd}}));
    assert_eq!(view.images, None);
}

/// Fact: security.md 1.6.
#[test]
fn a_configuration_has_a_trust_domain_or_none_or_nonsense() {
    let view = |spec: Value| {
        let object = json!({"metadata": {"name": "c"}, "spec": spec});
        ConfigurationView::of(serde_json::from_value(object).unwrap())
    };
    let domain = |text: &str| json!({"accessControl": {"trustDomain": text}});
    assert_eq!(
        view(domain("td1")),
        ConfigurationView::Domain(Some("td1".into()))
    );
    for none in [
        domain(""),
        json!({}),
        json!(null),
        json!({"accessControl": null}),
    ] {
        assert_eq!(view(none), ConfigurationView::Domain(None));
    }
    let odd = json!({"accessControl": {"trustDomain": 5}});
    assert_eq!(view(odd), ConfigurationView::Odd);
}
