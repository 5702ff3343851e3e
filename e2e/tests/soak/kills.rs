//! A callee whose connections are killed at random bytes: what is executed, and what callers see.
//!
//! Two places are cut: between the two sidecars, and between the callee's sidecar and its app. Each call bears a
//! number that the app counts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, ensure};
use ironside_e2e::{Relay, Sidecar, Spec, World};
use ironside_testkit::http::{Answer, Connection, End, HttpApp, Request};

/// Bytes of a body, both ways: a call and its answer are larger than most places of a cut.
const BODY: usize = 3000;
/// The last byte at which a connection is cut.
const LAST: u64 = 24_000;

/// 1,000 kills between the sidecars, and as many at the app.
#[tokio::test]
#[ignore = "minutes: cargo xtask soak kills"]
async fn kills() -> Result<()> {
    story(500, true).await
}

/// The same with few of them, in CI.
#[tokio::test]
async fn a_few_kills_and_no_post_runs_twice() -> Result<()> {
    story(20, false).await
}

/// What became of the calls of one run.
#[derive(Debug, Default)]
struct Tally {
    calls: usize,
    successes: usize,
    /// Executions of the call that ran most often.
    most: usize,
    /// Answers that were cut, and could be seen to be.
    cut: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Sidecars,
    App,
}

async fn story(kills: usize, has_figures: bool) -> Result<()> {
    for place in [Place::Sidecars, Place::App] {
        for (verb, plain) in [("POST", false), ("GET", false), ("GET", true)] {
            // Without retries only the figures are of interest.
            if plain && !has_figures {
                continue;
            }
            let tally = run(place, verb, plain, kills).await?;
            let Tally {
                calls,
                successes,
                most,
                cut,
            } = tally;
            let share = 100.0 * successes as f64 / calls.max(1) as f64;
            let how = if plain {
                "without retries"
            } else {
                "by default"
            };
            eprintln!(
                "kills: {place:?}, {verb} {how}: {kills} kills, {calls} calls, {successes} succeeded ({share:.1} %), \
                 {cut} answers were cut, the most executions of one call: {most}"
            );
            ensure!(
                verb != "POST" || most <= 1,
                "a POST was executed {most} times"
            );
        }
    }
    Ok(())
}

async fn run(place: Place, verb: &str, plain: bool, kills: usize) -> Result<Tally> {
    let world = World::new();
    let counts = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let seen = Arc::clone(&counts);
    let body = "b".repeat(BODY);
    let answer = body.clone();
    let app = HttpApp::start(move |request| {
        // A request whose body is cut is none: an app does not execute it.
        if request.end == End::Whole {
            let mut counts = seen.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry(request.path().to_owned()).or_default() += 1;
        }
        Answer::text(&answer)
    })
    .await?;
    let seed = 0x9e37_79b9 + kills as u64;
    let (relay, _b) = match place {
        Place::Sidecars => {
            let b = Spec::new("behind").app(app.port()).ready(&world).await?;
            let relay = Relay::start(b.internal(), LAST, seed).await?;
            register(&world, "b", relay.port())?;
            (relay, b)
        }
        Place::App => {
            let relay = Relay::start(app.port(), LAST, seed).await?;
            let b = Spec::new("b").app(relay.port()).launch(&world);
            (relay, b)
        }
    };
    let mut a = Spec::new("a");
    // The pause is not what is looked at.
    let policy = if plain {
        "{policies: {}, targets: {apps: {b: {}}}}"
    } else {
        "{policies: {retries: {DaprBuiltInServiceRetries: {duration: 5ms, maxRetries: 3}}}, targets: {}}"
    };
    let yaml = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {{name: r}}\nspec: {policy}\n"
    );
    a = a.resource("r.yaml", &yaml);
    let a = a.start(&world).await?;
    let mut tally = Tally::default();
    while relay.kills() < kills {
        tally.calls += 1;
        call(&a, verb, &body, &mut tally).await?;
        ensure!(tally.calls < 100 * kills, "{} kills only", relay.kills());
    }
    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    tally.most = counts.values().copied().max().unwrap_or_default();
    Ok(tally)
}

async fn call(a: &Sidecar, verb: &str, body: &str, tally: &mut Tally) -> Result<()> {
    let path = format!("/v1.0/invoke/b/method/{}", tally.calls);
    let request = Request::new(verb, &path);
    let request = if verb == "POST" {
        request.body(body)
    } else {
        request
    };
    let mut connection = Connection::tcp(a.http()).await?;
    match connection.send(&request).await {
        Ok(reply) if reply.status() == 200 && reply.end == End::Whole => {
            ensure!(
                reply.text() == body,
                "a well-formed answer of {} bytes instead of {BODY}",
                reply.body.len()
            );
            tally.successes += 1;
        }
        Ok(reply) if reply.end == End::Whole => {
            ensure!(
                reply.status() == 500,
                "{}: {}",
                reply.status(),
                reply.text()
            );
        }
        Ok(_) | Err(_) => tally.cut += 1,
    }
    Ok(())
}

/// Puts an address into the name-resolution database, fresh for the next hour.
pub(crate) fn register(world: &World, app_id: &str, port: u16) -> Result<()> {
    let database = rusqlite::Connection::open(world.path().join("names.db"))?;
    database.busy_timeout(std::time::Duration::from_secs(5))?;
    let statement = "INSERT INTO hosts (registration_id, address, app_id, namespace, last_update) \
                     VALUES (?1, ?2, ?3, '', unixepoch() + 3600)";
    let row = (format!("fake-{port}"), format!("127.0.0.1:{port}"), app_id);
    database.execute(statement, row)?;
    Ok(())
}
