//! Three replicas, of which one is slow or fails fast: how many calls each gets, and how long calls take.

use std::time::Duration;

use anyhow::{Result, ensure};
use ironside_e2e::{Sidecar, Spec, World, wait::Stopwatch};
use ironside_testkit::http::{self, Answer, HttpApp, Request};

const CALLS: usize = 2000;
const WORKERS: usize = 8;

/// What a replica does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Takes(u64),
    Fails,
}

/// Done 3: shares and latencies with the balancer, and in turns.
#[tokio::test]
#[ignore = "a minute of load: cargo xtask soak replicas"]
async fn replicas() -> Result<()> {
    for (name, third) in [
        ("one is ten times slower", Kind::Takes(200)),
        ("one fails at once", Kind::Fails),
    ] {
        let world = World::new();
        let mut apps: Vec<HttpApp> = Vec::new();
        let mut sidecars: Vec<Sidecar> = Vec::new();
        for kind in [Kind::Takes(20), Kind::Takes(20), third] {
            let app = HttpApp::start(move |_| match kind {
                Kind::Takes(time) => Answer::status(200)
                    .pause(Duration::from_millis(time))
                    .body("ok"),
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
        for (how, names) in [
            ("balanced", vec!["b".to_owned()]),
            (
                "in turns",
                (0..3).map(|number| format!("b{number}")).collect(),
            ),
        ] {
            apps.iter().for_each(|app| drop(app.take()));
            let mut times = load(a.http(), &names).await?;
            times.sort_unstable();
            let at = |per_cent: usize| {
                let place = times.len() * per_cent / 100;
                times
                    .get(place.min(times.len() - 1))
                    .copied()
                    .unwrap_or_default()
            };
            let shares: Vec<usize> = apps.iter().map(|app| app.seen().len()).collect();
            let per_cent: Vec<usize> = shares.iter().map(|count| count * 100 / CALLS).collect();
            eprintln!(
                "replicas: {name}, {how}: calls {shares:?} ({per_cent:?} %), p50 {:?}, p99 {:?}",
                at(50),
                at(99)
            );
            if how == "balanced" {
                ensure!(shares[2] * 4 < CALLS, "the third got {} calls", shares[2]);
            }
        }
    }
    Ok(())
}

/// Calls the names in turns from several tasks; returns what each call took.
async fn load(port: u16, names: &[String]) -> Result<Vec<Duration>> {
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        let names = names.to_vec();
        workers.spawn(async move {
            let mut times = Vec::new();
            for call in 0..CALLS / WORKERS {
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
