//! Chapter 4 and rows K180 to K199 of the sheet, as far as they need no sidecar.

use super::support::{
    Given, allows, answer, ask, id, legacy_spec, object, rule_of, set_of, told, web, web_entry,
};
use crate::{AppKind, Caller, Decision, Namespaces, Operation, Reason, Refused, Verb, Verdict};

/// An object for the caller of all rows.
fn rules(rules: &[String], rest: &str) -> String {
    format!(
        "{{defaultAction: deny{rest}, policies: [{}]}}",
        web_entry(&format!(", operations: [{}]", rules.join(", ")))
    )
}

fn rule(name: &str, action: &str) -> String {
    format!("{{name: '{name}', action: {action}}}")
}

/// K188: all rows of 4.4, in both orders of the rules; `-` stands for no rule.
#[test]
fn k188_the_most_specific_rule_decides() {
    for (first, second, requests) in [
        (
            "/op1 allow",
            "/op1/secret deny",
            "op1/secret:deny op1/secret/y:deny op1/x:allow",
        ),
        ("/** allow", "/admin deny", "admin:deny x:allow"),
        ("/** deny", "/public allow", "public:allow x:deny"),
        ("/* allow", "/admin deny", "admin:deny admin/x:deny x:allow"),
        ("/a/*/c allow", "/zz deny", "a/b/c:allow"),
        ("/a/x* allow", "/a/xy/z deny", "a/xy/z:deny a/xy:allow"),
        (
            "/op1/* allow",
            "/op1 deny",
            "op1:deny op1/x:allow op1/x/y:deny",
        ),
        ("/a/b* allow", "/a/b/c/f allow", "a/b/c/d:allow"),
        ("/x allow", "/x deny", "x:deny"),
        ("/a* allow", "/ab* deny", "abc:deny ac:allow"),
        // Beyond the table: root, ends and ties.
        ("/ allow", "/* deny", "/:allow a:deny"),
        ("/ allow", "/zz deny", "a:-"),
        ("/a/* allow", "/a/** deny", "a:deny a/b:allow a/b/c:deny"),
        ("/*/x allow", "/a*/** deny", "aa/x:deny b/x:allow"),
        ("/a*/x allow", "/*a/** deny", "aa/x:allow aa/y:deny"),
        ("/a*/x allow", "/*a/x deny", "aa/x:deny"),
    ] {
        for order in [[first, second], [second, first]] {
            let listed = order.map(|text| {
                let (name, action) = text.split_once(' ').unwrap();
                rule(name, action)
            });
            let set = set_of(&[&rules(&listed, "")]);
            for request in requests.split(' ') {
                let (path, want) = request.split_once(':').unwrap();
                let decision = ask(&set, &web(), Verb::Get, path);
                let found = match (rule_of(&set, decision), decision.is_allowed()) {
                    (None, _) => "-",
                    (Some(_), true) => "allow",
                    (Some(_), false) => "deny",
                };
                assert_eq!(found, want, "{order:?} {path}");
            }
        }
    }
}

#[test]
fn path_match_exact_covers_nothing_deeper() {
    let exact = "{name: /op, pathMatch: Exact, action: allow}".to_owned();
    let set = set_of(&[&rules(&[exact], "")]);
    assert!(allows(&set, Verb::Get, "op"));
    assert!(!allows(&set, Verb::Get, "op/x"));
}

#[test]
fn verbs_choose_among_rules_of_one_path() {
    let listed = [
        "{name: /op, httpVerb: [GET], action: allow}".to_owned(),
        "{name: /**, httpVerb: [DELETE], action: allow}".to_owned(),
    ];
    let set = set_of(&[&rules(&listed, "")]);
    for (verb, want) in [
        (Verb::Get, true),
        (Verb::Delete, true),
        (Verb::Put, false),
        (Verb::None, false),
    ] {
        assert_eq!(allows(&set, verb, "op"), want, "{verb}");
    }
    // gRPC apps know no verbs.
    let given = Given {
        app: AppKind::Grpc,
        objects: vec![object("a", &rules(&listed, ""))],
        ..Given::default()
    };
    assert!(allows(&given.set(), Verb::None, "/op"));
}

#[test]
fn callers_are_ordered_by_how_exactly_they_are_named() {
    let spec = "{policies: [
        {appId: '*', namespace: '*', trustDomain: '*', defaultAction: deny},
        {appId: 'we*', namespace: shop, defaultAction: deny},
        {appId: web, namespace: '*', operations: [{name: /a, action: allow}]},
        {appId: web, namespace: shop, operations: [{name: /b, action: allow}]},
        {appId: 'w*', namespace: shop, defaultAction: allow}]}";
    let set = set_of(&[spec]);
    for (caller, path, want) in [
        ("spiffe://public/ns/shop/web", "b", true),
        ("spiffe://public/ns/shop/web", "a", true),
        ("spiffe://public/ns/shop/web", "c", false),
        ("spiffe://public/ns/ops/web", "a", true),
        ("spiffe://public/ns/ops/web", "b", false),
        ("spiffe://public/ns/shop/w1", "c", true),
        ("spiffe://public/ns/shop/we1", "c", false),
        ("spiffe://other/ns/shop/w1", "c", false),
    ] {
        assert_eq!(
            ask(&set, &id(caller), Verb::Get, path).is_allowed(),
            want,
            "{caller} {path}"
        );
    }
}

/// K180: the block decides alike as an object of the compatible form.
#[test]
fn k180_a_pasted_block_keeps_its_decisions() {
    let block = format!(
        "defaultAction: deny, policies: [{}]",
        web_entry(
            ", defaultAction: allow, operations: [{name: /a/, httpVerb: [POST], action: deny}, {name: /op1, httpVerb: ['*'], action: deny}, {name: /op1/x, httpVerb: ['*'], action: allow}]"
        )
    );
    let pasted = set_of(&[&format!("{{evaluation: DaprCompatible, {block}}}")]);
    let given = Given {
        block: Some(legacy_spec(&format!("{{{block}}}"))),
        ..Given::default()
    };
    for path in ["a", "op1", "op1/x", "b"] {
        assert_eq!(
            allows(&pasted, Verb::Post, path),
            allows(&given.set(), Verb::Post, path),
            "{path}"
        );
    }
    let stranger = id("spiffe://public/ns/shop/x");
    assert!(!ask(&pasted, &stranger, Verb::Get, "a").is_allowed());
}

#[test]
fn k182_an_omitted_default_denies() {
    let set = set_of(&[&format!("{{policies: [{}]}}", web_entry(""))]);
    assert_eq!(answer(&set, Verb::Get, "x"), (false, Reason::GlobalDefault));
}

#[test]
fn k189_a_guard_rail_cannot_be_overridden() {
    let guard = "{defaultAction: allow, policies: [{appId: '*', namespace: '*', trustDomain: '*', operations: [{name: /admin, action: deny}]}]}";
    let team = rules(&[rule("/admin/x", "allow"), rule("/x", "allow")], "");
    let set = set_of(&[guard, &team]);
    assert_eq!(
        answer(&set, Verb::Get, "admin/x"),
        (false, Reason::OperationRule)
    );
    assert!(allows(&set, Verb::Get, "x"));
}

#[test]
fn k190_a_baseline_and_a_team() {
    let set = set_of(&[
        "{defaultAction: deny}",
        &format!("{{policies: [{}]}}", web_entry(", defaultAction: allow")),
    ]);
    assert!(allows(&set, Verb::Get, "x"));
    assert!(!ask(&set, &id("spiffe://public/ns/shop/x"), Verb::Get, "x").is_allowed());
}

#[test]
fn k191_an_exact_entry_s_default_ends_the_search() {
    let spec = format!(
        "{{policies: [{}, {{appId: '*', namespace: shop, operations: [{{name: /healthz, action: allow}}]}}]}}",
        web_entry(", defaultAction: deny")
    );
    let set = set_of(&[&spec]);
    assert_eq!(
        answer(&set, Verb::Get, "healthz"),
        (false, Reason::CallerDefault)
    );
    assert!(ask(&set, &id("spiffe://public/ns/shop/x"), Verb::Get, "healthz").is_allowed());
}

#[test]
fn k192_audit_is_told_and_never_used() {
    let audit = "{mode: Audit, defaultAction: deny}";
    let alone = set_of(&[audit]);
    let decision = ask(&alone, &web(), Verb::Get, "x");
    assert_eq!(told(decision.verdict), (true, Reason::NoPolicy));
    assert_eq!(
        decision.audit.map(told),
        Some((false, Reason::GlobalDefault))
    );
    // With the others: an explicit permission beats a default.
    let both = set_of(&[
        audit,
        &format!("{{policies: [{}]}}", web_entry(", defaultAction: allow")),
    ]);
    let decision = ask(&both, &web(), Verb::Get, "x");
    assert_eq!(
        decision.audit.map(told),
        Some((true, Reason::CallerDefault))
    );
    let stranger = ask(&both, &id("spiffe://public/ns/shop/x"), Verb::Get, "x");
    assert!(!stranger.is_allowed());
}

#[test]
fn k193_object_and_block_contradict() {
    let allow = format!("{{policies: [{}]}}", web_entry(", defaultAction: allow"));
    let deny = format!("{{policies: [{}]}}", web_entry(", defaultAction: deny"));
    for (block, object_spec) in [(&allow, &deny), (&deny, &allow)] {
        let given = Given {
            block: Some(legacy_spec(block)),
            objects: vec![object("a", object_spec)],
            ..Given::default()
        };
        assert!(!allows(&given.set(), Verb::Get, "x"));
    }
}

#[test]
fn k194_without_identity_objects_deny() {
    let anonymous = |specs: &[&str]| {
        let decision = set_of(specs).decide(Caller::Anonymous, &Operation::invoke("x", Verb::Get));
        told(decision.verdict)
    };
    assert_eq!(
        anonymous(&["{defaultAction: allow}"]),
        (false, Reason::NoIdentity)
    );
    assert_eq!(
        anonymous(&["{defaultAction: allow, unauthenticated: DefaultAction}"]),
        (true, Reason::GlobalDefault)
    );
    assert_eq!(
        anonymous(&[
            "{defaultAction: allow, unauthenticated: DefaultAction}",
            "{defaultAction: allow}"
        ]),
        (false, Reason::NoIdentity)
    );
}

#[test]
fn k195_k196_scopes_and_namespaces_select() {
    let mut other = object("a", "{defaultAction: deny}");
    other.scopes = vec!["cart".to_owned()];
    let mut foreign = object("b", "{defaultAction: deny}");
    foreign.scopes = vec!["orders".to_owned()];
    foreign.namespace = "ops".to_owned();
    let mut given = Given {
        objects: vec![other, foreign],
        ..Given::default()
    };
    assert_eq!(
        answer(&given.set(), Verb::Get, "x"),
        (true, Reason::NoPolicy)
    );
    given.namespaces = Namespaces::Any;
    assert_eq!(
        answer(&given.set(), Verb::Get, "x"),
        (false, Reason::GlobalDefault)
    );
}

#[test]
fn k199_nothing_left_is_open_unless_told_otherwise() {
    let given = Given {
        deny_by_default: true,
        ..Given::default()
    };
    assert_eq!(
        answer(&given.set(), Verb::Get, "x"),
        (false, Reason::GlobalDefault)
    );
    // Self-calls are never subject to it (M7).
    let own = given
        .set()
        .decide(Caller::Own, &Operation::invoke("x", Verb::Get));
    assert!(own.is_allowed());
}

/// M7: another replica of the app is the app, but not one of another trust domain.
#[test]
fn self_calls_are_exempt_from_objects_and_subject_to_the_block() {
    let own = id("spiffe://public/ns/shop/orders");
    let twin = id("spiffe://evil/ns/shop/orders");
    let set = set_of(&["{defaultAction: deny}"]);
    assert!(ask(&set, &own, Verb::Get, "x").is_allowed());
    assert!(!ask(&set, &twin, Verb::Get, "x").is_allowed());
    let given = Given {
        block: Some(legacy_spec("{defaultAction: deny}")),
        ..Given::default()
    };
    assert!(!ask(&given.set(), &own, Verb::Get, "x").is_allowed());
}

/// F6, K203: an object that cannot be used denies everything in its scope.
#[test]
fn f6_a_refused_object_closes_its_scope() {
    let refused = |scopes: &[&str]| Given {
        objects: vec![object(
            "a",
            &format!("{{policies: [{}]}}", web_entry(", defaultAction: allow")),
        )],
        refused: vec![Refused {
            name: "b".into(),
            scopes: scopes.iter().map(ToString::to_string).collect(),
        }],
        ..Given::default()
    };
    assert_eq!(
        answer(&refused(&[]).set(), Verb::Get, "x"),
        (false, Reason::PolicyInvalid)
    );
    assert_eq!(
        answer(&refused(&["orders"]).set(), Verb::Get, "x"),
        (false, Reason::PolicyInvalid)
    );
    assert!(allows(&refused(&["cart"]).set(), Verb::Get, "x"));
    let own = refused(&[])
        .set()
        .decide(Caller::Own, &Operation::invoke("x", Verb::Get));
    assert!(own.is_allowed());
}

/// F5: only apps that have objects are closed when nobody vouches for them.
#[test]
fn f5_expired_rules_deny_where_there_are_objects() {
    let with = set_of(&["{defaultAction: allow}"]).expired();
    assert_eq!(
        answer(&with, Verb::Get, "x"),
        (false, Reason::PolicyUnavailable)
    );
    let without = Given::default().set().expired();
    assert!(allows(&without, Verb::Get, "x"));
}

#[test]
fn all_problems_of_all_objects_are_reported() {
    let mut bad = object("a", "{defaultAction: deny}");
    bad.scopes = vec!["orders".to_owned(), "n o".to_owned()];
    bad.spec.default_action = None;
    let given = Given {
        block: Some(legacy_spec("{policies: [{appId: a}]}")),
        objects: vec![bad.clone(), bad],
        ..Given::default()
    };
    assert_eq!(given.try_set().unwrap_err().len(), 5);
}

#[test]
fn an_explanation_names_readings_and_rules() {
    let set = set_of(&[&rules(&[rule("/public/**", "allow")], "")]);
    let explained = set.explain(
        Caller::Peer(&web()),
        &Operation::invoke("public/%2e%2e/admin", Verb::Get),
    );
    assert_eq!(explained.canonical, "/public/%2e%2e/admin");
    let readings: Vec<(&str, bool)> = explained
        .readings
        .iter()
        .map(|(text, verdict)| (text.as_str(), verdict.is_allowed()))
        .collect();
    assert!(readings.contains(&("admin", false)), "{readings:?}");
    assert_eq!(explained.objects.len(), 1);
    let Decision {
        verdict: Verdict::Deny(matched),
        ..
    } = explained.decision
    else {
        panic!("it is denied")
    };
    assert_eq!(
        set.place(matched.rule.unwrap()).unwrap().to_string(),
        "/spec/defaultAction"
    );
}

/// Which rule would have allowed: the same path with another verb, another path, another caller.
#[test]
fn a_denial_names_the_rule_that_comes_nearest() {
    let spec = rules(
        &[
            "{name: /orders, httpVerb: [POST], action: allow}".to_owned(),
            "{name: /public/**, action: allow}".to_owned(),
            "{name: /health, pathMatch: Exact, action: allow}".to_owned(),
            "{name: /orders/admin, action: deny}".to_owned(),
        ],
        "",
    );
    let set = set_of(&[
        &spec,
        "{policies: [{appId: '*', namespace: '*', operations: [{name: /public/secret, action: deny}]}]}",
    ]);
    let nearest = |path: &str, verb: Verb| {
        let operation = Operation::invoke(path, verb);
        let nearest = set.explain(Caller::Peer(&web()), &operation).nearest?;
        let place = set.place(nearest.rule)?.to_string();
        Some((
            place.rsplit('/').next()?.to_owned(),
            nearest.sample.to_string(),
        ))
    };
    let from = "from spiffe://public/ns/shop/web";
    for (path, verb, rule, want) in [
        ("orders", Verb::Get, "0", "POST /orders"),
        ("orders/7", Verb::Put, "0", "POST /orders/7"),
        ("health/x", Verb::Get, "2", "GET /health"),
        ("publik", Verb::Get, "1", "GET /public"),
        ("orders/admin", Verb::Post, "1", "POST /public/admin"),
        ("public/secret", Verb::Get, "0", "POST /orders/secret"),
    ] {
        let (found, sample) = nearest(path, verb).unwrap_or_default();
        assert_eq!(
            (found.as_str(), sample),
            (rule, format!("{want} {from}")),
            "{path}"
        );
    }
    assert_eq!(nearest("public/a", Verb::Get), None);
    let other = id("spiffe://public/ns/ops/other");
    let explained = set.explain(
        Caller::Peer(&other),
        &Operation::invoke("health", Verb::Get),
    );
    let sample = explained.nearest.unwrap().sample;
    assert_eq!(sample.to_string(), format!("GET /health {from}"));
    let says: Vec<bool> = explained
        .objects
        .iter()
        .map(|object| object.verdict.unwrap().is_allowed())
        .collect();
    assert_eq!(says, [false, false]);
}
