//! The files equal the types, schema and decoder know the same keys, and the API server would refuse what it should.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

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
        | "ttl" | "overallTimeout" | "window" | "minEjection" | "maxEjection" => "5s",
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

fn refused(kind: &str, document: &str) -> String {
    let object: Value = yaml::from_str(document).unwrap();
    server(kind).store(&object).unwrap_err().join("; ")
}

fn stored(kind: &str, document: &str) -> Value {
    let object: Value = yaml::from_str(document).unwrap();
    server(kind)
        .store(&object)
        .unwrap_or_else(|wrong| panic!("{document}: {wrong:?}"))
}

/// KC-03, KC-06
#[test]
fn the_api_server_fills_in_the_defaults_of_the_reference() {
    let found = stored("Configuration", "spec: {}");
    let want = json!({"spec": {"metric": {"enabled": true}, "metrics": {"enabled": true}}});
    assert_eq!(found, want);
    let found = stored(
        "HTTPEndpoint",
        "spec: {baseUrl: 'https://a', clientTLS: {}}",
    );
    assert_eq!(
        found["spec"]["clientTLS"],
        json!({"renegotiation": "Never"})
    );
}

/// KC-04, KC-05, KC-07: what the reference's definitions refuse, with its place.
#[test]
fn what_the_reference_refuses_is_refused_with_its_place() {
    let configuration = |spec: &str| refused("Configuration", &format!("spec: {spec}"));
    for (spec, want) in [
        (
            "{accessControl: {policies: [{defaultAction: deny}]}}",
            ".spec.accessControl.policies[0].appId: Required value",
        ),
        (
            "{accessControl: {policies: [{appId: a, operations: [{name: /a}]}]}}",
            ".spec.accessControl.policies[0].operations[0].action: Required value",
        ),
        (
            "{tracing: {stdout: true}}",
            ".spec.tracing.samplingRate: Required value",
        ),
        (
            "{mtls: {enabled: true, controlPlaneTrustDomain: a}}",
            ".spec.mtls.sentryAddress: Required value",
        ),
        (
            "{metric: {recordErrorCodes: true}}",
            ".spec.metric.enabled: Required value",
        ),
        (
            "{features: [{name: a}]}",
            ".spec.features[0].enabled: Required value",
        ),
        (
            "{tracing: {samplingRate: 1}}",
            ".spec.tracing.samplingRate: must be of type string",
        ),
        (
            "{mtls: {enabled: true, controlPlaneTrustDomain: a, sentryAddress: b, tokenValidators: [{name: x}]}}",
            ".spec.mtls.tokenValidators[0].name: Unsupported value",
        ),
    ] {
        let found = configuration(spec);
        assert!(found.contains(want), "{spec}: {found}");
    }
    assert_eq!(
        refused("HTTPEndpoint", "spec: {}"),
        ".spec.baseUrl: Required value"
    );
    let found = refused(
        "HTTPEndpoint",
        "spec: {baseUrl: 'http://a', clientTLS: {renegotiation: Sometimes}}",
    );
    assert!(
        found.starts_with(".spec.clientTLS.renegotiation: Unsupported value"),
        "{found}"
    );
    let found = refused("Resiliency", "spec: {policies: {}}");
    assert_eq!(found, ".spec.targets: Required value");
    let found = refused("Resiliency", "spec: {targets: {}}");
    assert_eq!(found, ".spec.policies: Required value");
    let found = refused("Component", "spec: {type: a, version: v1}");
    assert_eq!(found, ".spec.metadata: Required value");
}

/// KC-11 and the rules of 4.5: each refuses its bad example, with its place and a way out.
#[test]
fn every_rule_refuses_its_bad_example() {
    let policy = |members: &str| format!("spec: {{accessControl: {{policies: [{{{members}}}]}}}}");
    let caller = "appId: a, namespace: b, trustDomain: public";
    let incomplete = ".spec.accessControl.policies[0]: appId, namespace and trustDomain must be given and not empty: \
                      no sidecar starts with such an entry";
    let word = "must be allow or deny";
    let span = "must be a duration such as 500ms, 30s or 1h30m";
    let millis = "must be a duration such as 500ms, 30s or 1h30m, or a number of milliseconds";
    let mtls = |members: &str| {
        format!(
            "spec: {{mtls: {{enabled: true, controlPlaneTrustDomain: a, sentryAddress: b, {members}}}}}"
        )
    };
    let policies = |members: &str| format!("spec: {{targets: {{}}, policies: {{{members}}}}}");
    for (kind, document, want) in [
        ("Configuration", policy("appId: a, trustDomain: public"), incomplete.to_owned()),
        ("Configuration", policy("appId: a, namespace: b"), incomplete.to_owned()),
        ("Configuration", policy("appId: a, namespace: b, trustDomain: ''"), incomplete.to_owned()),
        ("Configuration", policy("appId: a, namespace: '', trustDomain: c"), incomplete.to_owned()),
        ("Configuration", policy("appId: '', namespace: b, trustDomain: c"), incomplete.to_owned()),
        (
            "Configuration",
            policy(&format!("{caller}, defaultAction: alow")),
            format!(".spec.accessControl.policies[0].defaultAction: {word}"),
        ),
        (
            "Configuration",
            policy(&format!("{caller}, operations: [{{name: /a, action: denny}}]")),
            format!(".spec.accessControl.policies[0].operations[0].action: {word}"),
        ),
        (
            "Configuration",
            "spec: {accessControl: {defaultAction: block}}".to_owned(),
            format!(".spec.accessControl.defaultAction: {word}"),
        ),
        (
            "Configuration",
            policy(&format!("{caller}}}, {{{caller}, defaultAction: allow")),
            ".spec.accessControl.policies: two entries for one appId and namespace: the later one would silently win"
                .to_owned(),
        ),
        (
            "Configuration",
            mtls("workloadCertTTL: 1 day"),
            format!(".spec.mtls.workloadCertTTL: {span}"),
        ),
        (
            "Configuration",
            mtls("allowedClockSkew: '15'"),
            format!(".spec.mtls.allowedClockSkew: {span}"),
        ),
        (
            "HTTPEndpoint",
            "spec: {baseUrl: example.org}".to_owned(),
            ".spec.baseUrl: must begin with http:// or https://".to_owned(),
        ),
        (
            "Resiliency",
            policies("timeouts: {t: soon}"),
            format!(".spec.policies.timeouts.t: {millis}"),
        ),
        (
            "Resiliency",
            policies("timeouts: {t: ''}"),
            format!(".spec.policies.timeouts.t: {millis}"),
        ),
        (
            "Resiliency",
            policies("retries: {r: {duration: 5 s}}"),
            format!(".spec.policies.retries.r.duration: {millis}"),
        ),
        (
            "Resiliency",
            policies("retries: {r: {policy: linear}}"),
            ".spec.policies.retries.r.policy: must be constant or exponential".to_owned(),
        ),
        (
            "Resiliency",
            policies("circuitBreakers: {b: {timeout: '1d'}}"),
            format!(".spec.policies.circuitBreakers.b.timeout: {millis}"),
        ),
    ] {
        assert_eq!(refused(kind, &document), want, "{document}");
    }
}

/// KC-02: shapes that the documents of the reference show.
#[test]
fn what_users_of_the_reference_write_is_stored_as_it_is() {
    for (kind, document) in [
        (
            "Configuration",
            "spec: {tracing: {samplingRate: '1', zipkin: {endpointAddress: 'http://z:9411/api/v2/spans'}}}",
        ),
        (
            "Configuration",
            "spec: {tracing: {samplingRate: '0.5', stdout: true, otel: {endpointAddress: 'o:4317', isSecure: false, \
             protocol: grpc, headers: [{name: k, value: 5}, {name: s, secretKeyRef: {name: sec, key: k}}], timeout: 10s}}}",
        ),
        (
            "Configuration",
            "spec: {accessControl: {defaultAction: Deny, trustDomain: public, policies: [{appId: a, defaultAction: \
             DENY, trustDomain: public, namespace: default, operations: [{name: '/op1/*', httpVerb: [POST, '*'], \
             action: allow}]}, {appId: a, trustDomain: public, namespace: other}]}}",
        ),
        (
            "Configuration",
            "spec: {httpPipeline: {handlers: [{name: sec, type: middleware.http.uppercase, selector: {fields: [{field: \
             f, value: v}]}}]}, appHttpPipeline: {handlers: []}}",
        ),
        (
            "Configuration",
            "spec: {mtls: {enabled: true, workloadCertTTL: 24h, allowedClockSkew: 15m, controlPlaneTrustDomain: \
             cluster.local, sentryAddress: 'dapr-sentry.dapr-system.svc.cluster.local:443', tokenValidators: [{name: \
             jwks, options: {source: 'https://a', requestTimeout: 30s, minRefreshInterval: 10}}]}}",
        ),
        (
            "HTTPEndpoint",
            "{auth: {secretStore: kubernetes}, scopes: [a], spec: {baseUrl: 'https://api.example.org', headers: \
             [{name: h, value: 5}, {name: s, secretKeyRef: {name: sec}}, {name: e, envRef: E}], clientTLS: {rootCA: \
             {secretKeyRef: {name: sec, key: ca.crt}}, renegotiation: Never}}}",
        ),
        (
            "Component",
            "{auth: {secretStore: kubernetes}, scopes: [a], spec: {type: state.redis, version: v1, ignoreErrors: true, \
             initTimeout: 20s, metadata: [{name: redisHost, value: 'r:6379'}, {name: sec, value: 5}, {name: e, envRef: E}]}}",
        ),
        (
            "Resiliency",
            "{scopes: [a], spec: {policies: {timeouts: {general: 5s, ms: '500'}, retries: {forever: {policy: \
             exponential, maxInterval: 15s, maxRetries: -1, matching: {httpStatusCodes: '429,500-599', \
             gRPCStatusCodes: '1,4-8'}}, pubsub: {policy: Constant, duration: 5s}}, circuitBreakers: {cb: \
             {maxRequests: 1, interval: 8s, timeout: 45s, trip: consecutiveFailures > 8}}}, targets: {apps: {b: \
             {timeout: general, retry: forever, circuitBreaker: cb, circuitBreakerCacheSize: 100}}, actors: {t: \
             {timeout: general, circuitBreaker: cb, circuitBreakerScope: both, circuitBreakerCacheSize: 5000}}, \
             components: {s: {outbound: {retry: pubsub}, inbound: {timeout: general}}}}}}",
        ),
        ("Resiliency", "spec: {policies: {}, targets: {}}"),
    ] {
        let object: Value = yaml::from_str(document).unwrap();
        let mut found = stored(kind, document);
        if kind == "Configuration" {
            let spec = found["spec"].as_object_mut().unwrap();
            spec.remove("metric").unwrap();
            spec.remove("metrics").unwrap();
        }
        assert_eq!(found, object, "{document}");
    }
}

/// KC-08, KC-09, KC-10
#[test]
fn unknown_keys_go_and_what_others_read_stays() {
    let found = stored(
        "Configuration",
        "spec: {nosuch: 1, logging: {apiLogging: {enabled: true, nosuch: 1}}}",
    );
    assert_eq!(found["spec"].get("nosuch"), None);
    assert_eq!(
        found["spec"]["logging"],
        json!({"apiLogging": {"enabled": true}})
    );
    let found = stored(
        "Configuration",
        "spec: {nameResolution: {component: consul, version: v1, configuration: {client: {address: a, deep: [{b: \
         1}]}}}}",
    );
    let kept = json!({"client": {"address": "a", "deep": [{"b": 1}]}});
    assert_eq!(found["spec"]["nameResolution"]["configuration"], kept);
    let found = stored(
        "HTTPEndpoint",
        "spec: {baseUrl: 'http://a', headers: [{name: h, value: 5}]}",
    );
    assert_eq!(found["spec"]["headers"], json!([{"name": "h", "value": 5}]));
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
