//! The definition of Configuration. Source: kubernetes 4.2, 4.5.

use serde_json::{Value, json};

use super::definition::{self, Definition, add_rule, duration, extend, opaque_object, require};
use super::structural;
use crate::configuration::Spec;

const SPEC: &str = "/properties/spec/properties";
/// Most entries of `accessControl.policies`, and most operations of an entry. The rule that looks for doubles compares
/// each entry with all, and the API server refuses a definition whose rules could cost too much.
const MAX_POLICIES: usize = 256;
const MAX_OPERATIONS: usize = 512;

pub(super) fn definition() -> Definition {
    Definition {
        kind: "Configuration",
        plural: "configurations",
        singular: "configuration",
        short_names: &["daprcfg"],
        part_of: "dapr",
        made_from: "configuration/spec.rs",
        schema: schema(),
        columns: json!([
            {"name": "Tracing", "type": "string", "jsonPath": ".spec.tracing.samplingRate"},
            {"name": "Metrics", "type": "boolean", "jsonPath": ".spec.metrics.enabled"},
            {"name": "Access", "type": "string", "jsonPath": ".spec.accessControl.defaultAction"},
            {"name": "mTLS", "type": "boolean", "jsonPath": ".spec.mtls.enabled", "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ]),
    }
}

/// What the decoder alone knows.
pub(super) fn decoded() -> Value {
    structural::<Spec>()
}

fn schema() -> Value {
    let mut schema = definition::object("How sidecars behave.", decoded());
    let it = &mut schema;
    required(it);
    other_building_blocks(it);
    opaque(it);
    metrics(it);
    access_control(it);
    let mtls = format!("{SPEC}/mtls/properties");
    duration(it, &format!("{mtls}/workloadCertTTL"));
    duration(it, &format!("{mtls}/allowedClockSkew"));
    let validator = format!("{mtls}/tokenValidators/items/properties/name");
    extend(it, &validator, json!({"enum": ["jwks"]}));
    schema
}

fn required(schema: &mut Value) {
    for (place, names) in [
        ("accessControl/properties/policies/items", &["appId"][..]),
        (
            "accessControl/properties/policies/items/properties/operations/items",
            &["name", "action"],
        ),
        ("api/properties/allowed/items", &["name", "version"]),
        ("api/properties/denied/items", &["name", "version"]),
        ("nameResolution", &["component", "version", "configuration"]),
        ("features/items", &["name", "enabled"]),
        (
            "mtls",
            &["enabled", "controlPlaneTrustDomain", "sentryAddress"],
        ),
        ("mtls/properties/tokenValidators/items", &["name"]),
        ("tracing", &["samplingRate"]),
        ("tracing/properties/zipkin", &["endpointAddress"]),
        (
            "tracing/properties/otel",
            &["endpointAddress", "isSecure", "protocol"],
        ),
        (
            "tracing/properties/otel/properties/headers/items",
            &["name"],
        ),
        (
            "tracing/properties/otel/properties/headers/items/properties/secretKeyRef",
            &["name"],
        ),
        ("secrets", &["scopes"]),
        ("secrets/properties/scopes/items", &["storeName"]),
    ] {
        require(schema, &format!("{SPEC}/{place}"), names);
    }
    for pipeline in ["httpPipeline", "appHttpPipeline"] {
        let pipeline = format!("{SPEC}/{pipeline}");
        let handler = format!("{pipeline}/properties/handlers/items");
        let selector = format!("{handler}/properties/selector");
        require(schema, &pipeline, &["handlers"]);
        require(schema, &handler, &["name", "type"]);
        require(schema, &selector, &["fields"]);
        let field = format!("{selector}/properties/fields/items");
        require(schema, &field, &["field", "value"]);
    }
}

/// Sections that no type here decodes, kept because another sidecar may read them.
fn other_building_blocks(schema: &mut Value) {
    let count = json!({"type": "integer", "format": "int32"});
    let limits = json!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "maxConcurrent"],
            "properties": {"name": {"type": "string"}, "maxConcurrent": count},
        },
    });
    let span = json!({"type": "string"});
    let workflow = json!({
        "description": "Of another building block; kept as it is.",
        "type": "object",
        "properties": {
            "maxConcurrentWorkflowInvocations": count,
            "maxConcurrentActivityInvocations": count,
            "globalMaxConcurrentWorkflowInvocations": count,
            "globalMaxConcurrentActivityInvocations": count,
            "workflowConcurrencyLimits": limits,
            "activityConcurrencyLimits": limits,
            "stateRetentionPolicy": {
                "type": "object",
                "properties": {
                    "anyTerminal": span,
                    "completed": span,
                    "failed": span,
                    "terminated": span,
                },
            },
        },
    });
    let wasm = json!({
        "description": "Of another building block; kept as it is.",
        "type": "object",
        "properties": {"strictSandbox": {"type": "boolean"}},
    });
    extend(schema, SPEC, json!({"workflow": workflow, "wasm": wasm}));
    let workflow = json!({
        "description": "Of another building block; kept as it is.",
        "type": "object",
        "properties": {
            "latencyDistributionBuckets": {"type": "array", "items": {"type": "integer"}},
            "latencyDistributionUnits": {"type": "string"},
        },
    });
    for section in ["metric", "metrics"] {
        let place = format!("{SPEC}/{section}/properties");
        extend(schema, &place, json!({"workflow": workflow}));
    }
}

/// Settings that are whatever their reader wants.
fn opaque(schema: &mut Value) {
    let resolution = format!("{SPEC}/nameResolution/properties/configuration");
    extend(schema, &resolution, opaque_object());
    let options = format!("{SPEC}/mtls/properties/tokenValidators/items/properties/options");
    extend(schema, &options, opaque_object());
}

fn metrics(schema: &mut Value) {
    for section in ["metric", "metrics"] {
        let place = format!("{SPEC}/{section}");
        require(schema, &place, &["enabled"]);
        extend(schema, &place, json!({"default": {"enabled": true}}));
        let rule = format!("{place}/properties/rules/items");
        require(schema, &rule, &["name", "labels"]);
    }
}

fn access_control(schema: &mut Value) {
    let section = format!("{SPEC}/accessControl/properties");
    let policies = format!("{section}/policies");
    let policy = format!("{policies}/items/properties");
    let operations = format!("{policy}/operations");
    let operation = format!("{operations}/items/properties");
    extend(schema, &policies, json!({"maxItems": MAX_POLICIES}));
    extend(schema, &operations, json!({"maxItems": MAX_OPERATIONS}));
    for (field, bound) in [("appId", 128), ("namespace", 128), ("trustDomain", 255)] {
        let place = format!("{policy}/{field}");
        extend(schema, &place, json!({"maxLength": bound}));
    }
    for place in [
        format!("{section}/defaultAction"),
        format!("{policy}/defaultAction"),
        format!("{operation}/action"),
    ] {
        extend(schema, &place, json!({"maxLength": 16}));
        let rule = "self.matches('(?i)^(allow|deny)?$')";
        add_rule(schema, &place, rule, "must be allow or deny");
    }
    // `namespace` is a reserved word of CEL.
    add_rule(
        schema,
        &format!("{policies}/items"),
        "self.appId != '' && has(self.__namespace__) && self.__namespace__ != '' && has(self.trustDomain) && \
         self.trustDomain != ''",
        "appId, namespace and trustDomain must be given and not empty: no sidecar starts with such an entry",
    );
    add_rule(
        schema,
        &policies,
        "self.all(p, !has(p.__namespace__) || self.exists_one(q, has(q.__namespace__) && q.appId == p.appId && \
         q.__namespace__ == p.__namespace__))",
        "two entries for one appId and namespace: the later one would silently win",
    );
}
