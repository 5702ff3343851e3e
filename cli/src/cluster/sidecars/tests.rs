//! Sidecars in pods of both kinds.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::Sidecar;

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
}

fn daprd(args: &[&str]) -> Value {
    json!({"name": "daprd", "args": args})
}

/// Facts: CL-87; kubernetes 6, rows 2 and 3.
#[test]
fn a_sidecar_is_found_in_either_list_and_either_spelling() {
    let app = json!({"name": "app"});
    for (spec, id, port) in [
        (
            json!({"containers": [app, daprd(&["--app-id", "orders", "--app-port", "3000"])]}),
            "orders",
            Some("3000"),
        ),
        (
            json!({"containers": [app], "initContainers": [
                {"name": "first"}, daprd(&["--log-as-json", "--app-id=orders", "--app-port=0"]),
            ]}),
            "orders",
            Some("0"),
        ),
        (json!({"containers": [daprd(&["--app-id"])]}), "", None),
    ] {
        let pod = pod(spec);
        let found = Sidecar::of(&pod).unwrap();
        assert_eq!(found.app_id(), id);
        assert_eq!(found.flag("app-port"), port);
    }
    assert!(Sidecar::of(&pod(json!({"containers": [app]}))).is_none());
    assert!(Sidecar::of(&Pod::default()).is_none());
}
