//! The files equal the types, schema and decoder know the same keys, and the API server would refuse what it should.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::server::rule_id;
use super::{Definition, Server, component, configuration, http_endpoint, resiliency};
use crate::resiliency::{ASKED, Remark};
use crate::yaml;

/// Where the files are: for people and other tools, and where Helm looks for them.
const FOLDERS: [&str; 2] = ["../../crds", "../../charts/ironside/crds"];

fn all() -> Vec<Definition> {
    vec![
        crate::access_control::crd_definition(),
        component::definition(),
        configuration::definition(),
        http_endpoint::definition(),
        resiliency::definition(),
    ]
}

/// KC-15, and fact: security 4.1 to 4.3. `UPDATE=1` writes the files.
#[test]
fn the_definitions_are_made_from_the_types() {
    #[expect(
        clippy::disallowed_methods,
        reason = "whether to compare or to write is the caller's choice, as with the other generated files"
    )]
    let update = std::env::var_os("UPDATE").is_some();
    for folder in FOLDERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut names = BTreeSet::new();
        for definition in all() {
            let want = definition.file();
            let name = format!("{}.dapr.io.yaml", definition.plural);
            let path = folder.join(&name);
            names.insert(name);
            if update {
                fs::create_dir_all(&folder).unwrap();
                fs::write(&path, &want).unwrap();
            }
            let found = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(found, want, "{}: run cargo xtask gen", path.display());
            let read: Value = yaml::from_str(&found).unwrap();
            assert_eq!(read, definition.object());
        }
        let there = fs::read_dir(&folder).unwrap();
        let there = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(there.collect::<BTreeSet<_>>(), names);
    }
}

/// Visits every schema with its place.
fn visit(schema: &Value, at: &str, look: &mut dyn FnMut(&str, &Map<String, Value>)) {
    let members = schema.as_object().unwrap();
    look(at, members);
    let properties = members.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        visit(property, &format!("{at}/{name}"), look);
    }
    if let Some(items) = members.get("items") {
        visit(items, &format!("{at}/0"), look);
    }
    if let Some(values) = members.get("additionalProperties") {
        visit(values, &format!("{at}/*"), look);
    }
}

/// KC-01: no references, no choices, one type everywhere that is not left as it is.
#[test]
fn schemas_are_structural() {
    for definition in all() {
        visit(&definition.schema, definition.kind, &mut |at, members| {
            let is_opaque = members.contains_key("x-kubernetes-preserve-unknown-fields");
            let has_type = members.get("type").is_some_and(Value::is_string);
            assert!(has_type || is_opaque, "{at}");
            let both =
                members.contains_key("properties") && members.contains_key("additionalProperties");
            assert!(!both, "{at}");
            for word in [
                "$ref",
                "anyOf",
                "oneOf",
                "allOf",
                "not",
                "definitions",
                "nullable",
                "const",
            ] {
                assert!(!members.contains_key(word), "{at} {word}");
            }
        });
    }
}

/// The API server adds up what rules could cost: everything that a rule is evaluated on, and looks at, has a bound.
#[test]
fn whatever_has_a_rule_has_bounds() {
    for definition in all() {
        let mut ruled = Vec::new();
        let mut unbounded = Vec::new();
        visit(&definition.schema, "", &mut |at, members| {
            if members.contains_key("x-kubernetes-validations") {
                ruled.push(at.to_owned());
            }
            let kind = members
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let is_map = members.contains_key("additionalProperties");
            let is_open = match kind {
                "array" => !members.contains_key("maxItems"),
                "object" => is_map && !members.contains_key("maxProperties"),
                "string" => {
                    let is_bounded =
                        members.contains_key("maxLength") || members.contains_key("enum");
                    members.contains_key("x-kubernetes-validations") && !is_bounded
                }
                _ => false,
            };
            if is_open {
                unbounded.push(at.to_owned());
            }
        });
        for at in &ruled {
            let above = |open: &&String| at == *open || at.starts_with(&format!("{open}/"));
            let open: Vec<_> = unbounded.iter().filter(above).collect();
            assert!(open.is_empty(), "{} {at} {open:?}", definition.kind);
        }
    }
}

/// What the schema of a kind says beyond its decoder's, and the other way round.
#[test]
fn the_configuration_adds_other_building_blocks_alone() {
    let places = |schema: &Value| {
        let mut places = BTreeSet::new();
        visit(schema, "", &mut |at, _| {
            places.insert(at.to_owned());
        });
        places
    };
    let decoded = places(&configuration::decoded());
    let schema = configuration::definition().schema;
    let published = places(&schema["properties"]["spec"]);
    let missing: Vec<_> = decoded.difference(&published).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let others = [
        "/workflow",
        "/wasm",
        "/metric/workflow",
        "/metrics/workflow",
    ];
    for place in published.difference(&decoded) {
        let is_other = |other: &str| {
            let rest = place.strip_prefix(other);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        assert!(others.into_iter().any(is_other), "{place}");
    }
}

/// A value with every key that a schema has.
fn full(schema: &Value, name: &str) -> Value {
    if let Some(words) = schema.get("enum") {
        return words[0].clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let mut members: Map<String, Value> = properties
                .into_iter()
                .flatten()
                .map(|(name, property)| (name.clone(), full(property, name)))
                .collect();
            if let Some(values) = schema.get("additionalProperties") {
                members.insert("x".to_owned(), full(values, name));
            }
            Value::Object(members)
        }
        Some("array") => json!([full(&schema["items"], name)]),
        Some("boolean") => json!(true),
        Some("integer") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("number") => json!(1.0),
        Some("string") => json!(text(name)),
        _ => json!("x"),
    }
}

/// Text that a key takes.
fn text(key: &str) -> &'static str {
    match key {
        "timeouts" | "duration" | "maxInterval" | "initialInterval" | "maxElapsed" | "interval"
        | "ttl" | "overallTimeout" | "idleTimeout" | "window" | "minEjection" | "maxEjection" => {
            "5s"
        }
        "policy" => "constant",
        "trip" => "consecutiveFailures > 3",
        "httpStatusCodes" => "500-503",
        "gRPCStatusCodes" => "4",
        "httpMethods" | "verbs" => "GET",
        "header" => "x-user",
        "path" => "/orders",
        "circuitBreakerScope" => "type",
        // Both a name and, of a breaker, a span.
        "timeout" => "5s",
        _ => "x",
    }
}

/// Pointers of all keys of a value; lists have one item.
fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{key}");
        keys(value, &at, found);
        found.insert(at);
    }
    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
        keys(value, &format!("{at}/{index}"), found);
    }
}

/// Every key of the one is known to the other: the decoder of Resiliency is written by hand.
#[test]
fn the_decoder_of_resiliency_asks_for_every_key_of_the_schema_and_no_other() {
    let spec = &resiliency::definition().schema["properties"]["spec"];
    let document = json!({"metadata": {"name": "a"}, "spec": full(spec, "spec")});
    ASKED.with_borrow_mut(BTreeSet::clear);
    let read = crate::resiliency::from_json(document.to_string().as_bytes()).unwrap();
    let unknown = |note: &&crate::resiliency::Note| note.remark == Remark::UnknownKey;
    assert_eq!(read.notes.iter().find(unknown), None);
    let mut published = BTreeSet::new();
    keys(&document["spec"], "/spec", &mut published);
    // Components are accepted as they are; keys of maps are names.
    let is_key = |at: &String| !at.starts_with("/spec/targets/components/") && !at.ends_with("/x");
    published.retain(is_key);
    let asked = ASKED.with_borrow(BTreeSet::clone);
    let asked: BTreeSet<_> = asked
        .into_iter()
        .filter(|at| at.starts_with("/spec/"))
        .collect();
    assert_eq!(asked, published);
}

fn server(kind: &str) -> Server {
    let mut all = all().into_iter();
    let definition = all.find(|definition| definition.kind == kind).unwrap();
    Server::new(definition.schema)
}

/// Facts: KC-02 to KC-11, K181 to K187, and security 4.3: what the API server says of good and bad objects. Every rule
/// alone has refused an object, and has let one pass: many have one message, so they are told apart by their places.
#[test]
fn the_api_server_says_of_objects_what_the_cases_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/golden/crds/cases.yaml");
    let text = fs::read_to_string(path).unwrap();
    let mut cases = 0;
    let (mut refused, mut passed) = (BTreeSet::new(), BTreeSet::new());
    for case in yaml::documents(&text) {
        let Some(case) = yaml::decode::<Value>(case).unwrap() else {
            continue;
        };
        cases += 1;
        let object = &case["object"];
        let kind = object["kind"].as_str().unwrap();
        let server = server(kind);
        let judged = server.store(object);
        let asked = server.asked(object).into_iter();
        let asked = asked.map(|(rule, holds)| (format!("{kind}{rule}"), holds));
        match case.get("refused").and_then(Value::as_array) {
            Some(parts) => {
                let wrong = judged.expect_err(&object.to_string());
                assert_eq!(wrong.len(), parts.len(), "{object}: {wrong:?}");
                for part in parts.iter().filter_map(Value::as_str) {
                    assert!(
                        wrong.iter().any(|text| text.contains(part)),
                        "{part}: {wrong:?}"
                    );
                }
                if wrong.len() == 1 {
                    let broken = asked.filter(|(_, holds)| !holds);
                    refused.extend(broken.map(|(rule, _)| rule));
                }
            }
            None => {
                let stored = judged.unwrap_or_else(|wrong| panic!("{object}: {wrong:?}"));
                let want = case.get("stored").unwrap_or(&object["spec"]);
                assert_eq!(stored["spec"], *want);
                for key in ["auth", "scopes"] {
                    assert_eq!(stored.get(key), object.get(key));
                }
                passed.extend(asked.map(|(rule, _)| rule));
            }
        }
    }
    assert!(cases > 50, "{cases}");
    let mut all = BTreeSet::new();
    for definition in self::all() {
        visit(&definition.schema, "", &mut |at, members| {
            let rules = members
                .get("x-kubernetes-validations")
                .and_then(Value::as_array);
            for rule in rules.into_iter().flatten() {
                let rule = rule_id(at, rule["rule"].as_str().unwrap());
                all.insert(format!("{}{rule}", definition.kind));
            }
        });
    }
    let without = |cases: &BTreeSet<String>| -> Vec<String> {
        assert_eq!(cases.difference(&all).next(), None);
        all.difference(cases).cloned().collect()
    };
    assert_eq!(without(&refused), [""; 0], "rules that refuse no case");
    assert_eq!(without(&passed), [""; 0], "rules that let no case pass");
}

/// KC-10
#[test]
fn a_configuration_with_every_key_stays_as_it_is() {
    let schema = configuration::definition().schema;
    let mut whole = full(&schema["properties"]["spec"], "spec");
    let section = &mut whole["accessControl"];
    section["defaultAction"] = json!("deny");
    section["policies"][0]["defaultAction"] = json!("deny");
    section["policies"][0]["operations"][0]["action"] = json!("allow");
    whole["mtls"]["workloadCertTTL"] = json!("24h");
    whole["mtls"]["allowedClockSkew"] = json!("15m");
    let object = json!({"spec": whole});
    assert_eq!(server("Configuration").store(&object), Ok(object));
}
