//! A callee's sidecar whose operator is away for long, or says nothing any more.

use std::time::Duration;

use anyhow::Result;
use ironside_e2e::{
    Operator, Scripted, Sentry, Sidecar, Spec, World,
    operator::{OPERATOR, allowing, stored},
    ports, wait,
};
use ironside_testkit::http::{self, Answer, HttpApp, Request};

struct Rig {
    world: World,
    sentry: Sentry,
    app: HttpApp,
    web: Sidecar,
    port: u16,
}

impl Rig {
    async fn new() -> Result<Self> {
        let world = World::new();
        let sentry = Sentry::start(&world).await?;
        let app = HttpApp::start(|_| Answer::text("ok")).await?;
        let web = Spec::new("web").mtls(&sentry).start(&world).await?;
        Ok(Self {
            port: ports::free(),
            world,
            sentry,
            app,
            web,
        })
    }

    async fn shop(&self) -> Result<Sidecar> {
        let address = format!("127.0.0.1:{}", self.port);
        let shop = Spec::new("shop").app(self.app.port()).mtls(&self.sentry);
        let shop = shop.flag("--control-plane-address", &address);
        shop.flag("--access-control", "required")
            .start(&self.world)
            .await
    }

    /// Statuses of a call that is allowed, and of one that is not.
    async fn both(&self) -> Result<(u16, u16)> {
        let ask = async |path: &str| -> Result<u16> {
            let request = Request::get(&format!("/v1.0/invoke/shop/method/{path}"));
            Ok(self.web.send(&request).await?.status())
        };
        Ok((ask("a").await?, ask("b").await?))
    }
}

/// Security 4.8: three heartbeats that do not come end a stream.
#[tokio::test]
#[ignore = "half a minute of silence: cargo xtask soak operator"]
async fn operator_that_falls_silent() -> Result<()> {
    let rig = Rig::new().await?;
    let mut script = Scripted::start(&rig.sentry, rig.port, OPERATOR).await;
    let shop = rig.shop().await?;
    let mut session = script.session().await;
    session.hear().await;
    session
        .snapshot(1, &[stored("p", 1, &allowing(&["/a"]))])
        .await;
    session.hear().await;
    let watch = wait::Stopwatch::start();
    let _next = script.session().await;
    let took = watch.elapsed();
    assert!(took >= Duration::from_secs(30), "{took:?}");
    assert!(session.is_over());
    shop.program.logged("silent for 30 s").await?;
    assert_eq!(rig.both().await?, (200, 403));
    Ok(())
}

/// Fact K201: ten minutes without an operator change no decision.
#[tokio::test]
#[ignore = "ten minutes without an operator: cargo xtask soak operator"]
async fn operator_away_for_ten_minutes() -> Result<()> {
    let rig = Rig::new().await?;
    let objects = [stored("p", 1, &allowing(&["/a"]))];
    let operator = Operator::start(&rig.sentry, rig.port, &objects).await;
    let shop = rig.shop().await?;
    operator.until("p", |status| status.applied == 1).await;
    operator.kill().await;
    let watch = wait::Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(600) {
        assert_eq!(rig.both().await?, (200, 403));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let page = http::send(shop.metrics(), &Request::get("/")).await?.text();
    let mut series = page.lines().filter(|line| !line.starts_with('#'));
    let line = series.find(|line| line.contains("accesscontrol_seconds_since_heartbeat"));
    let age = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    assert!(age.is_some_and(|age| age >= 590.0), "{line:?}");
    Ok(())
}
