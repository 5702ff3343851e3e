//! The CustomResourceDefinition of AccessControl, made from the types of this module.
//!
//! Owns what a schema cannot say by itself: bounds, keys of lists, and the rules V1 to V10 in CEL, with the texts and
//! the bounds of the checks beside it. Compiled for tests only: `cargo xtask gen` writes the file by running the
//! test that compares it. Source: security 4.1 to 4.3.

use serde_json::{Value, json};

use super::{
    AccessControlSpec, AccessControlStatus, Flaw,
    check::{MAX_APP_ID, MAX_LABEL, MAX_LIST, MAX_NAME, MAX_SCOPES, MAX_TRUST_DOMAIN},
};
use crate::schema::{Definition, add_rule, extend, structural};

#[cfg(test)]
mod tests;

/// A rule of the API server.
pub(super) struct CelRule {
    /// Where it stands, as a JSON pointer into the schema of the object.
    at: &'static str,
    flaw: Flaw,
    rule: String,
}

const SPEC: &str = "/properties/spec";
const POLICY: &str = "/properties/spec/properties/policies/items";
const OPERATION: &str = "/properties/spec/properties/policies/items/properties/operations/items";
const STATUS: &str = "/properties/status/properties";

/// Rules V1 to V10.
pub(super) fn cel_rules() -> Vec<CelRule> {
    let rule = |at, flaw, rule: &str| CelRule {
        at,
        flaw,
        rule: rule.to_owned(),
    };
    // Waived for a block that was pasted as it is.
    let name = |flaw, rule: &str| CelRule {
        at: SPEC,
        flaw,
        rule: format!(
            "(has(self.evaluation) && self.evaluation == 'DaprCompatible') || !has(self.policies) || \
             self.policies.all(p, !has(p.operations) || p.operations.all(o, {rule}))"
        ),
    };
    let wildcard = |field: &str| {
        format!(
            "self.{field} == '*' || !self.{field}.contains('*') || \
             (self.{field}.endsWith('*') && self.{field}.indexOf('*') == size(self.{field}) - 1)"
        )
    };
    vec![
        rule(
            SPEC,
            Flaw::Empty,
            "has(self.defaultAction) || (has(self.policies) && size(self.policies) > 0)",
        ),
        name(
            Flaw::ForbiddenCharacter,
            r"!o.name.matches('[#?\\x00-\\x1f\\x7f]')",
        ),
        name(
            Flaw::EmptySegment,
            "!o.name.contains('//') && (o.name == '/' || !o.name.endsWith('/'))",
        ),
        name(Flaw::DotSegment, r"!o.name.matches('(^|/)\\.{1,2}(/|$)')"),
        name(
            Flaw::DoubleStar,
            "!o.name.contains('**') || ((o.name == '**' || o.name.endsWith('/**')) && \
             o.name.indexOf('**') == size(o.name) - 2)",
        ),
        name(Flaw::Percent, "!o.name.contains('%')"),
        rule(
            OPERATION,
            Flaw::StarNotAlone,
            "!has(self.httpVerb) || !('*' in self.httpVerb) || size(self.httpVerb) == 1",
        ),
        rule(POLICY, Flaw::Wildcard, &wildcard("appId")),
        // `namespace` is a reserved word of CEL.
        rule(POLICY, Flaw::Wildcard, &wildcard("__namespace__")),
        rule(
            SPEC,
            Flaw::NotCompatible,
            "!has(self.evaluation) || self.evaluation != 'DaprCompatible' || (!has(self.unauthenticated) && \
             (!has(self.policies) || self.policies.all(p, !p.appId.contains('*') && \
             !p.__namespace__.contains('*') && (!has(p.trustDomain) || !p.trustDomain.contains('*')) && \
             (!has(p.operations) || p.operations.all(o, !has(o.pathMatch))))))",
        ),
        rule(
            "",
            Flaw::AppId,
            "!has(self.scopes) || self.scopes.all(a, a.matches('^[A-Za-z0-9_-]{1,64}$'))",
        ),
    ]
}

/// The schema of the whole object, structural as the API server wants it.
pub(super) fn schema() -> Value {
    let mut schema = json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "scopes": {
                "description": "The called apps it is for; empty means all of the namespace.",
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": MAX_APP_ID},
            },
            "spec": structural::<AccessControlSpec>(),
            "status": structural::<AccessControlStatus>(),
        },
    });
    bounds(&mut schema);
    for CelRule { at, flaw, rule } in cel_rules() {
        add_rule(&mut schema, at, &rule, &flaw.to_string());
    }
    schema
}

/// What types do not say: lengths, patterns, sets, keys.
fn bounds(schema: &mut Value) {
    let policy = format!("{POLICY}/properties");
    let operation = format!("{OPERATION}/properties");
    crate::schema::conditions(schema);
    let mut set = |at: &str, members: Value| extend(schema, at, members);
    let policies = json!({
        "maxItems": MAX_LIST,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["appId", "namespace", "trustDomain"],
    });
    set(
        "/properties/scopes",
        json!({"maxItems": MAX_SCOPES, "x-kubernetes-list-type": "set"}),
    );
    set(&format!("{SPEC}/properties/policies"), policies);
    let domain = format!("^[a-z0-9._-]{{1,{MAX_TRUST_DOMAIN}}}$");
    set(
        &format!("{SPEC}/properties/trustDomain"),
        json!({"minLength": 1, "maxLength": MAX_TRUST_DOMAIN, "pattern": domain}),
    );
    // Where the star may stand is said by a rule, with its own message.
    let app_id = format!("^[A-Za-z0-9_*-]{{1,{MAX_APP_ID}}}$");
    set(
        &format!("{policy}/appId"),
        json!({"minLength": 1, "maxLength": MAX_APP_ID, "pattern": app_id}),
    );
    set(
        &format!("{policy}/namespace"),
        json!({
            "minLength": 1,
            "maxLength": MAX_LABEL,
            "pattern": "^[a-z0-9*]([a-z0-9*-]*[a-z0-9*])?$",
        }),
    );
    let domain = format!("^([a-z0-9._-]{{1,{MAX_TRUST_DOMAIN}}}|\\*)$");
    set(
        &format!("{policy}/trustDomain"),
        json!({
            "default": crate::configuration::DEFAULT_TRUST_DOMAIN,
            "minLength": 1,
            "maxLength": MAX_TRUST_DOMAIN,
            "pattern": domain,
        }),
    );
    set(
        &format!("{policy}/operations"),
        json!({"maxItems": MAX_LIST, "x-kubernetes-list-type": "atomic"}),
    );
    set(
        &format!("{operation}/name"),
        json!({"minLength": 1, "maxLength": MAX_NAME}),
    );
    set(
        &format!("{operation}/httpVerb"),
        json!({"maxItems": 10, "x-kubernetes-list-type": "set"}),
    );
    set(
        &format!("{STATUS}/apps"),
        json!({"maxItems": 64, "x-kubernetes-list-type": "set"}),
    );
    set(
        &format!("{STATUS}/lint"),
        json!({"maxItems": 16, "x-kubernetes-list-type": "atomic"}),
    );
}

/// The whole definition.
pub(crate) fn definition() -> Definition {
    Definition {
        kind: "AccessControl",
        plural: "accesscontrols",
        singular: "accesscontrol",
        short_names: &["acl"],
        part_of: "ironside",
        made_from: "access_control.rs",
        schema: schema(),
        columns: columns(),
    }
}

fn columns() -> Value {
    let condition = |kind: &str| format!(".status.conditions[?(@.type=='{kind}')].status");
    json!([
        {"name": "Mode", "type": "string", "jsonPath": ".spec.mode"},
        {"name": "Default", "type": "string", "jsonPath": ".spec.defaultAction"},
        {"name": "Policies", "type": "integer", "jsonPath": ".status.policyCount"},
        {"name": "Applied", "type": "string", "jsonPath": ".status.sidecars.summary"},
        {"name": "Accepted", "type": "string", "jsonPath": condition("Accepted")},
        {"name": "Programmed", "type": "string", "jsonPath": condition("Programmed"), "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ])
}
