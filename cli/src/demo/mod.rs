//! `demo`: two apps call each other through two sidecars, in front of the viewer.
//!
//! One process tree: Sentry, two sidecars, an HTTP app and a gRPC app, all on the loopback interface. Every line that
//! is shown was just observed; the SPIFFE IDs are those that the sidecars themselves report as verified. Whatever fails
//! ends the demo with exit code 1 and the last lines of the log that explains it.

mod actor;
mod calls;
mod measure;
mod policy;
pub(crate) mod sample;
mod show;
mod stage;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ironside_chassis::clock::Clock;

use crate::command::Session;
use crate::process::Interrupts;
use calls::{GrpcClient, HttpClient};
use show::{Show, short};
use stage::{Stage, Talk};

/// How long a newly announced app may take to be found.
const DISCOVERY: Duration = Duration::from_secs(5);
/// How long calls go on before and after the restart.
const AROUND_RESTART: Duration = Duration::from_millis(500);
/// The names that are greeted on one stream.
const NAMES: [&str; 5] = ["Ada", "Grace", "Barbara", "Frances", "Radia"];

/// Runs the demo.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::install()?;
    let mut stage = Stage::build(&session.environment)?;
    let mut show = Show::new(session.environment.text("NO_COLOR").is_some());
    let stay = session.values.switch("stay");
    let played = tokio::select! {
        biased;
        () = interrupts.next() => None,
        played = play(&mut stage, &mut show, &session.clock) => Some(played),
    };
    if stay && matches!(played, Some(Ok(()))) {
        linger(&stage, &show);
        interrupts.next().await;
    }
    if matches!(played, Some(Err(_))) {
        crate::output::err(stage.last_lines().as_bytes());
    }
    stage.strike().await;
    match played {
        Some(Ok(())) => {
            if !stay {
                next_steps(&show, &session.program);
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(Err(error)) => Err(error),
        None => bail!("interrupted"),
    }
}

async fn play(stage: &mut Stage, show: &mut Show, clock: &Clock) -> anyhow::Result<()> {
    let begin = clock.monotonic();
    show.headline("Ironside demo: two apps, two sidecars, mutual TLS, all on this machine");
    start(stage, show, clock).await?;
    discover(stage, show, clock).await?;
    call(stage, show, clock).await?;
    identify(stage, show).await?;
    policy::change(stage, show, clock).await?;
    restart(stage, show, clock).await?;
    let rows = time(stage, clock).await?;
    show.summary();
    let rows: Vec<_> = rows
        .iter()
        .map(|(what, latencies)| (*what, latencies))
        .collect();
    show.latencies(&rows);
    let took = clock.monotonic().since(begin);
    crate::output::line(&format!("\nAll of this took {}.", short(took)));
    Ok(())
}

async fn start(stage: &mut Stage, show: &mut Show, clock: &Clock) -> anyhow::Result<()> {
    let begin = clock.monotonic();
    let Stage {
        set,
        orders,
        greeter,
    } = stage;
    set.start_sentry().await.context("starting Sentry")?;
    for pair in [orders, greeter] {
        set.start_app(pair)
            .await
            .with_context(|| format!("starting {}", pair.id))?;
        set.start_sidecar(pair, Talk::Debug)
            .await
            .with_context(|| format!("starting the sidecar of {}", pair.id))?;
    }
    let took = short(clock.monotonic().since(begin));
    show.done(
        "Start",
        &format!("Sentry, 2 apps, 2 sidecars with certificates, ready in {took}"),
    );
    Ok(())
}

/// The first call in each direction: it succeeds as soon as the callee has been found.
async fn discover(stage: &Stage, show: &mut Show, clock: &Clock) -> anyhow::Result<()> {
    let tasks = stage.set.tasks();
    let begin = clock.monotonic();
    let found = async {
        loop {
            let mut client =
                HttpClient::through(stage.greeter.http_port(), &stage.orders.id, tasks).await?;
            match client.order().await {
                Ok(_) => return anyhow::Ok(()),
                Err(error) if clock.monotonic().since(begin) > DISCOVERY => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    found
        .await
        .with_context(|| format!("finding {}", stage.orders.id))?;
    let took = short(clock.monotonic().since(begin));
    let found = stage.set.announced();
    let found: Vec<String> = found
        .iter()
        .map(|(id, at)| format!("{id} at {at}"))
        .collect();
    show.done(
        "Discovery",
        &format!(
            "{}; found and called for the first time in {took}",
            found.join("; ")
        ),
    );
    Ok(())
}

async fn call(stage: &Stage, show: &mut Show, clock: &Clock) -> anyhow::Result<()> {
    let tasks = stage.set.tasks();
    let (orders, greeter) = (&stage.orders.id, &stage.greeter.id);
    let mut http = HttpClient::through(stage.greeter.http_port(), orders, tasks).await?;
    let (answer, took) = timed(clock, http.order()).await;
    let answer = answer.context("the HTTP call")?;
    show.done(
        "HTTP call",
        &format!("{greeter} → POST /orders of {orders}; {answer} in {took}"),
    );

    let mut grpc = GrpcClient::connect(stage.orders.grpc_port(), Some(greeter), tasks).await?;
    let (answer, took) = timed(clock, grpc.hello("Ada")).await;
    let answer = answer.context("the gRPC call")?;
    show.done(
        "gRPC call",
        &format!("{orders} → helloworld.Greeter/SayHello of {greeter}; {answer:?} in {took}"),
    );

    let greetings = grpc.hello_each(&NAMES).await.context("the gRPC stream")?;
    let ticks = http.ticks().await.context("the HTTP stream")?;
    let turns = greetings.len();
    if turns != NAMES.len() || ticks == 0 {
        bail!("the streams ended early: {turns} greetings, {ticks} events");
    }
    let text = format!(
        "gRPC, {turns} names on one stream, each after the reply to the last; HTTP, {ticks} server-sent events"
    );
    show.done("Streaming", &text);
    Ok(())
}

async fn timed<T>(clock: &Clock, call: impl Future<Output = T>) -> (T, String) {
    let before = clock.monotonic();
    let answer = call.await;
    (answer, short(clock.monotonic().since(before)))
}

/// Shows whom each sidecar says it verified.
async fn identify(stage: &Stage, show: &mut Show) -> anyhow::Result<()> {
    let pairs = [&stage.orders, &stage.greeter];
    let told = || {
        pairs.map(|pair| {
            (
                pair.id.as_str(),
                pair.sidecar
                    .as_ref()
                    .map(actor::Actor::verified)
                    .unwrap_or_default(),
            )
        })
    };
    // The log lines may still be on their way through the pipe.
    let complete = async {
        while told().iter().any(|(_, peers)| peers.is_empty()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(2), complete)
        .await
        .is_err()
    {
        bail!("a sidecar reported no verified peer");
    }
    let lines: Vec<String> = told()
        .iter()
        .flat_map(|(id, peers)| {
            peers
                .iter()
                .map(move |peer| format!("{id} verified {peer}"))
        })
        .collect();
    show.done("Identities", &lines.join("; "));
    Ok(())
}

/// Restarts the callee, app and sidecar, while calls keep coming.
async fn restart(stage: &mut Stage, show: &mut Show, clock: &Clock) -> anyhow::Result<()> {
    let Stage {
        set,
        orders,
        greeter,
    } = stage;
    let id = orders.id.clone();
    let away = async {
        tokio::time::sleep(AROUND_RESTART).await;
        let begin = clock.monotonic();
        orders.stop_sidecar().await;
        orders.stop_app().await;
        set.start_app(orders).await?;
        set.start_sidecar(orders, Talk::Info).await?;
        let away = clock.monotonic().since(begin);
        tokio::time::sleep(AROUND_RESTART).await;
        anyhow::Ok(away)
    };
    let mut gone = Duration::ZERO;
    let meanwhile = async {
        gone = away.await?;
        anyhow::Ok(())
    };
    let outcome = Box::pin(measure::during(
        clock,
        set.tasks(),
        (greeter.http_port(), &id),
        meanwhile,
    ))
    .await?;
    let mut text = format!(
        "{id} and its sidecar were away for {}; {} of {} calls failed; the longest took {}",
        short(gone),
        outcome.failed,
        outcome.calls,
        short(outcome.longest)
    );
    if let Some(failure) = outcome.first_failure {
        text.push_str(&format!("; first failure {failure}"));
    }
    show.done("Restart under load", &text);
    Ok(())
}

/// Times calls with and without sidecars, which no longer log every peer.
async fn time(
    stage: &mut Stage,
    clock: &Clock,
) -> anyhow::Result<Vec<(&'static str, measure::Latencies)>> {
    let Stage {
        set,
        orders,
        greeter,
    } = stage;
    greeter.stop_sidecar().await;
    set.start_sidecar(greeter, Talk::Info).await?;
    let tasks = set.tasks();
    let direct = HttpClient::direct(orders.app_port(), tasks).await?;
    let through = HttpClient::through(greeter.http_port(), &orders.id, tasks).await?;
    let grpc_direct = GrpcClient::connect(greeter.app_port(), None, tasks).await?;
    let grpc_through = GrpcClient::connect(orders.grpc_port(), Some(&greeter.id), tasks).await?;
    Ok(vec![
        (
            "HTTP, app called directly",
            measure::http(clock, direct).await?,
        ),
        (
            "HTTP, through both sidecars and mutual TLS",
            measure::http(clock, through).await?,
        ),
        (
            "gRPC, app called directly",
            measure::grpc(clock, grpc_direct).await?,
        ),
        (
            "gRPC, through both sidecars and mutual TLS",
            measure::grpc(clock, grpc_through).await?,
        ),
    ])
}

fn linger(stage: &Stage, show: &Show) {
    let port = stage.greeter.http_port();
    let order = calls::ORDER;
    let id = &stage.orders.id;
    show.commands(
        "Everything keeps running until Ctrl-C. From another terminal:",
        &[
            ("call an app by its id", format!("curl -X POST -H 'Content-Type: application/json' -d '{order}' http://127.0.0.1:{port}/v1.0/invoke/{id}/method/orders")),
            ("the same, by header", format!("curl -X POST -H 'dapr-app-id: {id}' -d '{order}' http://127.0.0.1:{port}/orders")),
            ("a stream of events", format!("curl -N http://127.0.0.1:{port}/v1.0/invoke/{id}/method/ticks")),
            ("what a sidecar says about itself", format!("curl http://127.0.0.1:{port}/v1.0/metadata")),
            ("an app that nobody announced", format!("curl -i http://127.0.0.1:{port}/v1.0/invoke/nobody/method/x")),
        ],
    );
}

fn next_steps(show: &Show, program: &str) {
    show.commands(
        "Three commands to try next:",
        &[
            (
                "the same, left running for your own curl",
                format!("{program} demo --stay"),
            ),
            (
                "your own app with a sidecar",
                format!(
                    "{program} run --app-id myapp --app-port 8080 -- python3 -m http.server 8080"
                ),
            ),
            (
                "call it from another terminal",
                format!("{program} invoke --app-id myapp --method / --verb GET"),
            ),
        ],
    );
}
