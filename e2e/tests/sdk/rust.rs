//! The Rust SDK and tonic: SD-30 to SD-33, GP-01 to GP-07.

use std::process::Command;

use anyhow::{Result, ensure};
use ironside_e2e::{Spec, World, binaries, ports, program::Program, wait};

use crate::{beside, cache, python, python::app, rust, verdicts::Verdicts};

#[tokio::test]
#[ignore = "needs the SDKs: cargo xtask e2e sdk"]
async fn rust_sdk() -> Result<()> {
    let world = World::new();
    let mut verdicts = Verdicts::of("rust");
    let (_echo, port) = app(&world, "echo", rust("echo"));
    let _rustecho = Spec::new("rustecho")
        .app(port)
        .protocol("grpc")
        .ready(&world)
        .await?;
    let (server, port) = app(&world, "greeter", python("apps/greeter/python/server.py"));
    server.logged("Listening").await?;
    let _greeter = Spec::new("greeter")
        .app(port)
        .protocol("grpc")
        .ready(&world)
        .await?;
    let caller = Spec::new("caller").start(&world).await?;
    let expected = [
        "SD-31",
        "SD-33",
        "GP-01 tonic",
        "GP-04 tonic",
        "GP-06 tonic",
        "GP-07 tonic",
    ];
    verdicts
        .collect(
            &world,
            "client",
            beside(&mut rust("client"), &caller),
            &expected,
        )
        .await;
    verdicts.row("SD-30", connects_at_once(&world)).await;
    verdicts.row("SD-32", panicking_app(&world)).await;
    verdicts.close()
}

/// `run` with an app port: the sidecar's gRPC port answers when the app starts, although the app never listens.
async fn connects_at_once(world: &World) -> Result<()> {
    let mut run = Command::new(binaries::path("ironside"));
    run.env("HOME", world.path())
        .env("XDG_RUNTIME_DIR", world.path());
    run.args([
        "run",
        "--app-id",
        "eager",
        "--app-port",
        &ports::free().to_string(),
        "--",
    ]);
    run.arg(cache().join("rust/debug/ironside-sdk-rows"))
        .arg("connect");
    let mut run = Program::start(world, "run", &mut run).gentle();
    let status = run.exit(wait::LONG).await?;
    ensure!(
        run.log().contains("connected to eager"),
        "{status}: {}",
        run.log()
    );
    Ok(())
}

async fn panicking_app(world: &World) -> Result<()> {
    let (_app, port) = app(world, "ready-made", rust("ready-made"));
    let mut sidecar = Spec::new("rustready")
        .app(port)
        .protocol("grpc")
        .ready(world)
        .await?;
    for _ in 0..2 {
        let reply = sidecar.get("/v1.0/invoke/rustready/method/x").await?;
        ensure!(reply.status() >= 400, "{} {}", reply.status(), reply.text());
    }
    ensure!(sidecar.program.ended().is_none(), "the sidecar ended");
    Ok(())
}
