//! What is found in rules, in the words of a status.

use super::*;
use ironside_resources::access_control::decode;

fn object(name: &str, scopes: &str, spec: &str) -> Arc<AccessControl> {
    let text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {{name: {name}, namespace: shop}}\nscopes: [{scopes}]\nspec: {spec}\n"
    );
    Arc::new(decode(&text).unwrap())
}

fn rule(action: &str) -> String {
    format!(
        "{{policies: [{{appId: web, namespace: shop, operations: [{{name: /a, action: {action}}}]}}]}}"
    )
}

fn app(app_id: &str, config: Option<&str>) -> App {
    App {
        app_id: app_id.into(),
        is_grpc: false,
        config: config.map(Into::into),
    }
}

/// Fact K180, and what `kubectl describe` shows of rules that do nothing.
#[test]
fn one_object_is_linted_and_compared() {
    let twice = object(
        "p",
        "orders",
        "{policies: [{appId: web, namespace: shop, operations: [{name: /op1, httpVerb: ['*'], action: allow}, {name: /op1/secret, httpVerb: ['*'], action: deny}, {name: /op1, httpVerb: ['*'], action: allow}]}]}",
    );
    let found = alone(&twice, AppKind::Http);
    let codes: Vec<(&str, &str)> = found
        .lint
        .iter()
        .map(|one| (one.rule.as_str(), one.code.as_str()))
        .collect();
    assert_eq!(codes, [("/spec/policies/0/operations/2", "duplicate")]);
    assert_eq!(
        (found.equivalent.truth, found.equivalent.reason),
        (Truth::False, "Diverges")
    );
    assert!(
        found.equivalent.message.contains("/op1/secret"),
        "{}",
        found.equivalent.message
    );
    let plain = alone(&object("p", "", "{defaultAction: deny}"), AppKind::Http);
    assert!(plain.lint.is_empty());
    assert_eq!(plain.equivalent.truth, Truth::True);
}

#[test]
fn findings_are_bounded() {
    let rules: Vec<String> = (0..100)
        .map(|_| "{name: /a, action: allow}".to_owned())
        .collect();
    let spec = format!(
        "{{policies: [{{appId: web, namespace: shop, operations: [{}]}}]}}",
        rules.join(",")
    );
    assert_eq!(
        alone(&object("p", "", &spec), AppKind::Http).lint.len(),
        MAX_LINT
    );
    assert_eq!(bounded("\u{e9}".repeat(1000)).len(), MAX_TEXT);
}

/// Security 4.2 and M9, fact K193: contradictions are told of both sides, with an example.
#[test]
fn contradictions_name_each_other() {
    let all = Together {
        namespace: "shop".into(),
        objects: vec![
            object("allows", "orders", &rule("allow")),
            object("denies", "", &rule("deny")),
            object("elsewhere", "cart", &rule("allow")),
            object(
                "audits",
                "",
                &format!("{{mode: Audit, {}", rule("deny").trim_start_matches('{')),
            ),
        ],
        apps: [app("orders", None)].into(),
        ..Together::default()
    };
    let found = together(&all);
    for (name, truth, other) in [
        ("allows", Truth::True, Some("shop/denies (for example ")),
        ("denies", Truth::True, Some("shop/allows (for example ")),
        ("elsewhere", Truth::False, None),
        ("audits", Truth::False, None),
    ] {
        let aspect = &found[name];
        assert_eq!(aspect.truth, truth, "{name}");
        assert!(
            other.is_none_or(|other| aspect.message.contains(other)),
            "{}",
            aspect.message
        );
    }
    assert_eq!(found["allows"].reason, "OverlapsWith");
}

#[test]
fn the_block_of_a_configuration_is_one_more_object() {
    let block = configuration::AccessControl {
        default_action: Some("deny".to_owned()),
        policies: Some(vec![configuration::AppPolicy {
            app_id: "web".to_owned(),
            namespace: "shop".to_owned(),
            trust_domain: "public".to_owned(),
            default_action: "deny".to_owned(),
            ..configuration::AppPolicy::default()
        }]),
        ..configuration::AccessControl::default()
    };
    let mut all = Together {
        namespace: "shop".into(),
        objects: vec![object("allows", "orders", &rule("allow"))],
        blocks: [("legacy".into(), Arc::new(block))].into(),
        apps: [app("orders", None)].into(),
    };
    assert_eq!(
        together(&all)["allows"].truth,
        Truth::False,
        "no app runs with it"
    );
    all.apps = [app("orders", Some("legacy"))].into();
    let found = &together(&all)["allows"];
    assert_eq!(found.truth, Truth::True);
    assert!(
        found.message.contains("Configuration/legacy"),
        "{}",
        found.message
    );
}

/// A thousand apps under the same objects cost as much as one; too many different ones are not all looked at.
#[test]
fn the_work_is_bounded_and_says_so() {
    let mut all = Together {
        namespace: "shop".into(),
        objects: vec![
            object("one", "", &rule("allow")),
            object("two", "", &rule("allow")),
        ],
        apps: (0..1000).map(|n| app(&format!("app-{n}"), None)).collect(),
        ..Together::default()
    };
    assert!(
        together(&all)
            .values()
            .all(|aspect| aspect.truth == Truth::False)
    );
    all.objects = (0..100)
        .flat_map(|n| {
            ["a", "b"].map(|part| {
                object(
                    &format!("p-{n}-{part}"),
                    &format!("app-{n}"),
                    &rule("allow"),
                )
            })
        })
        .collect();
    let found = together(&all);
    let unknown = found
        .values()
        .filter(|aspect| aspect.truth == Truth::Unknown)
        .count();
    assert_eq!((found.len(), unknown), (200, 2 * (100 - MAX_SETS)));
}
