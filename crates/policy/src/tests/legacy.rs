//! Chapter 3 and rows K100 to K125 of the sheet, as far as they need no sidecar.

use super::support::{
    Given, allows, answer, ask, id, legacy, legacy_spec, rule_of, told, web, web_entry,
};
use crate::{AppKind, Caller, Operation, Reason, Source, Verb};

fn entry(app: AppKind, global: &str, rest: &str) -> crate::PolicySet {
    legacy(
        app,
        &format!(
            "{{defaultAction: {global}, policies: [{}]}}",
            web_entry(rest)
        ),
    )
}

/// K112: the vectors of 3.5; `-` stands for no rule.
#[test]
fn k112_the_matcher_is_the_reference_s() {
    use AppKind::{Grpc, Http};
    for (app, rules, request, want) in [
        (Http, "/op1", "op1 op1/ OP1 x/../op1 op1/sub/x", "/op1"),
        (Http, "/op1", "op12", "-"),
        (Http, "/op1/", "op1 op1/ op1/x", "-"),
        (Http, "/op1/*", "op1 op1/a", "/op1/*"),
        (Http, "/op1/*", "op1/a/b", "-"),
        (Http, "/op1/**", "op1 op1/a/b/c", "/op1/**"),
        (Http, "/op1/**/a", "op1/x/a", "/op1/**/a"),
        (Http, "/op1/**/a", "op1/a op1/x/y/a", "-"),
        (Http, "/a/*/c", "a/b/c", "-"),
        (Http, "/a/*/c", "a/*/c", "/a/*/c"),
        (Http, "/a/b*/c", "a/bx/c a/b/c", "/a/b*/c"),
        (Http, "/a/b*", "a/b a/bc a/bc/d", "/a/b*"),
        (Http, "/*", ". / a", "/*"),
        (Http, "/*", "a/b", "-"),
        (Http, "/op1 /op1/secret", "op1/secret", "/op1"),
        (Http, "/op1/secret /op1", "op1/secret", "/op1"),
        (Http, "/** /admin", "admin", "/**"),
        (Http, "/admin /**", "admin", "/admin"),
        (Http, "/admin /**", "x", "/**"),
        (Http, "/* /admin", "admin", "/*"),
        (Http, "/* /admin", "admin/x", "/admin"),
        (Http, "/a/* /a/b/c", "a/b/d", "-"),
        (Http, "/a/x* /a/xy/z", "a/xy/z", "/a/x*"),
        (Http, "/x x", "x", "/x"),
        (Grpc, "/pkg.Svc/Get", "/pkg.Svc/get", "-"),
        (Grpc, "/pkg.Svc", "/pkg.Svc/Get", "/pkg.Svc"),
    ] {
        let names: Vec<&str> = rules.split(' ').collect();
        let listed: Vec<String> = names
            .iter()
            .map(|name| format!("{{name: '{name}', httpVerb: ['*'], action: allow}}"))
            .collect();
        let set = entry(
            app,
            "deny",
            &format!(", operations: [{}]", listed.join(", ")),
        );
        for request in request.split(' ') {
            let method = crate::clean(request);
            let decision = ask(&set, &web(), Verb::Get, &method);
            let rule = rule_of(&set, decision).map_or("-", |rule| names[rule]);
            assert_eq!(rule, want, "{rules} {request}");
        }
    }
}

#[test]
fn k100_no_block_allows_everything() {
    let none = Given::default().set();
    assert_eq!(answer(&none, Verb::Get, "x"), (true, Reason::NoPolicy));
    // The built-in default of 3.2 is none either: only a trust domain is named.
    let domain = legacy(AppKind::Http, "{trustDomain: public}");
    let decision = ask(&domain, &web(), Verb::Get, "x").verdict;
    assert_eq!(told(decision), (true, Reason::NoPolicy));
    assert_eq!(decision.matched().source, Source::Global);
}

#[test]
fn k101_an_omitted_default_allows_unless_strict() {
    let spec = legacy_spec(&format!("{{policies: [{}]}}", web_entry("")));
    let mut given = Given {
        block: Some(spec),
        ..Given::default()
    };
    let stranger = id("spiffe://public/ns/shop/x");
    assert!(ask(&given.set(), &stranger, Verb::Get, "a").is_allowed());
    given.is_strict = true;
    assert!(!ask(&given.set(), &stranger, Verb::Get, "a").is_allowed());
}

#[test]
fn k102_every_word_but_allow_denies() {
    for (word, want) in [
        ("Deny", false),
        ("DENY", false),
        ("nope", false),
        ("ALLOW", true),
        ("Allow", true),
        ("''", false),
    ] {
        let set = entry(AppKind::Http, word, "");
        assert_eq!(allows(&set, Verb::Get, "x"), want, "{word}");
    }
    assert!(allows(
        &legacy(AppKind::Http, "{defaultAction: '', policies: []}"),
        Verb::Get,
        "x"
    ));
    assert!(!allows(
        &legacy(AppKind::Http, "{defaultAction: ''}"),
        Verb::Get,
        "x"
    ));
    assert!(allows(
        &legacy(AppKind::Http, "{defaultAction: '', trustDomain: ''}"),
        Verb::Get,
        "x"
    ));
}

#[test]
fn k103_an_entry_without_its_keys_is_refused_in_the_reference_s_words() {
    let block = Some(legacy_spec(
        "{policies: [{appId: a, namespace: n}, {appId: b, trustDomain: public}, {namespace: n, trustDomain: t}, {appId: c}]}",
    ));
    let problems = Given {
        block,
        ..Given::default()
    }
    .try_set()
    .unwrap_err();
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "invalid access control spec. missing trustdomain for apps: [a c], missing namespace for apps: [b c], missing app name on at least one of the app policies: true"
        ]
    );
}

#[test]
fn k104_namespaces_have_their_own_entries() {
    let set = legacy(
        AppKind::Http,
        "{defaultAction: deny, policies: [{appId: web, namespace: shop, trustDomain: public, defaultAction: allow}, {appId: web, namespace: ops, trustDomain: public, defaultAction: deny}]}",
    );
    assert!(allows(&set, Verb::Get, "x"));
    assert!(!ask(&set, &id("spiffe://public/ns/ops/web"), Verb::Get, "x").is_allowed());
}

#[test]
fn k105_the_later_of_two_entries_counts() {
    let set = legacy(
        AppKind::Http,
        "{defaultAction: allow, policies: [{appId: web, namespace: shop, trustDomain: public, defaultAction: allow}, {appId: web, namespace: shop, trustDomain: other, defaultAction: deny}]}",
    );
    // The first is gone, and the second is for another trust domain.
    assert_eq!(answer(&set, Verb::Get, "x"), (true, Reason::GlobalDefault));
    let other = ask(&set, &id("spiffe://other/ns/shop/web"), Verb::Get, "x");
    assert_eq!(told(other.verdict), (false, Reason::CallerDefault));
}

#[test]
fn k106_k107_operations_and_defaults() {
    let deny = entry(
        AppKind::Http,
        "deny",
        ", defaultAction: allow, operations: [{name: /op, httpVerb: ['*'], action: deny}]",
    );
    assert_eq!(
        answer(&deny, Verb::Put, "op"),
        (false, Reason::OperationRule)
    );
    assert_eq!(
        answer(&deny, Verb::Put, "other"),
        (true, Reason::CallerDefault)
    );
    let post = entry(
        AppKind::Http,
        "allow",
        ", defaultAction: deny, operations: [{name: /op, httpVerb: [POST], action: allow}]",
    );
    assert_eq!(
        answer(&post, Verb::Post, "op"),
        (true, Reason::OperationRule)
    );
    assert_eq!(
        answer(&post, Verb::Put, "op"),
        (false, Reason::CallerDefault)
    );
}

#[test]
fn k108_k109_k111_verbs_that_decide_nothing() {
    for verbs in ["httpVerb: [get], ", "httpVerb: [], ", ""] {
        let rest =
            format!(", defaultAction: deny, operations: [{{name: /op, {verbs}action: allow}}]");
        assert!(
            !allows(&entry(AppKind::Http, "allow", &rest), Verb::Get, "op"),
            "{verbs}"
        );
        assert!(
            allows(&entry(AppKind::Grpc, "deny", &rest), Verb::None, "/op"),
            "{verbs}"
        );
    }
}

#[test]
fn k110_another_trust_domain_is_another_caller() {
    let set = entry(AppKind::Http, "deny", ", defaultAction: allow");
    let foreign = ask(&set, &id("spiffe://evil/ns/shop/web"), Verb::Get, "x");
    assert_eq!(told(foreign.verdict), (false, Reason::GlobalDefault));
}

#[test]
fn k113_without_identity_only_the_global_default_counts() {
    for (word, want) in [("allow", true), ("deny", false)] {
        let set = entry(AppKind::Http, word, ", defaultAction: allow");
        for caller in [Caller::Anonymous, Caller::Own] {
            let decision = set.decide(caller, &Operation::invoke("x", Verb::Get));
            assert_eq!(told(decision.verdict), (want, Reason::GlobalDefault));
        }
    }
}

#[test]
fn k120_k121_letter_case() {
    let rest = ", operations: [{name: /pkg.S/Op, httpVerb: ['*'], action: allow}]";
    let http = entry(AppKind::Http, "deny", rest);
    assert!(allows(&http, Verb::Get, "PKG.s/oP"));
    // A proxied call to an HTTP app meets lower-cased rules with its own letters (3.8).
    let proxied = |method| {
        http.decide(Caller::Peer(&web()), &Operation::proxied(method))
            .is_allowed()
    };
    assert!(!proxied("/pkg.S/Op"));
    assert!(proxied("/pkg.s/op"));
    let grpc = entry(AppKind::Grpc, "deny", rest);
    assert!(allows(&grpc, Verb::None, "/pkg.S/Op"));
    assert!(!allows(&grpc, Verb::None, "/pkg.S/op"));
}

#[test]
fn k122_the_metric_says_app_only_with_a_default_of_the_entry() {
    let rule = "operations: [{name: /op, httpVerb: ['*'], action: allow}]";
    for (rest, path, want) in [
        (format!(", {rule}"), "op", Source::Global),
        (format!(", defaultAction: deny, {rule}"), "op", Source::App),
        (format!(", defaultAction: deny, {rule}"), "x", Source::App),
        (format!(", {rule}"), "x", Source::Global),
    ] {
        let set = entry(AppKind::Http, "deny", &rest);
        let decision = ask(&set, &web(), Verb::Get, path);
        assert_eq!(decision.verdict.matched().source, want, "{rest} {path}");
    }
}

/// Step 13 and O-A5; K156 and K157 in the other file.
#[test]
fn a_hidden_verb_falls_to_the_entry_s_default_even_if_that_is_empty() {
    let rule = "operations: [{name: /op, httpVerb: [GET], action: allow}]";
    for (rest, path, want) in [
        (format!(", {rule}"), "op", false),
        (format!(", defaultAction: allow, {rule}"), "op", true),
        (format!(", {rule}"), "x", true),
    ] {
        assert_eq!(
            allows(&entry(AppKind::Http, "allow", &rest), Verb::None, path),
            want,
            "{rest}"
        );
    }
}

/// Rules have a place that a person finds.
#[test]
fn a_decision_names_its_rule() {
    let set = entry(
        AppKind::Http,
        "deny",
        ", operations: [{name: /a, action: deny}, {name: /op, httpVerb: ['*'], action: allow}]",
    );
    let rule = |path: &str| {
        let decision = ask(&set, &web(), Verb::Get, path);
        let place = set.place(decision.verdict.matched().rule.unwrap()).unwrap();
        format!("{} {place}", place.object())
    };
    assert_eq!(
        rule("op"),
        "Configuration/appconfig /spec/accessControl/policies/0/operations/1"
    );
    assert_eq!(
        rule("x"),
        "Configuration/appconfig /spec/accessControl/defaultAction"
    );
}
