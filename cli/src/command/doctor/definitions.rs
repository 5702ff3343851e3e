//! The definitions of this project's kinds, against those in a cluster.
//!
//! Pure. A definition is outdated if it lacks a field that this version knows: the API server drops what it does not
//! know from what people apply, without a word.

use anyhow::Context as _;
use serde_json::Value;

use super::finding::Finding;

const CHECK: &str = "definitions";

/// The names of the definitions.
pub(super) const NAMES: [&str; 5] = [
    "accesscontrols.dapr.io",
    "components.dapr.io",
    "configurations.dapr.io",
    "httpendpoints.dapr.io",
    "resiliencies.dapr.io",
];

/// The definitions as this version ships them.
fn shipped() -> anyhow::Result<Vec<Value>> {
    let texts = crate::chart::definitions();
    let read = |text: &str| ironside_resources::yaml::from_str(text);
    texts
        .map(|text| read(text).context("a definition of this build cannot be read"))
        .collect()
}

/// Judges what is there.
pub(super) fn judge(held: &[Value]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for ours in shipped()? {
        let name = name(&ours);
        let Some(theirs) = held.iter().find(|one| self::name(one) == name) else {
            findings.push(Finding::error(
                CHECK,
                format!("{name} is missing"),
                "apply the chart's crds folder, or run: ironside upgrade -k",
            ));
            continue;
        };
        if ironside_cluster::definitions::is_foreign(theirs) {
            findings.push(Finding::error(
                CHECK,
                format!("{name} is of another project: it lacks the label app.kubernetes.io/part-of=ironside"),
                "remove it if its objects are not needed, then apply the chart's crds folder",
            ));
            continue;
        }
        let (Some(ours), Some(theirs)) = (schema(&ours), schema(theirs)) else {
            findings.push(Finding::error(
                CHECK,
                format!("{name} does not serve v1alpha1"),
                "apply the chart's crds folder, or run: ironside upgrade -k",
            ));
            continue;
        };
        let mut missing = Vec::new();
        lacking(ours, theirs, "", &mut missing);
        if !missing.is_empty() {
            let count = missing.len();
            missing.truncate(3);
            findings.push(Finding::warning(
                CHECK,
                format!("{name} lacks {count} of the fields that this version knows, such as {}", missing.join(", ")),
                "the operator brings definitions up to date if crds.manage is true; else apply the chart's crds folder",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::good(CHECK, "all five are there and up to date"));
    }
    Ok(findings)
}

fn name(definition: &Value) -> &str {
    let name = definition.pointer("/metadata/name");
    name.and_then(Value::as_str).unwrap_or_default()
}

/// The schema of the version that is served.
fn schema(definition: &Value) -> Option<&Value> {
    let versions = definition.pointer("/spec/versions")?.as_array()?;
    let served = versions.iter().find(|one| {
        one.get("name").and_then(Value::as_str) == Some("v1alpha1")
            && one.get("served").and_then(Value::as_bool) == Some(true)
    })?;
    served.pointer("/schema/openAPIV3Schema")
}

/// The fields of one schema that another lacks, as paths.
fn lacking(ours: &Value, theirs: &Value, path: &str, missing: &mut Vec<String>) {
    // What takes everything lacks nothing.
    if theirs.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        return;
    }
    let fields = ours.get("properties").and_then(Value::as_object);
    for (name, inner) in fields.into_iter().flatten() {
        let path = format!("{path}.{name}");
        match theirs.get("properties").and_then(|all| all.get(name)) {
            // Without fields of its own, metadata is the API server's.
            None if path != ".metadata" && path != ".kind" && path != ".apiVersion" => {
                missing.push(path)
            }
            None => {}
            Some(held) => lacking(inner, held, &path, missing),
        }
    }
    for part in ["items", "additionalProperties"] {
        if let (Some(ours), Some(theirs)) = (ours.get(part), theirs.get(part)) {
            lacking(ours, theirs, path, missing);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Weight;
    use super::*;

    #[test]
    fn what_is_shipped_is_up_to_date() {
        let found = judge(&shipped().unwrap()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].weight, Weight::Good);
    }

    #[test]
    fn what_is_missing_foreign_or_old_is_told() {
        let mut held = shipped().unwrap();
        held.retain(|one| name(one) != "components.dapr.io");
        for one in &mut held {
            match name(one) {
                "accesscontrols.dapr.io" => one["metadata"]["labels"] = json!({}),
                "configurations.dapr.io" => {
                    let at = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
                    let fields = one.pointer_mut(at).unwrap().as_object_mut().unwrap();
                    fields.remove("accessControl");
                }
                "resiliencies.dapr.io" => one["spec"]["versions"][0]["served"] = json!(false),
                _ => {}
            }
        }
        let found = judge(&held).unwrap();
        let told: Vec<(Weight, &str)> = found
            .iter()
            .map(|one| (one.weight, one.text.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    Weight::Error,
                    "accesscontrols.dapr.io is of another project: it lacks the label \
                    app.kubernetes.io/part-of=ironside"
                ),
                (Weight::Error, "components.dapr.io is missing"),
                (
                    Weight::Warning,
                    "configurations.dapr.io lacks 1 of the fields that this version knows, such as \
                    .spec.accessControl"
                ),
                (
                    Weight::Error,
                    "resiliencies.dapr.io does not serve v1alpha1"
                ),
            ]
        );
        assert!(found.iter().all(|one| !one.fix.is_empty()));
    }
}
