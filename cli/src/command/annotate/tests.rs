//! Annotations in manifests of every kind and style.

use std::collections::BTreeMap;

use ironside_resources::yaml;
use serde_json::Value;

use super::{Wanted, annotated};

fn port() -> BTreeMap<&'static str, String> {
    BTreeMap::from([("dapr.io/app-port", "3000".to_owned())])
}

fn done(text: &str, wanted: &Wanted<'_>) -> Option<String> {
    let documents: Vec<&str> = yaml::documents(text).collect();
    annotated(&documents, wanted, &port()).unwrap()
}

const ADDED: &str =
    "dapr.io/app-id: \"ID\"\ndapr.io/app-port: \"3000\"\ndapr.io/enabled: \"true\"\n";

fn added(id: &str, column: usize) -> String {
    let lines = ADDED.replace("ID", id);
    let lines = lines.lines().map(|line| format!("{:column$}{line}\n", ""));
    lines.collect()
}

/// CL-91: the right place in each kind, and the id that an app gets.
#[test]
fn each_kind_has_its_own_place() {
    let template = "    metadata:\n      labels: {app: x}\n    spec: {containers: []}\n";
    for kind in [
        "Deployment",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "Job",
    ] {
        let head =
            format!("apiVersion: x/v1\nkind: {kind}\nmetadata:\n  name: web\n  namespace: shop\n");
        let text = format!("{head}spec:\n  template:\n{template}");
        let id = format!("shop-{}-web", kind.to_lowercase());
        let expected = format!(
            "{head}spec:\n  template:\n    metadata:\n      labels: {{app: x}}\n      annotations:\n{}    spec: \
             {{containers: []}}\n",
            added(&id, 8)
        );
        assert_eq!(done(&text, &Wanted::default()).unwrap(), expected);
    }
    let text = "kind: Pod\nmetadata:\n  name: web # the front\nspec: {}\n";
    let expected = format!(
        "kind: Pod\nmetadata:\n  name: web # the front\n  annotations:\n{}spec: {{}}\n",
        added("default-pod-web", 4)
    );
    assert_eq!(done(text, &Wanted::default()).unwrap(), expected);
    let text = "kind: CronJob\nmetadata: {name: tidy}\nspec:\n  jobTemplate:\n    spec:\n      template:\n        \
        spec:\n          containers: []\n";
    let expected = format!(
        "{text}        metadata:\n          annotations:\n{}",
        added("default-cronjob-tidy", 12)
    );
    assert_eq!(done(text, &Wanted::default()).unwrap(), expected);
}

/// CL-91: an item of a List, with its dash, its comments and its neighbours.
#[test]
fn an_item_of_a_list_is_changed_in_its_place() {
    let text = "\
kind: List
items:
- kind: Service
  metadata: {name: web}
- kind: Deployment   # the one
  metadata:
    name: web
  spec:
    template:
      metadata:
        annotations:
          # kept
          a: b
          dapr.io/app-port: |
            1

      # before the spec
      spec: {}
- kind: Deployment
  metadata: {name: other}
";
    let expected = text
        .replace(
            "          dapr.io/app-port: |\n            1\n",
            "          dapr.io/app-port: \"3000\"\n          dapr.io/app-id: \"default-deployment-web\"\n          \
             dapr.io/enabled: \"true\"\n",
        );
    assert_eq!(done(text, &Wanted::default()).unwrap(), expected);
    let other = Wanted {
        name: Some("OTHER"),
        namespace: Some("Default"),
    };
    let text = done(text, &other).unwrap();
    let expected = format!(
        "  metadata: {{name: other}}\n  spec:\n    template:\n      metadata:\n        annotations:\n{}",
        added("default-deployment-other", 10)
    );
    assert!(text.ends_with(&expected), "{text}");
}

/// CL-89: one object changes, the others are as they were; a name that is not there changes nothing.
#[test]
fn only_the_first_object_that_is_meant_changes() {
    let text = "# first\nkind: Deployment\nmetadata:\n  name: a\n---\nkind: Deployment\nmetadata:\n  name: b\n\
        spec: {}\n---\nkind: ConfigMap\nmetadata: {name: b}\n";
    let wanted = Wanted {
        name: Some("b"),
        namespace: None,
    };
    let once = done(text, &wanted).unwrap();
    let parts: Vec<&str> = once.split("---\n").collect();
    assert_eq!(parts.len(), 3, "{once}");
    assert_eq!(
        parts[0],
        "# first\nkind: Deployment\nmetadata:\n  name: a\n"
    );
    assert_eq!(parts[2], "kind: ConfigMap\nmetadata: {name: b}\n");
    let expected = format!(
        "kind: Deployment\nmetadata:\n  name: b\nspec:\n  template:\n    metadata:\n      annotations:\n{}",
        added("default-deployment-b", 8)
    );
    assert_eq!(parts[1], expected);
    assert_eq!(
        done(&once, &wanted).unwrap(),
        once,
        "a second time changes nothing"
    );
    for (name, namespace) in [(Some("c"), None), (Some("b"), Some("shop"))] {
        assert_eq!(done(text, &Wanted { name, namespace }), None);
    }
    assert_eq!(
        done("kind: Service\nmetadata: {name: x}\n", &Wanted::default()),
        None
    );
}

/// What is not in block style is written anew, and means the same but for the annotations.
#[test]
fn every_style_keeps_its_meaning() {
    let anchored = "kind: Pod\nmetadata: &m\n  name: x\n  labels: {a: \"1\"}\nspec:\n  again: *m\n";
    for text in [
        "{\"kind\": \"Pod\", \"metadata\": {\"name\": \"x\", \"labels\": {\"n\": \"010\"}}, \"spec\": {\"a\": [1, true, null]}}",
        "kind: Pod\nmetadata: {name: x, annotations: {a: \"true\", \"dapr.io/app-id\": own}}\n",
        "kind: Pod\nmetadata:\n  name: x\n  annotations: {}\n",
        "kind: Pod\nmetadata:\n  name: x\n  annotations:\n",
        "kind: Pod\r\nmetadata:\r\n  name: x\r\n  annotations:\r\n    \"dapr.io/enabled\": 'no'\r\n",
        "kind: Pod\nmetadata:\n  name: x\n  annotations:\n    text: |\n      dapr.io/enabled: no\n    # end\n",
        "kind: Pod\nmetadata:\n  name: x\n  annotations:\n    long: \"one\n\n      two: three\"",
        anchored,
    ] {
        let before: Value = yaml::from_str(text).unwrap();
        let after = done(text, &Wanted::default()).unwrap();
        let mut after: Value = yaml::from_str(&after).unwrap();
        let held = before.pointer("/metadata/annotations").cloned();
        let mut held = held
            .filter(|held| !held.is_null())
            .unwrap_or_else(|| Value::Object(Default::default()));
        let id = held
            .get("dapr.io/app-id")
            .cloned()
            .unwrap_or_else(|| "default-pod-x".into());
        for (name, value) in [
            ("dapr.io/app-id", id),
            ("dapr.io/app-port", "3000".into()),
            ("dapr.io/enabled", "true".into()),
        ] {
            held[name] = value;
        }
        assert_eq!(after["metadata"]["annotations"], held, "{text}");
        let mut before = before;
        for value in [&mut before, &mut after] {
            value["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("annotations");
        }
        assert_eq!(after, before, "{text}");
    }
}
