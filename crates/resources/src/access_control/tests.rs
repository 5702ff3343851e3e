//! Rows of security 4.2 and 4.3: what an AccessControl may hold, and what is said of what it may not.

use super::*;

const EXAMPLE: &str = r#"
apiVersion: dapr.io/v1alpha1
kind: AccessControl
metadata: {name: orders, namespace: shop}
scopes: [orders]
spec:
  mode: Enforce
  defaultAction: deny
  policies:
  - appId: checkout
    namespace: shop
    trustDomain: public
    defaultAction: deny
    operations:
    - {name: /orders, httpVerb: [GET, POST], action: allow}
    - {name: /orders/admin, action: deny}
  - appId: "*"
    namespace: monitoring
    operations:
    - {name: /healthz, pathMatch: Exact, httpVerb: [GET], action: allow}
"#;

const HEAD: &str = "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {name: a}\n";

fn rule(name: &str) -> String {
    let name = serde_json::to_string(name).unwrap();
    let name = name.replace('\u{7f}', "\\u007f");
    format!(
        "{HEAD}spec:\n  policies:\n  - appId: a\n    namespace: b\n    operations:\n    - name: {name}\n      action: allow\n"
    )
}

fn texts(document: &str) -> Vec<String> {
    match decode(document) {
        Ok(_) => Vec::new(),
        Err(AccessControlError::Problems(problems)) => problems
            .iter()
            .map(|located| located.problem.flaw.to_string())
            .collect(),
        Err(AccessControlError::Shape(error)) => vec![format!("shape: {error}")],
        Err(AccessControlError::Json(error)) => vec![format!("json: {error}")],
    }
}

/// Fact: security 4.10.
#[test]
fn the_example_of_the_sheet_is_read() {
    let object = decode(EXAMPLE).unwrap();
    assert_eq!(
        (object.name.as_str(), object.namespace.as_str()),
        ("orders", "shop")
    );
    assert_eq!(object.scopes, ["orders"]);
    let spec = &object.spec;
    assert_eq!(
        (spec.mode, spec.evaluation),
        (Mode::Enforce, Evaluation::MostSpecific)
    );
    assert_eq!(spec.default_action, Some(Action::Deny));
    assert_eq!(spec.policies[1].trust_domain(), "public");
    let healthz = &spec.policies[1].operations[0];
    assert_eq!(healthz.path_match, Some(PathMatch::Exact));
    assert_eq!(healthz.http_verb, [HttpVerb::Get]);
}

/// Fact: K181, rule V1.
#[test]
fn an_empty_spec_is_refused() {
    for spec in [
        "spec: {}",
        "",
        "spec: {policies: []}",
        "spec: {mode: Audit}",
    ] {
        let found = texts(&format!("{HEAD}{spec}"));
        assert_eq!(
            found,
            ["set defaultAction or at least one policy"],
            "{spec}"
        );
    }
}

/// Fact: K183 and K184, rules V2 to V6.
#[test]
fn names_that_can_never_match_are_refused() {
    for (name, want) in [
        ("/a#b", "operation name contains a forbidden character"),
        ("/a?b", "operation name contains a forbidden character"),
        ("/a\u{7f}", "operation name contains a forbidden character"),
        ("/a\tb", "operation name contains a forbidden character"),
        (
            "/a//b",
            "empty segments and trailing slashes never match a request",
        ),
        (
            "/a/",
            "empty segments and trailing slashes never match a request",
        ),
        ("/a/../b", "dot segments never match a request"),
        ("./a", "dot segments never match a request"),
        ("/a/.", "dot segments never match a request"),
        ("/a%2Fb", "write the decoded form"),
        (
            "/a/**/b",
            "`**` is allowed only as the last whole segment; use `*` for one segment",
        ),
        (
            "/a**",
            "`**` is allowed only as the last whole segment; use `*` for one segment",
        ),
        (
            "/***",
            "`**` is allowed only as the last whole segment; use `*` for one segment",
        ),
        ("", "must have 1 to 256 characters"),
    ] {
        assert_eq!(texts(&rule(name)), [want], "{name:?}");
    }
    for name in [
        "/",
        "a",
        "/a/*/c",
        "/**",
        "**",
        "/a/b*c*",
        "/pkg.Svc/Get",
        "/a.b/..c",
    ] {
        assert_eq!(texts(&rule(name)), [""; 0], "{name:?}");
    }
}

/// Fact: K185, rule V7.
#[test]
fn verbs_are_upper_case_and_a_star_stands_alone() {
    let verbs =
        |verbs: &str| rule("/a").replace("action:", &format!("httpVerb: {verbs}\n      action:"));
    assert_eq!(texts(&verbs("[GET, \"*\"]")), ["`*` must stand alone"]);
    assert_eq!(texts(&verbs("[GET, GET]")), ["duplicate value"]);
    assert!(texts(&verbs("[get]"))[0].starts_with("shape: "));
    assert_eq!(texts(&verbs("[\"*\"]")), [""; 0]);
}

/// Fact: K186 and K187.
#[test]
fn duplicates_and_excess_are_refused() {
    let twice = "spec:\n  policies:\n  - {appId: a, namespace: b}\n  - {appId: a, namespace: b, trustDomain: public}\n";
    assert_eq!(
        texts(&format!("{HEAD}{twice}")),
        ["duplicate appId, namespace and trustDomain"]
    );
    let many: String = (0..129)
        .map(|n| format!("  - {{appId: a{n}, namespace: b}}\n"))
        .collect();
    assert_eq!(
        texts(&format!("{HEAD}spec:\n  policies:\n{many}")),
        ["too many items: at most 128"]
    );
    assert_eq!(
        texts(&rule(&format!("/{}", "a".repeat(256)))),
        ["must have 1 to 256 characters"]
    );
    assert_eq!(texts(&rule(&format!("/{}", "a".repeat(255)))), [""; 0]);
}

/// Fact: rules V8 and V10, fields of 4.2.
#[test]
fn callers_are_names_or_end_in_a_star() {
    for (caller, want) in [
        ("appId: a, namespace: b", None),
        ("appId: '*', namespace: 'team-*', trustDomain: '*'", None),
        (
            "appId: 'a*b', namespace: b",
            Some("wildcard only at the end"),
        ),
        (
            "appId: '**', namespace: b",
            Some("wildcard only at the end"),
        ),
        ("appId: a.b, namespace: b", Some("invalid app id")),
        ("appId: a||b, namespace: b", Some("invalid app id")),
        ("appId: '', namespace: b", Some("invalid app id")),
        ("appId: a, namespace: B", Some("invalid namespace")),
        ("appId: a, namespace: -b", Some("invalid namespace")),
        (
            "appId: a, namespace: b, trustDomain: A",
            Some("invalid trust domain"),
        ),
        (
            "appId: a, namespace: b, trustDomain: 'a*'",
            Some("invalid trust domain"),
        ),
    ] {
        let found = texts(&format!("{HEAD}spec: {{policies: [{{{caller}}}]}}"));
        assert_eq!(found.first().map(String::as_str), want, "{caller}");
    }
    let scoped = format!("{HEAD}scopes: [ok, 'n o', ok]\nspec: {{defaultAction: deny}}");
    assert_eq!(texts(&scoped), ["invalid app id", "duplicate value"]);
}

/// Fact: rule V9 and K180; V2 to V6 are waived.
#[test]
fn the_compatible_form_takes_a_legacy_block_and_no_more() {
    let legacy = "spec:\n  evaluation: DaprCompatible\n  defaultAction: DENY\n  trustDomain: public\n  policies:\n  - appId: a\n    defaultAction: Allow\n    trustDomain: public\n    namespace: default\n    operations:\n    - {name: /a/, httpVerb: [POST], action: allow}\n    - {name: /a/**/b, action: deny}\n";
    assert_eq!(texts(&format!("{HEAD}{legacy}")), [""; 0]);
    for starred in [
        "unauthenticated: Deny, defaultAction: deny",
        "policies: [{appId: '*', namespace: a}]",
        "policies: [{appId: a, namespace: 'a*'}]",
        "policies: [{appId: a, namespace: a, trustDomain: '*'}]",
        "policies: [{appId: a, namespace: a, operations: [{name: a, action: deny, pathMatch: Exact}]}]",
    ] {
        let spec = format!("{HEAD}spec: {{evaluation: DaprCompatible, {starred}}}");
        assert_eq!(
            texts(&spec),
            ["not available with evaluation DaprCompatible"],
            "{starred}"
        );
    }
}

/// Fact: K209, F13: unknown keys and words are never ignored.
#[test]
fn unknown_keys_and_words_are_refused() {
    for spec in [
        "spec: {mode: Shadow, defaultAction: deny}",
        "spec: {defaultAction: deny, notPaths: [/a]}",
        "spec: {policies: [{appId: a, namespace: b, app: c}]}",
        "spec: {policies: [{appId: a}]}",
        "spec: {policies: [{appId: a, namespace: b, operations: [{name: /a}]}]}",
        "spec: {policies: [{appId: a, namespace: b, operations: [{name: /a, action: maybe}]}]}",
        "spec: {defaultAction: deny}\nscope: [a]",
        "spec: {defaultAction: deny, defaultAction: allow}",
    ] {
        let found = texts(&format!("{HEAD}{spec}"));
        assert!(found[0].starts_with("shape: "), "{spec}: {found:?}");
    }
}

#[test]
fn all_problems_are_told_with_their_lines() {
    let text = format!(
        "{HEAD}spec:\n  policies:\n  - appId: a.b\n    namespace: c\n    operations:\n    - name: /a/\n      action: deny\n    - name: /b%\n      action: deny\n"
    );
    let error = decode(&text).unwrap_err().to_string();
    assert_eq!(
        error,
        "line 6: /spec/policies/0/appId: invalid app id; \
         line 9: /spec/policies/0/operations/0/name: empty segments and trailing slashes never match a request; \
         line 11: /spec/policies/0/operations/1/name: write the decoded form"
    );
}

#[test]
fn what_is_written_is_read_again() {
    let spec = decode(EXAMPLE).unwrap().spec;
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(
        serde_json::from_str::<AccessControlSpec>(&text).unwrap(),
        spec
    );
}

/// Facts F13, K209: what a newer schema knows and this one does not is an error, as in a file.
#[test]
fn json_is_read_as_strictly_as_yaml() {
    let object = |spec: &str| {
        format!(
            r#"{{"apiVersion":"dapr.io/v1alpha1","kind":"AccessControl","metadata":{{"name":"n","namespace":"a","uid":"u","generation":3,"managedFields":[]}},"scopes":["x"],"spec":{spec},"status":{{"policyCount":1}}}}"#
        )
    };
    let read = |spec: &str| decode_json(object(spec).as_bytes());
    let good = read(r#"{"defaultAction":"Deny","policies":[{"appId":"b","namespace":"a","operations":[{"name":"/\u0061/\ud83d\ude00","action":"allow"}]}]}"#).unwrap();
    assert_eq!((good.name.as_str(), good.namespace.as_str()), ("n", "a"));
    assert_eq!(good.spec.policies[0].operations[0].name, "/a/\u{1f600}");
    for (spec, want) in [
        (
            r#"{"mode":"Shadow","defaultAction":"deny"}"#,
            "unknown variant `Shadow`",
        ),
        (
            r#"{"defaultAction":"deny","sourceIps":[]}"#,
            "unknown field `sourceIps`",
        ),
        (
            r#"{"defaultAction":"deny","defaultAction":"allow"}"#,
            "duplicate field",
        ),
        (r#"{"defaultAction":true}"#, "expected"),
        ("{}", "/spec: set defaultAction or at least one policy"),
        (
            r#"{"policies":[{"appId":"b","namespace":"a","operations":[{"name":"/a/","action":"allow"}]}]}"#,
            "/spec/policies/0/operations/0/name: empty segments",
        ),
    ] {
        let error = read(spec).unwrap_err().to_string();
        assert!(error.contains(want), "{spec}: {error}");
    }
    assert!(decode_json(b"").is_err() && decode_json(b"[]").is_err());
    let newer = object(r#"{"defaultAction":"deny"}"#).replace("v1alpha1", "v1beta1");
    let error = decode_json(newer.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        error,
        "apiVersion dapr.io/v1beta1 and kind AccessControl are not known here"
    );
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(read(&deep).is_err());
}
