//! The programs that most rows share: two HTTP apps, a gRPC app, a sidecar beside each, and two without app.

use std::{fmt::Debug, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Sidecar, Spec, World, ports};
use ironside_testkit::{
    grpc::{Exchange, GrpcApp, Running},
    http::{Answer, Gate, HttpApp, Reply, Request, Seen},
};

pub(crate) struct Rig {
    pub(crate) app_a: HttpApp,
    pub(crate) app_b: HttpApp,
    pub(crate) app_g: GrpcApp,
    /// Beside `app_a`.
    pub(crate) a: Sidecar,
    /// Beside `app_b`.
    pub(crate) b: Sidecar,
    /// Beside `app_g`.
    pub(crate) g: Sidecar,
    /// Answers below `/gate` wait for it.
    pub(crate) gate: Gate,
    pub(crate) world: World,
}

impl Rig {
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(|spec| spec).await
    }

    /// Starts all sidecars with the same additions.
    pub(crate) async fn start_with(add: impl Fn(Spec) -> Spec) -> Result<Self> {
        let world = World::new();
        let gate = Gate::new();
        let (app_a, app_b) = (http_app(&gate).await?, http_app(&gate).await?);
        let app_g = GrpcApp::start(greeter).await?;
        let a = add(Spec::new("appA").app(app_a.port()))
            .ready(&world)
            .await?;
        let b = add(Spec::new("appB").app(app_b.port()))
            .ready(&world)
            .await?;
        let g = add(Spec::new("appG").app(app_g.port()).protocol("grpc"))
            .ready(&world)
            .await?;
        Ok(Self {
            app_a,
            app_b,
            app_g,
            a,
            b,
            g,
            gate,
            world,
        })
    }

    /// Sends a request to A, which B's app must receive exactly once.
    pub(crate) async fn through(&self, request: &Request) -> Result<(Reply, Seen)> {
        drop(self.app_b.take());
        let reply = self.a.send(request).await?;
        let mut seen = self.app_b.take();
        let got = seen
            .iter()
            .map(|seen| seen.head.line.clone())
            .collect::<Vec<_>>();
        ensure!(
            seen.len() == 1,
            "app B got {got:?}; the client {} {}",
            reply.status(),
            reply.text()
        );
        Ok((reply, seen.remove(0)))
    }

    /// Sends a request to A, which must not reach B's app.
    pub(crate) async fn refused(&self, request: &Request) -> Result<Reply> {
        drop(self.app_b.take());
        let reply = self.a.send(request).await?;
        let seen = self.app_b.take();
        ensure!(
            seen.is_empty(),
            "app B got {:?}",
            seen.iter().map(|seen| &seen.head.line).collect::<Vec<_>>()
        );
        Ok(reply)
    }
}

/// An app whose answers follow from the path.
pub(crate) async fn http_app(gate: &Gate) -> Result<HttpApp> {
    let gate = gate.clone();
    Ok(HttpApp::start(move |seen| by_path(seen, &gate)).await?)
}

fn by_path(seen: &Seen, gate: &Gate) -> Answer {
    let path = seen.path().split('?').next().unwrap_or_default();
    let (kind, rest) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path.trim_start_matches('/'), ""));
    let code = || rest.parse().unwrap_or(500);
    let text = |code: u16| Answer::status(code).header("Content-Type", "text/plain");
    match kind {
        "status" => text(code())
            .header("X-App", "1")
            .body(format!("body of {rest}")),
        "bare" => Answer::status(code()).body("bare"),
        "redirect" => text(301).header("Location", "/elsewhere").body("moved"),
        "echo" => Answer::status(200)
            .header("Content-Type", "x/echo")
            .body(&seen.body),
        "short" => Answer::status(200)
            .header("Content-Length", "999")
            .end_head()
            .write("four")
            .close(),
        "cut" => text(200).chunked().chunk("four").close(),
        "gate" => text(200).gate(gate).body("opened"),
        "halves" => text(200)
            .chunked()
            .chunk(vec![b'1'; 16 << 10])
            .gate(gate)
            .chunk("second half")
            .last_chunk(),
        "large" => text(200).chunked().repeat(large_chunk(), 4096).last_chunk(),
        "events" => events(rest.parse().unwrap_or(0), gate),
        "hop" => hop_by_hop(),
        _ => Answer::text("ok"),
    }
}

/// 64 KiB; 4096 of them are 256 MiB.
fn large_chunk() -> Vec<u8> {
    ironside_testkit::http::client::encode_chunk(&vec![b'l'; 64 << 10])
}

fn events(count: usize, gate: &Gate) -> Answer {
    let start = Answer::status(200)
        .header("Content-Type", "text/event-stream")
        .chunked();
    let all = (0..count).fold(start, |answer, number| {
        answer.gate(gate).chunk(format!("data: {number}\n\n"))
    });
    all.last_chunk()
}

fn hop_by_hop() -> Answer {
    let named = Answer::status(200)
        .header("Content-Type", "text/plain")
        .header("Connection", "X-Foo, keep-alive");
    let all = named
        .header("X-Foo", "1")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "x")
        .header("Upgrade", "foo")
        .header("HTTP2-Settings", "AAA")
        .header("TE", "trailers")
        .header("Trailer", "X-T")
        .header("Proxy-Authorization", "p")
        .header("Proxy-Authenticate", "q");
    all.header("X-Data-Bin", "AAAA")
        .header("X-Custom", "c")
        .header("Set-Cookie", "a=1")
        .header("Set-Cookie", "b=2")
        .body("x")
}

/// A gRPC app: OnInvoke by method, and a service `greet.G` for proxied calls.
pub(crate) fn greeter(call: Exchange) -> Running {
    Box::pin(async move {
        if call.path().ends_with("/OnInvoke") {
            crate::to_grpc::on_invoke(call).await
        } else {
            greet(call).await
        }
    })
}

async fn greet(mut call: Exchange) {
    let method = call
        .path()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    match method.as_str() {
        // One answer for all messages.
        "Collect" | "Hi" => {
            let mut all = Vec::new();
            while let Some(message) = call.message().await {
                all.extend_from_slice(&message);
            }
            call.begin_reply(&[("x-init", "1")]);
            call.reply(&all);
            call.end(0, "", &[("x-trail", "2")]);
        }
        // Each byte of the first message becomes an answer.
        "Spread" => {
            let message = call.message().await.unwrap_or_default();
            call.begin_reply(&[("x-init", "1")]);
            message.iter().for_each(|byte| call.reply(&[*byte]));
            call.end(0, "", &[("x-trail", "2")]);
        }
        // Each message is answered at once.
        "Echo" => {
            call.begin_reply(&[("x-init", "1")]);
            while let Some(message) = call.message().await {
                call.reply(&message);
            }
            call.end(0, "", &[("x-trail", "2")]);
        }
        "Fail" => call.end(
            9,
            "precond x",
            &[("x-t", "1"), ("grpc-status-details-bin", "CAkSBmZwIG1zZw")],
        ),
        "Slow" => call.cancelled().await,
        _ => call.end(12, "unknown method", &[]),
    }
}

/// A short way to a request for an app.
pub(crate) fn invoke(method: &str, app: &str, path: &str) -> Request {
    Request::new(method, &format!("/v1.0/invoke/{app}/method/{path}"))
}

/// Compares two values.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, expected: T, found: T) -> Result<()> {
    ensure!(
        expected == found,
        "{what}: expected {expected:?}, found {found:?}"
    );
    Ok(())
}

/// Whether `text` contains `part`.
pub(crate) fn contains(what: &str, text: &str, part: &str) -> Result<()> {
    ensure!(text.contains(part), "{what}: {part:?} is not in {text:?}");
    Ok(())
}

/// An error answer of the sidecar: status, code, and a part of its message.
pub(crate) fn error(reply: &Reply, status: u16, code: &str, part: &str) -> Result<()> {
    same(
        "status",
        (status, Some("application/json")),
        (reply.status(), reply.header("content-type")),
    )?;
    let body: serde_json::Value =
        serde_json::from_str(&reply.text()).with_context(|| reply.text())?;
    same("errorCode", Some(code), body["errorCode"].as_str())?;
    contains(
        "message",
        body["message"].as_str().unwrap_or_default(),
        part,
    )
}

/// The error of an invocation that was not delivered.
pub(crate) fn not_invoked(reply: &Reply, part: &str) -> Result<()> {
    error(reply, 500, "ERR_DIRECT_INVOKE", part)
}

/// The error of a request without target.
pub(crate) fn no_target(reply: &Reply) -> Result<()> {
    let text = "failed getting app id either from the URL path or the header dapr-app-id";
    error(reply, 404, "ERR_DIRECT_INVOKE", text)
}

/// Puts a peer that is no sidecar into the name-resolution database, fresh for the next hour.
pub(crate) fn register(world: &World, app_id: &str, port: u16) -> Result<()> {
    let database = rusqlite::Connection::open(world.path().join("names.db"))?;
    database.busy_timeout(Duration::from_secs(5))?;
    let statement = "INSERT INTO hosts (registration_id, address, app_id, namespace, last_update) \
                     VALUES (?1, ?2, ?3, '', unixepoch() + 3600)";
    // By name: the table holds each address once, and a sidecar may be there with its own.
    let address = format!("localhost:{port}");
    let row = (format!("fake-{app_id}-{port}"), address, app_id);
    database
        .execute(statement, row)
        .context("table of the sidecars")?;
    Ok(())
}

/// A port on which nobody listens.
pub(crate) fn dead_port() -> u16 {
    ports::free()
}
