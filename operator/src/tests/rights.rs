//! The rights that the chart gives the operator, as rules of the fake API server: what it asks beyond them is refused
//! in a test as it would be on a cluster.
//!
//! They are read from the render that the command installs, which is what Helm makes of the chart with its own values.

use ironside_resources::yaml;
use ironside_testkit::kube::Rule;
use serde_json::{Value, json};

/// The chart with its own values.
const RENDER: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../cli/render/single.yaml"
));
/// What the chart renders on request.
const TEMPLATE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../charts/ironside/templates/rbac/operator.yaml"
));
const ACCOUNT: &str = "dapr-operator";
/// The namespace of the control plane.
const NAMESPACE: &str = "dapr-system";

/// The rights of the operator's account; one that watches a single namespace has a Role there, and none for objects
/// of the cluster.
pub(crate) fn of_operator(watched: Option<&str>) -> Vec<Rule> {
    let decode = |text| yaml::decode::<Value>(text).unwrap();
    let objects: Vec<Value> = yaml::documents(RENDER).filter_map(decode).collect();
    let is_ours = |binding: &&Value| {
        let subjects = binding["subjects"].as_array();
        subjects.is_some_and(|all| all.iter().any(|one| one["name"] == ACCOUNT))
    };
    let mut all = Vec::new();
    for binding in objects.iter().filter(is_ours) {
        let (kind, name) = (&binding["roleRef"]["kind"], &binding["roleRef"]["name"]);
        let is_it = |role: &&Value| role["kind"] == *kind && role["metadata"]["name"] == *name;
        let mut role = objects.iter().find(is_it).unwrap().clone();
        if kind == "Role" {
            role["metadata"]["namespace"] = NAMESPACE.into();
        } else if let Some(watched) = watched {
            role["metadata"]["namespace"] = watched.into();
            let rules = role["rules"].as_array_mut().unwrap();
            rules.retain(|rule| rule["apiGroups"] != json!(["apiextensions.k8s.io"]));
        }
        all.extend(Rule::of_role(&role));
    }
    assert!(!all.is_empty());
    all
}

/// What `dapr_operator.secretResolution.namespaces` adds for each namespace.
pub(crate) fn to_resolve_secrets(namespace: &str) -> Vec<Rule> {
    let begin = "{{- define \"ironside.operator.secretRules\" }}";
    let text = TEMPLATE.split(begin).nth(1).unwrap();
    let text = text.split("{{- end }}").next().unwrap();
    let rules: Value = yaml::decode(text).unwrap().unwrap();
    Rule::of_role(&json!({"metadata": {"namespace": namespace}, "rules": rules}))
}

/// What `global.operator.watchdogCanPatchPodLabels` adds.
pub(crate) fn to_label_pods() -> Vec<Rule> {
    assert!(TEMPLATE.contains("watchdogCanPatchPodLabels }}, patch{{ end }}]"));
    Rule::of_role(
        &json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]}),
    )
}
