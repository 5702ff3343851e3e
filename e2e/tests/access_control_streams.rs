//! Streams that were let in before a policy changed: those that lose their permission end, the others do not
//! notice.
//!
//! A caller `web` and two callees, `shop` with an HTTP app and `greeter` with a gRPC app, all real, with
//! identities of a real Sentry; policies are files of the callees.

#![cfg(test)]

use std::{fs, path::PathBuf};

use ironside_e2e::{Sentry, Sidecar, Spec, World, wait};
use ironside_testkit::{
    grpc::{Call, GrpcApp},
    http::{Answer, Connection, Cursor, End, Gate, HttpApp, Request},
};

/// Streams of each kind; half of them lose their permission.
const STREAMS: usize = 50;

/// A policy that lets `web` do these operations.
fn object(names: &[&str]) -> String {
    let rules: String = names
        .iter()
        .map(|name| format!("    - {{name: {name}, action: allow}}\n"))
        .collect();
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata:\n  name: streams\nspec:\n  policies:\n  - appId: web\n    namespace: default\n    operations:\n{rules}"
    )
}

/// The policy file of a callee.
fn policy_of(world: &World, app_id: &str) -> PathBuf {
    let entries = fs::read_dir(world.path()).unwrap();
    let folder = entries.map(|entry| entry.unwrap().path()).find(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&format!("{app_id}-resources-"))
    });
    folder.unwrap().join("p.yaml")
}

/// Writes a file whole.
fn replace(path: &PathBuf, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(&draft, path).unwrap();
}

async fn web(world: &World, sentry: &Sentry) -> Sidecar {
    Spec::new("web").mtls(sentry).start(world).await.unwrap()
}

/// An answer that goes on, read by a client.
struct Stream {
    connection: Connection,
    cursor: Cursor,
}

impl Stream {
    async fn open(web: &Sidecar, path: &str) -> Self {
        let mut connection = Connection::tcp(web.http()).await.unwrap();
        let request = Request::get(&format!("/v1.0/invoke/shop/method/{path}"));
        connection.write(request.bytes()).await.unwrap();
        let head = connection.head().await.unwrap();
        assert_eq!(head.word(1), "200");
        let mut stream = Self {
            cursor: Cursor::new(head.reply_framing("GET")),
            connection,
        };
        assert_eq!(stream.piece().await.as_deref(), Some(&b"first"[..]));
        stream
    }

    async fn piece(&mut self) -> Option<Vec<u8>> {
        self.connection.piece(&mut self.cursor).await
    }

    async fn rest(mut self) -> (Vec<u8>, Option<End>) {
        let mut rest = Vec::new();
        while let Some(piece) = self.piece().await {
            rest.extend(piece);
        }
        (rest, self.cursor.end())
    }
}

/// Fact K198 over HTTP: 25 answers under way are cut, a call without answer is refused, 25 go on to their end.
#[tokio::test]
async fn answers_under_way_end_when_their_permission_does() {
    let world = World::new();
    let sentry = Sentry::start(&world).await.unwrap();
    let (more, never) = (Gate::new(), Gate::new());
    let (kept, held) = (more.clone(), never.clone());
    let app = HttpApp::start(move |seen| match seen.path() {
        "/wait" => Answer::status(200).gate(&held).body("late"),
        path => Answer::status(200)
            .chunked()
            .chunk("first")
            .gate(if path == "/kept" { &kept } else { &held })
            .chunk("second")
            .last_chunk(),
    })
    .await
    .unwrap();
    let all = object(&["/kept", "/lost", "/wait"]);
    let shop = Spec::new("shop").app(app.port()).mtls(&sentry);
    let shop = shop.resource("p.yaml", &all).ready(&world).await.unwrap();
    let web = web(&world, &sentry).await;

    let (mut lost, mut kept) = (Vec::new(), Vec::new());
    for _ in 0..STREAMS / 2 {
        lost.push(Stream::open(&web, "lost").await);
        kept.push(Stream::open(&web, "kept").await);
    }
    let mut waiting = Connection::tcp(web.http()).await.unwrap();
    let request = Request::get("/v1.0/invoke/shop/method/wait");
    waiting.write(request.bytes()).await.unwrap();
    app.busy(STREAMS + 1).await;

    replace(&policy_of(&world, "shop"), &object(&["/kept"]));
    for stream in lost {
        let rest = wait::within("the end of a stream", wait::LONG, stream.rest());
        let (rest, end) = rest.await.unwrap();
        assert_eq!((rest.len(), end), (0, Some(End::Cut)), "never looks whole");
    }
    let refused = wait::within("a refusal", wait::LONG, waiting.reply("GET"));
    let refused = refused.await.unwrap().unwrap();
    assert_eq!(refused.status(), 403, "{}", refused.text());
    assert!(
        refused.text().contains("PermissionDenied desc = access control policy has denied access to id: spiffe://public/ns/default/web operation: wait verb: GET"),
        "{}", refused.text()
    );
    let next = web.get("/v1.0/invoke/shop/method/lost").await.unwrap();
    assert_eq!(next.status(), 403);

    kept.iter().for_each(|_| more.open());
    for stream in kept {
        let (rest, end) = wait::within("the rest", wait::LONG, stream.rest())
            .await
            .unwrap();
        assert_eq!((rest.as_slice(), end), (&b"second"[..], Some(End::Whole)));
    }
    drop(shop);
}

/// Fact K198 for proxied gRPC: 25 of 50 bidirectional streams end with PermissionDenied, 25 go on.
#[tokio::test]
async fn proxied_streams_end_when_their_permission_does() {
    let world = World::new();
    let sentry = Sentry::start(&world).await.unwrap();
    let app = GrpcApp::start(|mut exchange| {
        Box::pin(async move {
            exchange.begin_reply(&[]);
            while let Some(message) = exchange.message().await {
                exchange.reply(&message);
            }
            exchange.end(0, "", &[]);
        })
    })
    .await
    .unwrap();
    let both = object(&["/pkg.S/Kept", "/pkg.S/Lost"]);
    let greeter = Spec::new("greeter").app(app.port()).protocol("grpc");
    let greeter = greeter.mtls(&sentry).resource("p.yaml", &both);
    let greeter = greeter.ready(&world).await.unwrap();
    let web = web(&world, &sentry).await;
    let client = web.client().await.unwrap();

    let (mut lost, mut kept): (Vec<Call>, Vec<Call>) = Default::default();
    for _ in 0..STREAMS / 2 {
        for (path, list) in [("/pkg.S/Lost", &mut lost), ("/pkg.S/Kept", &mut kept)] {
            let metadata = [("dapr-app-id", "greeter")];
            let mut call = client.open(path, &metadata).await.unwrap();
            call.send(b"one");
            assert_eq!(call.message().await.as_deref(), Some(&b"one"[..]));
            list.push(call);
        }
    }
    replace(&policy_of(&world, "greeter"), &object(&["/pkg.S/Kept"]));
    for call in lost {
        let reply = wait::within("the end of a stream", wait::LONG, call.finish());
        let reply = reply.await.unwrap();
        assert_eq!(reply.code(), Some(7), "{reply:?}");
        assert_eq!(
            reply.message(),
            "access control policy has denied access to id: spiffe://public/ns/default/web operation: /pkg.S/Lost verb: NONE"
        );
    }
    for call in &mut kept {
        call.send(b"two");
        let echoed = wait::within("an echo", wait::LONG, call.message());
        assert_eq!(echoed.await.unwrap().as_deref(), Some(&b"two"[..]));
    }
    for mut call in kept {
        call.half_close();
        assert_eq!(call.finish().await.code(), Some(0));
    }
    // The app saw that the others were given up.
    app.until(|seen| seen.iter().filter(|call| call.cancelled).count() == STREAMS / 2)
        .await;
    drop(greeter);
}
