//! Access control from an operator at real sidecars: what is in force, and what stays closed when the operator is
//! away, behind, broken, slow or an impostor.
//!
//! A caller `web` and a callee `shop` with identities of a real Sentry; the operator runs in the process of the
//! test. Its own half, and crowds of clients, are tested in the crate `discovery`.

#![cfg(test)]

use std::time::Duration;

use ironside_discovery::{Settings, World as Objects};
use ironside_e2e::{
    Operator, Scripted, Sentry, Sidecar, Spec, World,
    operator::{OPERATOR, allowing, stored, stored_for},
    ports,
    wait::{self, LONG},
};
use ironside_proto::discovery::{Ack, WatchResponse, watch_request::Request as Said};
use ironside_testkit::http::{Answer, Connection, Cursor, End, Gate, HttpApp, Request, Seen};
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpListener};

/// A rule that no compiler takes.
const BAD_PATTERN: &str = r#"{"policies":[{"appId":"web","namespace":"default","operations":[{"name":"/a/**/b","action":"allow"}]}]}"#;
const NOT_YET: &str = "access control policy is not available yet";

struct Rig {
    world: World,
    sentry: Sentry,
    app: HttpApp,
    web: Sidecar,
    port: u16,
}

impl Rig {
    async fn new() -> Self {
        let world = World::new();
        let sentry = Sentry::start(&world).await.unwrap();
        let never = Gate::new();
        let script = move |seen: &Seen| match seen.path() {
            "/stream" => Answer::status(200).chunked().chunk("first").gate(&never),
            _ => Answer::text("ok"),
        };
        let app = HttpApp::start(script).await.unwrap();
        let web = Spec::new("web").mtls(&sentry).start(&world).await.unwrap();
        Self {
            port: ports::free(),
            world,
            sentry,
            app,
            web,
        }
    }

    /// The callee, which takes its policy from the operator's port.
    fn shop(&self) -> Spec {
        Spec::new("shop")
            .app(self.app.port())
            .mtls(&self.sentry)
            .flag(
                "--control-plane-address",
                &format!("127.0.0.1:{}", self.port),
            )
    }

    fn required(&self) -> Spec {
        self.shop().env("DAPR_ACCESS_CONTROL", "required")
    }

    async fn operator(&self, objects: &[String]) -> Operator {
        Operator::start(&self.sentry, self.port, objects).await
    }

    async fn script(&self) -> Scripted {
        Scripted::start(&self.sentry, self.port, OPERATOR).await
    }

    /// gRPC code and text of a call; code 0 comes from the app.
    async fn ask(&self, path: &str) -> (u32, String) {
        let client = self.web.client().await.unwrap();
        let method = format!("/shop.S/{path}");
        let reply = client.call(&method, &[("dapr-app-id", "shop")], &[b""]);
        let reply = reply.await.unwrap();
        (reply.code().unwrap_or(99), reply.message())
    }

    /// Waits until the callee is found and says that it has no policy yet; nothing may get through meanwhile.
    async fn closed(&self) {
        let look = || async {
            let answer = self.ask("Call").await;
            assert_ne!(answer.0, 0, "a call got through");
            (answer == (14, NOT_YET.to_owned())).then_some(())
        };
        wait::until("a closed callee", LONG, look).await.unwrap();
        assert_eq!(self.app.take().len(), 0, "nothing got through");
    }

    async fn status(&self, path: &str) -> u16 {
        let request = Request::get(&format!("/v1.0/invoke/shop/method/{path}"));
        self.web.send(&request).await.unwrap().status()
    }

    /// Waits until a call is answered with this status.
    async fn becomes(&self, shop: &Sidecar, path: &str, status: u16) {
        let what = format!("{path} answered with {status}");
        let look = || async { (self.status(path).await == status).then_some(()) };
        let waited = wait::until(&what, 3 * LONG, look).await;
        waited.inspect_err(|_| shop.program.show()).unwrap();
    }
}

/// Text of the metrics page.
async fn metrics(sidecar: &Sidecar) -> String {
    let page = ironside_testkit::http::send(sidecar.metrics(), &Request::get("/")).await;
    page.unwrap().text()
}

/// The value of the gauge whose line holds all of `parts`.
async fn gauge(sidecar: &Sidecar, parts: &[&str]) -> Option<f64> {
    let text = metrics(sidecar).await;
    let mut series = text.lines().filter(|line| !line.starts_with('#'));
    let line = series.find(|line| parts.iter().all(|part| line.contains(part)))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn ack(said: Said) -> Ack {
    match said {
        Said::Ack(ack) => ack,
        Said::Hello(_) | Said::Stats(_) => panic!("no ack: {said:?}"),
    }
}

/// Facts K200, F1, F2: closed and not ready until the first snapshot, whenever that comes.
#[tokio::test]
async fn nothing_is_allowed_before_the_first_snapshot() {
    let rig = Rig::new().await;
    let shop = rig.required().start(&rig.world).await.unwrap();
    shop.program.logged("application discovered").await.unwrap();
    shop.program.logged("dial: ").await.unwrap();
    rig.closed().await;
    let health = shop.get("/v1.0/healthz").await.unwrap();
    assert_eq!(health.status(), 500);
    assert!(
        health
            .text()
            .contains("dapr is not ready: [access-control]"),
        "{}",
        health.text()
    );
    // The own app is not subject to it, and neither are calls to others.
    let own = shop.get("/v1.0/invoke/shop/method/x").await.unwrap();
    assert_eq!(own.status(), 200);

    let operator = rig.operator(&[stored("p", 1, &allowing(&["/a"]))]).await;
    rig.becomes(&shop, "a", 200).await;
    assert_eq!(rig.status("b").await, 403);
    let ready = || async {
        let reply = shop.get("/v1.0/healthz").await.ok()?;
        (reply.status() == 204).then_some(())
    };
    wait::until("readiness", LONG, ready).await.unwrap();
    operator.until("p", |status| status.applied == 1).await;
    assert_eq!(
        gauge(&shop, &["accesscontrol_source", r#"state="live""#]).await,
        Some(1.0)
    );
}

/// Facts K197, K199, K195, K196, M8: a change is enforced and acknowledged, and only what is for the app counts.
#[tokio::test]
async fn a_change_is_enforced_and_acknowledged() {
    let rig = Rig::new().await;
    let operator = rig.operator(&[stored("p", 1, &allowing(&["/a"]))]).await;
    let shop = rig.required().ready(&rig.world).await.unwrap();
    assert_eq!((rig.status("a").await, rig.status("b").await), (200, 403));
    operator.publish(&[
        stored("p", 2, &allowing(&["/b"])),
        stored_for("others", 1, r#"["cart"]"#, r#"{"defaultAction":"deny"}"#),
        stored("foreign", 1, r#"{"policies":[{"appId":"*","namespace":"*","operations":[{"name":"/b","action":"deny"}]}]}"#)
            .replace(r#""namespace":"default","uid""#, r#""namespace":"other","uid""#),
    ]);
    rig.becomes(&shop, "b", 200).await;
    let status = operator.until("p", |status| status.applied == 1).await;
    assert_eq!(
        (status.generation, status.connected, status.outdated),
        (2, 1, 0)
    );
    assert_eq!(rig.status("a").await, 403);
    assert_eq!(operator.status("others").unwrap().connected, 0);
    assert_eq!(operator.status("foreign").unwrap().connected, 0);

    operator.publish(&[]);
    rig.becomes(&shop, "a", 200).await;
    shop.program
        .logged("the last AccessControl for this app is gone")
        .await
        .unwrap();
    operator.publish_world(Objects {
        synced: true,
        deny_by_default: true,
        ..Objects::default()
    });
    rig.becomes(&shop, "a", 403).await;
}

/// Facts K201, F5, K210: what was received stays in force without its source, and is said to age.
#[tokio::test]
async fn the_last_snapshot_outlives_the_operator() {
    let rig = Rig::new().await;
    let objects = [stored("p", 1, &allowing(&["/a"]))];
    let operator = rig.operator(&objects).await;
    let shop = rig.required().ready(&rig.world).await.unwrap();
    // The source of the operator is gone: nothing is removed for that.
    operator.publish_world(Objects::default());
    let told = || async { operator.status("p").is_none().then_some(()) };
    wait::until("an empty world", LONG, told).await.unwrap();
    for _ in 0..20 {
        assert_eq!((rig.status("a").await, rig.status("b").await), (200, 403));
    }
    operator.kill().await;
    shop.program
        .logged("the last snapshot stays in force")
        .await
        .unwrap();
    let age = || async { gauge(&shop, &["accesscontrol_seconds_since_heartbeat"]).await };
    let first = age().await.unwrap();
    let older = || async { age().await.filter(|age| *age >= first + 2.0) };
    wait::until("a growing age", LONG, older).await.unwrap();
    assert_eq!((rig.status("a").await, rig.status("b").await), (200, 403));
    assert_eq!(
        gauge(&shop, &["accesscontrol_source", r#"state="stale""#]).await,
        Some(1.0)
    );
    let operator = rig.operator(&objects).await;
    operator.until("p", |status| status.applied == 1).await;
    assert_eq!((rig.status("a").await, rig.status("b").await), (200, 403));
}

/// Facts K202, F5.
#[tokio::test]
async fn a_snapshot_that_nobody_vouches_for_expires() {
    let rig = Rig::new().await;
    let objects = [stored("p", 1, &allowing(&["/a"]))];
    let quick = Settings {
        heartbeat: Duration::from_millis(200),
        ..Settings::default()
    };
    let operator = Operator::start_with(&rig.sentry, rig.port, &objects, quick).await;
    let shop = rig.required().flag("--access-control-max-staleness", "2s");
    let shop = shop.ready(&rig.world).await.unwrap();
    assert_eq!(rig.status("a").await, 200);
    operator.kill().await;
    rig.becomes(&shop, "a", 403).await;
    let own = shop.get("/v1.0/invoke/shop/method/x").await.unwrap();
    assert_eq!(own.status(), 200);
    let _operator = Operator::start_with(&rig.sentry, rig.port, &objects, quick).await;
    rig.becomes(&shop, "a", 200).await;
    assert_eq!(rig.status("b").await, 403);
}

/// Facts K203, K204, K209, F6, F13: an object that cannot be used denies its scope, or keeps its last good form.
#[tokio::test]
async fn an_object_that_cannot_be_used_stays_closed() {
    let rig = Rig::new().await;
    let good = stored("good", 1, &allowing(&["/a"]));
    let operator = rig.operator(std::slice::from_ref(&good)).await;
    let shop = rig.required().ready(&rig.world).await.unwrap();
    for (spec, code) in [
        (BAD_PATTERN, "InvalidPattern"),
        (
            r#"{"mode":"Shadow","defaultAction":"allow"}"#,
            "UnknownField",
        ),
    ] {
        assert_eq!(rig.status("a").await, 200);
        operator.publish(&[good.clone(), stored("bad", 1, spec)]);
        rig.becomes(&shop, "a", 403).await;
        let bad = operator.until("bad", |status| status.rejected == 1).await;
        assert_eq!(&*bad.rejections[0].code, code);
        assert_eq!(
            operator.status("good").unwrap().applied,
            1,
            "the others still work"
        );
        // For another app it closes nothing here.
        operator.publish(&[good.clone(), stored_for("bad", 2, r#"["cart"]"#, spec)]);
        rig.becomes(&shop, "a", 200).await;
        operator.publish(std::slice::from_ref(&good));
        let gone = || async { operator.status("bad").is_none().then_some(()) };
        wait::until("the end of bad", LONG, gone).await.unwrap();
    }
    operator.publish(&[stored("good", 2, BAD_PATTERN)]);
    operator.until("good", |status| status.rejected == 1).await;
    assert_eq!((rig.status("a").await, rig.status("b").await), (200, 403));
    shop.program
        .logged("its last good generation stays in force")
        .await
        .unwrap();
    operator.publish(&[stored("good", 3, &allowing(&["/b"]))]);
    rig.becomes(&shop, "b", 200).await;
}

/// Facts K205, F3.
#[tokio::test]
async fn an_operator_without_the_service_closes_or_leaves_the_configuration() {
    const BLOCK: &str = "  accessControl:
    defaultAction: deny
    policies:
    - appId: web
      namespace: default
      trustDomain: public
      operations:
      - {name: '/legacy', httpVerb: ['*'], action: allow}
";
    let rig = Rig::new().await;
    let other = Scripted::without_service(&rig.sentry, rig.port).await;
    let shop = rig
        .required()
        .configure(BLOCK)
        .start(&rig.world)
        .await
        .unwrap();
    shop.program
        .logged("it does not offer access control, which is required")
        .await
        .unwrap();
    rig.closed().await;
    drop(shop);
    let shop = rig.shop().configure(BLOCK).ready(&rig.world).await.unwrap();
    shop.program
        .logged("it does not offer access control: only the Configuration and files decide")
        .await
        .unwrap();
    rig.becomes(&shop, "legacy", 200).await;
    assert_eq!(rig.status("other").await, 403);
    assert_eq!(
        gauge(&shop, &["accesscontrol_source", r#"state="unsupported""#]).await,
        Some(1.0)
    );
    // The operator is upgraded; then replaced by the old one again, which opens nothing.
    other.kill().await;
    let operator = rig.operator(&[stored("p", 1, r#"{"defaultAction":"deny","policies":[{"appId":"web","namespace":"default","operations":[{"name":"/legacy","action":"deny"}]}]}"#)]).await;
    rig.becomes(&shop, "legacy", 403).await;
    operator.kill().await;
    let _other = Scripted::without_service(&rig.sentry, rig.port).await;
    shop.program.logged("Unimplemented").await.unwrap();
    assert_eq!(rig.status("legacy").await, 403);
}

/// Fact K073: whoever else answers at the operator's address learns nothing and decides nothing.
#[tokio::test]
async fn an_impostor_is_not_listened_to() {
    let rig = Rig::new().await;
    let shop = rig.required().start(&rig.world).await.unwrap();
    for id in [
        "spiffe://localhost/ns/default/dapr-sentry",
        "spiffe://public/ns/default/dapr-operator",
        "spiffe://localhost/ns/other/dapr-operator",
        "spiffe://public/ns/default/web",
    ] {
        let mut script = Scripted::start(&rig.sentry, rig.port, id).await;
        // As the log quotes quotes.
        let both = format!(r#"unexpected SPIFFE ID: \"{id}\" (expected \"{OPERATOR}\")"#);
        let logged = shop.program.logged(&both).await;
        logged.inspect_err(|_| shop.program.show()).unwrap();
        rig.closed().await;
        let session = tokio::time::timeout(Duration::from_millis(50), script.session()).await;
        assert!(session.is_err(), "nothing was said to {id}");
        script.kill().await;
    }
    let _operator = rig.operator(&[stored("p", 1, &allowing(&["/a"]))]).await;
    rig.becomes(&shop, "a", 200).await;
}

/// Facts K208, F8: a replica with an older cache is refused, and no denial is lost.
#[tokio::test]
async fn an_older_replica_is_refused_as_stale() {
    let rig = Rig::new().await;
    let mut script = rig.script().await;
    let shop = rig.required().start(&rig.world).await.unwrap();
    let mut first = script.session().await;
    let Said::Hello(hello) = first.hear().await else {
        panic!("no hello");
    };
    assert_eq!((hello.protocol, hello.seen.len()), (1, 0));
    assert!(!hello.instance.is_empty() && hello.instance.len() <= 128);
    first
        .snapshot(1, &[stored("p", 5, &allowing(&["/a"]))])
        .await;
    assert_eq!(
        ack(first.hear().await),
        Ack {
            snapshot: 1,
            accepted: true,
            errors: Vec::new()
        }
    );
    assert_eq!((rig.status("a").await, rig.status("b").await), (200, 403));
    drop(first);

    let mut second = script.session().await;
    let Said::Hello(hello) = second.hear().await else {
        panic!("no hello");
    };
    assert_eq!(hello.seen.get("p"), Some(&5), "it says what it has seen");
    second
        .snapshot(1, &[stored("p", 4, &allowing(&["/a", "/b"]))])
        .await;
    let refused = ack(second.hear().await);
    assert_eq!(
        (refused.accepted, refused.errors[0].code.as_str()),
        (false, "stale")
    );
    assert_eq!((rig.status("a").await, rig.status("b").await), (200, 403));
    // It looks for another replica.
    let mut third = script.session().await;
    third.hear().await;
    third
        .snapshot(1, &[stored("p", 6, &allowing(&["/b"]))])
        .await;
    assert!(ack(third.hear().await).accepted);
    assert_eq!((rig.status("a").await, rig.status("b").await), (403, 200));
    drop(shop);
}

/// Facts K212, F7: too large, cut, senseless and misnumbered snapshots are refused whole.
#[tokio::test]
async fn snapshots_that_make_no_sense_change_nothing() {
    let rig = Rig::new().await;
    let mut script = rig.script().await;
    let shop = rig.required().start(&rig.world).await.unwrap();
    let good = stored("p", 1, &allowing(&["/a"]));
    let mut session = script.session().await;
    session.hear().await;
    session.snapshot(3, std::slice::from_ref(&good)).await;
    assert!(ack(session.hear().await).accepted);
    let padding = format!(r#"{{"x":"{}","apiVersion"#, "x".repeat(3 << 20));
    let large = stored("q", 1, &allowing(&["/b"])).replace(r#"{"apiVersion"#, &padding);
    for (number, objects, code) in [
        (4, vec![large], "TooLarge"),
        (5, vec!["{".to_owned()], "Malformed"),
        (
            6,
            vec![stored("q", 1, &allowing(&["/b"])), String::new()],
            "Malformed",
        ),
        (3, vec![stored("q", 1, &allowing(&["/b"]))], "Malformed"),
    ] {
        session.snapshot(number, &objects).await;
        let refused = ack(session.hear().await);
        assert_eq!((refused.snapshot, refused.accepted), (number, false));
        assert_eq!(refused.errors[0].code, code);
        assert_eq!(
            (rig.status("a").await, rig.status("b").await),
            (200, 403),
            "{code}"
        );
    }
    // The last one ended the stream. One response that is larger than any is no snapshot at all.
    let mut session = script.session().await;
    session.hear().await;
    session.snapshot(1, &["x".repeat(9 << 20)]).await;
    let mut session = script.session().await;
    session.hear().await;
    assert_eq!((rig.status("a").await, rig.status("b").await), (200, 403));
    session.say(WatchResponse::default()).await;
    drop(shop);
}

/// Facts F2, F5: the operator goes at the worst moments and others take its port; no call gets through for that.
#[tokio::test]
async fn no_restart_and_no_garbage_opens_a_door() {
    let rig = Rig::new().await;
    let objects = |generation| [stored("p", generation, &allowing(&["/a"]))];
    let mut operator = rig.operator(&objects(1)).await;
    let shop = rig.required().ready(&rig.world).await.unwrap();
    for round in 0..6 {
        // In the middle of a change.
        operator.publish(&objects(2 + round));
        operator.kill().await;
        let garbage = TcpListener::bind(("127.0.0.1", rig.port)).await.unwrap();
        let nonsense = async {
            loop {
                let (mut client, _) = garbage.accept().await.unwrap();
                let mut some = [0; 64];
                drop(client.read(&mut some).await);
                drop(client.write_all(&[0x17; 4096]).await);
            }
        };
        let calls = async {
            for _ in 0..10 {
                assert_eq!((rig.status("a").await, rig.status("b").await), (200, 403));
            }
        };
        tokio::select! {
            () = nonsense => {}
            () = calls => {}
        }
        drop(garbage);
        operator = rig.operator(&objects(2 + round)).await;
        if round % 2 == 0 {
            operator.until("p", |status| status.applied == 1).await;
        }
    }
    let last = operator.until("p", |status| status.applied == 1).await;
    assert_eq!(last.generation, 7);
    drop(shop);
}

/// A server that accepts and never answers holds nothing up for long.
#[tokio::test]
async fn a_silent_server_is_given_up() {
    let rig = Rig::new().await;
    let silent = TcpListener::bind(("127.0.0.1", rig.port)).await.unwrap();
    let shop = rig.required().start(&rig.world).await.unwrap();
    let (held, _) = wait::within("a dial", LONG, silent.accept())
        .await
        .unwrap()
        .unwrap();
    drop(silent);
    let _operator = rig.operator(&[stored("p", 1, &allowing(&["/a"]))]).await;
    rig.becomes(&shop, "a", 200).await;
    drop(held);
}

/// Fact K198 from an operator: an answer under way is cut when its permission is taken back.
#[tokio::test]
async fn a_stream_that_the_operator_forbids_ends() {
    let rig = Rig::new().await;
    let operator = rig
        .operator(&[stored("p", 1, &allowing(&["/stream", "/a"]))])
        .await;
    let _shop = rig.required().ready(&rig.world).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut connection = Connection::tcp(rig.web.http()).await.unwrap();
        let request = Request::get("/v1.0/invoke/shop/method/stream");
        connection.write(request.bytes()).await.unwrap();
        let head = connection.head().await.unwrap();
        let mut cursor = Cursor::new(head.reply_framing("GET"));
        let first = connection.piece(&mut cursor).await;
        assert_eq!(first.as_deref(), Some(&b"first"[..]));
        streams.push((connection, cursor));
    }
    operator.publish(&[stored("p", 2, &allowing(&["/a"]))]);
    for (mut connection, mut cursor) in streams {
        let end = wait::within("an end", LONG, connection.piece(&mut cursor));
        assert_eq!(end.await.unwrap(), None);
        assert_eq!(cursor.end(), Some(End::Cut), "never looks whole");
    }
    assert_eq!(rig.status("a").await, 200);
}

/// Files and operator are one set: neither lifts what the other denies on purpose.
#[tokio::test]
async fn files_and_operator_are_one_set() {
    const FILE: &str = "apiVersion: dapr.io/v1alpha1
kind: AccessControl
metadata: {name: file}
spec:
  policies:
  - appId: web
    namespace: default
    operations:
    - {name: /a, action: deny}
    - {name: /f, action: allow}
";
    let rig = Rig::new().await;
    let shop = rig.required().resource("p.yaml", FILE);
    let shop = shop.start(&rig.world).await.unwrap();
    shop.program.logged("application discovered").await.unwrap();
    // A file alone opens nothing.
    rig.closed().await;
    let rules = r#"{"policies":[{"appId":"web","namespace":"default","operations":[{"name":"/a","action":"allow"},{"name":"/b","action":"allow"},{"name":"/g","action":"deny"}]}]}"#;
    let operator = rig.operator(&[stored("p", 1, rules)]).await;
    rig.becomes(&shop, "b", 200).await;
    for (path, want) in [("a", 403), ("f", 200), ("g", 403), ("x", 403)] {
        assert_eq!(rig.status(path).await, want, "{path}");
    }
    operator.publish(&[]);
    rig.becomes(&shop, "b", 403).await;
    assert_eq!((rig.status("a").await, rig.status("f").await), (403, 200));
}

/// Facts K192, 4.8 Stats: what an object denied, and what one under audit would have, reaches the operator.
#[tokio::test]
async fn denials_are_counted_for_the_operator() {
    let rig = Rig::new().await;
    let audit = r#"{"mode":"Audit","policies":[{"appId":"web","namespace":"default","operations":[{"name":"/a","action":"deny"}]}]}"#;
    let objects = [
        stored("p", 1, &allowing(&["/a"])),
        stored("audit", 1, audit),
    ];
    let operator = rig.operator(&objects).await;
    let shop = rig.required().ready(&rig.world).await.unwrap();
    for _ in 0..3 {
        assert_eq!((rig.status("a").await, rig.status("b").await), (200, 403));
    }
    // Counts come at once, and then at most once a minute; some calls may come after the first report.
    let denied = operator
        .until("p", |status| status.last_hour.denied > 0)
        .await;
    assert!(
        denied.last_hour.denied <= 3 && denied.last_hour.would_deny == 0,
        "{denied:?}"
    );
    let audited = operator.status("audit").unwrap().last_hour;
    assert!(
        audited.would_deny <= 3 && audited.denied == 0,
        "{audited:?}"
    );
    drop(shop);
}
