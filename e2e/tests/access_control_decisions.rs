//! What is told of decisions of access control: series, log lines, the list of the API.
//!
//! A caller `web` and a callee `shop` with identities of a real Sentry. Which decision is right is judged
//! elsewhere; here it is whether people can find out about it, and whether callers can abuse that.

#![cfg(test)]

use std::collections::BTreeSet;

use ironside_e2e::{Sentry, Sidecar, Spec, World, wait};
use ironside_testkit::http::{Answer, Connection, HttpApp, Request};
use serde_json::{Value, json};

const DECISIONS: &str = "/v1.0-alpha1/accesscontrol/decisions";
const WEB: &str = "spiffe://public/ns/default/web";

/// A policy for `web`.
fn object(name: &str, mode: &str, rules: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata:\n  name: {name}\nspec:\n  mode: {mode}\n  policies:\n  - appId: web\n    namespace: default\n    operations:\n{rules}"
    )
}

const PUBLIC: &str =
    "    - {name: /public, action: allow}\n    - {name: /public/secret, action: deny}\n";

struct Pair {
    _world: World,
    _app: HttpApp,
    web: Sidecar,
    shop: Sidecar,
    _sentry: Sentry,
}

impl Pair {
    async fn start(callee: impl FnOnce(Spec) -> Spec) -> Self {
        let world = World::new();
        let sentry = Sentry::start(&world).await.unwrap();
        let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
        let shop = callee(Spec::new("shop").app(app.port()).mtls(&sentry));
        let shop = shop.ready(&world).await.unwrap();
        let web = Spec::new("web").mtls(&sentry).start(&world).await.unwrap();
        Self {
            _world: world,
            _app: app,
            web,
            shop,
            _sentry: sentry,
        }
    }

    async fn call(&self, path: &str) -> (u16, String) {
        let request = Request::get(&format!("/v1.0/invoke/shop/method/{path}"));
        let reply = self.web.send(&request).await.unwrap();
        (reply.status(), reply.text())
    }

    /// Calls paths over one connection; all are answered with `status`.
    async fn calls(&self, paths: impl IntoIterator<Item = String>, status: u16) {
        let mut connection = Connection::tcp(self.web.http()).await.unwrap();
        for path in paths {
            let request = Request::get(&format!("/v1.0/invoke/shop/method/{path}"));
            let reply = connection.send(&request).await.unwrap();
            assert_eq!(reply.status(), status, "{path}: {}", reply.text());
        }
    }

    async fn decisions(&self) -> Vec<Value> {
        let reply = self.shop.get(DECISIONS).await.unwrap();
        assert_eq!(reply.status(), 200);
        let body: Value = serde_json::from_str(&reply.text()).unwrap();
        body["decisions"].as_array().unwrap().clone()
    }

    /// The samples of the callee whose names begin so, without time and chance.
    async fn series(&self, start: &str) -> BTreeSet<String> {
        let request = Request::get("/");
        let reply = ironside_testkit::http::send(self.shop.metrics(), &request)
            .await
            .unwrap();
        let text = reply.text();
        let lines = text.lines().filter(|line| line.starts_with(start));
        lines.map(str::to_owned).collect()
    }

    /// The lines of the callee about refusals.
    fn lines(&self) -> Vec<String> {
        let log = self.shop.program.log();
        let lines = log.lines().filter(|line| line.contains("dapr.acl"));
        lines.map(str::to_owned).collect()
    }
}

fn decided(decision: &str, reason: &str, policy: &str) -> String {
    format!(
        "dapr_runtime_accesscontrol_decisions_total{{decision=\"{decision}\",reason=\"{reason}\",policy=\"{policy}\",src_app_id=\"web\",src_namespace=\"default\"}}"
    )
}

/// Row K220, L-16: a denial has a record with its rule, in the log and in the list; the caller learns neither.
#[tokio::test]
async fn a_denial_is_explained_to_those_who_run_the_app_only() {
    let pair = Pair::start(|spec| {
        spec.resource("p.yaml", &object("guard", "Enforce", PUBLIC))
            .configure("  tracing:\n    samplingRate: \"1\"\n")
    })
    .await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = Request::get("/v1.0/invoke/shop/method/public/secret/x")
        .header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"));
    let reply = pair.web.send(&request).await.unwrap();
    assert_eq!(reply.status(), 403);
    assert!(
        !reply.text().contains("guard") && !reply.text().contains("policies"),
        "{}",
        reply.text()
    );
    let mut newest = pair.decisions().await.remove(0);
    let time = newest["time"].take();
    assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    let want = json!({
        "time": null,
        "decision": "deny",
        "reason": "operation-rule",
        "policy": "guard",
        "rule": "/spec/policies/0/operations/1",
        "caller": WEB,
        "operation": "/public/secret/x",
        "verb": "GET",
        "protocol": "http",
        "snapshot": 1,
        "traceId": trace,
    });
    assert_eq!(newest, want);
    pair.shop.program.logged("access denied").await.unwrap();
    let [line] = pair.lines().try_into().unwrap();
    for field in [
        "level=warning",
        "scope=dapr.acl.audit",
        "decision=deny",
        "reason=operation-rule",
        "policy.object=guard",
        "policy.rule=/spec/policies/0/operations/1",
        "policy.snapshot=1",
        &format!("peer.id=\"{WEB}\""),
        "operation=/public/secret/x",
        "verb=GET",
        "protocol=http",
        &format!("trace.id={trace}"),
    ] {
        assert!(line.contains(field), "{field} is not in {line}");
    }
    // What is allowed is listed, and is no line.
    assert_eq!(pair.call("public/a").await.0, 200);
    assert_eq!(pair.decisions().await[0]["decision"], "allow");
    assert_eq!(pair.lines().len(), 1);
}

/// Row K222: the log has ten lines and one count, the series have all of them.
#[tokio::test]
async fn a_thousand_denials_are_eleven_lines() {
    let mut pair =
        Pair::start(|spec| spec.resource("p.yaml", &object("guard", "Enforce", PUBLIC))).await;
    let watch = wait::Stopwatch::start();
    let some = || (0..250).map(|_| "admin".to_owned());
    tokio::join!(
        pair.calls(some(), 403),
        pair.calls(some(), 403),
        pair.calls(some(), 403),
        pair.calls(some(), 403),
    );
    let series = pair
        .series("dapr_runtime_accesscontrol_decisions_total")
        .await;
    assert_eq!(
        series,
        [decided("deny", "global-default", "guard") + " 1000"].into()
    );
    assert!(pair.shop.program.stop().await.unwrap().success());
    let lines = pair.lines();
    // On a machine that needs more than a minute there is more than one window.
    assert!(
        lines.len() as u64 <= 11 * windows(&watch),
        "{}",
        lines.join("\n")
    );
    // None is lost: each is a line or counted by one.
    let counted = |line: &String| match line.split_once("suppressed=") {
        Some((_, rest)) => rest.split(' ').next().unwrap().parse().unwrap(),
        None => 1,
    };
    assert_eq!(lines.iter().map(counted).sum::<u64>(), 1000);
}

/// Windows of the rate limit that have begun since then.
fn windows(since: &wait::Stopwatch) -> u64 {
    1 + since.elapsed().as_secs() / 60
}

/// Row K221: a caller that plays with paths changes neither the number of series nor the terminal of whoever
/// reads the log.
#[tokio::test]
async fn ten_thousand_paths_are_one_series_and_no_control_bytes() {
    let mut pair =
        Pair::start(|spec| spec.resource("p.yaml", &object("guard", "Enforce", PUBLIC))).await;
    // C1 controls and writing from right to left pass as text; the others are refused before policy.
    pair.calls(["x%C2%9B31mred%E2%80%AE".to_owned()], 403).await;
    for path in [
        "x%1b[31mred",
        "x%0Ainjected",
        "x%0D%0Alevel=error",
        "x%07",
        "x%00",
    ] {
        pair.calls([path.to_owned()], 500).await;
    }
    let watch = wait::Stopwatch::start();
    let before = pair.series("dapr_runtime_ac").await.len();
    let of = |worker: usize| (0..2_500).map(move |number| format!("x{worker}/{number}"));
    tokio::join!(
        pair.calls(of(0), 403),
        pair.calls(of(1), 403),
        pair.calls(of(2), 403),
        pair.calls(of(3), 403),
    );
    let after = pair.series("dapr_runtime_ac").await;
    assert_eq!(after.len(), before);
    assert!(
        after.contains(&(decided("deny", "global-default", "guard") + " 10001")),
        "{after:?}"
    );
    assert!(pair.shop.program.stop().await.unwrap().success());
    let log = pair.shop.program.log();
    let odd = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
    assert_eq!(log.chars().find(odd), None);
    assert!(
        !log.lines()
            .any(|line| line.starts_with("injected") || line.starts_with("level="))
    );
    let lines = pair.lines().len() as u64;
    assert!(lines < 100 * windows(&watch), "{lines}");
}

/// Row K192: an object under audit decides nothing and is counted, logged and listed.
#[tokio::test]
async fn an_object_under_audit_is_told_of() {
    let draft = object(
        "draft",
        "Audit",
        "    - {name: /public/old, action: deny}\n",
    );
    let pair = Pair::start(|spec| {
        spec.resource("p.yaml", &object("guard", "Enforce", PUBLIC))
            .resource("q.yaml", &draft)
    })
    .await;
    assert_eq!(pair.call("public/old").await.0, 200);
    assert_eq!(pair.call("public/new").await.0, 200);
    let list = pair.decisions().await;
    let audits = [&list[0]["audit"], &list[1]["audit"]];
    let want = json!({
        "decision": "would_deny",
        "reason": "operation-rule",
        "policy": "draft",
        "rule": "/spec/policies/0/operations/0",
    });
    assert_eq!(audits, [&Value::Null, &want]);
    let series = pair
        .series("dapr_runtime_accesscontrol_decisions_total")
        .await;
    let want = [
        decided("allow", "operation-rule", "guard") + " 2",
        decided("would_deny", "operation-rule", "draft") + " 1",
    ];
    assert_eq!(series, want.into());
    let objects = pair.series("dapr_runtime_accesscontrol_objects").await;
    assert!(
        objects.contains("dapr_runtime_accesscontrol_objects{state=\"audit\"} 1"),
        "{objects:?}"
    );
    pair.shop
        .program
        .logged("access would be denied")
        .await
        .unwrap();
    let [line] = pair.lines().try_into().unwrap();
    assert!(
        line.contains("decision=would_deny") && line.contains("policy.object=draft"),
        "{line}"
    );
}

const BLOCK: &str = "  accessControl:
    defaultAction: deny
    policies:
    - appId: web
      namespace: default
      trustDomain: public
      defaultAction: allow
      operations:
      - {name: /admin, httpVerb: ['*'], action: deny}
    - appId: job
      namespace: default
      trustDomain: public
      operations:
      - {name: /run, httpVerb: ['*'], action: allow}
";

/// Rows K100, K122, M-28, M-29: the reference's four counters, with the names of the caller.
#[tokio::test]
async fn the_reference_s_counters_name_the_caller() {
    let world = World::new();
    let sentry = Sentry::start(&world).await.unwrap();
    let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
    let with = |app_id: &str| Spec::new(app_id).mtls(&sentry);
    let shop = with("shop").app(app.port()).configure(BLOCK);
    let shop = shop.ready(&world).await.unwrap();
    let open = with("open").app(app.port()).ready(&world).await.unwrap();
    let web = with("web").start(&world).await.unwrap();
    let job = with("job").start(&world).await.unwrap();
    for (caller, target, status) in [
        (&web, "shop/method/x", 200),
        (&web, "shop/method/admin", 403),
        (&job, "shop/method/run", 200),
        (&job, "shop/method/x", 403),
        (&web, "open/method/x", 200),
    ] {
        let request = Request::get(&format!("/v1.0/invoke/{target}"));
        assert_eq!(
            caller.send(&request).await.unwrap().status(),
            status,
            "{target}"
        );
    }
    let labels = |app_id: &str| {
        format!("{{app_id=\"{app_id}\",trustDomain=\"public\",namespace=\"default\"}} 1")
    };
    let series = |sidecar: &Sidecar| {
        let port = sidecar.metrics();
        async move {
            let reply = ironside_testkit::http::send(port, &Request::get("/"))
                .await
                .unwrap();
            let text = reply.text();
            let lines = text
                .lines()
                .filter(|line| line.starts_with("dapr_runtime_acl_"));
            lines.map(str::to_owned).collect::<BTreeSet<_>>()
        }
    };
    let want = [
        format!(
            "dapr_runtime_acl_app_policy_action_allowed_total{}",
            labels("web")
        ),
        format!(
            "dapr_runtime_acl_app_policy_action_blocked_total{}",
            labels("web")
        ),
        format!(
            "dapr_runtime_acl_global_policy_action_allowed_total{}",
            labels("job")
        ),
        format!(
            "dapr_runtime_acl_global_policy_action_blocked_total{}",
            labels("job")
        ),
    ];
    assert_eq!(series(&shop).await, want.into());
    let want = format!(
        "dapr_runtime_acl_global_policy_action_allowed_total{}",
        labels("web")
    );
    assert_eq!(series(&open).await, [want].into());
}

/// The list needs the token if there is one; the metadata say which rules are in force.
#[tokio::test]
async fn decisions_are_for_those_who_may_see_them() {
    let world = World::new();
    let file = "p.yaml";
    let rules = object("guard", "Enforce", PUBLIC);
    let spec = Spec::new("shop").env("DAPR_API_TOKEN", "hunter2");
    let shop = spec.resource(file, &rules).start(&world).await.unwrap();
    let ask = |token: Option<&str>, verb: &str| {
        let request = Request::new(verb, DECISIONS);
        match token {
            Some(token) => request.header("dapr-api-token", token),
            None => request,
        }
    };
    for (token, verb, status) in [
        (None, "GET", 401),
        (Some("hunter3"), "GET", 401),
        (Some("hunter2"), "GET", 200),
        (Some("hunter2"), "POST", 404),
    ] {
        let reply = shop.send(&ask(token, verb)).await.unwrap();
        assert_eq!(reply.status(), status, "{token:?} {verb}");
    }
    let reply = shop.send(&ask(Some("hunter2"), "GET")).await.unwrap();
    assert_eq!(reply.text(), "{\"decisions\":[]}\n");

    let shop = Spec::new("open")
        .resource(file, &rules)
        .start(&world)
        .await
        .unwrap();
    assert_eq!(shop.get(DECISIONS).await.unwrap().status(), 200);
    let extended = |text: &str| serde_json::from_str::<Value>(text).unwrap()["extended"].clone();
    let metadata = extended(&shop.get("/v1.0/metadata").await.unwrap().text());
    assert_eq!(
        (
            &metadata["accessControl.snapshot"],
            &metadata["accessControl.objects"]
        ),
        (&json!("1"), &json!("1"))
    );
    let since = metadata["accessControl.lastChange"].clone();
    let entries = std::fs::read_dir(world.path()).unwrap();
    let mut folders = entries.map(|entry| entry.unwrap().path());
    let folder = folders
        .find(|path| path.to_str().unwrap().contains("open-resources-"))
        .unwrap();
    std::fs::write(folder.join("r.yaml"), object("more", "Audit", PUBLIC)).unwrap();
    let look = || async {
        let text = shop.get("/v1.0/metadata").await.unwrap().text();
        Some(extended(&text)).filter(|now| now["accessControl.snapshot"] == "2")
    };
    let now = wait::until("the next snapshot", wait::LONG, look)
        .await
        .unwrap();
    assert_eq!(now["accessControl.objects"], "2");
    assert_ne!(now["accessControl.lastChange"], since);
}

/// Row K101: an omitted default allows callers without an entry, unless the sidecar is strict.
#[tokio::test]
async fn an_omitted_default_denies_where_the_sidecar_is_strict() {
    let world = World::new();
    let sentry = Sentry::start(&world).await.unwrap();
    let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
    let block = "  accessControl:
    policies:
    - {appId: job, namespace: default, trustDomain: public, defaultAction: allow}
";
    let callee = |app_id: &str| {
        Spec::new(app_id)
            .app(app.port())
            .mtls(&sentry)
            .configure(block)
    };
    let lenient = callee("lenient").ready(&world).await.unwrap();
    let strict = callee("strict").argument("--access-control-strict");
    let strict = strict.ready(&world).await.unwrap();
    let web = Spec::new("web").mtls(&sentry).start(&world).await.unwrap();
    let job = Spec::new("job").mtls(&sentry).start(&world).await.unwrap();
    for (caller, callee, status) in [
        (&web, &lenient, 200),
        (&job, &lenient, 200),
        (&web, &strict, 403),
        (&job, &strict, 200),
    ] {
        let path = format!("/v1.0/invoke/{}/method/x", callee.app_id());
        let reply = caller.send(&Request::get(&path)).await.unwrap();
        assert_eq!(
            reply.status(),
            status,
            "{} to {}",
            caller.app_id(),
            callee.app_id()
        );
    }
    lenient
        .program
        .logged("has policies and no defaultAction")
        .await
        .unwrap();
}
