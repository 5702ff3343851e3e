//! The file equals the types; the rules of the API server say what the checks of this crate say.

use std::{fs, sync::Arc};

use cel::{Context, Program, Value as CelValue, extractors::This};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

use super::{super::*, *};

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../crds/accesscontrols.dapr.io.yaml"
);
const HEAD: &str =
    "# Made from crates/resources/src/access_control.rs by `cargo xtask gen`. Do not edit.\n";

fn written() -> String {
    let body = serde_yaml::to_string(&definition()).unwrap();
    format!("{HEAD}{}\n", body.trim_end())
}

/// Fact: security 4.1 to 4.3. `UPDATE=1` writes the file.
#[test]
fn the_crd_is_made_from_the_types() {
    let want = written();
    #[expect(
        clippy::disallowed_methods,
        reason = "whether to compare or to write is the caller's choice, as with the other generated files"
    )]
    let update = std::env::var_os("UPDATE").is_some();
    if update {
        fs::write(FILE, &want).unwrap();
    }
    let found = fs::read_to_string(FILE).unwrap();
    assert_eq!(found, want, "run cargo xtask gen");
    let read: Value = yaml::from_str(&found).unwrap();
    assert_eq!(read, definition());
}

/// What a structural schema must be: no references, no choices, one type everywhere.
#[test]
fn the_schema_is_structural() {
    fn visit(value: &Value, path: &str) {
        let members = value.as_object().unwrap();
        assert!(members.get("type").is_some_and(Value::is_string), "{path}");
        for word in [
            "$ref",
            "anyOf",
            "oneOf",
            "allOf",
            "definitions",
            "nullable",
            "const",
        ] {
            assert!(!members.contains_key(word), "{path} {word}");
        }
        let properties = members.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            visit(property, &format!("{path}.{name}"));
        }
        if let Some(items) = members.get("items") {
            visit(items, &format!("{path}[]"));
        }
    }
    visit(&schema(), "");
}

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

thread_local! {
    /// Rules V1 to V10, ready to run.
    static RULES: Vec<(CelRule, Program)> = cel_rules()
        .into_iter()
        .map(|rule| {
            let program = Program::compile(&rule.rule).unwrap();
            (rule, program)
        })
        .collect();
}

/// Evaluates a rule as the API server does, on each value that it stands at.
fn holds(rule: &CelRule, program: &Program, object: &Value) -> bool {
    values_at(object, rule.at).iter().all(|value| {
        let mut context = Context::default();
        context.add_variable("self", escaped(value)).unwrap();
        // Not of the language itself, but of the libraries of the API server.
        let added =
            context.add_function("indexOf", |text: This<Arc<String>>, part: Arc<String>| {
                let at = text.0.find(part.as_str());
                let at = at.map(|at| text.0[..at].chars().count());
                at.map_or(-1, |at| i64::try_from(at).unwrap())
            });
        added.unwrap();
        match program.execute(&context) {
            Ok(CelValue::Bool(holds)) => holds,
            other => panic!("{}: {other:?}", rule.rule),
        }
    })
}

/// All values that a pointer into the schema stands for.
fn values_at(object: &Value, at: &str) -> Vec<Value> {
    let mut values = vec![object.clone()];
    for part in at.split('/').skip(1) {
        values = match part {
            "properties" => continue,
            "items" => values
                .iter()
                .flat_map(|value| value.as_array().cloned().unwrap_or_default())
                .collect(),
            name => values
                .iter()
                .filter_map(|value| value.get(name).cloned())
                .collect(),
        };
    }
    values
}

/// Names as the API server escapes reserved words.
fn escaped(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| {
                let name = if name == "namespace" {
                    "__namespace__"
                } else {
                    name
                };
                (name.to_owned(), escaped(value))
            })
            .collect(),
        Value::Array(list) => list.iter().map(escaped).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// What the API server says by its rules.
fn refusals(object: &Value) -> Vec<String> {
    let mut texts: Vec<String> = RULES.with(|rules| {
        let rules = rules.iter();
        let broken = rules.filter(|(rule, program)| !holds(rule, program, object));
        broken.map(|(rule, _)| rule.flaw.to_string()).collect()
    });
    texts.sort_unstable();
    texts.dedup();
    texts
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
