//! The JavaScript SDK and grpc-js: SD-20 to SD-29, GP-01 to GP-07.

use anyhow::{Result, ensure};
use ironside_e2e::{Spec, World, ports, program::Program};

use crate::{beside, node, python::app, verdicts::Verdicts};

const CLIENT: [&str; 9] = [
    "SD-20", "SD-22", "SD-23", "SD-24", "SD-25", "SD-26", "SD-27", "SD-28", "SD-29",
];

#[tokio::test]
#[ignore = "needs the SDKs: cargo xtask e2e sdk"]
async fn javascript_sdk() -> Result<()> {
    let world = World::new();
    let mut verdicts = Verdicts::of("javascript");
    let mut absent = node("sdk/javascript/absent.js");
    absent.env("DAPR_HTTP_PORT", ports::free().to_string());
    let absent = Program::start(&world, "absent", &mut absent);
    let (_app, port) = app(&world, "app", node("sdk/javascript/app.js"));
    let _jsapp = Spec::new("jsapp").app(port).ready(&world).await?;
    let _http = served(&world, "jsserver", "http").await?;
    let _grpc = served(&world, "jsgrpc", "grpc").await?;
    let spec = Spec::new("caller")
        .flag("--max-body-size", "8Mi")
        .argument("--enable-api-logging");
    let caller = spec.start(&world).await?;
    let mut client = node("sdk/javascript/client.js");
    verdicts
        .collect(&world, "client", beside(&mut client, &caller), &CLIENT)
        .await;
    let asked = async {
        let log = caller.program.log();
        let count = log
            .lines()
            .filter(|line| line.contains("\"GET /v1.0/metadata\""))
            .count();
        ensure!(count == 1, "metadata was asked for {count} times");
        Ok(())
    };
    verdicts.row("SD-20 one question for metadata", asked).await;
    greeter(&world, &mut verdicts).await?;
    verdicts.finish(absent, &["SD-21"]).await;
    verdicts.close()
}

/// A DaprServer waits for its sidecar, and the sidecar for it: both start, then both are ready.
async fn served(
    world: &World,
    id: &str,
    protocol: &str,
) -> Result<(Program, ironside_e2e::Sidecar)> {
    let port = ports::free();
    let mut sidecar = Spec::new(id)
        .app(port)
        .protocol(protocol)
        .flag("--max-body-size", "8Mi")
        .launch(world);
    let mut command = node("sdk/javascript/server.js");
    beside(&mut command, &sidecar)
        .env("APP_PORT", port.to_string())
        .env("PROTOCOL", protocol);
    let server = Program::start(world, id, &mut command);
    sidecar.healthy("/v1.0/healthz").await?;
    server.logged("serving").await?;
    Ok((server, sidecar))
}

async fn greeter(world: &World, verdicts: &mut Verdicts) -> Result<()> {
    let (server, port) = app(world, "greeter", node("apps/greeter/javascript/server.js"));
    server.logged("Listening").await?;
    let _callee = Spec::new("greeter").app(port).ready(world).await?;
    let caller = Spec::new("caller").start(world).await?;
    let mut command = node("sdk/javascript/proxy.js");
    let expected = [
        "GP-01 grpc-js",
        "GP-04 grpc-js",
        "GP-06 grpc-js",
        "GP-07 grpc-js",
    ];
    verdicts
        .collect(world, "proxy", beside(&mut command, &caller), &expected)
        .await;
    Ok(())
}
