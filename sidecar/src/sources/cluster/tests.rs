//! Objects as operators send them.

use std::cell::Cell;

use super::*;

fn object(kind: Kind, value: &Value) -> Object {
    Object::read(kind, value.to_string().as_bytes()).unwrap()
}

fn spec(object: &Object) -> Value {
    let view: Value = serde_json::from_slice(&object.json).unwrap();
    view.get("spec").cloned().unwrap()
}

/// Fact 3.8: secrets arrive as base64, those of the exporter as they are.
#[test]
fn values_of_secrets_take_their_place() {
    let reference = json!({ "name": "s", "key": "k" });
    let endpoint = object(
        Kind::HttpEndpoint,
        &json!({
            "metadata": { "name": "e" },
            "spec": {
                "baseUrl": "https://x",
                "headers": [
                    { "name": "a", "value": "cGVhcg==", "secretKeyRef": reference },
                    { "name": "b", "value": "cGVhcg==" },
                    { "name": "c", "value": "", "secretKeyRef": reference },
                ],
                "clientTLS": { "rootCA": { "value": "UEVN", "secretKeyRef": reference } },
            },
        }),
    );
    let expected = json!({
        "baseUrl": "https://x",
        "headers": [
            { "name": "a", "value": "pear" },
            { "name": "b", "value": "cGVhcg==" },
            { "name": "c", "value": "", "secretKeyRef": reference },
        ],
        "clientTLS": { "rootCA": { "value": "PEM" } },
    });
    assert_eq!(spec(&endpoint), expected);
    let exporter = json!([{ "name": "a", "value": "plain", "secretKeyRef": reference }]);
    let configuration = object(
        Kind::Configuration,
        &json!({ "metadata": { "name": "c" }, "spec": { "tracing": { "otel": { "headers": exporter } } } }),
    );
    let headers = json!([{ "name": "a", "value": "plain" }]);
    assert_eq!(
        spec(&configuration),
        json!({ "tracing": { "otel": { "headers": headers } } })
    );
}

/// A secret of another store is not the operator's to resolve.
#[test]
fn values_of_foreign_stores_stay() {
    let item = json!({ "name": "a", "value": "cGVhcg==", "secretKeyRef": { "name": "s" } });
    let component = object(
        Kind::Component,
        &json!({ "metadata": { "name": "c" }, "auth": { "secretStore": "vault" }, "spec": { "metadata": [item] } }),
    );
    assert_eq!(spec(&component), json!({ "metadata": [item] }));
}

#[test]
fn bookkeeping_of_the_api_server_is_no_edit() {
    let made = |version: &str, url: &str| {
        let metadata =
            json!({ "name": "e", "namespace": "n", "generation": 3, "resourceVersion": version });
        object(
            Kind::HttpEndpoint,
            &json!({ "metadata": metadata, "status": {}, "spec": { "baseUrl": url } }),
        )
    };
    assert!(made("1", "http://a").says_as(&made("2", "http://a")));
    assert!(!made("1", "http://a").says_as(&made("2", "http://b")));
    assert_eq!(made("1", "http://a").generation, 3);
}

#[test]
fn what_is_no_object_is_refused() {
    for (bytes, want) in [
        (&b"{"[..], "it is no JSON"),
        (b"[]", "it has no metadata.name"),
        (b"{\"metadata\":{\"name\":\"\"}}", "it has no metadata.name"),
        (b"{\"metadata\":{\"name\":7}}", "it has no metadata.name"),
    ] {
        let refused = Object::read(Kind::Resiliency, bytes).unwrap_err();
        assert!(refused.to_string().contains(want), "{refused}");
    }
}

fn wanted(rows: &[(Kind, &str, i64)]) -> Objects {
    let row = |(kind, name, generation): &(Kind, &str, i64)| {
        let value = json!({
            "metadata": { "name": name, "generation": generation },
            "spec": { "marker": generation },
        });
        ((*kind, (*name).into()), object(*kind, &value))
    };
    rows.iter().map(row).collect()
}

fn in_force(accepted: &Accepted) -> Vec<(&str, i64)> {
    let objects = accepted.objects().values();
    objects
        .map(|object| (&*object.name, object.generation))
        .collect()
}

/// KL-02: the last good version of a bad object stays, and the others go on.
#[test]
fn a_bad_edit_holds_up_nothing_else() {
    use Kind::{Configuration, HttpEndpoint};
    let asked = Cell::new(0);
    let judge = |_: Kind, object: &Object| {
        asked.set(asked.get() + 1);
        if object.generation < 0 {
            Err("bad".to_owned())
        } else {
            Ok(())
        }
    };
    let mut accepted = Accepted::default();
    let news = accepted.take(
        &wanted(&[(Configuration, "c", 1), (HttpEndpoint, "e", 1)]),
        judge,
    );
    assert!(news.is_empty());
    let edited = wanted(&[
        (Configuration, "c", -2),
        (HttpEndpoint, "e", 2),
        (HttpEndpoint, "f", -1),
    ]);
    let news = accepted.take(&edited, judge);
    let said: Vec<_> = news.iter().map(|one| (&*one.name, one.is_kept)).collect();
    assert_eq!(said, [("c", true), ("f", false)]);
    assert_eq!(in_force(&accepted), [("c", 1), ("e", 2)]);
    assert_eq!(
        (
            accepted.refused(Configuration),
            accepted.refused(HttpEndpoint)
        ),
        (1, 1)
    );
    assert_eq!(accepted.why(Configuration, "c"), Some("bad"));
    let before = asked.get();
    assert!(accepted.take(&edited, judge).is_empty(), "said once");
    assert_eq!(asked.get(), before, "judged once");
    let corrected = wanted(&[(Configuration, "c", 3), (HttpEndpoint, "e", 2)]);
    assert!(accepted.take(&corrected, judge).is_empty());
    assert_eq!(in_force(&accepted), [("c", 3), ("e", 2)]);
    assert_eq!(accepted.refused(Configuration), 0);
}

/// KL-03: rules do not go with the object that held them.
#[test]
fn a_configuration_that_is_deleted_stays_in_force() {
    let good = |_: Kind, _: &Object| Ok(());
    let mut accepted = Accepted::default();
    accepted.take(
        &wanted(&[(Kind::Configuration, "c", 1), (Kind::HttpEndpoint, "e", 1)]),
        good,
    );
    accepted.take(&Objects::new(), good);
    assert_eq!(in_force(&accepted), [("c", 1)]);
}

#[test]
fn what_is_printed_of_an_object_holds_no_secret() {
    let bytes = br#"{"metadata":{"name":"login","generation":3},"spec":{"metadata":[{"name":"x","value":"cGVhcg==","secretKeyRef":{"name":"s","key":"k"}}]}}"#;
    let object = Object::read(Kind::Component, bytes).unwrap();
    assert!(String::from_utf8_lossy(&object.json).contains("pear"));
    let printed = format!("{object:?}");
    assert!(
        printed.contains("login") && printed.contains('3'),
        "{printed}"
    );
    assert!(!printed.contains("pear"), "{printed}");
}
