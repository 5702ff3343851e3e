//! Many paths, many callers, and scrapers that never read: series and resident memory before and after.

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Sidecar, Spec, World};
use ironside_proto::{
    common::{HttpExtension, InvokeRequest},
    internals::{InternalInvokeRequest, ListStringValue},
};
use ironside_testkit::{
    grpc::GrpcClient,
    http::{self, Answer, Connection, HttpApp, Request},
};
use prost::Message as _;

/// Series that one family may have, the shared ones included.
const PER_FAMILY: usize = 2100;
/// Series of all families; these loads reach six of them.
const ALL: usize = 8 * PER_FAMILY;
/// Growth of a sidecar's memory in KiB that its series explain, with room.
const GROWTH: u64 = 96 * 1024;
/// Scrapers that send a request and read nothing.
const STUCK: usize = 64;

/// Done 7: a million paths, half of them with numbers; a hundred thousand callers.
#[tokio::test]
#[ignore = "minutes of load: cargo xtask soak metrics"]
async fn metrics() -> Result<()> {
    story(1_000_000, 100_000).await
}

/// The same with fewer, but more than there is room for.
#[tokio::test]
async fn what_others_choose_does_not_fill_the_memory() -> Result<()> {
    story(5_000, 2_500).await
}

async fn story(paths: usize, callers: usize) -> Result<()> {
    let world = World::new();
    let app = HttpApp::start(|_| Answer::text("ok")).await?;
    let sidecar = Spec::new("b").app(app.port()).ready(&world).await?;
    let before = Figures::of(&sidecar).await?;
    eprintln!("metrics: before: {before:?}");
    let mut connection = Connection::tcp(sidecar.http()).await?;
    for number in 0..paths {
        let path = match number % 2 {
            0 => format!("/path{number}"),
            _ => format!("/order/{number}"),
        };
        let reply = connection.send(&Request::get(&path)).await?;
        ensure!(reply.status() == 404, "{path}: {}", reply.status());
    }
    let after_paths = Figures::of(&sidecar).await?;
    eprintln!("metrics: after {paths} paths: {after_paths:?}");
    let client = GrpcClient::connect(sidecar.internal()).await?;
    for number in 0..callers {
        let call = call_of(&format!("caller{number}"));
        let method = "/dapr.proto.internals.v1.ServiceInvocation/CallLocal";
        let reply = client.call(method, &[], &[&call]).await?;
        ensure!(reply.code() == Some(0), "{reply:?}");
        // What the app has seen is no part of this.
        drop(app.take());
    }
    let after_callers = Figures::of(&sidecar).await?;
    eprintln!("metrics: after {callers} callers: {after_callers:?}");
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        let mut scraper = Connection::tcp(sidecar.metrics()).await?;
        scraper
            .write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
            .await?;
        stuck.push(scraper);
    }
    // The API goes on, and the memory is that of a few texts.
    ensure!(
        sidecar.get("/v1.0/healthz").await?.status() == 204,
        "not healthy"
    );
    let resident = sidecar.program.resident_kib();
    eprintln!("metrics: with {STUCK} scrapers that do not read: {resident} KiB");
    drop(stuck);
    for figures in [&after_paths, &after_callers] {
        let (family, count) = &figures.largest;
        ensure!(*count <= PER_FAMILY, "{family} has {count} series");
        ensure!(figures.series <= ALL, "{} series", figures.series);
    }
    for family in [
        "http_server_request_count",
        "runtime_service_invocation_req_recv_total",
    ] {
        let line =
            format!("dapr_runtime_metrics_overflow_total{{app_id=\"b\",metric=\"{family}\"}}");
        let text = exposition(&sidecar).await?;
        ensure!(text.contains(&line), "nothing overflowed: {line}");
    }
    let grown = after_callers
        .resident_kib
        .saturating_sub(before.resident_kib);
    ensure!(grown < GROWTH, "{grown} KiB more");
    Ok(())
}

/// What a sidecar has.
#[derive(Debug)]
struct Figures {
    resident_kib: u64,
    series: usize,
    largest: (String, usize),
}

impl Figures {
    async fn of(sidecar: &Sidecar) -> Result<Self> {
        let resident_kib = sidecar.program.resident_kib();
        let text = exposition(sidecar).await?;
        let mut families = std::collections::BTreeMap::<&str, usize>::new();
        let is_series = |line: &&str| !line.starts_with('#') && !line.contains("_bucket{");
        for line in text.lines().filter(is_series) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            *families.entry(name).or_default() += 1;
        }
        let largest = families.iter().max_by_key(|(_, count)| **count);
        let (name, count) = largest.context("no series")?;
        Ok(Self {
            resident_kib,
            series: families.values().sum(),
            largest: ((*name).to_owned(), *count),
        })
    }
}

async fn exposition(sidecar: &Sidecar) -> Result<String> {
    Ok(http::send(sidecar.metrics(), &Request::get("/"))
        .await?
        .text())
}

/// A call of the app from a sidecar that says it is of this app.
fn call_of(caller: &str) -> Vec<u8> {
    let text = |value: &str| ListStringValue {
        values: vec![value.to_owned()],
    };
    let request = InternalInvokeRequest {
        ver: 1,
        metadata: [("dapr-caller-app-id".to_owned(), text(caller))].into(),
        message: Some(InvokeRequest {
            method: "x".to_owned(),
            http_extension: Some(HttpExtension {
                // GET
                verb: 1,
                querystring: String::new(),
            }),
            ..InvokeRequest::default()
        }),
        actor: None,
    };
    request.encode_to_vec()
}
