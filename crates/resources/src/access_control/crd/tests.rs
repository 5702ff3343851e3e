//! The rules of the API server say what the checks of this crate say.

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use serde_json::{Map, Value, json};

use super::{super::*, *};
use crate::schema::Server;

/// Fact: security 4.2, the table of fields: defaults, and none where its presence is looked at (V9).
#[test]
fn defaults_are_those_of_the_table() {
    let schema = schema();
    for (pointer, want) in [
        ("/properties/spec/properties/mode/default", json!("Enforce")),
        (
            "/properties/spec/properties/evaluation/default",
            json!("MostSpecific"),
        ),
        (
            "/properties/spec/properties/policies/items/properties/trustDomain/default",
            json!("public"),
        ),
        (
            "/properties/spec/properties/unauthenticated/default",
            Value::Null,
        ),
        (
            "/properties/spec/properties/policies/items/properties/operations/items/properties/pathMatch/default",
            Value::Null,
        ),
    ] {
        assert_eq!(
            schema.pointer(pointer).cloned().unwrap_or_default(),
            want,
            "{pointer}"
        );
    }
    let required = |pointer: &str| schema.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(
        required("/properties/spec/properties/policies/items/required"),
        json!(["appId", "namespace"])
    );
    assert_eq!(
        required("/properties/spec/properties/policies/items/properties/operations/items/required"),
        json!(["name", "action"])
    );
    assert_eq!(required("/properties/spec/required"), Value::Null);
    let action = schema.pointer("/properties/spec/properties/defaultAction/enum");
    assert_eq!(
        action,
        Some(&json!(["allow", "Allow", "ALLOW", "deny", "Deny", "DENY"]))
    );
}

/// What the API server says by its rules.
fn refusals(object: &Value) -> Vec<String> {
    Server::new(schema()).broken_rules(object)
}

fn entry(name: &str) -> Value {
    json!({"spec": {"policies": [{"appId": "a", "namespace": "b", "operations": [{"name": name, "action": "deny"}]}]}})
}

/// Rules V1 to V10: each refuses its bad example with its message (rows K181, K183 to K185).
#[test]
fn every_rule_refuses_its_bad_example() {
    let caller = |app: &str, space: &str| json!({"spec": {"policies": [{"appId": app, "namespace": space}]}});
    let verbs = |verbs: Value| json!({"spec": {"policies": [{"appId": "a", "namespace": "b", "operations": [{"name": "a", "action": "deny", "httpVerb": verbs}]}]}});
    let compatible = |more: Value| {
        let mut spec = json!({"evaluation": "DaprCompatible", "defaultAction": "deny"});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"spec": spec})
    };
    let starred = json!({"policies": [{"appId": "a", "namespace": "b", "operations": [{"name": "a", "action": "deny", "pathMatch": "Exact"}]}]});
    for (object, want) in [
        (json!({"spec": {}}), Flaw::Empty),
        (json!({"spec": {"policies": []}}), Flaw::Empty),
        (entry("/a#b"), Flaw::ForbiddenCharacter),
        (entry("/a?b"), Flaw::ForbiddenCharacter),
        (entry("/a\u{7f}"), Flaw::ForbiddenCharacter),
        (entry("/a\u{1}b"), Flaw::ForbiddenCharacter),
        (entry("/a//b"), Flaw::EmptySegment),
        (entry("/a/"), Flaw::EmptySegment),
        (entry("/a/../b"), Flaw::DotSegment),
        (entry("./a"), Flaw::DotSegment),
        (entry("/a/**/b"), Flaw::DoubleStar),
        (entry("/a**"), Flaw::DoubleStar),
        (entry("/a%2Fb"), Flaw::Percent),
        (verbs(json!(["GET", "*"])), Flaw::StarNotAlone),
        (caller("a*b", "b"), Flaw::Wildcard),
        (caller("a", "b**"), Flaw::Wildcard),
        (
            compatible(json!({"unauthenticated": "Deny"})),
            Flaw::NotCompatible,
        ),
        (
            compatible(json!({"policies": [{"appId": "*", "namespace": "b"}]})),
            Flaw::NotCompatible,
        ),
        (
            compatible(json!({"policies": [{"appId": "a", "namespace": "b*"}]})),
            Flaw::NotCompatible,
        ),
        (
            compatible(json!({"policies": [{"appId": "a", "namespace": "b", "trustDomain": "*"}]})),
            Flaw::NotCompatible,
        ),
        (compatible(starred), Flaw::NotCompatible),
        (
            json!({"scopes": ["n o"], "spec": {"defaultAction": "deny"}}),
            Flaw::AppId,
        ),
    ] {
        assert_eq!(refusals(&object), [want.to_string()], "{object}");
    }
    for object in [
        json!({"spec": {"defaultAction": "deny"}}),
        json!({"scopes": ["a_b-C"], "spec": {"policies": [{"appId": "*", "namespace": "team-*", "trustDomain": "*"}]}}),
        entry("/"),
        entry("a"),
        entry("/a/*/c"),
        entry("**"),
        entry("/pkg.S/Get/**"),
        entry("/a.b/..c"),
        verbs(json!(["*"])),
        compatible(
            json!({"policies": [{"appId": "a", "namespace": "b", "operations": [{"name": "/a/**/b/", "action": "deny"}]}]}),
        ),
    ] {
        assert_eq!(refusals(&object), [""; 0], "{object}");
    }
}

/// A random object of the right shape, good or bad.
fn random(rng: &mut SmallRng) -> Value {
    const NAMES: [&str; 20] = [
        "/", "a", "/a", "/a/", "//", "/a//b", "/./a", "/../a", "/a/..", "/a/.b", "/a/*", "/a/**",
        "/**/a", "/a**", "***", "/a%", "/a?b", "/a#", "/a\u{2}", "/é*/b",
    ];
    const APPS: [&str; 6] = ["web", "*", "we*", "w*b", "**", "a_b"];
    const SPACES: [&str; 6] = ["shop", "*", "s*", "s*p", "a-*", "x"];
    let mut spec = Map::new();
    if rng.random_bool(0.6) {
        spec.insert("defaultAction".to_owned(), json!("deny"));
    }
    if rng.random_bool(0.5) {
        let word = ["MostSpecific", "DaprCompatible"].choose(rng);
        spec.insert("evaluation".to_owned(), json!(word));
    }
    if rng.random_bool(0.2) {
        spec.insert("unauthenticated".to_owned(), json!("DefaultAction"));
    }
    let policies: Vec<Value> = (0..rng.random_range(0..3))
        .map(|number| {
            let operations: Vec<Value> = (0..rng.random_range(0..3))
                .map(|_| {
                    let mut rule = json!({"name": NAMES.choose(rng), "action": "allow"});
                    let members = rule.as_object_mut().unwrap();
                    if rng.random_bool(0.2) {
                        members.insert("pathMatch".to_owned(), json!("Exact"));
                    }
                    if rng.random_bool(0.4) {
                        let verbs = [json!(["GET"]), json!(["*"]), json!(["GET", "*"]), json!([])];
                        members.insert("httpVerb".to_owned(), json!(verbs.choose(rng)));
                    }
                    rule
                })
                .collect();
            // Another domain each, so that no two are for the same caller.
            let domain = if rng.random_bool(0.2) {
                "*".to_owned()
            } else {
                format!("d{number}")
            };
            json!({
                "appId": APPS.choose(rng),
                "namespace": SPACES.choose(rng),
                "trustDomain": domain,
                "operations": operations,
            })
        })
        .collect();
    if rng.random_bool(0.8) {
        spec.insert("policies".to_owned(), json!(policies));
    }
    let mut object = json!({"spec": spec});
    if rng.random_bool(0.3) {
        let scope = ["ok", "n o", "a.b"].choose(rng);
        object["scopes"] = json!([scope]);
    }
    object
}

/// The rules that schemas say without CEL.
fn is_plain(flaw: Flaw) -> bool {
    matches!(
        flaw,
        Flaw::DuplicatePolicy
            | Flaw::DuplicateValue
            | Flaw::TooMany(_)
            | Flaw::Length(_)
            | Flaw::Namespace
            | Flaw::TrustDomain
    )
}

#[test]
fn the_rules_agree_with_the_checks_on_random_objects() {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut refused = 0;
    for _ in 0..200 {
        let value = random(&mut rng);
        let spec = value.get("spec").cloned().unwrap_or_default();
        let object = AccessControl {
            scopes: serde_json::from_value(
                value.get("scopes").cloned().unwrap_or_else(|| json!([])),
            )
            .unwrap(),
            spec: serde_json::from_value(spec).unwrap(),
            ..AccessControl::default()
        };
        let problems = object.problems();
        let flaws = problems
            .iter()
            .map(|problem| problem.flaw)
            .filter(|flaw| !is_plain(*flaw));
        // A caller that is no name at all is refused by its pattern.
        let mut want: Vec<String> = flaws.map(|flaw| flaw.to_string()).collect();
        want.sort_unstable();
        want.dedup();
        let found = refusals(&value);
        refused += usize::from(!found.is_empty());
        assert_eq!(found, want, "{value}\n{problems:?}");
    }
    assert!((40..195).contains(&refused), "{refused}");
}
