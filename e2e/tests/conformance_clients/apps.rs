//! Apps that restart, hang, speak TLS or never HTTP/1.1: SD-52, GP-02, GP-09, GP-10.

use std::time::Duration;

use anyhow::{Result, ensure};
use ironside_e2e::{Rows, Sidecar, Spec, World, ports, wait};
use ironside_testkit::{
    grpc::{Exchange, GrpcApp, GrpcClient, Running},
    http::{Answer, Setup},
    tls::SelfSigned,
};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::same;

fn echo(mut call: Exchange) -> Running {
    Box::pin(async move {
        let message = call.message().await.unwrap_or_default();
        call.begin_reply(&[]);
        call.reply(&message);
        call.end(0, "", &[]);
    })
}

async fn healthy_soon(
    world: &World,
    id: &str,
    setup: impl FnOnce(u16) -> Setup,
) -> Result<Sidecar> {
    let port = ports::free();
    let mut sidecar = Spec::new(id).app(port).start(world).await?;
    let app = setup(port).start().await?;
    let watch = wait::Stopwatch::start();
    sidecar.healthy("/v1.0/healthz").await?;
    let took = watch.elapsed();
    ensure!(took < Duration::from_secs(1), "healthy after {took:?}");
    drop(app);
    Ok(sidecar)
}

#[tokio::test]
async fn apps_of_all_kinds() {
    let world = World::new();
    let mut rows = Rows::of("clients");
    rows.row(
        "SD-52",
        "an app that does not know, or hangs on, its configuration",
        async {
            healthy_soon(&world, "unknowing", |port| {
                Setup::new(|_| Answer::status(404)).port(port)
            })
            .await?;
            let gate = ironside_testkit::http::Gate::new();
            let held = gate.clone();
            healthy_soon(&world, "hanging", move |port| {
                Setup::new(move |_| Answer::status(200).gate(&held)).port(port)
            })
            .await?;
            gate.open();
            Ok(())
        },
    )
    .await;
    rows.row(
        "GP-02",
        "an app of protocol grpc never sees HTTP/1.1",
        async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let port = listener.local_addr()?.port();
            let sidecar = Spec::new("grpc-only")
                .app(port)
                .protocol("grpc")
                .launch(&world);
            let first = async {
                loop {
                    let (mut stream, _) = listener.accept().await?;
                    let mut start = [0; 3];
                    // A bare connect is the look for the port; the first bytes are what counts.
                    if stream.read_exact(&mut start).await.is_ok() {
                        return anyhow::Ok(start);
                    }
                }
            };
            let client = async {
                sidecar
                    .program
                    .logged("application discovered on port")
                    .await?;
                let client = sidecar.client().await?;
                let mut call = client
                    .open("/greet.G/Hi", &[("dapr-app-id", "grpc-only")])
                    .await?;
                call.half_close();
                anyhow::Ok((client, call))
            };
            let (first, held) = tokio::join!(first, client);
            drop(held?);
            same("first bytes", *b"PRI", first?)
        },
    )
    .await;
    rows.row("GP-09", "an app that restarts between two calls", async {
        let mut app = GrpcApp::start(echo).await?;
        let sidecar = Spec::new("restarting")
            .app(app.port())
            .protocol("grpc")
            .ready(&world)
            .await?;
        let to = [("dapr-app-id", "restarting")];
        let client = sidecar.client().await?;
        same(
            "before",
            Some(0),
            client.call("/greet.G/Hi", &to, &[b"1"]).await?.code(),
        )?;
        app.stop().await;
        same(
            "meanwhile",
            Some(14),
            client.call("/greet.G/Hi", &to, &[b"2"]).await?.code(),
        )?;
        let _again = GrpcApp::start_on(app.port(), None, echo).await?;
        let served = || async {
            client
                .call("/greet.G/Hi", &to, &[b"3"])
                .await
                .ok()
                .filter(|reply| reply.code() == Some(0))
        };
        wait::until("a call after the restart", wait::LONG, served).await?;
        Ok(())
    })
    .await;
    rows.row(
        "GP-10",
        "an app with TLS and a self-signed certificate",
        async {
            let app =
                GrpcApp::start_on(0, Some(SelfSigned::new().wrap(&["h2"], None)), echo).await?;
            let sidecar = Spec::new("grpcs")
                .app(app.port())
                .protocol("grpcs")
                .ready(&world)
                .await?;
            let reply = sidecar
                .client()
                .await?
                .call("/greet.G/Hi", &[("dapr-app-id", "grpcs")], &[b"hi"])
                .await?;
            same(
                "answer",
                (Some(0), vec![b"hi".to_vec()]),
                (reply.code(), reply.messages),
            )
        },
    )
    .await;
    rows.row(
        "2.9 pings",
        "pings without calls are no reason to leave",
        async {
            let sidecar = Spec::new("pinged").start(&world).await?;
            let client = GrpcClient::connect(sidecar.grpc()).await?;
            let path = "/dapr.proto.runtime.v1.Dapr/GetMetadata";
            same(
                "call",
                Some(0),
                client.call(path, &[], &[b""]).await?.code(),
            )?;
            ensure!(client.is_open(), "the connection is gone");
            Ok(())
        },
    )
    .await;
    rows.close();
}
