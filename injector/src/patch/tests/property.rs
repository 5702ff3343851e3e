//! Whatever is annotated: the patch applies, nothing of the user's is lost, and the bytes are the same.

use super::*;
use ironside_resources::annotations::{PREFIX, TABLE};
use proptest::prelude::*;

/// Values that mean something to some annotation, and any others.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "true",
            "false",
            "yes",
            "",
            "0",
            "-1",
            "1",
            "3000",
            "65535",
            "65536",
            "9223372036854775808",
            "http",
            "GRPC",
            "h2c",
            "debug",
            "10s",
            "-5m",
            "8Mi",
            "100m",
            "1e3",
            "RuntimeDefault",
            "A=1,B=2",
            "A=1,,B",
            "S=a:b",
            "v:/m",
            "v:/m,w:/n",
            "/var/run/s",
            "[::1]",
            "\"x\"",
            "\u{1F680}",
        ])
        .prop_map(str::to_owned),
        ".{0,40}",
    ]
}

fn annotations() -> impl Strategy<Value = Vec<(String, String)>> {
    let names: Vec<&str> = TABLE.iter().map(|known| known.name).collect();
    let name = prop_oneof![
        prop::sample::select(names).prop_map(str::to_owned),
        "[a-z-]{1,20}",
    ];
    prop::collection::vec((name, value()), 0..64)
}

fn container(name: &str, (env, mounts): (bool, bool)) -> Value {
    let mut container = json!({"name": name, "image": "i", "unknown": {"kept": [1, null]}});
    if env {
        container["env"] = json!([{"name": "DAPR_HTTP_PORT", "value": "1"}, {"name": "X"}]);
    }
    if mounts {
        container["volumeMounts"] = json!([{"name": "v", "mountPath": "/var/run/s"}]);
    }
    container
}

type Shape = (
    Vec<(bool, bool)>,
    Option<Vec<(bool, bool)>>,
    Option<bool>,
    bool,
);

fn shape() -> impl Strategy<Value = Shape> {
    let containers = || prop::collection::vec(any::<(bool, bool)>(), 0..4);
    (
        containers(),
        prop::option::of(containers()),
        any::<Option<bool>>(),
        any::<bool>(),
    )
}

fn pod((containers, init, volumes, labels): Shape, annotations: &[(String, String)]) -> Value {
    let list = |kind: &str, all: Vec<(bool, bool)>| -> Value {
        let all = all.into_iter().enumerate();
        all.map(|(at, parts)| container(&format!("{kind}{at}"), parts))
            .collect()
    };
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "future": {"field": true},
        "metadata": {"name": "p", "annotations": {}},
        "spec": {"containers": list("app", containers), "nodeName": "n"},
    });
    for (name, value) in annotations {
        pod["metadata"]["annotations"][format!("{PREFIX}{name}")] = value.clone().into();
    }
    if let Some(init) = init {
        pod["spec"]["initContainers"] = list("init", init);
    }
    if let Some(own) = volumes {
        let name = if own { "dapr-identity-token" } else { "v" };
        pod["spec"]["volumes"] = json!([{"name": name, "hostPath": {"path": "/p"}}]);
    }
    if labels {
        pod["metadata"]["labels"] = json!({"app": "a"});
    }
    pod
}

/// Everything in `before` is in `after`, in the same order.
fn is_kept(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before
            .iter()
            .all(|(key, value)| after.get(key).is_some_and(|after| is_kept(value, after))),
        (Value::Array(before), Value::Array(after)) => {
            let mut rest = after.iter();
            before
                .iter()
                .all(|value| rest.any(|after| is_kept(value, after)))
        }
        _ => before == after,
    }
}

proptest! {
    #[test]
    fn any_pod_gets_a_valid_patch_that_takes_nothing_away(
        shape in shape(), annotations in annotations(), native: bool, mtls: bool,
    ) {
        let case = Case {
            pod: pod(shape, &annotations),
            settings: Settings { native, ..plain() },
            mtls,
        };
        let operations = case.operations();
        for operation in operations.as_array().unwrap() {
            prop_assert_eq!(&operation["op"], "add");
        }
        prop_assert_eq!(operations.to_string(), case.operations().to_string());
        let patched = case.patched();
        prop_assert!(is_kept(&case.pod, &patched), "{patched:#}");
        let daprd = daprd_of(&patched).unwrap();
        let typed = k8s_openapi::api::core::v1::Container::deserialize(&daprd);
        prop_assert!(typed.is_ok(), "{typed:?}");
        prop_assert_eq!(&patched["metadata"]["labels"]["dapr.io/sidecar-injected"], "true");
        // What is said about it is short, whatever it was.
        let warnings = lint::warnings(&Pod::read(&case.pod).unwrap());
        prop_assert!(warnings.len() <= 24);
        prop_assert!(warnings.iter().all(|warning| warning.len() < 600), "{warnings:?}");
    }
}

use serde::Deserialize as _;
