//! A callee's sidecar that ends and starts again under load.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Spec, World, wait};
use ironside_testkit::http::{self, Answer, Connection, Gate, HttpApp, Request};
use rustix::process::Signal;

/// 2,000 calls while the callee's sidecar ends and starts again.
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
