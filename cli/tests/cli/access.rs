//! `accesscontrol`: rules tried, explained, checked, converted and compared, and a real call explained.

use std::time::Duration;

use crate::rig::{Finished, LONG, Server, World, until};

const ORDERS: &str = "\
apiVersion: dapr.io/v1alpha1
kind: AccessControl
metadata: {name: orders, namespace: shop}
scopes: [orders]
spec:
  defaultAction: deny
  policies:
  - appId: web
    namespace: shop
    operations:
    - {name: /public/**, action: allow}
    - {name: /orders, httpVerb: [GET, POST], action: allow}
    - {name: /orders/admin, action: deny}
    - {name: /orders, httpVerb: [GET], action: allow}
";

const LEGACY: &str = "\
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: appconfig, namespace: shop}
spec:
  accessControl:
    defaultAction: deny
    policies:
    - appId: web
      defaultAction: deny
      trustDomain: public
      namespace: shop
      operations:
      - {name: /op1, httpVerb: ['*'], action: allow}
      - {name: /op1/secret, httpVerb: ['*'], action: deny}
";

fn world() -> World {
    let world = World::new();
    world.write("res/orders.yaml", ORDERS);
    world.write("appconfig.yaml", LEGACY);
    world
}

fn check(world: &World, verb: &str, path: &str) -> Finished {
    world.ironside(&[
        "accesscontrol",
        "check",
        "-d",
        "res",
        "--caller",
        "shop/web",
        "--callee",
        "shop/orders",
        "--verb",
        verb,
        "--path",
        path,
    ])
}

#[test]
fn a_denial_is_explained_to_the_rule_that_would_have_allowed() {
    let world = world();
    let seen = check(&world, "DELETE", "/orders/7");
    assert_eq!(seen.code, Some(2), "{}", seen.stderr);
    let want = "\
deny: global-default: no entry decided: the default of the object did
caller     spiffe://public/ns/shop/web
callee     shop/orders
verb       DELETE
canonical  /orders/7
object     shop/orders: deny global-default shop/orders /spec/defaultAction (res/orders.yaml)
rule       shop/orders /spec/defaultAction (res/orders.yaml)
nearest    shop/orders /spec/policies/0/operations/1 (res/orders.yaml:12) allows GET /orders/7 from spiffe://public/ns/shop/web
";
    assert_eq!(seen.stdout, want);
    let seen = check(&world, "GET", "/orders/7");
    assert_eq!(seen.code, Some(0));
    assert!(
        seen.stdout.starts_with("allow: operation-rule: "),
        "{}",
        seen.stdout
    );
}

/// Row K225: rows K130 to K137, what the app may read and what decided.
#[test]
fn k225_every_trick_with_a_path_is_explained() {
    let world = world();
    for (row, path, canonical, reading) in [
        ("K130", "public/../admin", "/admin", None),
        ("K131", "public%2F..%2Fadmin", "/admin", None),
        ("K132", "public/%2e%2e/admin", "/admin", None),
        (
            "K133",
            "public/%252e%252e/admin",
            "/public/%2e%2e/admin",
            Some("/admin"),
        ),
        (
            "K134",
            "public/%25252e%25252e/admin",
            "/public/%252e%252e/admin",
            Some("/admin"),
        ),
        (
            "K135",
            "public%252F..%252Fadmin",
            "/public%2F..%2Fadmin",
            Some("/admin"),
        ),
        (
            "K136",
            "public/..%5Cadmin",
            "/public/..\\admin",
            Some("/admin"),
        ),
        (
            "K137",
            "public/..;/admin",
            "/public/..;/admin",
            Some("/admin"),
        ),
        ("K137", "public;/../admin", "/admin", None),
        (
            "K137",
            "public/..;x=1/admin",
            "/public/..;x=1/admin",
            Some("/admin"),
        ),
    ] {
        let seen = check(&world, "GET", path);
        assert_eq!(seen.code, Some(2), "{row} {}{}", seen.stdout, seen.stderr);
        let has = |line: &str| seen.stdout.lines().any(|one| one.starts_with(line));
        assert!(
            has(&format!("canonical  {canonical}")),
            "{row} {}",
            seen.stdout
        );
        if let Some(reading) = reading {
            let denied =
                format!("reading    {reading} deny global-default shop/orders /spec/defaultAction");
            assert!(has(&denied), "{row} {}", seen.stdout);
        }
        assert!(
            has("rule       shop/orders /spec/defaultAction"),
            "{row} {}",
            seen.stdout
        );
        assert!(
            has("nearest    shop/orders /spec/policies/0/operations/0"),
            "{row} {}",
            seen.stdout
        );
    }
    for (row, path, why) in [
        ("K138", "public%23/../admin", "forbidden character"),
        ("K139", "public%0d%0a/../admin", "control character"),
        ("K148", "%c0%ae%c0%ae/admin", "not UTF-8"),
    ] {
        let seen = check(&world, "GET", path);
        assert_eq!(seen.code, Some(1), "{row} {}", seen.stdout);
        assert!(
            seen.stderr.contains("refused before policy is asked"),
            "{row} {}",
            seen.stderr
        );
        assert!(seen.stderr.contains(why), "{row} {}", seen.stderr);
    }
}

#[test]
fn check_answers_as_json_too() {
    let world = world();
    let words = "accesscontrol check -f res/orders.yaml --caller - --callee shop/orders --path /orders -o json";
    let seen = world.ironside(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(seen.code, Some(2), "{}", seen.stderr);
    let json: serde_json::Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(json["decision"], "deny");
    assert_eq!(json["reason"], "no-identity");
    assert_eq!(json["objects"][0]["name"], "shop/orders");
    assert_eq!(json["nearest"]["rule"]["at"], "res/orders.yaml:12");
}

#[test]
fn lint_names_the_line_and_has_an_exit_code_for_ci() {
    let world = world();
    let seen = world.ironside(&["accesscontrol", "lint", "-d", "res"]);
    assert_eq!(seen.code, Some(2), "{}", seen.stderr);
    let want = "\
res/orders.yaml:14: warning: shop/orders /spec/policies/0/operations/3: duplicate: operations/1 (`/orders`) says the same (for example GET /orders from spiffe://public/ns/shop/web)
1 warning, 0 notes
";
    assert_eq!(seen.stdout, want);
    let seen = world.ironside(&["acl", "lint", "appconfig.yaml", "-o", "json"]);
    assert_eq!(seen.code, Some(2), "{}", seen.stderr);
    let json: serde_json::Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(json["findings"][0]["code"], "shadowed");
    assert_eq!(json["findings"][0]["at"], "appconfig.yaml:14");
    assert_eq!(json["findings"][0]["example"]["path"], "/op1/secret");
    let clean: String = ORDERS
        .lines()
        .take(13)
        .map(|line| format!("{line}\n"))
        .collect();
    world.write("clean.yaml", &clean);
    let seen = world.ironside(&["acl", "lint", "clean.yaml"]);
    assert_eq!(
        (seen.code, seen.stdout.as_str()),
        (Some(0), "0 warnings, 0 notes\n")
    );
}

/// What only other objects cause is told for the apps that have them, and only if all of them do.
#[test]
fn lint_tries_every_app_that_scopes_tell_apart() {
    let world = World::new();
    let object = |name: &str, scopes: &str, rest: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {{name: {name}, namespace: shop}}\nscopes: [{scopes}]\nspec:\n  policies:\n  - {{appId: web, namespace: shop, {rest}}}\n---\n"
        )
    };
    let guard = object(
        "guard",
        "orders",
        "operations: [{name: /admin, action: deny}]",
    );
    let team = object("team", "", "operations: [{name: /admin/x, action: allow}]");
    world.write("both.yaml", &format!("{guard}{team}"));
    let seen = world.ironside(&["acl", "lint", "both.yaml"]);
    assert_eq!(seen.code, Some(0), "{}{}", seen.stdout, seen.stderr);
    assert!(
        seen.stdout.ends_with("0 warnings, 1 note\n"),
        "{}",
        seen.stdout
    );
    let seen = world.ironside(&["acl", "lint", "both.yaml", "--callee", "shop/orders"]);
    assert_eq!(seen.code, Some(2));
    assert!(
        seen.stdout
            .contains("shop/team /spec/policies/0/operations/0: unreachable: "),
        "{}",
        seen.stdout
    );
}

#[test]
fn what_cannot_be_used_is_named_by_file_line_and_field() {
    let world = world();
    world.write(
        "bad/a.yaml",
        &ORDERS.replace("/orders/admin", "/orders/../admin"),
    );
    let seen = world.ironside(&["accesscontrol", "lint", "-d", "bad"]);
    assert_eq!((seen.code, seen.stdout.as_str()), (Some(1), ""));
    assert!(
        seen.stderr.contains("bad/a.yaml: AccessControl \"orders\": line 13: /spec/policies/0/operations/2/name: dot segments never match a request; correct the file, or remove it"),
        "{}",
        seen.stderr
    );
    for (words, want) in [
        ("accesscontrol lint nothere.yaml", "reading nothere.yaml"),
        ("accesscontrol lint", "name the rules: --file"),
        ("accesscontrol diff res", "diff OLD NEW"),
        ("accesscontrol why", "why <trace-id|last>"),
        (
            "accesscontrol check -d res --caller a/b/c --callee x --path /",
            "write namespace/app-id",
        ),
        (
            "accesscontrol check -d res --caller a --callee a/b/c --path /",
            "write namespace/app-id",
        ),
        (
            "accesscontrol check -d res --caller a --callee b --path / --api soap",
            "write http, grpc or proxy",
        ),
        ("accesscontrol lint -d res -o xml", "write text or json"),
        (
            "accesscontrol lint -d res --app-protocol tcp",
            "write http, https",
        ),
        (
            "accesscontrol convert -f res/orders.yaml",
            "there is no spec.accessControl",
        ),
    ] {
        let seen = world.ironside(&words.split(' ').collect::<Vec<_>>());
        assert_eq!(seen.code, Some(1), "{words}");
        assert!(seen.stderr.contains(want), "{words}: {}", seen.stderr);
    }
}

#[test]
fn a_legacy_block_becomes_an_object_that_decides_the_same() {
    let world = world();
    let seen = world.ironside(&[
        "accesscontrol",
        "convert",
        "-f",
        "appconfig.yaml",
        "--scopes",
        "orders",
    ]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let want = "\
# evaluation: DaprCompatible keeps every decision of the block.
# The most specific rule would decide otherwise:
#   GET /op1/secret from spiffe://public/ns/shop/web: allow now, deny then
#   GET /op1/secret/x from spiffe://public/ns/shop/web: allow now, deny then
apiVersion: dapr.io/v1alpha1
kind: AccessControl
metadata:
  name: appconfig
  namespace: shop
scopes:
- orders
spec:
  mode: Enforce
  evaluation: DaprCompatible
  defaultAction: deny
  policies:
  - appId: web
    namespace: shop
    trustDomain: public
    defaultAction: deny
    operations:
    - name: /op1
      httpVerb:
      - \"*\"
      action: allow
    - name: /op1/secret
      httpVerb:
      - \"*\"
      action: deny
";
    assert_eq!(seen.stdout, want);
    // The block and its object differ for nobody: see what changes between the two.
    world.write("object.yaml", &seen.stdout);
    let words = "accesscontrol diff appconfig.yaml object.yaml --callee shop/orders";
    let seen = world.ironside(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(seen.stdout, "shop/orders: 0 kinds of request change\n");
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    // Without the rule that hides another one there is nothing to keep.
    let simple: String = LEGACY
        .lines()
        .take(12)
        .map(|line| format!("{line}\n"))
        .collect();
    world.write(
        "simple.yaml",
        &simple.replace("defaultAction: deny\n    policies", "policies"),
    );
    let seen = world.ironside(&["acl", "convert", "-f", "simple.yaml"]);
    for want in [
        "# defaultAction: allow was implied, because the block had none: consider deny.\n",
        "# It applies to every app of the namespace: name the apps that used the Configuration with --scopes.\n",
        "evaluation: MostSpecific\n",
        "unauthenticated: DefaultAction\n",
        "defaultAction: allow\n",
    ] {
        assert!(seen.stdout.contains(want), "{want}: {}", seen.stdout);
    }
}

#[test]
fn an_edit_is_told_with_the_recorded_calls_that_it_changes() {
    let world = world();
    world.write("new.yaml", &ORDERS.replace("[GET, POST]", "[GET]"));
    let call = |verb: &str, operation: &str| {
        format!(
            "{{\"time\":\"2026-11-21T19:00:00Z\",\"decision\":\"allow\",\"caller\":\"spiffe://public/ns/shop/web\",\"callerNamespace\":\"shop\",\"callerAppId\":\"web\",\"operation\":\"{operation}\",\"verb\":\"{verb}\",\"protocol\":\"http\",\"snapshot\":1,\"traceId\":\"\"}}\n"
        )
    };
    let log = [
        call("POST", "/orders/1"),
        call("GET", "/orders/1"),
        call("POST", "/orders/1"),
        call("GET", "/public/a").replace("\"verb\"", "\"truncated\":true,\"verb\""),
    ];
    world.write("calls.jsonl", &log.concat());
    let words =
        "accesscontrol diff res/orders.yaml new.yaml --callee shop/orders --replay calls.jsonl";
    let seen = world.ironside(&words.split(' ').collect::<Vec<_>>());
    let want = "\
shop/orders: 2 kinds of request change
  allow -> deny: POST /orders from spiffe://public/ns/shop/web
    before: operation-rule shop/orders /spec/policies/0/operations/1 (res/orders.yaml:12)
    after:  global-default shop/orders /spec/defaultAction (new.yaml)
  allow -> deny: POST /orders/x from spiffe://public/ns/shop/web
    before: operation-rule shop/orders /spec/policies/0/operations/1 (res/orders.yaml:12)
    after:  global-default shop/orders /spec/defaultAction (new.yaml)
replay: 2 of 3 recorded calls change, 1 were cut and could not be tried
  allow -> deny: POST /orders/1 from spiffe://public/ns/shop/web (2 calls)
";
    assert_eq!(
        (seen.code, seen.stdout.as_str()),
        (Some(2), want),
        "{}",
        seen.stderr
    );
    let same = world.ironside(&["acl", "diff", "res", "res/orders.yaml", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&same.stdout).unwrap();
    assert_eq!((same.code, &json["complete"]), (Some(0), &true.into()));
    assert_eq!(json["apps"].as_array().unwrap().len(), 2);
}

/// A real call through two sidecars, explained by the one that decided.
#[test]
fn why_tells_of_a_real_call() {
    let world = World::new();
    let (callee, caller) = (world.id("asked"), world.id("asking"));
    world.write(
        "rules/rule.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {name: closed}\nspec:\n  policies:\n  - {appId: web, namespace: default, operations: [{name: /secret, action: allow}]}\n",
    );
    let app = Server::start("200 OK", "never", Duration::ZERO);
    let port = app.port.to_string();
    let _callee = world.up(&[
        "run",
        "--app-id",
        &callee,
        "--app-port",
        &port,
        "--resources-path",
        "rules",
    ]);
    let _caller = world.up(&["run", "--app-id", &caller]);
    until("a call that arrives", LONG, || {
        let seen = world.ironside(&[
            "invoke",
            "-a",
            &callee,
            "--from",
            &caller,
            "-m",
            "x/../secret",
        ]);
        seen.stderr.contains("403").then_some(())
    });
    let seen = world.ironside(&["accesscontrol", "why", "last", "--app-id", &callee]);
    assert_eq!(seen.code, Some(2), "{}{}", seen.stdout, seen.stderr);
    for want in [
        "deny: no-identity: the caller has no identity: mutual TLS is off\n",
        "caller     without identity\n",
        &format!("callee     {callee}\n"),
        "canonical  /secret\n",
        "object     closed\n",
        "nearest    closed /spec/policies/0/operations/0 (",
        "rules/rule.yaml:6) allows POST /secret from spiffe://public/ns/default/web\n",
    ] {
        assert!(seen.stdout.contains(want), "{want}: {}", seen.stdout);
    }
    let json = world
        .ironside(&["acl", "why", "last", "-a", &callee, "-o", "json"])
        .stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["nearest"]["allows"]["path"], "/secret", "{json}");
    let trace = json["traceId"].as_str().unwrap_or_default();
    if !trace.is_empty() {
        let seen = world.ironside(&["acl", "why", trace, "-a", &callee]);
        assert!(
            seen.stdout.contains(&format!("trace      {trace}\n")),
            "{}",
            seen.stdout
        );
    }
    let unknown = world.ironside(&[
        "acl",
        "why",
        "00000000000000000000000000000000",
        "-a",
        &callee,
    ]);
    assert_eq!(unknown.code, Some(1));
    assert!(
        unknown
            .stderr
            .contains("no sidecar remembers such a decision"),
        "{}",
        unknown.stderr
    );
    let nobody = world.ironside(&["acl", "why", "last", "-a", "nobody-at-all"]);
    assert!(
        nobody.stderr.contains("app ID nobody-at-all not found"),
        "{}",
        nobody.stderr
    );
}
