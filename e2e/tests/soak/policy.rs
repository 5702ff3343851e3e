//! Edits of policy under load: what changes is the decision, and nothing else.
//!
//! A caller's sidecar and two callees with mutual TLS. While calls and streams run, files of access control are
//! created, changed, renamed, broken and removed, and the blocks of the Configurations edited. Every call must be
//! answered by the app or by policy, as one of the states says that were in force while it ran; all connections
//! must be the same at the end.

mod edits;
mod load;

use std::{collections::BTreeMap, fs, path::PathBuf, rc::Rc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Sentry, Sidecar, Spec, World, wait};
use ironside_testkit::{
    grpc::{Exchange, GrpcApp, GrpcClient, Running},
    http::{Answer, HttpApp},
};
use tokio::task::LocalSet;

use edits::{Files, History, Kind, State};
use load::{Caller, Load};

/// Workers for HTTP, and as many for gRPC.
const WORKERS: usize = 16;

/// How much of it.
struct Plan {
    edits: u32,
    time: Duration,
    calls_a_second: u32,
    streams: usize,
    seed: u64,
}

/// What came of it.
struct Found {
    kinds: BTreeMap<Kind, (usize, Vec<Duration>)>,
    calls: usize,
    denied: usize,
    took: Duration,
}

#[tokio::test]
#[ignore = "a minute of load: cargo xtask soak policy"]
async fn policy() -> Result<()> {
    /// From the write to the first changed decision, under load.
    const TAKES_EFFECT: Duration = Duration::from_millis(100);
    /// A removal waits for 50 ms without events.
    const REMOVED: Duration = Duration::from_millis(150);
    let plan = Plan {
        edits: 1000,
        time: Duration::from_secs(60),
        calls_a_second: 2000,
        streams: 50,
        seed: u64::from(std::process::id()),
    };
    let found = run(&plan).await?;
    found.print(&plan);
    for (kind, (_, times)) in &found.kinds {
        let limit = if *kind == Kind::Remove {
            REMOVED
        } else {
            TAKES_EFFECT
        };
        let worst = times.iter().max().copied().unwrap_or_default();
        ensure!(worst < limit, "{kind:?} took {worst:?} to take effect");
    }
    Ok(())
}

/// The same for a few seconds, without a look at the clock. Rows K123, K213.
#[tokio::test]
async fn edits_under_load_change_decisions_and_nothing_else() -> Result<()> {
    let plan = Plan {
        edits: 60,
        time: Duration::from_secs(3),
        calls_a_second: 160,
        streams: 10,
        seed: 7,
    };
    run(&plan).await?.print(&plan);
    Ok(())
}

struct Rig {
    files: Files,
    web: Sidecar,
    shop: Sidecar,
    greeter: Sidecar,
    http: HttpApp,
    grpc: GrpcApp,
    _sentry: Sentry,
    _world: World,
}

impl Rig {
    async fn start(seed: u64) -> Result<Self> {
        let world = World::new();
        let folder = world.path().join("shared");
        let mut files = Files::new(folder.clone(), seed)?;
        let sentry = Sentry::start(&world).await?;
        let http = HttpApp::start(|_| Answer::text("ok")).await?;
        let grpc = GrpcApp::start(answer).await?;
        let callee = |id, port| {
            Spec::new(id)
                .app(port)
                .flag("--resources-path", &folder.display().to_string())
                .configure(&Files::block())
                .mtls(&sentry)
        };
        let shop = callee("shop", http.port()).ready(&world).await?;
        let greeter = callee("greeter", grpc.port()).protocol("grpc");
        let greeter = greeter.ready(&world).await?;
        for id in ["shop", "greeter"] {
            files.configured(configuration(&world, id)?);
        }
        let web = Spec::new("web").mtls(&sentry).start(&world).await?;
        Ok(Self {
            files,
            web,
            shop,
            greeter,
            http,
            grpc,
            _sentry: sentry,
            _world: world,
        })
    }
}

/// The Configuration file of a sidecar.
fn configuration(world: &World, id: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(world.path())?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_it = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(id) && name.ends_with(".yaml"))
    };
    let mut found = entries.filter(is_it);
    found.next().context("a sidecar has a configuration")
}

fn answer(mut call: Exchange) -> Running {
    Box::pin(async move {
        call.begin_reply(&[]);
        while let Some(message) = call.message().await {
            call.reply(&message);
        }
        call.end(0, "", &[]);
    })
}

async fn run(plan: &Plan) -> Result<Found> {
    eprintln!("policy: seed {}", plan.seed);
    let mut rig = Rig::start(plan.seed).await?;
    let workers = u32::try_from(WORKERS * 2)?;
    let load = Load::new(Duration::from_secs(1) * workers / plan.calls_a_second);
    let (http, grpc) = (rig.web.http(), rig.web.grpc());
    let mut probes = [Caller::http(http).await?, Caller::grpc(grpc).await?];
    for probe in &mut probes {
        // The first call opens the connection between the sidecars.
        ensure!(probe.ask(0).await?, "the start is not open");
    }
    let mut callers = Vec::new();
    for _ in 0..WORKERS {
        callers.extend([Caller::http(http).await?, Caller::grpc(grpc).await?]);
    }
    let client = Rc::new(GrpcClient::connect(grpc).await?);
    let ports = [http, grpc, rig.shop.internal(), rig.greeter.internal()];
    let before = load::connections(&ports)?;

    let tasks = LocalSet::new();
    for (seed, caller) in (plan.seed..).zip(callers) {
        tasks.spawn_local(load::work(Rc::clone(&load), caller, seed));
    }
    for _ in 0..plan.streams {
        tasks.spawn_local(load::stream(Rc::clone(&load), Rc::clone(&client)));
    }
    let story = story(plan, &mut rig, &load, &mut probes);
    let (history, kinds, took) = tasks.run_until(story).await?;
    let after = load::connections(&ports)?;
    load.stop();
    wait::within("the end of all calls", wait::LONG, tasks).await?;

    eprintln!("policy: {} connections:", before.len());
    before
        .iter()
        .for_each(|tuple| eprintln!("policy:   {tuple}"));
    ensure!(
        before == after,
        "connections came or went: before {before:#?}, after {after:#?}"
    );
    let failures = load.failures.borrow();
    ensure!(
        failures.is_empty(),
        "{} calls failed: {:#?}",
        failures.len(),
        failures.iter().take(5).collect::<Vec<_>>()
    );
    let calls = load.calls.borrow();
    let wrong = calls
        .iter()
        .filter(|call| !history.permits(call.target, call.span, call.allowed));
    let wrong: Vec<_> = wrong.collect();
    ensure!(
        wrong.is_empty(),
        "{} of {} decisions are of no state in force: {:#?}",
        wrong.len(),
        calls.len(),
        &wrong[..wrong.len().min(5)]
    );
    let denied = calls.iter().filter(|call| !call.allowed).count();
    ensure!(denied > 0, "no call met a denial");
    Ok(Found {
        kinds,
        calls: calls.len(),
        denied,
        took,
    })
}

/// How often each kind of edit was made, and how long it took to change a decision.
type Kinds = BTreeMap<Kind, (usize, Vec<Duration>)>;

/// All edits; after each that changes a decision, both callees are asked until they obey.
async fn story(
    plan: &Plan,
    rig: &mut Rig,
    load: &Load,
    probes: &mut [Caller; 2],
) -> Result<(History, Kinds, Duration)> {
    let mut history = History::new();
    let mut kinds = Kinds::new();
    let mut ticks = tokio::time::interval(plan.time / plan.edits);
    let begin = load.now();
    for _ in 0..plan.edits {
        ticks.tick().await;
        let written = load.now();
        let made = rig.files.edit()?;
        let (count, times) = kinds.entry(made.kind).or_default();
        *count += 1;
        // What apps record is not looked at.
        drop((rig.http.take(), rig.grpc.take()));
        let Some((key, allows)) = made.change else {
            continue;
        };
        let [http, grpc] = &mut *probes;
        let obeyed = tokio::join!(
            obeyed(load, http, key, allows),
            obeyed(load, grpc, key, allows)
        );
        let what = || format!("{:?} of key {key} to {allows}", made.kind);
        let seen = [obeyed.0.with_context(what)?, obeyed.1.with_context(what)?];
        times.extend(seen.map(|seen| seen.saturating_sub(written)));
        history.add(
            key,
            State {
                allows,
                written,
                seen,
            },
        );
    }
    Ok((history, kinds, load.now().saturating_sub(begin)))
}

/// Asks until the answer is the new one; returns when it came.
async fn obeyed(load: &Load, probe: &mut Caller, key: usize, allows: bool) -> Result<Duration> {
    let start = load.now();
    while probe.ask(key).await? != allows {
        let waited = load.now().saturating_sub(start);
        ensure!(waited < wait::LONG, "no new decision after {waited:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(load.now())
}

impl Found {
    fn print(&self, plan: &Plan) {
        let Self {
            kinds,
            calls,
            denied,
            took,
        } = self;
        eprintln!(
            "policy: {} edits in {took:?}; {calls} calls ({:.0} a second), {denied} denied, 0 failed, 0 wrong; {} streams",
            plan.edits,
            f64::from(u32::try_from(*calls).unwrap_or(u32::MAX)) / took.as_secs_f64(),
            plan.streams
        );
        let mut all = Vec::new();
        for (kind, (count, times)) in kinds {
            eprintln!("policy:   {kind:?}: {count}, {}", spread(times.clone()));
            if *kind != Kind::Remove {
                all.extend(times);
            }
        }
        eprintln!("policy:   all but removals: {}", spread(all));
    }
}

/// Median and maximum.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(worst)) => {
            format!("changed decision after {median:.1?} p50, {worst:.1?} max")
        }
        _ => "no decision changed".to_owned(),
    }
}
