//! The reference's set-up, rebuilt: two HTTP apps, a gRPC app, a fake peer, and a sidecar beside each app.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result};
use ironside_e2e::{Sidecar, Spec, World};
use ironside_testkit::{
    grpc::{Exchange as Call, GrpcApp, Running},
    http::{Answer, HttpApp, Seen},
};

use crate::messages;

/// The answer that a transcript prescribes for the next request.
type Prescribed = Arc<Mutex<Option<Vec<u8>>>>;

pub(crate) struct Rig {
    pub(crate) app_a: HttpApp,
    pub(crate) app_b: HttpApp,
    pub(crate) app_g: GrpcApp,
    pub(crate) peer: GrpcApp,
    pub(crate) a: Sidecar,
    pub(crate) b: Sidecar,
    pub(crate) g: Sidecar,
    prescribed: Prescribed,
    _world: World,
}

impl Rig {
    /// Starts everything, with more keys below `spec` of each configuration.
    pub(crate) async fn start(configuration: &str) -> Result<Self> {
        let world = World::new();
        let prescribed = Prescribed::default();
        let (app_a, app_b) = (http_app(&prescribed).await?, http_app(&prescribed).await?);
        let app_g = GrpcApp::start(grpc_app).await?;
        let peer = GrpcApp::start(peer).await?;
        let spec = |id: &str, port: u16| Spec::new(id).app(port).configure(configuration);
        let (a, b) = (spec("appa", app_a.port()), spec("appb", app_b.port()));
        let g = spec("appg", app_g.port()).protocol("grpc");
        let (a, b, g) = (
            a.ready(&world).await?,
            b.ready(&world).await?,
            g.ready(&world).await?,
        );
        register(&world, "fakeapp", peer.port())?;
        Ok(Self {
            app_a,
            app_b,
            app_g,
            peer,
            a,
            b,
            g,
            prescribed,
            _world: world,
        })
    }

    /// Lets the HTTP apps answer the next request with these bytes.
    pub(crate) fn prescribe(&self, answer: Option<Vec<u8>>) {
        *self.prescribed.lock().unwrap() = answer;
    }

    /// Replaces the transcript's ports and host name.
    pub(crate) fn here(&self, text: &str) -> String {
        let ports = [
            ("3001", self.a.http()),
            ("3002", self.b.http()),
            ("5001", self.a.grpc()),
            ("5004", self.g.grpc()),
            ("6001", self.app_a.port()),
            ("6002", self.app_b.port()),
            ("6004", self.app_g.port()),
            ("7099", self.peer.port()),
        ];
        here(text, &ports)
    }
}

/// Replaces ports behind a colon, and the host name where a header or a message holds it.
pub(crate) fn here(text: &str, ports: &[(&str, u16)]) -> String {
    let host = host_name();
    let mut text = text
        .replace("host=rig", &format!("host={host}"))
        .replace(
            "X-Forwarded-Host: rig\n",
            &format!("X-Forwarded-Host: {host}\n"),
        )
        .replace(
            "x-forwarded-host: rig\n",
            &format!("x-forwarded-host: {host}\n"),
        )
        .replace("values: \"rig\"", &format!("values: \"{host}\""));
    for (theirs, ours) in ports {
        text = text.replace(&format!(":{theirs}"), &format!(":{ours}"));
    }
    text
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap()
        .trim()
        .to_owned()
}

/// Puts a peer that is no sidecar into the name-resolution database, fresh for the next hour.
pub(crate) fn register(world: &World, app_id: &str, port: u16) -> Result<()> {
    let database = rusqlite::Connection::open(world.path().join("names.db"))?;
    database.busy_timeout(Duration::from_secs(5))?;
    let statement = "INSERT INTO hosts (registration_id, address, app_id, namespace, last_update) \
                     VALUES (?1, ?2, ?3, '', unixepoch() + 3600)";
    let address = format!("127.0.0.1:{port}");
    database
        .execute(statement, (format!("fake-{app_id}"), address, app_id))
        .context("table of the sidecars")?;
    Ok(())
}

async fn http_app(prescribed: &Prescribed) -> Result<HttpApp> {
    let prescribed = Arc::clone(prescribed);
    let app = HttpApp::start(move |seen| match prescribed.lock().unwrap().take() {
        Some(bytes) => Answer::raw(bytes),
        None => by_path(seen),
    });
    Ok(app.await?)
}

/// What the reference's fake app answered where the transcript does not show it.
pub(crate) fn by_path(seen: &Seen) -> Answer {
    let text = |code| Answer::status(code).header("Content-Type", "text/plain");
    match seen.path().split('?').next().unwrap_or_default() {
        "/201" => text(201)
            .header("X-E", "1")
            .header("Server", "s")
            .body("made"),
        "/404" => text(404).header("X-E", "1").body("abc".repeat(40)),
        "/400" => text(400).body("e"),
        "/500" => text(500).body("e"),
        "/nf" => Answer::status(404)
            .header("Content-Type", "application/problem+json")
            .header("X-E", "1")
            .body("{\"e\":1}"),
        "/sse" => {
            let start = Answer::status(200)
                .header("Content-Type", "text/event-stream")
                .header("X-S", "1")
                .chunked();
            let beat = Duration::from_millis(100);
            let events = start
                .chunk("data: 0\n\n")
                .pause(beat)
                .chunk("data: 1\n\n")
                .pause(beat);
            events.chunk("data: 2\n\n").last_chunk()
        }
        _ => Answer::text("ok"),
    }
}

const INVOKE: &str = "dapr.proto.common.v1.InvokeRequest";
const INVOKED: &str = "dapr.proto.common.v1.InvokeResponse";

pub(crate) fn grpc_app(mut call: Call) -> Running {
    Box::pin(async move {
        match call.path() {
            "/dapr.proto.runtime.v1.AppCallback/OnInvoke" => on_invoke(call).await,
            "/greet.G/Hi" => {
                while call.message().await.is_some() {}
                call.begin_reply(&[("x-init", "1"), ("x-bin", "AQI")]);
                call.reply(b"reply");
                call.end(0, "", &[("x-trail", "2")]);
            }
            "/greet.G/Slow" => call.cancelled().await,
            "/greet.G/Fail" => call.end(9, "precond x", &[("x-t", "1")]),
            "/greet.G/EarlyNone" => {
                call.begin_reply(&[("x-init", "1")]);
                tokio::time::sleep(Duration::from_millis(200)).await;
                call.end(0, "", &[("x-t", "1")]);
            }
            _ => call.end(12, "unknown method", &[]),
        }
    })
}

async fn on_invoke(mut call: Call) {
    let request = call.message().await.unwrap_or_default();
    let request = messages::from_bytes(INVOKE, &request);
    let method = request
        .get_field_by_name("method")
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned();
    match method.as_str() {
        "nf" => call.end(5, "not here", &[("x-err", "1")]),
        "unimpl" => call.end(12, "", &[]),
        "det" => {
            call.begin_reply(&[("x-init", "1")]);
            call.end(
                9,
                "fp msg",
                &[
                    ("x-trail", "2"),
                    ("grpc-status-details-bin", "CAkSBmZwIG1zZw"),
                ],
            );
        }
        "type" => answer(
            &mut call,
            &messages::encode(INVOKED, "data { type_url: \"t/Q\" value: \"pb\" }"),
        ),
        "big" => {
            // A message of 4194324 bytes, as in the transcript: 20 above the limit.
            let value = format!("data {{ value: \"{}\" }}", "z".repeat(4_194_324 - 10));
            answer(&mut call, &messages::encode(INVOKED, &value));
        }
        _ => {
            call.begin_reply(&[("x-init", "1"), ("dapr-x", "3")]);
            call.reply(&messages::encode(
                INVOKED,
                "data { value: \"hello\" } content_type: \"text/plain\"",
            ));
            call.end(0, "", &[("x-trail", "2")]);
        }
    }
}

fn answer(call: &mut Call, message: &[u8]) {
    call.begin_reply(&[]);
    call.reply(message);
    call.end(0, "", &[]);
}

/// A peer that answers streams by two pieces, unless the body is three bytes long: then it is an old one.
fn peer(mut call: Call) -> Running {
    const REQUEST: &str = "dapr.proto.internals.v1.InternalInvokeRequestStream";
    const RESPONSE: &str = "dapr.proto.internals.v1.InternalInvokeResponseStream";
    const HEAD: &str = "status { code: 200 } headers { key: \"Content-Type\" value { values: \"text/plain\" } } \
                        headers { key: \"X-From\" value { values: \"fake\" } }";
    Box::pin(async move {
        if call.path().ends_with("/CallLocal") {
            call.message().await;
            let unary = format!(
                "{HEAD} message {{ data {{ value: \"unary\" }} content_type: \"text/plain\" }}"
            );
            return answer(
                &mut call,
                &messages::encode("dapr.proto.internals.v1.InternalInvokeResponse", &unary),
            );
        }
        let mut length = 0;
        while let Some(message) = call.message().await {
            let message = messages::from_bytes(REQUEST, &message);
            let payload = message.get_field_by_name("payload").unwrap();
            let data = payload
                .as_message()
                .unwrap()
                .get_field_by_name("data")
                .unwrap();
            length += data.as_bytes().unwrap().len();
        }
        if length == 3 {
            return call.end(12, "unknown method CallLocalStream", &[]);
        }
        let first = format!(
            "response {{ {HEAD} message {{ content_type: \"text/plain\" }} }} payload {{ data: \"one\" }}"
        );
        call.begin_reply(&[]);
        call.reply(&messages::encode(RESPONSE, &first));
        call.reply(&messages::encode(
            RESPONSE,
            "payload { data: \"two\" seq: 1 }",
        ));
        call.end(0, "", &[]);
    })
}

#[test]
fn the_big_answer_is_as_big_as_in_the_transcript() {
    let value = format!("data {{ value: \"{}\" }}", "z".repeat(4_194_324 - 10));
    assert_eq!(messages::encode(INVOKED, &value).len(), 4_194_324);
}
