//! Runs of minutes, outside CI: `cargo xtask soak [rotation | body | restart]`.

#![cfg(test)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Sentry, Sidecar, Spec, World, wait};
use ironside_testkit::{
    grpc::{Exchange, GrpcApp, Running},
    http::{
        self, Answer, Connection, Cursor, Digest, End, Gate, HttpApp, Request, client::encode_chunk,
    },
};
use rustix::process::Signal;

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
fn connections_to(port: u16) -> Result<BTreeSet<u16>> {
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
        .matches("cert expires on: ")
        .count()
        .saturating_sub(1)
}

/// Done line 5: calls and a stream of ten minutes over twenty rotations.
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

/// Done line 5, the other case of K086: without fresh proof a connection ends with its certificate.
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

/// A block whose size divides nothing, so that a shifted byte changes the checksum.
fn block() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    });
    bytes.take(1_000_003).collect()
}

/// So many blocks are above 1 GiB.
const BLOCKS: u64 = 1074;

/// Memory that may be gained.
const GROWTH_KIB: u64 = 8 << 10;

struct Watched<'a> {
    sidecars: [&'a Sidecar; 2],
    before: [u64; 2],
    peak: [u64; 2],
}

impl<'a> Watched<'a> {
    fn begin(sidecars: [&'a Sidecar; 2]) -> Self {
        let before = sidecars.map(|sidecar| sidecar.program.resident_kib());
        Self {
            sidecars,
            before,
            peak: before,
        }
    }

    fn sample(&mut self) {
        for (peak, sidecar) in self.peak.iter_mut().zip(self.sidecars) {
            *peak = (*peak).max(sidecar.program.resident_kib());
        }
    }

    fn judge(mut self, what: &str) -> Result<()> {
        self.sample();
        let growth: Vec<_> = self
            .peak
            .iter()
            .zip(self.before)
            .map(|(peak, before)| peak.saturating_sub(before))
            .collect();
        eprintln!(
            "body: {what}: memory of caller and callee before {:?} KiB, grew by {growth:?} KiB",
            self.before
        );
        ensure!(
            growth.iter().all(|growth| *growth < GROWTH_KIB),
            "{what}: memory grew by {growth:?} KiB"
        );
        Ok(())
    }
}

/// Done line 6: 1 GiB both ways, of fixed length and chunked.
#[tokio::test]
#[ignore = "moves four bodies of 1 GiB: cargo xtask soak body"]
async fn body() -> Result<()> {
    let world = World::new();
    let block = block();
    let mut digest = Digest::default();
    (0..BLOCKS).for_each(|_| digest.add(&block));
    let (length, wanted) = (digest.length(), digest.finish());
    let served = block.clone();
    let app = HttpApp::start(move |seen| match seen.path() {
        "/length" => Answer::status(200)
            .header("Content-Length", &length.to_string())
            .end_head()
            .repeat(served.clone(), BLOCKS),
        "/chunked" => Answer::status(200)
            .chunked()
            .repeat(encode_chunk(&served), BLOCKS)
            .last_chunk(),
        _ => Answer::text("ok"),
    })
    .await?;
    let spec = |id: &str| Spec::new(id).flag("--max-body-size", "2Gi");
    let a = spec("caller").start(&world).await?;
    let b = spec("callee").app(app.port()).ready(&world).await?;
    for _ in 0..5 {
        a.send(&Request::post(
            "/v1.0/invoke/callee/method/warm",
            vec![0; 1 << 20],
        ))
        .await?;
    }
    drop(app.take());
    for form in ["length", "chunked"] {
        let mut watched = Watched::begin([&a, &b]);
        let mut connection = Connection::tcp(a.http()).await?;
        let request = Request::new("POST", "/v1.0/invoke/callee/method/up");
        let chunk = if form == "chunked" {
            encode_chunk(&block)
        } else {
            block.clone()
        };
        let head = match form {
            "chunked" => request.header("Transfer-Encoding", "chunked"),
            _ => request.header("Content-Length", &length.to_string()),
        };
        connection.write(head.bytes()).await?;
        for number in 0..BLOCKS {
            connection.write(&chunk).await?;
            if number % 16 == 0 {
                watched.sample();
            }
        }
        if form == "chunked" {
            connection.write(b"0\r\n\r\n").await?;
        }
        let reply = connection.reply("POST").await?;
        let seen = app.take().remove(0);
        ensure!(reply.status() == 200, "{} {}", reply.status(), reply.text());
        ensure!(
            (seen.length, seen.digest, seen.end) == (length, wanted, End::Whole),
            "the app got another body"
        );
        watched.judge(&format!("request, {form}"))?;
        let mut watched = Watched::begin([&a, &b]);
        connection
            .write(Request::get(&format!("/v1.0/invoke/callee/method/{form}")).bytes())
            .await?;
        let head = connection.head().await?;
        let (mut cursor, mut digest) = (Cursor::new(head.reply_framing("GET")), Digest::default());
        let mut next = 0;
        while let Some(piece) = connection.piece(&mut cursor).await {
            digest.add(&piece);
            if digest.length() > next {
                watched.sample();
                next += 16 << 20;
            }
        }
        ensure!(
            (digest.length(), digest.finish(), cursor.end()) == (length, wanted, Some(End::Whole)),
            "the client got another body"
        );
        watched.judge(&format!("response, {form}"))?;
        drop(app.take());
    }
    Ok(())
}

/// Done line 7: 2,000 calls while the callee's sidecar ends and starts again.
#[tokio::test]
#[ignore = "a minute of load: cargo xtask soak restart"]
async fn restart() -> Result<()> {
    const CALLS: usize = 2000;
    const HELD: usize = 20;
    let world = World::new();
    let gate = Gate::new();
    let held = gate.clone();
    let app = HttpApp::start(move |seen| match seen.path() {
        "/held" => Answer::status(200).gate(&held).body("held"),
        _ => Answer::text("ok"),
    })
    .await?;
    let a = Spec::new("caller")
        .default_resolution()
        .start(&world)
        .await?;
    let spec = Spec::new("callee")
        .default_resolution()
        .app(app.port())
        .flag("--dapr-graceful-shutdown-seconds", "20");
    let mut b = spec.ready(&world).await?;
    let load = Arc::new(Load::default());
    let workers: Vec<_> = (0..8)
        .map(|_| worker(Arc::clone(&load), a.http(), CALLS))
        .collect();
    let workers = futures(workers);
    let story = async {
        let reached = || async { (load.started.load(Ordering::Relaxed) > CALLS / 4).then_some(()) };
        wait::until("a quarter of the calls", Duration::from_secs(60), reached).await?;
        let mut calls = Vec::new();
        for _ in 0..HELD {
            let mut call = Connection::tcp(a.http()).await?;
            call.write(Request::get("/v1.0/invoke/callee/method/held").bytes())
                .await?;
            calls.push(call);
        }
        app.busy(HELD).await;
        b.program.signal(Signal::TERM);
        load.restarting.store(true, Ordering::Relaxed);
        b.program.logged("beginning shutdown").await?;
        (0..HELD).for_each(|_| gate.open());
        let mut finished = 0;
        for mut call in calls {
            let reply = call
                .reply("GET")
                .await
                .context("a call in flight was cut")?;
            ensure!(
                reply.status() == 200 && reply.text() == "held",
                "{} {}",
                reply.status(),
                reply.text()
            );
            finished += 1;
        }
        let status = b.program.exit(Duration::from_secs(25)).await?;
        ensure!(status.code() == Some(0), "the sidecar ended with {status}");
        let again = spec.ready(&world).await?;
        load.restarting.store(false, Ordering::Relaxed);
        anyhow::Ok((finished, again))
    };
    let (failures, story) = tokio::join!(workers, story);
    let (finished, _again) = story?;
    let mut table = BTreeMap::<String, usize>::new();
    failures
        .into_iter()
        .flatten()
        .for_each(|text| *table.entry(text).or_default() += 1);
    let total: usize = table.values().sum();
    eprintln!(
        "restart: {CALLS} calls, {total} failed; {finished} of {HELD} calls in flight at the signal finished"
    );
    for (text, count) in &table {
        eprintln!("restart:   {count} x {text}");
    }
    ensure!(
        table.keys().all(|text| text.contains("ERR_DIRECT_INVOKE")),
        "a failure without a named error"
    );
    Ok(())
}

#[derive(Default)]
struct Load {
    started: AtomicUsize,
    restarting: AtomicBool,
}

/// Calls until all are done; returns what the failed ones said.
async fn worker(load: Arc<Load>, port: u16, calls: usize) -> Vec<String> {
    let mut failures = Vec::new();
    while load.started.fetch_add(1, Ordering::Relaxed) < calls {
        match http::send(port, &Request::get("/v1.0/invoke/callee/method/x")).await {
            Ok(reply) if reply.status() == 200 => {}
            Ok(reply) => failures.push(reply.text()),
            Err(error) => failures.push(format!("connection: {error}")),
        }
        // The load lasts as long as the restart does.
        let pause = if load.restarting.load(Ordering::Relaxed) {
            20
        } else {
            2
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    failures
}

/// Runs all workers side by side.
async fn futures(workers: Vec<impl Future<Output = Vec<String>> + 'static>) -> Vec<Vec<String>> {
    let local = tokio::task::LocalSet::new();
    let handles: Vec<_> = workers
        .into_iter()
        .map(|worker| local.spawn_local(worker))
        .collect();
    local.await;
    let mut results = Vec::new();
    for handle in handles {
        results.push(handle.await.unwrap());
    }
    results
}
