//! Collectors that are down, slow or answer garbage: no call notices, memory stays bounded, losses are counted.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use ironside_e2e::{Rows, Sidecar, Spec, World, ports, wait};
use ironside_testkit::http::{Answer, Connection, Gate, HttpApp, Request};

use crate::collectors;

/// Far above what a batch, its attempts and their pauses take.
const SOON: Duration = Duration::from_secs(90);
/// More spans than wait in the process altogether: a queue, and four batches for an exporter with one under way.
const CALLS: usize = 6_000;
/// What as many spans may take, and what an allocator keeps beside it, in KiB.
const ROOM: u64 = 64 * 1024;

fn plan(port: u16, exporter: &str) -> Spec {
    let exporter = match exporter {
        "zipkin" => {
            format!("zipkin: {{endpointAddress: \"http://127.0.0.1:{port}/api/v2/spans\"}}")
        }
        protocol => format!(
            "otel: {{endpointAddress: \"127.0.0.1:{port}\", protocol: {protocol}, isSecure: false, timeout: 1s}}"
        ),
    };
    Spec::new("a").configure(&format!("  tracing: {{samplingRate: \"1\", {exporter}}}\n"))
}

/// Calls of the API over one connection, each a span; all of them are answered.
async fn calls(a: &Sidecar, count: usize) -> Result<()> {
    let mut connection = Connection::tcp(a.http()).await?;
    for _ in 0..count {
        let reply = connection.send(&Request::get("/v1.0/metadata")).await?;
        anyhow::ensure!(reply.status() == 200, "{reply:?}");
    }
    Ok(())
}

/// The sum of the series of one name.
async fn counted(a: &Sidecar, name: &str) -> Option<u64> {
    let reply = ironside_testkit::http::send(a.metrics(), &Request::get("/metrics")).await;
    let text = reply.ok()?.text();
    let lines = text
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")));
    lines
        .map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

async fn dropped(a: &Sidecar) -> Result<()> {
    wait::until("spans are counted as dropped", SOON, || async {
        (counted(a, "dapr_runtime_trace_spans_dropped_total").await? > 0).then_some(())
    })
    .await
}

/// Calls with a collector that takes nothing.
async fn troubled(world: &World, port: u16, exporter: &str) -> Result<()> {
    let mut a = plan(port, exporter).start(world).await?;
    calls(&a, 20).await?;
    dropped(&a).await?;
    calls(&a, 20).await?;
    let complaint = "spans cannot be delivered";
    // Spans are counted before it is said.
    a.program.logged(complaint).await?;
    // The end waits for what is under way: of the second batch as well.
    anyhow::ensure!(a.program.stop().await?.success());
    let said = a.program.log().matches(complaint).count();
    anyhow::ensure!(said == 1, "said {said} times");
    Ok(())
}

/// Resiliency-observability 2.6: nobody listens, nobody answers, or the answer is none.
#[tokio::test]
async fn a_bad_collector_troubles_nobody() {
    let world = World::new();
    let mut rows = Rows::of("tracing");
    let garbage = HttpApp::start(|_| Answer::raw("\u{0}\u{1}garbage\r\n\r\n"))
        .await
        .unwrap();
    let angry = HttpApp::start(|_| Answer::status(500).body("x".repeat(100_000)))
        .await
        .unwrap();
    let mut runs = Vec::new();
    for (what, port) in [
        ("down", ports::free()),
        ("garbage", garbage.port()),
        ("errors", angry.port()),
    ] {
        for exporter in ["zipkin", "grpc", "http"] {
            let troubled = troubled(&world, port, exporter);
            runs.push(async move { (what, exporter, troubled.await) });
        }
    }
    // Side by side: each waits for its batches.
    for (what, exporter, result) in futures_util::future::join_all(runs).await {
        rows.row(what, exporter, async { result }).await;
    }
    rows.close();
}

/// The same, with a collector that takes connections and never answers: what waits is bounded.
#[tokio::test]
async fn a_silent_collector_costs_bounded_memory() {
    let world = World::new();
    let gate = Arc::new(Gate::new());
    let waiting = Arc::clone(&gate);
    let silent = HttpApp::start(move |_| Answer::status(202).gate(&waiting).body(""))
        .await
        .unwrap();
    let mut a = plan(silent.port(), "zipkin").start(&world).await.unwrap();
    calls(&a, 200).await.unwrap();
    let before = a.program.resident_kib();
    calls(&a, CALLS).await.unwrap();
    dropped(&a).await.unwrap();
    let after = a.program.resident_kib();
    eprintln!("{CALLS} spans for a silent collector: {before} KiB, then {after} KiB");
    assert!(after < before + ROOM, "{before} KiB, then {after} KiB");
    // The end does not wait for it either.
    assert!(a.program.stop().await.unwrap().success());
}

/// A collector that comes back gets what is recorded then, and a line says so.
#[tokio::test]
async fn a_collector_that_comes_back_is_used() {
    let (world, port) = (World::new(), ports::free());
    let mut a = plan(port, "zipkin").start(&world).await.unwrap();
    calls(&a, 1).await.unwrap();
    dropped(&a).await.unwrap();
    let answer = |_: &_| Answer::status(202).body("");
    let server = ironside_testkit::http::Setup::new(answer)
        .port(port)
        .start()
        .await
        .unwrap();
    calls(&a, 1).await.unwrap();
    wait::until("spans arrive", SOON, || async {
        (!server.seen().is_empty()).then_some(())
    })
    .await
    .unwrap();
    wait::until("a line", SOON, || async {
        a.program
            .log()
            .contains("spans are delivered again")
            .then_some(())
    })
    .await
    .unwrap();
    assert!(
        counted(&a, "dapr_runtime_trace_spans_exported_total")
            .await
            .unwrap()
            > 0
    );
    assert!(a.program.stop().await.unwrap().success());
    assert!(!collectors::zipkin_spans(&server).unwrap().is_empty());
}
