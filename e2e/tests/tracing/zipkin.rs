//! A real Zipkin server: traces of each kind of call, read back through its query API.
//!
//! The server is the one in `IRONSIDE_ZIPKIN_JAR`, started with `java` on a free port. Its answers are what a person
//! sees in its pages; they are printed, and written to the file that `IRONSIDE_E2E_TRACES` names.

use std::{collections::BTreeMap, env, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{World, ports, program::Program, wait};
use ironside_testkit::http::{self, Request};
use serde_json::Value;

use crate::rig::{PARENT, Rig, get, invoke_service, proxied, trace, traceparent};

/// A JVM on a busy machine takes its time.
const SOON: Duration = Duration::from_secs(120);

struct Zipkin {
    port: u16,
    _program: Program,
}

impl Zipkin {
    async fn start(world: &World) -> Result<Self> {
        let jar = variable("IRONSIDE_ZIPKIN_JAR")
            .context("IRONSIDE_ZIPKIN_JAR names the server's file")?;
        let port = ports::free();
        let mut command = Command::new("java");
        command
            .env("QUERY_PORT", port.to_string())
            .args(["-Xmx256m", "-jar", &jar]);
        let program = Program::start(world, "zipkin", &mut command);
        wait::until("Zipkin is healthy", SOON, || async {
            let reply = http::send(port, &Request::get("/health")).await.ok()?;
            (reply.status() == 200).then_some(())
        })
        .await?;
        Ok(Self {
            port,
            _program: program,
        })
    }

    /// The spans of a trace, once there are as many.
    async fn trace(&self, id: &str, count: usize) -> Result<Vec<Value>> {
        wait::until(id, SOON, || async {
            let path = format!("/api/v2/trace/{id}");
            let reply = http::send(self.port, &Request::get(&path)).await.ok()?;
            let spans: Vec<Value> = serde_json::from_slice(&reply.body).ok()?;
            (spans.len() >= count).then_some(spans)
        })
        .await
    }
}

#[expect(clippy::disallowed_methods, reason = "what the recipe tells the test")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// T-01, T-13, T-16: caller app, sidecar, sidecar, callee app, over HTTP, InvokeService and the gRPC proxy.
#[tokio::test]
#[ignore = "needs a Zipkin server: cargo xtask e2e zipkin"]
async fn traces_are_read_back() {
    let world = World::new();
    let zipkin = Zipkin::start(&world).await.unwrap();
    let tracing = format!(
        "{{samplingRate: \"1\", zipkin: {{endpointAddress: \"http://127.0.0.1:{}/api/v2/spans\"}}}}",
        zipkin.port
    );
    let mut rig = Rig::start(&tracing, |a| a).await.unwrap();
    assert_eq!(
        rig.a.send(&get(1, "orders/new")).await.unwrap().status(),
        200
    );
    let context = |number| traceparent(number);
    for (number, id) in [(2, "b"), (3, "g")] {
        let metadata = [("traceparent", &*context(number))];
        let reply = invoke_service(&rig.a, id, "orders/new", &metadata)
            .await
            .unwrap();
        assert_eq!(reply.code(), Some(0), "{reply:?}");
    }
    let reply = proxied(&rig.a, "Hi", &[("traceparent", &*context(4))])
        .await
        .unwrap();
    assert_eq!(reply.code(), Some(0), "{reply:?}");
    // What the apps were told is the callee's span.
    let at_http = rig.app.take();
    let at_grpc = rig.grpc_app.take();
    let told = [
        at_http[0].header("traceparent"),
        at_http[1].header("traceparent"),
        at_grpc[0].header("traceparent"),
        at_grpc[1].header("traceparent"),
    ];
    let told = told.map(|text| text.unwrap().to_owned());
    rig.stop().await.unwrap();
    let mut all = BTreeMap::new();
    for (kind, number, name, callee) in [
        ("HTTP", 1, "calllocal/b/orders/new", "b"),
        (
            "InvokeService to an HTTP app",
            2,
            "calllocal/b/orders/new",
            "b",
        ),
        (
            "InvokeService to a gRPC app",
            3,
            "calllocal/g/orders/new",
            "g",
        ),
        ("proxied gRPC", 4, "/greet.g/hi", "g"),
    ] {
        let spans = zipkin.trace(&trace(number), 2).await.unwrap();
        let place = usize::try_from(number).unwrap() - 1;
        linked(&spans, name, callee, &told[place])
            .unwrap_or_else(|cause| panic!("{kind}: {cause:#}: {spans:#?}"));
        all.insert(kind, spans);
    }
    let text = serde_json::to_string_pretty(&all).unwrap();
    eprintln!("{text}");
    if let Some(path) = variable("IRONSIDE_E2E_TRACES") {
        std::fs::write(path, text).unwrap();
    }
}

/// The links of a trace: client app, span of the caller's sidecar, span of the callee's, callee app. Zipkin writes
/// names in lower case.
fn linked(spans: &[Value], name: &str, callee: &str, told: &str) -> Result<()> {
    ensure!(spans.len() == 2, "{} spans", spans.len());
    let side = |kind: &str| {
        spans
            .iter()
            .find(|span| span["kind"] == kind)
            .with_context(|| format!("{kind} span"))
    };
    let (client, server) = (side("CLIENT")?, side("SERVER")?);
    for (span, service) in [(client, "a"), (server, callee)] {
        ensure!(span["name"] == name, "name {}", span["name"]);
        ensure!(
            span["localEndpoint"]["serviceName"] == service,
            "service of {service}"
        );
    }
    ensure!(
        client["parentId"] == PARENT,
        "the client app is above the caller's sidecar"
    );
    ensure!(
        server["parentId"] == client["id"],
        "the caller's sidecar is above the callee's"
    );
    let id = server["id"].as_str().context("an id")?;
    ensure!(
        told.contains(id),
        "the callee's app was told of the callee's sidecar: {told}"
    );
    Ok(())
}
