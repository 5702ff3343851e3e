//! `accesscontrol … -k`: the rules of a cluster, tried as files of rules are.

use serde_json::{Value, json};

use super::ClusterWorld;

/// `shop/orders` lets `shop/web` GET `/orders`, and nobody else anything.
fn shop() -> ClusterWorld {
    let cluster = ClusterWorld::new();
    cluster.app("shop", "orders", true);
    cluster.put(json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "AccessControl",
        "metadata": {"name": "orders", "namespace": "shop", "generation": 3, "managedFields": [{"manager": "x"}]},
        "scopes": ["orders"],
        "spec": {"defaultAction": "deny", "policies": [
            {"appId": "web", "namespace": "shop", "operations": [
                {"name": "/orders", "httpVerb": ["GET"], "action": "allow"},
                {"name": "/orders", "httpVerb": ["GET"], "action": "allow"},
            ]},
        ]},
        "status": {"sidecars": 1},
    }));
    cluster
}

#[test]
fn a_request_is_tried_with_the_rules_of_the_cluster() {
    let cluster = shop();
    let check = ["accesscontrol", "check", "-k", "--callee", "shop/orders"];
    for (caller, path, code, text) in [
        ("shop/web", "/orders", 0, "allow: operation-rule"),
        ("shop/web", "/admin", 2, "deny: global-default"),
        ("tools/web", "/orders", 2, "deny: global-default"),
    ] {
        let words = [&check[..], &["--caller", caller, "--path", path]].concat();
        let seen = cluster.ironside(&words);
        assert_eq!(seen.code, Some(code), "{}", seen.stderr);
        assert!(seen.stdout.starts_with(text), "{}", seen.stdout);
        assert!(
            seen.stdout.contains("(cluster/shop/orders.yaml)"),
            "{}",
            seen.stdout
        );
    }
    // The block of the Configuration that the callee's sidecar names counts too.
    cluster.put(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "till-1", "namespace": "shop", "labels": {"dapr.io/app-id": "till"}},
        "spec": {"containers": [{"name": "daprd", "args": ["--app-id", "till", "--config", "strict"]}]},
    }));
    let words = [
        "accesscontrol",
        "check",
        "-k",
        "--callee=shop/till",
        "--caller=shop/web",
        "--path=/x",
    ];
    let seen = cluster.ironside(&words);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr
            .contains("the Configuration shop/strict of till does not exist"),
        "{}",
        seen.stderr
    );
    cluster.put(json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration",
        "metadata": {"name": "strict", "namespace": "shop"},
        "spec": {"accessControl": {"defaultAction": "deny"}},
    }));
    let seen = cluster.ironside(&words);
    assert_eq!(seen.code, Some(2), "{}", seen.stderr);
    assert!(
        seen.stdout.contains("Configuration/strict"),
        "{}",
        seen.stdout
    );
}

#[test]
fn rules_of_the_cluster_are_looked_through() {
    let cluster = shop();
    let seen = cluster.ironside(&["accesscontrol", "lint", "-k", "-o", "json"]);
    assert_eq!(seen.code, Some(2), "{}", seen.stderr);
    let json: Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(json["findings"][0]["code"], "duplicate");
    assert_eq!(json["findings"][0]["at"], "cluster/shop/orders.yaml");
    let empty = ClusterWorld::new();
    let seen = empty.ironside(&["accesscontrol", "lint", "-k"]);
    assert_eq!(
        (seen.code, seen.stdout.as_str()),
        (Some(0), "0 warnings, 0 notes\n")
    );
}

#[test]
fn an_edit_is_tried_over_the_rules_of_the_cluster() {
    let cluster = shop();
    let object = "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {name: NAME, namespace: shop}\n\
        scopes: [orders]\nspec:\n  defaultAction: deny\n  policies:\n  - appId: web\n    namespace: shop\n    \
        operations:\n    - {name: /orders, httpVerb: [VERB], action: allow}\n";
    for (name, verb, code, text) in [
        ("orders", "GET", 0, "shop/orders: 0 kinds of request change"),
        ("orders", "POST", 2, "allow -> deny: GET /orders from "),
        ("more", "POST", 2, "deny -> allow: POST /orders from "),
    ] {
        let text_of_it = object.replace("NAME", name).replace("VERB", verb);
        cluster.world.write("new.yaml", &text_of_it);
        let words = [
            "accesscontrol",
            "diff",
            "-k",
            "new.yaml",
            "--callee",
            "shop/orders",
        ];
        let seen = cluster.ironside(&words);
        assert_eq!(seen.code, Some(code), "{}", seen.stderr);
        assert!(seen.stdout.contains(text), "{}", seen.stdout);
    }
    let seen = cluster.ironside(&["accesscontrol", "diff", "-k", "a", "b"]);
    assert_eq!(seen.code, Some(1));
    assert!(seen.stderr.contains("diff -k NEW"), "{}", seen.stderr);
}
