//! Mutual TLS between sidecars: SI-108, SI-144, SI-160.

use std::time::Duration;

use anyhow::ensure;
use ironside_e2e::{Rows, Sentry, Spec, World, wait};
use ironside_testkit::http::{Answer, Connection, HttpApp};

use crate::rig::{contains, dead_port, invoke, not_invoked, register, same};

#[tokio::test]
async fn identities() {
    let world = World::new();
    let sentry = Sentry::start(&world).await.unwrap();
    let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
    let a = Spec::new("appA").mtls(&sentry).start(&world).await.unwrap();
    let b = Spec::new("appB")
        .app(app.port())
        .mtls(&sentry)
        .ready(&world)
        .await
        .unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-108", "a peer with another app id is not called", async {
        register(&world, "impostor", b.internal())?;
        let watch = wait::Stopwatch::start();
        let reply = a.send(&invoke("GET", "impostor", "x")).await?;
        ensure!(watch.elapsed() > Duration::from_millis(2900), "took {:?}", watch.elapsed());
        not_invoked(&reply, "failed to invoke target impostor after 3 retries. Error: rpc error: code = Unavailable")?;
        contains("text", &reply.text(), "unexpected SPIFFE ID: ")?;
        contains("text", &reply.text(), "spiffe://public/ns/default/appB")?;
        same("calls of the app", 0, app.take().len())
    })
    .await;
    rows.row(
        "SI-160",
        "another namespace is refused, connection or not",
        async {
            for _ in 0..2 {
                let reply = a.send(&invoke("GET", "appB.otherns", "x")).await?;
                not_invoked(
                    &reply,
                    "unexpected SPIFFE ID: \\\"spiffe://public/ns/default/appB\\\"",
                )?;
                same("calls of the app", 0, app.take().len())?;
                same(
                    "right name",
                    200,
                    a.send(&invoke("GET", "appB", "x")).await?.status(),
                )?;
                drop(app.take());
            }
            Ok(())
        },
    )
    .await;
    rows.close();
}

#[tokio::test]
async fn no_sentry() {
    let world = World::new();
    let mut rows = Rows::of("service-invocation");
    rows.row(
        "SI-144",
        "without Sentry no port answers, and a stop is a clean one",
        async {
            let anchors = ironside_testkit::certs::Ca::new().root_pem();
            let spec = Spec::new("waiting")
                .argument("--enable-mtls")
                .env("DAPR_TRUST_ANCHORS", &anchors);
            let mut waiting = spec
                .flag("--sentry-address", &format!("127.0.0.1:{}", dead_port()))
                .launch(&world);
            waiting.program.logged("Fetching initial identity").await?;
            for port in [
                waiting.http(),
                waiting.grpc(),
                waiting.internal(),
                waiting.metrics(),
            ] {
                ensure!(Connection::tcp(port).await.is_err(), "port {port} is open");
            }
            same("exit", Some(0), waiting.program.stop().await?.code())
        },
    )
    .await;
    rows.close();
}
