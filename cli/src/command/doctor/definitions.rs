//! The definitions of this project's kinds, against those in a cluster.
//!
//! Pure. A definition is outdated if it lacks a field that this version knows: the API server drops what it does not
//! know from what people apply, without a word. It is too if other values are allowed than this version allows, above
//! all by rules (CEL), or if status cannot be written. One that a later version applied is not judged.

use std::collections::BTreeSet;

use anyhow::Context as _;
use ironside_cluster::definitions::{self, Step};
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

/// What is compared member by member, or says nothing of what is allowed.
const NOT_LIMITS: [&str; 5] = [
    "properties",
    "items",
    "additionalProperties",
    "description",
    "title",
];
/// Paths that are told of one definition.
const TOLD: usize = 3;

/// What lies between a version that is held and ours.
#[derive(Debug, Default)]
struct Apart {
    /// Paths of fields that are missing.
    fields: Vec<String>,
    /// Paths with what is allowed there, where that differs: types, bounds, enumerations, rules.
    limits: Vec<String>,
    /// Subresources that are missing.
    parts: Vec<String>,
}

/// The definitions as this version ships them.
fn shipped() -> anyhow::Result<Vec<Value>> {
    let texts = crate::chart::definitions();
    let read = |text: &str| ironside_resources::yaml::from_str(text);
    texts
        .map(|text| read(text).context("a definition of this build cannot be read"))
        .collect()
}

/// Judges what is there; `own` is the version of this program.
pub(super) fn judge(held: &[Value], own: &str) -> anyhow::Result<Vec<Finding>> {
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
        let step = definitions::step(theirs, own);
        if step == Step::Foreign {
            findings.push(Finding::error(
                CHECK,
                format!("{name} is of another project: it lacks the label app.kubernetes.io/part-of=ironside"),
                "remove it if its objects are not needed, then apply the chart's crds folder",
            ));
            continue;
        }
        let (Some(ours), Some(theirs)) = (served(&ours), served(theirs)) else {
            findings.push(Finding::error(
                CHECK,
                format!("{name} does not serve v1alpha1"),
                "apply the chart's crds folder, or run: ironside upgrade -k",
            ));
            continue;
        };
        // What a later version added, dropped or changed is not for this one to judge.
        if let Step::Later(by) = step {
            findings.push(Finding::note(
                CHECK,
                format!("{name} was applied by version {by}, and this is {own}"),
                "run doctor of that version to have it compared",
            ));
            continue;
        }
        let apart = Apart::of(ours, theirs);
        if let Some(text) = apart.words() {
            findings.push(Finding::warning(
                CHECK,
                format!("{name} is not that of this version: {text}"),
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

/// The version that is served.
fn served(definition: &Value) -> Option<&Value> {
    let versions = definition.pointer("/spec/versions")?.as_array()?;
    versions.iter().find(|one| {
        one.get("name").and_then(Value::as_str) == Some("v1alpha1")
            && one.get("served").and_then(Value::as_bool) == Some(true)
    })
}

// === impl Apart ===

impl Apart {
    fn of(ours: &Value, theirs: &Value) -> Self {
        let mut apart = Self::default();
        let at = "/schema/openAPIV3Schema";
        let none = Value::Null;
        let schema = |one| Value::pointer(one, at).unwrap_or(&none);
        apart.compare(schema(ours), schema(theirs), "");
        let parts = ours.get("subresources").and_then(Value::as_object);
        let held = theirs.get("subresources");
        let missing = parts
            .into_iter()
            .flatten()
            .filter(|(part, _)| held.and_then(|held| held.get(part.as_str())).is_none());
        apart.parts = missing.map(|(part, _)| part.clone()).collect();
        apart
    }

    fn compare(&mut self, ours: &Value, theirs: &Value, path: &str) {
        self.limits(ours, theirs, path);
        // What takes everything lacks no field.
        if theirs.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
            return;
        }
        let fields = ours.get("properties").and_then(Value::as_object);
        for (name, inner) in fields.into_iter().flatten() {
            let path = format!("{path}.{name}");
            // Without fields of its own, metadata is the API server's.
            if [".metadata", ".kind", ".apiVersion"].contains(&path.as_str()) {
                continue;
            }
            match theirs.get("properties").and_then(|all| all.get(name)) {
                None => self.fields.push(path),
                Some(held) => self.compare(inner, held, &path),
            }
        }
        for part in ["items", "additionalProperties"] {
            if let (Some(ours), Some(theirs)) = (ours.get(part), theirs.get(part)) {
                self.compare(ours, theirs, &format!("{path}[]"));
            }
        }
    }

    fn limits(&mut self, ours: &Value, theirs: &Value, path: &str) {
        let names = |schema: &Value| -> BTreeSet<String> {
            let members = schema.as_object().into_iter().flatten();
            let names = members.map(|(name, _)| name.clone());
            names
                .filter(|name| !NOT_LIMITS.contains(&name.as_str()))
                .collect()
        };
        for name in &names(ours) | &names(theirs) {
            let limit = |schema: &Value| limit(&name, schema.get(name.as_str()));
            if limit(ours) != limit(theirs) {
                let path = if path.is_empty() { "." } else { path };
                self.limits.push(format!("{name} of {path}"));
            }
        }
    }

    /// In words, if there is anything.
    fn words(&self) -> Option<String> {
        let Self {
            fields,
            limits,
            parts,
        } = self;
        let some = |what: &str, paths: &[String]| {
            let told: Vec<&str> = paths.iter().take(TOLD).map(String::as_str).collect();
            let told = told.join(", ");
            (!paths.is_empty()).then(|| format!("{} {what}, such as {told}", paths.len()))
        };
        let parts =
            (!parts.is_empty()).then(|| format!("without subresource {}", parts.join(", ")));
        let all = [
            some("fields are missing", fields),
            some("limits differ", limits),
            parts,
        ];
        let all: Vec<String> = all.into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// A limit in a form in which two that mean the same are equal: the API server drops what says nothing.
fn limit(name: &str, value: Option<&Value>) -> Option<Value> {
    let value = value?;
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Number(number) => number.as_f64().map(Value::from),
        Value::Array(items) if items.is_empty() => None,
        // Their order means nothing, nor do the words that a rule refuses with.
        Value::Array(items) if ["enum", "required", "x-kubernetes-validations"].contains(&name) => {
            let item = |one: &Value| one.get("rule").unwrap_or(one).to_string();
            let items: BTreeSet<String> = items.iter().map(item).collect();
            Some(items.into_iter().collect())
        }
        Value::Object(members) if members.is_empty() => None,
        Value::Bool(true) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            Some(value.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Weight;
    use super::*;

    const OWN: &str = "0.10.0";

    /// One of the definitions, to be changed.
    fn one<'a>(held: &'a mut [Value], plural: &str) -> &'a mut Value {
        let wanted = format!("{plural}.dapr.io");
        held.iter_mut().find(|one| name(one) == wanted).unwrap()
    }

    fn told(held: &[Value]) -> Vec<(Weight, String)> {
        let found = judge(held, OWN).unwrap();
        let bad = found.into_iter().filter(|one| one.weight != Weight::Good);
        bad.map(|one| {
            assert!(!one.fix.is_empty(), "{}", one.text);
            (one.weight, one.text)
        })
        .collect()
    }

    const SPEC: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";

    /// A rule, a bound and an enumeration of an earlier version, one at a time.
    #[test]
    fn other_limits_are_told() {
        type Change = fn(&mut Value);
        let changes: [(&str, Change, &str); 4] = [
            (
                "httpendpoints",
                |one| {
                    let at = format!("{SPEC}/properties/baseUrl");
                    let url = one.pointer_mut(&at).unwrap().as_object_mut().unwrap();
                    assert!(url.remove("x-kubernetes-validations").is_some());
                },
                "1 limits differ, such as x-kubernetes-validations of .spec.baseUrl",
            ),
            (
                "httpendpoints",
                |one| {
                    let at = format!("{SPEC}/properties/baseUrl/x-kubernetes-validations/0/rule");
                    *one.pointer_mut(&at).unwrap() = "self.startsWith('http://')".into();
                },
                "1 limits differ, such as x-kubernetes-validations of .spec.baseUrl",
            ),
            (
                "accesscontrols",
                |one| {
                    let at = format!("{SPEC}/properties/mode/enum");
                    let all = one.pointer_mut(&at).unwrap().as_array_mut().unwrap();
                    assert!(all.pop().is_some());
                },
                "1 limits differ, such as enum of .spec.mode",
            ),
            (
                "accesscontrols",
                |one| {
                    let version = one.pointer_mut("/spec/versions/0").unwrap();
                    assert!(
                        version
                            .as_object_mut()
                            .unwrap()
                            .remove("subresources")
                            .is_some()
                    );
                },
                "without subresource status",
            ),
        ];
        for (plural, change, text) in changes {
            let mut held = shipped().unwrap();
            change(one(&mut held, plural));
            let expected = format!("{plural}.dapr.io is not that of this version: {text}");
            assert_eq!(told(&held), [(Weight::Warning, expected)]);
        }
    }

    /// Order, texts for people, and what an API server drops or writes another way.
    #[test]
    fn what_means_the_same_is_no_difference() {
        let mut held = shipped().unwrap();
        let spec = one(&mut held, "accesscontrols").pointer_mut(SPEC).unwrap();
        spec["description"] = json!("another");
        spec["nullable"] = json!(false);
        let modes = spec.pointer_mut("/properties/mode/enum").unwrap();
        modes.as_array_mut().unwrap().reverse();
        let scopes = one(&mut held, "accesscontrols")
            .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/scopes")
            .unwrap();
        assert_eq!(scopes["maxItems"], 256);
        scopes["maxItems"] = json!(256.0);
        let url = one(&mut held, "httpendpoints")
            .pointer_mut(&format!("{SPEC}/properties/baseUrl"))
            .unwrap();
        url["x-kubernetes-validations"][0]["message"] = json!("another");
        assert_eq!(told(&held), []);
    }

    /// Neither what a later version dropped nor what it added.
    #[test]
    fn what_a_later_version_applied_is_not_judged() {
        let mut held = shipped().unwrap();
        let changed = one(&mut held, "resiliencies");
        definitions::stamp(changed, "0.11.0");
        *changed.pointer_mut(SPEC).unwrap() = json!({"type": "object"});
        definitions::stamp(one(&mut held, "components"), "0.9.0");
        let text = "resiliencies.dapr.io was applied by version 0.11.0, and this is 0.10.0";
        assert_eq!(told(&held), [(Weight::Note, text.to_owned())]);
    }

    #[test]
    fn what_is_shipped_is_up_to_date() {
        let found = judge(&shipped().unwrap(), OWN).unwrap();
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
        let found = judge(&held, OWN).unwrap();
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
                    "configurations.dapr.io is not that of this version: 1 fields are missing, such as \
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
