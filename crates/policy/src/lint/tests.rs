//! Findings as a person reads them: rows B18 to B21, B25, K108 and K109 of the security sheet.

use super::*;
use crate::tests::support::{Given, legacy_spec, object, set_of, web_entry};

/// Findings about rules, as `code pointer: message`.
fn lines(set: &PolicySet) -> Vec<String> {
    let lint = set.lint();
    assert!(lint.is_complete);
    let findings = lint.findings.iter();
    let findings = findings.filter(|finding| finding.code != Code::AppRoutes);
    findings
        .map(|finding| {
            let example = finding.example.as_ref();
            let example = example.map(|one| format!(" [{} {}]", one.verb, one.path));
            format!(
                "{} {}: {}{}",
                finding.code.as_str(),
                finding.pointer.trim_start_matches("/spec/policies/"),
                finding.message,
                example.unwrap_or_default()
            )
        })
        .collect()
}

fn specific(operations: &str) -> Vec<String> {
    let entry = web_entry(&format!(", operations: [{operations}]"));
    lines(&set_of(&[&format!("{{policies: [{entry}]}}")]))
}

fn compatible(operations: &str) -> Vec<String> {
    let entry = web_entry(&format!(", operations: [{operations}]"));
    let spec = format!("{{evaluation: DaprCompatible, policies: [{entry}]}}");
    lines(&set_of(&[&spec]))
}

#[test]
fn good_rules_are_left_alone() {
    let none: Vec<String> = Vec::new();
    let rules = "{name: /orders, httpVerb: [GET], action: allow}, {name: /orders/admin, action: deny}, {name: /**, action: deny}";
    assert_eq!(specific(rules), none);
    let rules = "{name: /admin, httpVerb: ['*'], action: deny}, {name: /**, httpVerb: ['*'], action: allow}";
    assert_eq!(compatible(rules), none);
}

#[test]
fn copies_and_contradictions_are_told() {
    let none: Vec<String> = Vec::new();
    let rules = "{name: /a, httpVerb: [GET], action: allow}, {name: a, action: allow}";
    assert_eq!(specific(rules), none);
    for (rules, want) in [
        (
            "{name: /a, action: allow}, {name: /A, httpVerb: [GET], action: allow}",
            "duplicate 0/operations/1: operations/0 (`/a`) says the same [GET /a]",
        ),
        (
            "{name: /a, action: allow}, {name: /a, action: deny}",
            "contradiction 0/operations/0: operations/1 (`/a`) says the opposite, and a denial wins [GET /a]",
        ),
        (
            "{name: /a, action: allow}, {name: /a, httpVerb: [PUT, GET], action: deny}",
            "contradiction 0/operations/0: operations/1 (`/a`) says the opposite for GET, PUT, and a denial wins [GET /a]",
        ),
        (
            "{name: /**, action: allow}, {name: '/*', action: deny}, {name: '/*/**', action: deny}",
            "shadowed 0/operations/0: never decides: more specific rules cover every request that it matches, such as operations/1 (`/*`) [GET /]",
        ),
    ] {
        assert_eq!(specific(rules), [want], "{rules}");
    }
}

/// Rows B18 to B20, K108, K109.
#[test]
fn order_and_dead_patterns_are_told_where_they_matter() {
    for (rules, want) in [
        (
            "{name: /op1, httpVerb: [GET], action: allow}, {name: /op1/secret, httpVerb: ['*'], action: deny}",
            "shadowed 0/operations/1: never decides: rules that are found first cover every request that it matches, such as operations/0 (`/op1`) [GET /op1/secret]",
        ),
        (
            "{name: /**, httpVerb: ['*'], action: allow}, {name: /admin, httpVerb: ['*'], action: deny}",
            "shadowed 0/operations/1: never decides: rules that are found first cover every request that it matches, such as operations/0 (`/**`) [GET /admin]",
        ),
        (
            "{name: /a, httpVerb: [GET], action: allow}, {name: /a, httpVerb: [PUT], action: allow}",
            "shadowed 0/operations/1: never decides: operations/0 (`/a`) is for the same path, and only the first counts [PUT /a]",
        ),
        (
            "{name: /op1/, httpVerb: ['*'], action: allow}",
            "dead 0/operations/0: no request can match: paths have no slash at the end",
        ),
        (
            "{name: /a//b, httpVerb: ['*'], action: allow}",
            "dead 0/operations/0: no request can match: paths have no empty segments",
        ),
        (
            "{name: /a/../b, httpVerb: ['*'], action: allow}",
            "dead 0/operations/0: no request can match: paths have no `.` and `..` segments",
        ),
        (
            "{name: '/a#b', httpVerb: ['*'], action: allow}",
            "dead 0/operations/0: no request can match: paths with `#`, `?` or a control character are refused",
        ),
        (
            "{name: /a, action: allow}",
            "dead 0/operations/0: no request can match: it names no HTTP verb: write upper-case verbs or `*`",
        ),
        (
            "{name: '/a/*/c', httpVerb: ['*'], action: allow}",
            "literal-star 0/operations/0: matches only the character `*` where it has one before the end [GET /a/*/c]",
        ),
        (
            "{name: /a/b/, httpVerb: ['*'], action: allow}, {name: /a/**, httpVerb: ['*'], action: deny}",
            "dead 0/operations/0: no request can match: paths have no slash at the end; yet it hides other rules from `/a/b`: remove it",
        ),
    ] {
        assert_eq!(compatible(rules), [want], "{rules}");
    }
}

/// Rows B21 and K105.
#[test]
fn an_entry_that_is_replaced_is_told() {
    let entry = web_entry(", defaultAction: deny");
    let spec = legacy_spec(&format!("{{policies: [{entry}, {entry}]}}"));
    let given = Given {
        block: Some(spec),
        ..Given::default()
    };
    let set = given.set();
    let finding = &set.lint().findings[0];
    assert_eq!(
        finding.to_string(),
        "Configuration/appconfig /spec/accessControl/policies/0: replaced: does not count: policies/1 is for the same appId and namespace, and the last one does"
    );
    assert_eq!(finding.code.level(), Level::Warning);
}

#[test]
fn other_objects_are_taken_into_account() {
    let guard = "{policies: [{appId: '*', namespace: '*', trustDomain: '*', operations: [{name: /admin, action: deny}]}]}";
    let team = |rules: &str| format!("{{policies: [{}]}}", web_entry(rules));
    let overruled = team(", operations: [{name: /admin/x, action: allow}]");
    let found = lines(&set_of(&[guard, &overruled]));
    assert_eq!(
        found[0],
        "unreachable 0/operations/0: never decides: other objects or entries do before it, such as o0 /spec/policies/0/operations/0 [GET /admin/x]"
    );
    assert_eq!(
        found[1],
        "overlap 0/operations/0: o0 /spec/policies/0/operations/0 says the opposite of some requests, and a denial wins [GET /admin/x]"
    );
    let own =
        "{policies: [{appId: orders, namespace: shop, operations: [{name: /a, action: allow}]}]}";
    assert_eq!(
        lines(&set_of(&[own])),
        [
            "unreachable 0/operations/0: never decides: rules of objects are not asked when the app calls itself"
        ]
    );
    let nobody = legacy_spec(
        "{policies: [{appId: 'a b', namespace: n, trustDomain: t, operations: [{name: /a, action: allow}]}]}",
    );
    let given = Given {
        block: Some(nobody),
        ..Given::default()
    };
    assert_eq!(
        lines(&given.set())[0],
        "dead accessControl/policies/0: no caller can have this identity"
            .replace("accessControl", "/spec/accessControl")
    );
}

/// Row B25.
#[test]
fn routes_of_the_sidecar_are_mentioned() {
    let open = web_entry(", defaultAction: allow");
    let closed = web_entry(", defaultAction: allow, operations: [{name: /dapr, action: deny}]");
    let notes = |entry: &str| {
        let lint = set_of(&[&format!("{{policies: [{entry}]}}")]).lint();
        let notes = lint
            .findings
            .iter()
            .map(|finding| (finding.code, finding.code.level()));
        notes.collect::<Vec<_>>()
    };
    assert_eq!(notes(&open), [(Code::AppRoutes, Level::Note)]);
    assert_eq!(notes(&closed), []);
}

/// Work is bounded, and what was not tried is not spoken of.
#[test]
fn too_much_is_told_as_incomplete() {
    let rule = |n: u32| format!("{{name: '/*a{n}*b{n}*/*c{n}*/*d{n}*', action: allow}}");
    let rules: Vec<String> = (0..60).map(rule).collect();
    let entry = web_entry(&format!(", operations: [{}]", rules.join(", ")));
    let lint = set_of(&[&format!("{{policies: [{entry}]}}")]).lint();
    assert!(!lint.is_complete);
    let about_rules = lint
        .findings
        .iter()
        .filter(|one| one.code != Code::AppRoutes);
    assert_eq!(about_rules.count(), 0);
}

#[test]
fn letters_of_grpc_methods_count() {
    let entry = web_entry(
        ", operations: [{name: /pkg.S/Get, action: allow}, {name: /pkg.S/get, action: deny}]",
    );
    let given = Given {
        app: AppKind::Grpc,
        objects: vec![object("o", &format!("{{policies: [{entry}]}}"))],
        ..Given::default()
    };
    assert_eq!(lines(&given.set()), [""; 0]);
}
