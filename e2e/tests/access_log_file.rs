//! The access log file of a real callee: every call is a line, whatever happens to the file, and no call suffers.

#![cfg(test)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use ironside_e2e::{Sentry, Sidecar, Spec, World};
use ironside_testkit::http::{Answer, Connection, HttpApp, Request};
use serde_json::{Value, json};

const BLOCK: &str = "  accessControl:
    defaultAction: deny
    policies:
    - appId: web
      namespace: default
      trustDomain: public
      operations:
      - {name: '/public/**', httpVerb: ['*'], action: allow}
";

struct Pair {
    world: World,
    _app: HttpApp,
    web: Sidecar,
    shop: Sidecar,
    _sentry: Sentry,
}

impl Pair {
    /// A callee that writes to `logs/calls.jsonl`.
    async fn start(flags: &[(&str, &str)]) -> Self {
        let world = World::new();
        let sentry = Sentry::start(&world).await.unwrap();
        let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
        fs::create_dir(world.path().join("logs")).unwrap();
        let file = world.path().join("logs/calls.jsonl");
        let mut shop = Spec::new("shop")
            .app(app.port())
            .mtls(&sentry)
            .configure(BLOCK);
        shop = shop.flag("--access-log-file", file.to_str().unwrap());
        for (name, value) in flags {
            shop = shop.flag(name, value);
        }
        let shop = shop.ready(&world).await.unwrap();
        let web = Spec::new("web").mtls(&sentry).start(&world).await.unwrap();
        Self {
            world,
            _app: app,
            web,
            shop,
            _sentry: sentry,
        }
    }

    fn folder(&self) -> PathBuf {
        self.world.path().join("logs")
    }

    /// Calls `public/<number>` over one connection.
    async fn calls(&self, numbers: impl IntoIterator<Item = usize>) {
        let mut connection = Connection::tcp(self.web.http()).await.unwrap();
        for number in numbers {
            let path = format!("/v1.0/invoke/shop/method/public/{number}");
            let reply = connection.send(&Request::get(&path)).await.unwrap();
            assert_eq!(reply.status(), 200, "{}", reply.text());
        }
    }
}

/// The objects of all files of a folder, and whether every file is small enough.
fn lines(folder: &Path, most: u64) -> Vec<Value> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.len() as u64 <= most,
            "{}: {}",
            path.display(),
            text.len()
        );
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "{}",
            path.display()
        );
        all.extend(
            text.lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()),
        );
    }
    all
}

fn operations(lines: &[Value]) -> BTreeSet<String> {
    let all = lines
        .iter()
        .map(|line| line["operation"].as_str().unwrap().to_owned());
    let set: BTreeSet<String> = all.collect();
    assert_eq!(set.len(), lines.len(), "a line was written twice");
    set
}

fn numbers(range: std::ops::Range<usize>) -> BTreeSet<String> {
    range.map(|number| format!("/public/{number}")).collect()
}

/// Rotation, ours and that of others, loses and splits nothing.
#[tokio::test]
async fn every_call_is_one_line_however_files_are_rotated() {
    let flags = [
        ("--access-log-max-size", "64Ki"),
        ("--access-log-max-files", "9"),
        ("--data-workers", "2"),
    ];
    let mut pair = Pair::start(&flags).await;
    tokio::join!(pair.calls(0..200), pair.calls(200..400));
    // As `logrotate` does; lines under way go to either file.
    let folder = pair.folder();
    fs::rename(folder.join("calls.jsonl"), folder.join("moved")).unwrap();
    tokio::join!(pair.calls(400..500), pair.calls(500..600));
    assert!(pair.shop.program.stop().await.unwrap().success());
    let lines = lines(&folder, 64 << 10);
    assert_eq!(operations(&lines), numbers(0..600));
    assert!(folder.join("calls.jsonl.1").exists());
}

/// The fields of a line: those of the list of decisions, and the names of the caller apart.
#[tokio::test]
async fn a_line_says_who_called_what() {
    let mut pair = Pair::start(&[]).await;
    pair.calls([7]).await;
    let admin = Request::new("PUT", "/v1.0/invoke/shop/method/admin/x%22y").header(
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    );
    assert_eq!(pair.web.send(&admin).await.unwrap().status(), 403);
    let client = pair.web.client().await.unwrap();
    let reply = client
        .call("/pkg.S/M", &[("dapr-app-id", "shop")], &[b""])
        .await;
    assert_eq!(reply.unwrap().code(), Some(7));
    assert!(pair.shop.program.stop().await.unwrap().success());
    let mut lines = lines(&pair.folder(), 64 << 20);
    for line in &mut lines {
        assert!(line["time"].take().as_str().unwrap().ends_with('Z'));
    }
    let caller = "spiffe://public/ns/default/web";
    let trace = lines[1]["traceId"].clone();
    assert_eq!(trace, "4bf92f3577b34da6a3ce929d0e0e4736");
    let line = |decision, reason, rule, operation, verb, protocol, trace: &Value| {
        json!({
            "time": null, "decision": decision, "reason": reason, "policy": "Configuration/shop-0", "rule": rule,
            "caller": caller, "callerNamespace": "default", "callerAppId": "web", "operation": operation,
            "verb": verb, "protocol": protocol, "snapshot": 1, "traceId": trace,
        })
    };
    for line in &mut lines {
        let policy = line["policy"].as_str().unwrap();
        assert!(policy.starts_with("Configuration/shop"), "{policy}");
        line["policy"] = json!("Configuration/shop-0");
    }
    let want = [
        line(
            "allow",
            "operation-rule",
            "/spec/accessControl/policies/0/operations/0",
            "/public/7",
            "GET",
            "http",
            &lines[0]["traceId"],
        ),
        line(
            "deny",
            "global-default",
            "/spec/accessControl/defaultAction",
            "/admin/x\"y",
            "PUT",
            "http",
            &trace,
        ),
        line(
            "deny",
            "global-default",
            "/spec/accessControl/defaultAction",
            "/pkg.S/M",
            "NONE",
            "proxy",
            &lines[2]["traceId"],
        ),
    ];
    assert_eq!(lines, want);
}

/// A folder that is gone hurts no call, and costs no line once it is back.
#[tokio::test]
async fn a_file_that_cannot_be_written_hurts_no_call() {
    let mut pair = Pair::start(&[]).await;
    let folder = pair.folder();
    fs::remove_dir_all(&folder).unwrap();
    pair.calls(0..50).await;
    pair.shop
        .program
        .logged("cannot be written: ")
        .await
        .unwrap();
    pair.calls(50..100).await;
    fs::create_dir(&folder).unwrap();
    pair.shop
        .program
        .logged("the access log file is written again")
        .await
        .unwrap();
    pair.calls(100..110).await;
    assert!(pair.shop.program.stop().await.unwrap().success());
    assert_eq!(operations(&lines(&folder, 64 << 20)), numbers(0..110));
}
