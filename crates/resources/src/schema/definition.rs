//! What all definitions have in common, and how a schema is added to.
//!
//! Places are JSON pointers into the schema of the whole object. A place that is not there is a mistake in the
//! caller and panics, so that a renamed field of a type is noticed.

use serde_json::{Map, Value, json};

use super::structural;

/// A kind as the API server is to know it.
pub(crate) struct Definition {
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) short_names: &'static [&'static str],
    /// Whose it is; a chart must not take over a definition of this name that is another project's.
    pub(crate) part_of: &'static str,
    /// The file of the types that it is made from, below `crates/resources/src`.
    pub(crate) made_from: &'static str,
    pub(crate) schema: Value,
    pub(crate) columns: Value,
}

// === impl Definition ===

impl Definition {
    /// The object.
    pub(crate) fn object(&self) -> Value {
        let Self {
            kind,
            plural,
            singular,
            short_names,
            part_of,
            made_from: _,
            schema,
            columns,
        } = self;
        let mut names = json!({
            "kind": kind,
            "listKind": format!("{kind}List"),
            "plural": plural,
            "singular": singular,
            "categories": ["dapr"],
        });
        if !short_names.is_empty() {
            names["shortNames"] = json!(short_names);
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.dapr.io"),
                "labels": {"app.kubernetes.io/part-of": part_of},
            },
            "spec": {
                "group": "dapr.io",
                "scope": "Namespaced",
                "names": names,
                "versions": [{
                    "name": "v1alpha1",
                    "served": true,
                    "storage": true,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                }],
            },
        })
    }

    /// The file.
    pub(crate) fn file(&self) -> String {
        let from = self.made_from;
        let body = serde_yaml::to_string(&self.object()).unwrap();
        let body = body.trim_end();
        format!(
            "# Made from crates/resources/src/{from} by `cargo xtask gen`. Do not edit.\n{body}\n"
        )
    }
}

/// What the operator says of an object of a kind of the reference.
#[derive(schemars::JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "its schema is what it is for")]
struct Status {
    /// The generation that was looked at last.
    observed_generation: Option<i64>,
    /// Aspects of the state.
    conditions: Option<Vec<crate::access_control::Condition>>,
}

/// An object of a kind of the reference: what all have, with this `spec`.
pub(super) fn object(description: &str, spec: Value) -> Value {
    let mut schema = json!({
        "description": description,
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": structural::<Status>(),
        },
    });
    conditions(&mut schema);
    schema
}

/// Bounds of `status.conditions`.
pub(crate) fn conditions(schema: &mut Value) {
    const PLACE: &str = "/properties/status/properties/conditions";
    extend(
        schema,
        PLACE,
        json!({
            "maxItems": 8,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        }),
    );
    let fields = format!("{PLACE}/items/properties");
    let time = json!({"format": "date-time"});
    extend(schema, &format!("{fields}/lastTransitionTime"), time);
    let words = json!({"enum": ["True", "False", "Unknown"]});
    extend(schema, &format!("{fields}/status"), words);
}

/// `scopes`, as kinds of the reference have it.
pub(super) fn scopes(schema: &mut Value, description: &str) {
    let scopes = json!({
        "description": description,
        "type": "array",
        "items": {"type": "string"},
    });
    extend(schema, "/properties", json!({"scopes": scopes}));
}

/// `auth`, as kinds with secrets have it.
pub(super) fn auth(schema: &mut Value) {
    let auth = json!({
        "description": "Where its secrets are.",
        "type": "object",
        "required": ["secretStore"],
        "properties": {
            "secretStore": {
                "description": "Empty and `kubernetes` are Secrets of its namespace, read by the operator.",
                "type": "string",
            },
        },
    });
    extend(schema, "/properties", json!({"auth": auth}));
}

/// What `value` and the like hold: any scalar, and lists and objects of them.
pub(super) fn opaque_object() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Adds members, or replaces them.
pub(crate) fn extend(schema: &mut Value, pointer: &str, members: Value) {
    let Value::Object(members) = members else {
        panic!("no members for {pointer}");
    };
    at_mut(schema, pointer).extend(members);
}

/// Says which properties an object must have; each is one that it can have.
pub(crate) fn require(schema: &mut Value, pointer: &str, names: &[&str]) {
    let place = at_mut(schema, pointer);
    for name in names {
        assert!(place["properties"].get(name).is_some(), "{pointer} {name}");
    }
    place.insert("required".to_owned(), json!(names));
}

/// Adds a rule of CEL with what is said when it does not hold.
pub(crate) fn add_rule(schema: &mut Value, pointer: &str, rule: &str, message: &str) {
    let rules = at_mut(schema, pointer)
        .entry("x-kubernetes-validations")
        .or_insert_with(|| json!([]));
    let rule = json!({"rule": rule, "message": message});
    rules.as_array_mut().unwrap().push(rule);
}

/// Longest text of a span of time.
const MAX_DURATION: usize = 64;

/// A span of time in Go's spelling; nothing is as absent.
pub(super) fn duration(schema: &mut Value, pointer: &str) {
    let bound = json!({"maxLength": MAX_DURATION});
    extend(schema, pointer, bound);
    let rule = format!("self == '' || {}", is_duration());
    add_rule(schema, pointer, &rule, DURATION);
}

/// A span of time in Go's spelling, or a number of milliseconds; nothing is as absent.
pub(super) fn duration_or_millis(schema: &mut Value, pointer: &str) {
    let bound = json!({"maxLength": MAX_DURATION});
    extend(schema, pointer, bound);
    let rule = format!("self.matches('^-?[0-9]*$') || {}", is_duration());
    add_rule(schema, pointer, &rule, DURATION_OR_MILLIS);
}

/// A span of time in Go's spelling, or a number of milliseconds, and not nothing.
pub(super) fn some_duration_or_millis(schema: &mut Value, pointer: &str) {
    let bound = json!({"maxLength": MAX_DURATION});
    extend(schema, pointer, bound);
    let rule = format!("self.matches('^-?[0-9]+$') || {}", is_duration());
    add_rule(schema, pointer, &rule, DURATION_OR_MILLIS);
}

const DURATION: &str = "must be a duration such as 500ms, 30s or 1h30m";
const DURATION_OR_MILLIS: &str =
    "must be a duration such as 500ms, 30s or 1h30m, or a number of milliseconds";

fn is_duration() -> String {
    const UNIT: &str = "(ns|us|µs|μs|ms|s|m|h)";
    let number = r"([0-9]+(\\.[0-9]*)?|\\.[0-9]+)";
    format!("self.matches('^[-+]?(0|({number}{UNIT})+)$')")
}

fn at_mut<'a>(schema: &'a mut Value, pointer: &str) -> &'a mut Map<String, Value> {
    let place = schema.pointer_mut(pointer);
    place
        .unwrap_or_else(|| panic!("no {pointer}"))
        .as_object_mut()
        .unwrap()
}
