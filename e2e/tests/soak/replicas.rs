//! Three replicas, of which one is slow or fails fast: how many calls each gets, and how long calls take.

use std::time::Duration;

use anyhow::{Result, ensure};
use ironside_e2e::{Sidecar, Spec, World, wait::Stopwatch};
use ironside_testkit::http::{self, Answer, HttpApp, Request};

const WORKERS: usize = 8;

/// How much is asked of replicas, and how long they take.
#[derive(Clone, Copy, Debug)]
struct Load {
    calls: usize,
    usual: Duration,
    /// Ten times as long.
    slow: Duration,
}

/// What a replica does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Takes(Duration),
    Fails,
}

/// What one load came to.
#[derive(Debug)]
struct Figures {
    /// Calls of each replica.
    shares: Vec<usize>,
    /// What calls took, the shortest first.
    times: Vec<Duration>,
}

/// Done 3: shares and latencies with the balancer, and in turns; the ratios are those of one run.
#[tokio::test]
#[ignore = "a minute of load: cargo xtask soak replicas"]
async fn replicas() -> Result<()> {
    let load = Load {
        calls: 2000,
        usual: Duration::from_millis(20),
        slow: Duration::from_millis(200),
    };
    let (balanced, turns) = story(load, Kind::Takes(load.slow)).await?;
    // In turns every third call is slow; a balancer keeps nine of ten from it.
    ensure!(
        balanced.at(90) * 2 < turns.at(90),
        "p90 {:?} of {:?}",
        balanced.at(90),
        turns.at(90)
    );
    ensure!(balanced.shares[2] * 4 < load.calls, "{balanced:?}");
    let (balanced, _) = story(load, Kind::Fails).await?;
    ensure!(balanced.shares[2] * 4 < load.calls, "{balanced:?}");
    Ok(())
}

/// The same with fewer calls, and shares alone: what calls take is the machine's.
#[tokio::test]
async fn a_slow_replica_and_a_failing_one_get_less_than_their_share() -> Result<()> {
    let load = Load {
        calls: 96,
        usual: Duration::from_millis(100),
        slow: Duration::from_secs(1),
    };
    for third in [Kind::Takes(load.slow), Kind::Fails] {
        let (balanced, turns) = story(load, third).await?;
        ensure!(balanced.shares[2] * 3 < load.calls, "{balanced:?}");
        ensure!(turns.shares == [load.calls / 3; 3], "{turns:?}");
    }
    Ok(())
}

/// The figures of a load with the balancer and of one in turns, with this third replica.
async fn story(load: Load, third: Kind) -> Result<(Figures, Figures)> {
    let world = World::new();
    let mut apps: Vec<HttpApp> = Vec::new();
    let mut sidecars: Vec<Sidecar> = Vec::new();
    for kind in [Kind::Takes(load.usual), Kind::Takes(load.usual), third] {
        let app = HttpApp::start(move |_| match kind {
            Kind::Takes(time) => Answer::status(200).pause(time).body("ok"),
            Kind::Fails => Answer::status(503).body("no"),
        })
        .await?;
        sidecars.push(Spec::new("b").app(app.port()).ready(&world).await?);
        apps.push(app);
    }
    // The same sidecars, one name for each, to be called in turns.
    for (number, sidecar) in sidecars.iter().enumerate() {
        alias(&world, &format!("b{number}"), sidecar.internal())?;
    }
    let a = Spec::new("a").start(&world).await?;
    let run = async |names: &[&str]| {
        apps.iter().for_each(|app| drop(app.take()));
        let mut times = work(a.http(), names, load.calls).await?;
        times.sort_unstable();
        let shares = apps.iter().map(|app| app.seen().len()).collect();
        anyhow::Ok(Figures { shares, times })
    };
    let balanced = run(&["b"]).await?;
    let turns = run(&["b0", "b1", "b2"]).await?;
    for (how, figures) in [("balanced", &balanced), ("in turns", &turns)] {
        let per_cent = figures.shares.iter().map(|count| count * 100 / load.calls);
        eprintln!(
            "replicas: {third:?}, {how}: calls {:?} ({:?} %), p50 {:?}, p90 {:?}, p99 {:?}",
            figures.shares,
            per_cent.collect::<Vec<_>>(),
            figures.at(50),
            figures.at(90),
            figures.at(99)
        );
    }
    for per_cent in [50, 90, 99] {
        let ratio = balanced.at(per_cent).as_secs_f64() / turns.at(per_cent).as_secs_f64();
        eprintln!("replicas: {third:?}: p{per_cent} balanced is {ratio:.2} of that in turns");
    }
    Ok((balanced, turns))
}

// === impl Figures ===

impl Figures {
    /// What so many of a hundred calls took at most.
    fn at(&self, per_cent: usize) -> Duration {
        let last = self.times.len().saturating_sub(1);
        let place = (self.times.len() * per_cent / 100).min(last);
        self.times.get(place).copied().unwrap_or_default()
    }
}

/// Calls the names in turns from several tasks; returns what each call took.
async fn work(port: u16, names: &[&str], calls: usize) -> Result<Vec<Duration>> {
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        workers.spawn(async move {
            let mut times = Vec::new();
            for call in 0..calls / WORKERS {
                let name = &names[(worker + call) % names.len()];
                let request = Request::get(&format!("/v1.0/invoke/{name}/method/x"));
                let watch = Stopwatch::start();
                drop(http::send(port, &request).await?);
                times.push(watch.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = workers.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}

/// Another name for a sidecar: the database holds each address once, so it is written another way.
fn alias(world: &World, app_id: &str, port: u16) -> Result<()> {
    let database = rusqlite::Connection::open(world.path().join("names.db"))?;
    database.busy_timeout(Duration::from_secs(5))?;
    let statement = "INSERT INTO hosts (registration_id, address, app_id, namespace, last_update) \
                     VALUES (?1, ?2, ?3, '', unixepoch() + 3600)";
    let row = (format!("alias-{port}"), format!("localhost:{port}"), app_id);
    database.execute(statement, row)?;
    Ok(())
}
