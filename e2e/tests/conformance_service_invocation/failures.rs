//! Targets that cannot be reached: SI-020 to SI-023.

use std::time::Duration;

use anyhow::ensure;
use ironside_e2e::{Rows, Spec, World, wait};
use ironside_testkit::http::HttpApp;

use crate::rig::{contains, dead_port, invoke, not_invoked, register, same};

#[tokio::test]
async fn unreachable_targets() {
    let world = World::new();
    let a = Spec::new("appA").start(&world).await.unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-020", "an app that nobody announces", async {
        let alone = Spec::new("alone")
            .default_resolution()
            .start(&world)
            .await?;
        let watch = wait::Stopwatch::start();
        let reply = alone.send(&invoke("GET", "nosuch", "x")).await?;
        ensure!(
            watch.elapsed() < Duration::from_secs(4),
            "took {:?}",
            watch.elapsed()
        );
        let text = reply.text();
        let told = text.contains("couldn't find service: nosuch")
            || text.contains("timeout waiting for address");
        ensure!(told, "{text}");
        not_invoked(&reply, "failed to invoke, id: nosuch, err: ")
    })
    .await;
    rows.row("SI-021", "an address where nobody listens: three retries of a second", async {
        let port = dead_port();
        register(&world, "gone", port)?;
        let watch = wait::Stopwatch::start();
        let reply = a.send(&invoke("GET", "gone", "x")).await?;
        let took = watch.elapsed();
        ensure!(took > Duration::from_millis(2900) && took < Duration::from_secs(5), "took {took:?}");
        not_invoked(&reply, "failed to invoke target gone after 3 retries. Error: rpc error: code = Unavailable")?;
        contains("cause", &reply.text(), &format!("{port}: connect: connection refused"))
    })
    .await;
    rows.row("SI-022", "an app that does not listen: told at once", async {
        let mut app = HttpApp::start(|_| ironside_testkit::http::Answer::text("ok")).await?;
        let _b = Spec::new("appB").app(app.port()).ready(&world).await?;
        app.stop().await;
        let watch = wait::Stopwatch::start();
        let reply = a.send(&invoke("GET", "appB", "x")).await?;
        ensure!(watch.elapsed() < Duration::from_secs(1), "took {:?}", watch.elapsed());
        let cause = format!(
            "error invoking app channel: Get \"http://127.0.0.1:{0}/x\": dial tcp 127.0.0.1:{0}: connect: connection refused",
            app.port()
        );
        not_invoked(&reply, &cause)
    })
    .await;
    rows.row("SI-023", "a callee without app port", async {
        let bare = Spec::new("bare").start(&world).await?;
        not_invoked(
            &a.send(&invoke("GET", "bare", "x")).await?,
            "desc = app channel is not initialized",
        )?;
        let local = bare.send(&invoke("GET", "bare", "x")).await?;
        not_invoked(
            &local,
            "err: cannot invoke local endpoint: app channel not initialized",
        )?;
        same("health", 204, bare.get("/v1.0/healthz").await?.status())
    })
    .await;
    rows.close();
}
