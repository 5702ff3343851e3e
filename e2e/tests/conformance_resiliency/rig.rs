//! An app with a sidecar, and callers beside it, each with a Resiliency of its own.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Sidecar, Spec, World, wait};
use ironside_proto::{
    common::{HttpExtension, InvokeRequest},
    runtime::InvokeServiceRequest,
};
use ironside_testkit::{
    grpc::GrpcReply,
    http::{Answer, HttpApp, Reply, Request, Seen},
};
use prost::Message as _;

pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) app: HttpApp,
    _b: Sidecar,
}

impl Rig {
    pub(crate) async fn start() -> Result<Self> {
        let world = World::new();
        let app = http_app().await?;
        let b = Spec::new("b").app(app.port()).ready(&world).await?;
        Ok(Self { world, app, _b: b })
    }

    /// A caller with this `spec` of a Resiliency.
    pub(crate) async fn caller(&self, app_id: &str, spec: &str) -> Result<Sidecar> {
        self.plan(app_id, spec).start(&self.world).await
    }

    pub(crate) fn plan(&self, app_id: &str, spec: &str) -> Spec {
        Spec::new(app_id).resource("r.yaml", &resiliency("r", spec))
    }

    /// Sends a request; returns the answer and how many requests reached the app.
    pub(crate) async fn calls(&self, a: &Sidecar, request: &Request) -> Result<(Reply, usize)> {
        drop(self.app.take());
        let reply = a.send(request).await?;
        Ok((reply, self.app.take().len()))
    }
}

/// A Resiliency in a file.
pub(crate) fn resiliency(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata:\n  name: {name}\nspec: {spec}\n"
    )
}

/// An app whose answers follow from the path.
pub(crate) async fn http_app() -> Result<HttpApp> {
    let counts = Mutex::new(HashMap::<String, usize>::new());
    Ok(HttpApp::start(move |seen| by_path(seen, &counts)).await?)
}

fn by_path(seen: &Seen, counts: &Mutex<HashMap<String, usize>>) -> Answer {
    let path = seen.path().split('?').next().unwrap_or_default();
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let code = |at: usize| {
        number(at)
            .and_then(|code| code.try_into().ok())
            .unwrap_or(500_u16)
    };
    let text = |code: u16| Answer::status(code).header("Content-Type", "text/plain");
    match words.first().copied().unwrap_or_default() {
        // /status/<code>/…
        "status" => text(code(1))
            .header("X-App", "1")
            .body(format!("body of {path}")),
        // /fail/<times>/<code>/…: so many failures, then an echo.
        "fail" => {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(path.to_owned()).or_default();
            *count += 1;
            if *count as u64 <= number(1).unwrap_or(0) {
                text(code(2)).body("not yet")
            } else {
                text(200).body(&seen.body)
            }
        }
        // /slow/<milliseconds>
        "slow" => text(200)
            .pause(Duration::from_millis(number(1).unwrap_or(0)))
            .body("late"),
        // /dribble/<milliseconds>: half a body, then a pause.
        "dribble" => text(200)
            .chunked()
            .chunk("first")
            .pause(Duration::from_millis(number(1).unwrap_or(0)))
            .chunk("second")
            .last_chunk(),
        "cut" => text(200).chunked().chunk("four").close(),
        _ => Answer::text("ok"),
    }
}

/// A request for a method of `b`.
pub(crate) fn get(path: &str) -> Request {
    Request::get(&format!("/v1.0/invoke/b/method/{path}"))
}

pub(crate) fn post(path: &str, body: &str) -> Request {
    Request::post(&format!("/v1.0/invoke/b/method/{path}"), body)
}

/// Calls a method of an HTTP app with `InvokeService`.
pub(crate) async fn invoke_service(a: &Sidecar, id: &str, method: &str) -> Result<GrpcReply> {
    let request = InvokeServiceRequest {
        id: id.to_owned(),
        message: Some(InvokeRequest {
            method: method.to_owned(),
            http_extension: Some(HttpExtension {
                // GET
                verb: 1,
                querystring: String::new(),
            }),
            ..InvokeRequest::default()
        }),
    };
    let client = a.client().await?;
    let path = "/dapr.proto.runtime.v1.Dapr/InvokeService";
    Ok(client.call(path, &[], &[&request.encode_to_vec()]).await?)
}

pub(crate) fn same<T: PartialEq + Debug>(what: &str, expected: T, found: T) -> Result<()> {
    ensure!(
        expected == found,
        "{what}: expected {expected:?}, found {found:?}"
    );
    Ok(())
}

pub(crate) fn contains(what: &str, text: &str, part: &str) -> Result<()> {
    ensure!(text.contains(part), "{what}: {part:?} is not in {text:?}");
    Ok(())
}

/// An error answer of an invocation that was not delivered.
pub(crate) fn not_invoked(reply: &Reply, part: &str) -> Result<()> {
    same("status", 500, reply.status())?;
    contains("body", &reply.text(), "\"errorCode\":\"ERR_DIRECT_INVOKE\"")?;
    contains("body", &reply.text(), part)
}

/// What a series of a sidecar says; 0 if it is not there. `labels` are parts of its line.
pub(crate) async fn series(sidecar: &Sidecar, name: &str, labels: &[&str]) -> Result<u64> {
    let reply = ironside_testkit::http::send(sidecar.metrics(), &Request::get("/metrics")).await?;
    let text = reply.text();
    let is_it = |line: &&str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('{'))
            && labels.iter().all(|label| line.contains(label))
    };
    let values = text.lines().filter(is_it).map(|line| {
        let value = line.rsplit(' ').next().unwrap_or_default();
        value.parse::<u64>().with_context(|| line.to_owned())
    });
    values.sum()
}

/// Puts a peer into the name-resolution database, fresh for the next hour.
pub(crate) fn register(world: &World, app_id: &str, port: u16) -> Result<()> {
    let database = rusqlite::Connection::open(world.path().join("names.db"))?;
    database.busy_timeout(Duration::from_secs(5))?;
    let statement = "INSERT INTO hosts (registration_id, address, app_id, namespace, last_update) \
                     VALUES (?1, ?2, ?3, '', unixepoch() + 3600)";
    let address = format!("localhost:{port}");
    let row = (format!("fake-{app_id}-{port}"), address, app_id);
    database
        .execute(statement, row)
        .context("table of the sidecars")?;
    Ok(())
}

/// How often `part` stands in the log of a sidecar, whose lines quote quotation marks.
pub(crate) fn lines(sidecar: &Sidecar, part: &str) -> usize {
    let log = sidecar.program.log().replace("\\\"", "\"");
    log.matches(part).count()
}

/// Waits for the one line of a log that holds `part`.
pub(crate) async fn said(sidecar: &Sidecar, part: &str) -> Result<()> {
    wait::until(part, wait::LONG, || async {
        (lines(sidecar, part) == 1).then_some(())
    })
    .await
}

/// Time that a future takes.
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let watch = wait::Stopwatch::start();
    let done = work.await;
    (done, watch.elapsed())
}

/// Calls in one after the other until one is answered as wanted.
pub(crate) async fn until_status(a: &Sidecar, request: &Request, status: u16) -> Result<()> {
    wait::until("a status", wait::LONG, || async {
        let reply = a.send(request).await.ok()?;
        (reply.status() == status).then_some(())
    })
    .await
}
