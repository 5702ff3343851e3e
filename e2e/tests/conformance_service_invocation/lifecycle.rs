//! Start, signals, shutdown, sockets: SI-143, SI-146 to SI-151, SI-153, SI-154.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Sidecar, Spec, World, wait};
use ironside_testkit::http::{Answer, Connection, Gate, HttpApp, Request, Setup};
use rustix::process::Signal;

use crate::rig::{dead_port, invoke, not_invoked, same};

#[tokio::test]
async fn start() {
    let world = World::new();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-143", "an id with a dot ends the start", async {
        let mut dotted = Spec::new("a.b").launch(&world);
        same(
            "exit",
            Some(1),
            dotted.program.exit(wait::LONG).await?.code(),
        )?;
        dotted
            .program
            .logged("parameter app-id cannot contain dots")
            .await
    })
    .await;
    rows.row("SI-154", "flags with a single dash", async {
        let single = Spec::new("single")
            .argument("-app-max-concurrency")
            .argument("3")
            .start(&world)
            .await?;
        let text = single.get("/v1.0/metadata").await?.text();
        same("id", true, text.contains("\"id\":\"single\""))
    })
    .await;
    rows.row("SI-146", "an app that comes late", async {
        let app = HttpApp::start(|_| Answer::text("ok")).await?;
        let _b = Spec::new("appB").app(app.port()).ready(&world).await?;
        let port = dead_port();
        let mut late = Spec::new("late").app(port).start(&world).await?;
        same(
            "outbound",
            200,
            late.send(&invoke("GET", "appB", "x")).await?.status(),
        )?;
        same(
            "health before",
            500,
            late.get("/v1.0/healthz").await?.status(),
        )?;
        not_invoked(
            &late.send(&invoke("GET", "late", "x")).await?,
            "connect: connection refused",
        )?;
        let _app = Setup::new(|_| Answer::text("here"))
            .port(port)
            .start()
            .await?;
        late.healthy("/v1.0/healthz").await?;
        same(
            "inbound",
            "here",
            late.send(&invoke("GET", "late", "x"))
                .await?
                .text()
                .as_str(),
        )
    })
    .await;
    rows.close();
}

/// A sidecar that invokes its own app, with a call that hangs in the app.
struct Hanging {
    sidecar: Sidecar,
    app: HttpApp,
    gate: Gate,
    call: Connection,
}

async fn hanging(world: &World, grace: &str) -> Result<Hanging> {
    let gate = Gate::new();
    let app = crate::rig::http_app(&gate).await?;
    let spec = Spec::new("busy")
        .app(app.port())
        .flag("--dapr-graceful-shutdown-seconds", grace);
    let sidecar = spec.ready(world).await?;
    let mut call = Connection::tcp(sidecar.http()).await?;
    call.write(invoke("GET", "busy", "gate").bytes()).await?;
    app.busy(1).await;
    Ok(Hanging {
        sidecar,
        app,
        gate,
        call,
    })
}

/// Waits until the HTTP API refuses connections.
async fn refused(sidecar: &Sidecar) -> Result<()> {
    let look = || async { Connection::tcp(sidecar.http()).await.is_err().then_some(()) };
    wait::until("refusal of new connections", wait::LONG, look).await
}

#[tokio::test]
async fn shutdown() {
    let world = World::new();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-147", "a call in flight finishes", async {
        let Hanging {
            mut sidecar,
            app: _app,
            gate,
            mut call,
        } = hanging(&world, "5").await?;
        sidecar.program.signal(Signal::TERM);
        refused(&sidecar).await?;
        gate.open();
        let reply = call.reply("GET").await?;
        same("answer", (200, "opened"), (reply.status(), &reply.text()))?;
        same(
            "exit",
            Some(0),
            sidecar.program.exit(wait::LONG).await?.code(),
        )?;
        sidecar.program.logged("Daprd shutdown gracefully").await
    })
    .await;
    rows.row(
        "SI-148",
        "an endless call ends with the grace period",
        async {
            let Hanging {
                mut sidecar,
                app: _app,
                gate: _gate,
                mut call,
            } = hanging(&world, "1").await?;
            let watch = wait::Stopwatch::start();
            sidecar.program.signal(Signal::TERM);
            same(
                "exit",
                Some(1),
                sidecar.program.exit(wait::LONG).await?.code(),
            )?;
            let took = watch.elapsed();
            ensure!(
                took > Duration::from_millis(900) && took < Duration::from_secs(4),
                "took {took:?}"
            );
            ensure!(call.reply("GET").await.is_err(), "the client got an answer");
            sidecar
                .program
                .logged("Graceful shutdown timeout exceeded, forcing shutdown")
                .await
        },
    )
    .await;
    rows.row("SI-151", "a second signal ends at once", async {
        let Hanging {
            mut sidecar,
            app: _app,
            gate: _gate,
            call: _call,
        } = hanging(&world, "30").await?;
        sidecar.program.signal(Signal::TERM);
        refused(&sidecar).await?;
        sidecar.program.signal(Signal::TERM);
        same(
            "exit",
            Some(1),
            sidecar.program.exit(Duration::from_secs(2)).await?.code(),
        )?;
        sidecar
            .program
            .logged("during shutdown; exiting immediately")
            .await
    })
    .await;
    rows.close();
}

#[tokio::test]
async fn blocked_shutdown() {
    let world = World::new();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-149", "the APIs serve on for the given time", async {
        let app = HttpApp::start(|_| Answer::text("ok")).await?;
        let spec = Spec::new("blocked")
            .app(app.port())
            .flag("--dapr-block-shutdown-duration", "1500ms");
        let mut blocked = spec.ready(&world).await?;
        let watch = wait::Stopwatch::start();
        blocked.program.signal(Signal::TERM);
        blocked
            .program
            .logged("Blocking graceful shutdown for 1.5s or until app reports unhealthy...")
            .await?;
        let reply = blocked.send(&invoke("GET", "blocked", "x")).await?;
        ensure!(
            watch.elapsed() < Duration::from_millis(1400),
            "this machine is too slow to tell"
        );
        same("meanwhile", 200, reply.status())?;
        refused(&blocked).await?;
        ensure!(
            watch.elapsed() > Duration::from_millis(1400),
            "refused after {:?}",
            watch.elapsed()
        );
        same(
            "exit",
            Some(0),
            blocked.program.exit(wait::LONG).await?.code(),
        )?;
        blocked
            .program
            .logged("Block shutdown period expired, entering shutdown...")
            .await
    })
    .await;
    rows.row("SI-150", "an unhealthy app ends the block", async {
        let (switch, healthy) = tokio::sync::watch::channel(true);
        let app = HttpApp::start(move |_| {
            if *healthy.borrow() {
                Answer::text("ok")
            } else {
                Answer::status(503)
            }
        });
        let app = app.await?;
        let spec = Spec::new("blocked")
            .app(app.port())
            .argument("--enable-app-health-check");
        let spec = spec
            .flag("--app-health-probe-interval", "1")
            .flag("--app-health-threshold", "1");
        let mut blocked = spec
            .flag("--dapr-block-shutdown-duration", "180s")
            .ready(&world)
            .await?;
        let healthy = || async {
            blocked
                .send(&invoke("GET", "blocked", "x"))
                .await
                .ok()
                .filter(|reply| reply.status() == 200)
        };
        wait::until("health of the app", wait::LONG, healthy).await?;
        blocked.program.signal(Signal::TERM);
        blocked
            .program
            .logged("Blocking graceful shutdown for 3m0s")
            .await?;
        switch.send_replace(false);
        same(
            "exit",
            Some(0),
            blocked.program.exit(wait::LONG).await?.code(),
        )?;
        blocked
            .program
            .logged("App reported unhealthy, entering shutdown...")
            .await
    })
    .await;
    rows.close();
}

#[tokio::test]
async fn unix_sockets() {
    let world = World::new();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-153", "the API on sockets instead of ports", async {
        let folder = world.path().to_str().context("a path of text")?.to_owned();
        let mut sidecar = Spec::new("sock")
            .flag("--unix-domain-socket", &folder)
            .launch(&world);
        let http = world.path().join("dapr-sock-http.socket");
        let healthy = || async {
            let reply = Connection::unix(&http)
                .await
                .ok()?
                .send(&Request::get("/v1.0/healthz/outbound"))
                .await
                .ok()?;
            (reply.status() == 204).then_some(())
        };
        wait::until("health over the socket", wait::LONG, healthy).await?;
        ensure!(
            world.path().join("dapr-sock-grpc.socket").exists(),
            "no gRPC socket"
        );
        for port in [sidecar.http(), sidecar.grpc()] {
            ensure!(Connection::tcp(port).await.is_err(), "port {port} is open");
        }
        same("exit", Some(0), sidecar.program.stop().await?.code())?;
        ensure!(
            !http.exists() && !world.path().join("dapr-sock-grpc.socket").exists(),
            "sockets remain"
        );
        Ok(())
    })
    .await;
    rows.close();
}
