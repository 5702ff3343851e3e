//! The Python SDK and grpcio: SD-01 to SD-15, SD-46, GP-01 to GP-07.

use std::process::Command;

use anyhow::{Result, ensure};
use ironside_e2e::{Spec, World, ports, program::Program, wait};

use crate::{beside, python, verdicts::Verdicts};

const CLIENT: [&str; 10] = [
    "SD-02", "SD-03", "SD-05", "SD-06", "SD-07", "SD-08", "SD-09", "SD-10", "SD-12", "SD-13",
];

/// Starts an app of `e2e/sdk/python` or `e2e/apps` on a free port.
pub(crate) fn app(world: &World, name: &str, mut command: Command) -> (Program, u16) {
    let port = ports::free();
    (
        Program::start(world, name, command.env("APP_PORT", port.to_string())),
        port,
    )
}

#[tokio::test]
#[ignore = "needs the SDKs: cargo xtask e2e sdk"]
async fn python_sdk() -> Result<()> {
    let world = World::new();
    let mut verdicts = Verdicts::of("python");
    let (_http, http_port) = app(&world, "http_app", python("sdk/python/http_app.py"));
    let (_grpc, grpc_port) = app(&world, "grpc_app", python("sdk/python/grpc_app.py"));
    let _pyhttp = Spec::new("pyhttp").app(http_port).ready(&world).await?;
    let _pygrpc = Spec::new("pygrpc")
        .app(grpc_port)
        .protocol("grpc")
        .ready(&world)
        .await?;
    let caller = Spec::new("caller").start(&world).await?;
    let keepalive = Program::start(
        &world,
        "keepalive",
        beside(&mut python("sdk/python/keepalive.py"), &caller),
    );
    let mut client = python("sdk/python/client.py");
    verdicts
        .collect(&world, "client", beside(&mut client, &caller), &CLIENT)
        .await;
    verdicts.row("SD-01", starting(&world)).await;
    tokens(&world, &mut verdicts).await?;
    verdicts.row("SD-12 shutdown", shutdown(&world)).await;
    health(&world, &mut verdicts).await?;
    verdicts.row("SD-15", fastapi(&world)).await;
    greeter(&world, &mut verdicts).await?;
    verdicts.finish(keepalive, &["SD-46"]).await;
    verdicts.close()
}

async fn starting(world: &World) -> Result<()> {
    let spec = Spec::new("starting").argument("--enable-api-logging");
    let mut waiting = python("sdk/python/waiting.py");
    waiting
        .env("DAPR_HTTP_PORT", spec.http().to_string())
        .env("DAPR_GRPC_PORT", spec.grpc().to_string());
    let client = Program::start(world, "waiting", &mut waiting);
    client.logged("waiting").await?;
    let sidecar = spec.start(world).await?;
    // The client looks once a second, and is content with the first good answer.
    client.logged("constructed").await?;
    let log = sidecar.program.log();
    let probes = log
        .lines()
        .filter(|line| line.contains("healthz/outbound") && line.contains("python"));
    ensure!(probes.count() >= 2, "less than two probes in the API log");
    Ok(())
}

async fn tokens(world: &World, verdicts: &mut Verdicts) -> Result<()> {
    let guarded = Spec::new("guarded")
        .env("DAPR_API_TOKEN", "right")
        .start(world)
        .await?;
    for (row, token, expect) in [
        ("SD-11 right", "right", "ok"),
        ("SD-11 wrong", "wrong", "401"),
        ("SD-11 absent", "", "401"),
    ] {
        let mut command = python("sdk/python/api_token.py");
        beside(&mut command, &guarded)
            .env("ROW", row)
            .env("EXPECT", expect);
        if !token.is_empty() {
            command.env("DAPR_API_TOKEN", token);
        }
        verdicts
            .collect(world, "api_token", &mut command, &[row])
            .await;
    }
    Ok(())
}

async fn shutdown(world: &World) -> Result<()> {
    let mut sidecar = Spec::new("ending").start(world).await?;
    let client = Program::start(
        world,
        "shutdown",
        beside(&mut python("sdk/python/shutdown.py"), &sidecar),
    );
    let status = sidecar.program.exit(wait::LONG).await?;
    ensure!(status.code() == Some(0), "exit {status}");
    client.logged("asked").await
}

async fn health(world: &World, verdicts: &mut Verdicts) -> Result<()> {
    for (row, handler, expect) in [
        ("SD-14 without handler", "", "unhealthy"),
        ("SD-14 with handler", "yes", "healthy"),
    ] {
        let mut command = python("sdk/python/grpc_app.py");
        command.env("HEALTH", handler);
        let (_app, port) = app(world, "grpc_app", command);
        let spec = Spec::new("pyhealth")
            .app(port)
            .protocol("grpc")
            .argument("--enable-app-health-check");
        let sidecar = spec
            .flag("--app-health-probe-interval", "1")
            .ready(world)
            .await?;
        let mut command = python("sdk/python/health.py");
        beside(&mut command, &sidecar)
            .env("ROW", row)
            .env("EXPECT", expect);
        verdicts
            .collect(world, "health", &mut command, &[row])
            .await;
    }
    Ok(())
}

async fn fastapi(world: &World) -> Result<()> {
    let (program, port) = app(world, "fastapi_app", python("sdk/python/fastapi_app.py"));
    let sidecar = Spec::new("fast").app(port).ready(world).await?;
    let reply = sidecar.get("/v1.0/invoke/fast/method/hello").await?;
    ensure!(
        reply.text() == "{\"hello\":\"world\"}",
        "{} {}",
        reply.status(),
        reply.text()
    );
    ensure!(
        !program.log().contains("/dapr/subscribe"),
        "the app was asked for subscriptions"
    );
    let log = sidecar.program.log();
    let error = log
        .lines()
        .find(|line| line.contains("level=error") || line.contains("level=fatal"));
    ensure!(error.is_none(), "{error:?}");
    Ok(())
}

/// The proxy how-to: once with the server's protocol left at http, once with grpc.
async fn greeter(world: &World, verdicts: &mut Verdicts) -> Result<()> {
    let (server, port) = app(world, "greeter", python("apps/greeter/python/server.py"));
    server.logged("Listening").await?;
    for (kind, protocol) in [("grpcio", "http"), ("grpcio to a grpc app", "grpc")] {
        let mut callee = Spec::new("greeter")
            .app(port)
            .protocol(protocol)
            .ready(world)
            .await?;
        let mut caller = Spec::new("caller").start(world).await?;
        let mut command = python("sdk/python/proxy.py");
        beside(&mut command, &caller).env("KIND", kind);
        let expected = ["GP-01", "GP-04", "GP-06", "GP-07"].map(|row| format!("{row} {kind}"));
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        verdicts
            .collect(world, "proxy", &mut command, &expected)
            .await;
        // In the name table of the world a killed sidecar would stay for seconds.
        callee.program.stop().await?;
        caller.program.stop().await?;
    }
    let noticed = "GP-05 grpcio cancellation at the server";
    verdicts.row(noticed, all_cancelled(&server)).await;
    Ok(())
}

/// What the server was asked for and the client gave up, the server gave up as well. A deadline of 100 ms may pass
/// before the call gets there, so only calls that the server received are counted.
async fn all_cancelled(server: &Program) -> Result<()> {
    let look = || async {
        let log = server.log();
        let received = log.matches("Received: slow").count();
        let cancelled = log.matches("Cancelled: slow").count();
        (received == cancelled && cancelled >= 2).then_some(())
    };
    wait::until("the end of every slow call", wait::LONG, look).await
}
