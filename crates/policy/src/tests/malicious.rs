//! Rows K130 to K175 as far as they are decided here: a path is taken as a client writes it.
//!
//! Unless a row says otherwise the callee denies by default and its caller may do `/public/**`. Each row runs
//! against the block and against an object.

use super::support::{ask, http, id, legacy, overridden, set_of, told, web, web_entry};
use crate::{AppKind, Caller, Form, Operation, PolicySet, Reason, Verb};

/// The same rules in both forms.
fn both(global: &str, rules: &str) -> [PolicySet; 2] {
    let entry = web_entry(&format!(", operations: [{rules}]"));
    let spec = format!("{{defaultAction: {global}, policies: [{entry}]}}");
    [legacy(AppKind::Http, &spec), set_of(&[&spec])]
}

fn public() -> [PolicySet; 2] {
    both("deny", "{name: /public/**, httpVerb: ['*'], action: allow}")
}

fn guarded() -> [PolicySet; 2] {
    both("allow", "{name: /admin, httpVerb: ['*'], action: deny}")
}

/// Denied, or refused before policy is asked.
fn is_stopped(set: &PolicySet, path: &str) -> bool {
    http(path).is_none_or(|method| !ask(set, &web(), Verb::Get, &method).is_allowed())
}

#[test]
fn k130_to_k140_k144_k145_no_way_leads_out_of_public() {
    for path in [
        "public/../admin",
        "public%2F..%2Fadmin",
        "public/%2e%2e/admin",
        "public/%252e%252e/admin",
        "public/%25252e%25252e/admin",
        "public/%2525252e%2525252e/admin",
        "public%252F..%252Fadmin",
        "public/..%5Cadmin",
        "public\\..\\admin",
        "public/..;/admin",
        "public;/../admin",
        "public/..;x=1/admin",
        "public%3b/..%3b/admin",
        "public/%2e%2e%3b/admin",
        "public/..%253b/admin",
        "public%23/../admin",
        "public%3F/../admin",
        "public%00/../admin",
        "public%0d%0a/../admin",
        "public%09/../admin",
        "public%7f/../admin",
        "//admin",
        "public//..//admin",
        "./admin",
        "public/./../admin",
        "%2fadmin",
        "..%2f..%2f..%2fadmin",
        "/public/../admin",
        "/public%2F..%2Fadmin",
        "%c0%ae%c0%ae/admin",
        "%e0%80%af",
        "public/%25c0%25ae%25c0%25ae/admin",
        "public/%255c..%255cadmin",
        "http://x/admin",
        "@admin",
        ":80/admin",
    ] {
        for set in public() {
            assert!(is_stopped(&set, path), "{path}");
        }
    }
    for path in [
        "public/a",
        "public//a/",
        "x/../public/a",
        "public/a%20b",
        "public",
    ] {
        for set in public() {
            assert!(!is_stopped(&set, path), "{path}");
        }
    }
}

/// Fact O-A3, K100: where no rule is in force there is nothing to get around; an audit says what it would do.
#[test]
fn k148_doubt_denies_only_where_rules_are_in_force() {
    let audit = "{mode: Audit, defaultAction: allow}";
    for path in ["%c0%ae%c0%ae/admin", "public/%2525252e%2525252e/admin"] {
        for set in [
            PolicySet::default(),
            set_of(&[]),
            legacy(AppKind::Http, "{trustDomain: public}"),
        ] {
            let decision = ask(&set, &web(), Verb::Get, path);
            assert_eq!(told(decision.verdict), (true, Reason::NoPolicy), "{path}");
        }
        let decision = ask(&set_of(&[audit]), &web(), Verb::Get, path);
        assert!(decision.is_allowed());
        assert_eq!(
            decision.audit.map(told),
            Some((false, Reason::AmbiguousPath))
        );
        let open = "{defaultAction: allow}";
        let decision = ask(&set_of(&[open]), &web(), Verb::Get, path);
        assert_eq!(told(decision.verdict), (false, Reason::AmbiguousPath));
    }
}

#[test]
fn k133_k152_a_second_decoding_is_named_as_the_reason() {
    for set in public() {
        for method in [
            "public/%2e%2e/admin",
            "public/..%2fadmin",
            "public/%2E%2E%2Fadmin",
        ] {
            let decision = ask(&set, &web(), Verb::Get, method);
            assert_eq!(
                told(decision.verdict),
                (false, Reason::AmbiguousPath),
                "{method}"
            );
        }
    }
}

#[test]
fn k141_to_k143_spellings_of_a_denied_path() {
    for path in [
        "admin/",
        "/admin//",
        "ADMIN",
        "aDmIn",
        "adm%69n",
        "/admin",
        "admin/x",
        "adm%2569n",
        "admin;x",
        "admin%2500.html",
    ] {
        for set in guarded() {
            assert!(is_stopped(&set, path), "{path}");
        }
    }
}

#[test]
fn k147_the_app_id_in_the_path_is_only_a_path() {
    for set in public() {
        assert!(is_stopped(&set, "public/method/../../method/admin"));
        assert!(is_stopped(&set, "method/admin"));
    }
}

/// Full width, ligatures and the dotless i are other letters under every folding.
#[test]
fn k149_letters_beyond_ascii_are_not_folded() {
    for set in guarded() {
        for path in ["ＡＤＭＩＮ", "adm\u{131}n", "a\u{fb00}"] {
            assert!(!is_stopped(&set, path), "{path}");
        }
    }
    // The Kelvin sign: an object does not fold it; of the block both readings count, for the reference folds it.
    let [block, object] = both("allow", "{name: /key, httpVerb: ['*'], action: deny}");
    assert!(!is_stopped(&object, "\u{212a}ey"));
    assert!(is_stopped(&block, "\u{212a}ey"));
    let [block, object] = both("deny", "{name: /key, httpVerb: ['*'], action: allow}");
    assert!(is_stopped(&object, "\u{212a}ey"));
    assert!(is_stopped(&block, "\u{212a}ey"));
}

/// Bounds are generous, because test machines are slow; the loops would take minutes if they were quadratic.
#[test]
fn k150_long_paths_and_tricky_patterns_end_soon() {
    let paths = [
        "a".repeat(64 * 1024),
        "a/".repeat(10_000) + "x",
        "a/../".repeat(10_000) + "x",
        "%25".repeat(20_000),
        "a;b\\c%20".repeat(1_500),
        ";".repeat(16_000),
    ];
    let rules = "{name: /a*a*a*a*a*b, httpVerb: ['*'], action: allow}, {name: '/*a*a*a*a*b/x', httpVerb: ['*'], action: allow}";
    for set in both("deny", rules) {
        for path in &paths {
            assert!(is_stopped(&set, path));
        }
    }
}

#[test]
fn k151_to_k154_methods_of_the_grpc_api_are_never_decoded() {
    for set in public() {
        for method in [
            "public/../admin",
            "/public/../admin",
            "public#/../admin",
            "public\r/../admin",
            "public\0admin",
            "admin%2F..%2Fpublic",
        ] {
            let stopped = crate::Method::parse(method).map_or(true, |method| {
                !ask(&set, &web(), Verb::Post, method.as_str()).is_allowed()
            });
            assert!(stopped, "{method:?}");
        }
    }
}

#[test]
fn k156_k157_a_hidden_verb_is_denied_where_any_verb_is() {
    let rule = "{name: /op, httpVerb: [DELETE], action: deny}";
    let entry = web_entry(&format!(", defaultAction: allow, operations: [{rule}]"));
    let spec = format!("{{defaultAction: allow, policies: [{entry}]}}");
    for set in [legacy(AppKind::Http, &spec), set_of(&[&spec])] {
        assert!(!ask(&set, &web(), Verb::None, "op").is_allowed());
        assert!(!ask(&set, &web(), Verb::Delete, "op").is_allowed());
        assert!(ask(&set, &web(), Verb::Get, "op").is_allowed());
        assert!(ask(&set, &web(), Verb::None, "x").is_allowed());
    }
}

#[test]
fn k159_an_override_counts_as_its_verb() {
    let rules = "{name: /op, httpVerb: [POST], action: allow}, {name: /all, httpVerb: ['*'], action: allow}";
    for set in both("deny", rules) {
        let is_allowed = |path, header| {
            let operation = overridden(path, Verb::Post, header);
            set.decide(Caller::Peer(&web()), &operation).is_allowed()
        };
        assert!(is_allowed("op", ""));
        assert!(!is_allowed("op", "DELETE"));
        assert!(!is_allowed("op", "POST, delete"));
        assert!(is_allowed("op", "post"));
        assert!(is_allowed("all", "DELETE"));
    }
}

#[test]
fn k160_k161_unknown_verbs_are_post_and_head_is_not_get() {
    let rules = "{name: /op, httpVerb: [GET], action: allow}";
    for set in both("deny", rules) {
        assert!(!ask(&set, &web(), Verb::from_http("PROPFIND"), "op").is_allowed());
        assert!(!ask(&set, &web(), Verb::Head, "op").is_allowed());
        assert!(ask(&set, &web(), Verb::Get, "op").is_allowed());
    }
}

#[test]
fn k164_k165_reserved_services_are_closed_to_the_proxy() {
    let open = PolicySet::default();
    for (method, want) in [
        ("/dapr.proto.runtime.v1.AppCallback/OnInvoke", false),
        ("/dapr.proto.runtime.v1.AppCallback/OnTopicEvent", false),
        (
            "/dapr.proto.runtime.v1.AppCallbackAlpha/OnBindingEvent",
            false,
        ),
        (
            "/dapr.proto.internals.v1.ServiceInvocation/CallLocal",
            false,
        ),
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            false,
        ),
        ("/grpc.health.v1.Health/Check", true),
        ("/pkg.S/M", true),
    ] {
        for caller in [Caller::Peer(&web()), Caller::Anonymous, Caller::Own] {
            let decision = open.decide(caller, &Operation::proxied(method));
            assert_eq!(decision.is_allowed(), want, "{method}");
            if !want {
                assert_eq!(told(decision.verdict).1, Reason::ReservedService);
            }
        }
        let invoked = Operation {
            form: Form::Invoke,
            ..Operation::proxied(method)
        };
        assert!(open.decide(Caller::Peer(&web()), &invoked).is_allowed());
    }
}

#[test]
fn k174_a_star_in_a_caller_is_no_wildcard() {
    let entry = "{appId: web, namespace: shop, trustDomain: public, defaultAction: allow}";
    let spec = format!("{{defaultAction: deny, policies: [{entry}]}}");
    for set in [legacy(AppKind::Http, &spec), set_of(&[&spec])] {
        for path in ["web||shop", "*", "w*", "web*"] {
            // Such an identity cannot even be spelled as one.
            assert!(
                ironside_identity::SpiffeId::parse(&format!("spiffe://public/ns/shop/{path}"))
                    .is_err()
            );
        }
        assert!(!ask(&set, &id("spiffe://public/ns/shop/we"), Verb::Get, "x").is_allowed());
        assert!(!ask(&set, &id("spiffe://public/ns/shop/webx"), Verb::Get, "x").is_allowed());
    }
}
