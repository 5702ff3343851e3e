//! Certificates that live a minute: both cases of K086.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use anyhow::{Result, ensure};
use ironside_e2e::{Sentry, Sidecar, Spec, World, wait};
use ironside_testkit::{
    grpc::{Exchange, GrpcApp, Running},
    http::{Answer, HttpApp},
};

/// Keys below `spec.mtls` for certificates that live a minute.
const MINUTE: &str = "    workloadCertTTL: \"60s\"\n    allowedClockSkew: \"5s\"\n";

fn echo(mut call: Exchange) -> Running {
    Box::pin(async move {
        call.begin_reply(&[]);
        while let Some(message) = call.message().await {
            call.reply(&message);
        }
        call.end(0, "", &[]);
    })
}

/// Local ports of the established connections to a port of this machine.
pub(crate) fn connections_to(port: u16) -> Result<BTreeSet<u16>> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
        let number = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
        (state == "01" && number(remote)? == port)
            .then(|| number(local))
            .flatten()
    });
    Ok(rows.collect())
}

fn renewals(sidecar: &Sidecar) -> usize {
    sidecar
        .program
        .log()
        .matches("Successfully renewed workload identity")
        .count()
}

/// Calls and a stream of ten minutes over twenty rotations.
#[tokio::test]
#[ignore = "takes eleven minutes: cargo xtask soak rotation"]
async fn rotation() -> Result<()> {
    const ROTATIONS: usize = 20;
    const CALLS: usize = 10_000;
    let world = World::new();
    let sentry = Sentry::start_with(&world, MINUTE).await?;
    let app = HttpApp::start(|_| Answer::text("ok")).await?;
    let greeter = GrpcApp::start(echo).await?;
    let a = Spec::new("caller").mtls(&sentry).start(&world).await?;
    let b = Spec::new("callee")
        .app(app.port())
        .mtls(&sentry)
        .ready(&world)
        .await?;
    let g = Spec::new("greeter")
        .app(greeter.port())
        .protocol("grpc")
        .mtls(&sentry)
        .ready(&world)
        .await?;
    let client = a.client().await?;
    let mut stream = client
        .open("/greet.G/Echo", &[("dapr-app-id", "greeter")])
        .await?;
    let watch = wait::Stopwatch::start();
    let (mut calls, mut failed, mut messages) = (0_usize, BTreeMap::<String, usize>::new(), 0_u32);
    let mut used = BTreeSet::new();
    while renewals(&a) < ROTATIONS || calls < CALLS || watch.elapsed() < Duration::from_secs(600) {
        ensure!(
            watch.elapsed() < Duration::from_secs(1200),
            "{} rotations only",
            renewals(&a)
        );
        messages += 1;
        stream.send(&messages.to_be_bytes());
        let echoed = wait::within("echo", wait::LONG, stream.message()).await?;
        ensure!(
            echoed.as_deref() == Some(&messages.to_be_bytes()[..]),
            "the stream broke after {:?}",
            watch.elapsed()
        );
        for _ in 0..10 {
            calls += 1;
            let reply = a.get("/v1.0/invoke/callee/method/x").await;
            let text = match reply {
                Ok(reply) if reply.status() == 200 => continue,
                Ok(reply) => reply.text(),
                Err(error) => error.to_string(),
            };
            *failed.entry(text).or_default() += 1;
        }
        used.extend(connections_to(b.internal())?);
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    stream.half_close();
    let end = stream.finish().await;
    eprintln!(
        "rotation: {calls} calls, failed {failed:?}; {messages} messages on a stream of {:?}, end {:?}; rotations: caller {}, callee {}, greeter {}; connections to the callee over time: {}",
        watch.elapsed(),
        end.code(),
        renewals(&a),
        renewals(&b),
        renewals(&g),
        used.len()
    );
    ensure!(failed.is_empty(), "calls failed: {failed:?}");
    ensure!(end.code() == Some(0), "the stream ended with {end:?}");
    ensure!(
        used.len() >= ROTATIONS / 2,
        "only {} connections in {ROTATIONS} rotations",
        used.len()
    );
    Ok(())
}

/// The other case of K086: without fresh proof a connection ends with its certificate.
#[tokio::test]
#[ignore = "takes a minute and a half: cargo xtask soak rotation"]
async fn rotation_that_stops_closes_the_stream() -> Result<()> {
    let world = World::new();
    let mut sentry = Sentry::start_with(&world, MINUTE).await?;
    let greeter = GrpcApp::start(echo).await?;
    let a = Spec::new("caller").mtls(&sentry).start(&world).await?;
    let _g = Spec::new("greeter")
        .app(greeter.port())
        .protocol("grpc")
        .mtls(&sentry)
        .ready(&world)
        .await?;
    sentry.program.stop().await?;
    let client = a.client().await?;
    let mut stream = client
        .open("/greet.G/Echo", &[("dapr-app-id", "greeter")])
        .await?;
    let watch = wait::Stopwatch::start();
    loop {
        stream.send(b"ping");
        if wait::within("echo or end", wait::LONG, stream.message())
            .await?
            .is_none()
        {
            break;
        }
        ensure!(
            watch.elapsed() < Duration::from_secs(80),
            "the stream outlived its certificates"
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let reply = stream.finish().await;
    eprintln!(
        "rotation: without Sentry the stream ended after {:?} with {:?} {:?}",
        watch.elapsed(),
        reply.code(),
        reply.message()
    );
    ensure!(
        reply.code() != Some(0),
        "the stream ended as if all was well"
    );
    Ok(())
}
