//! Several addresses of one app: dead ones, slow ones, failing ones.

use std::time::Duration;

use anyhow::ensure;
use ironside_e2e::{Rows, Spec, World, ports};
use ironside_testkit::http::{Answer, HttpApp, Request};

use crate::rig::{register, resiliency, same, series, timed};

const REQUEST: &str = "/v1.0/invoke/b/method/x";

/// R-79: two replicas, one dead.
#[tokio::test]
async fn one_of_two_replicas_is_dead() {
    let world = World::new();
    let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
    let _b = Spec::new("b").app(app.port()).ready(&world).await.unwrap();
    register(&world, "b", ports::free()).unwrap();
    let a = Spec::new("a").start(&world).await.unwrap();
    let mut rows = Rows::of("resiliency");
    rows.row("R-79", "no call fails, none waits", async {
        for (count, request) in [
            (50, Request::get(REQUEST)),
            (50, Request::post(REQUEST, "once")),
            (20, Request::new("POST", REQUEST).chunked(["once"])),
        ] {
            drop(app.take());
            for _ in 0..count {
                let (reply, took) = timed(a.send(&request)).await;
                same("status", 200, reply?.status())?;
                ensure!(took < Duration::from_secs(1), "took {took:?}");
            }
            same("each once", count, app.take().len())?;
        }
        let endpoints = "dapr_resiliency_endpoints";
        let known = series(&a, endpoints, &["target=\"app_b\""]).await?;
        same("addresses", 2, known)
    })
    .await;
    rows.close();
}

/// R-80, R-81: replicas that answer badly, and a policy with a budget.
#[tokio::test]
async fn replicas_that_fail() {
    let world = World::new();
    let mut apps = Vec::new();
    let mut sidecars = Vec::new();
    for code in [200, 200, 503] {
        let app = HttpApp::start(move |_| Answer::status(code).body("x"))
            .await
            .unwrap();
        sidecars.push(Spec::new("b").app(app.port()).ready(&world).await.unwrap());
        apps.push(app);
    }
    let a = Spec::new("a").start(&world).await.unwrap();
    let mut rows = Rows::of("resiliency");
    rows.row("R-80", "one that fails fast draws no calls", async {
        let request = Request::get(REQUEST);
        for _ in 0..300 {
            drop(a.send(&request).await?);
        }
        let shares: Vec<usize> = apps.iter().map(|app| app.seen().len()).collect();
        eprintln!("calls per replica: {shares:?}");
        ensure!(shares[2] < 100, "{shares:?}");
        same("calls", 300, shares.iter().sum::<usize>())
    })
    .await;
    rows.row("R-81", "a budget bounds retries of a policy", async {
        let bad = HttpApp::start(|_| Answer::status(503).body("x")).await?;
        let _bad = Spec::new("bad").app(bad.port()).ready(&world).await?;
        let spec = "{policies: {retries: {r: {duration: 1ms, maxRetries: 3}}}, \
                    targets: {apps: {bad: {retry: r, retryBudget: {ratio: 0.2, minRetriesPerSecond: 1, ttl: 10s}}}}}";
        let a = Spec::new("spender").resource("r.yaml", &resiliency("r", spec));
        let a = a.start(&world).await?;
        let request = Request::get("/v1.0/invoke/bad/method/x");
        let (_, took) = timed(async {
            for _ in 0..200 {
                let reply = a.send(&request).await?;
                ensure!(reply.status() == 503, "{}", reply.text());
            }
            Ok(())
        })
        .await;
        let attempts = bad.seen().len() as f64;
        // Every started life of the budget has its reserve of ten.
        let bound = 200.0 * 1.2 + 10.0 * (took.as_secs_f64() / 9.0 + 1.0).ceil();
        eprintln!("attempts of 200 calls: {attempts}, bound {bound}");
        ensure!(attempts > 200.0 && attempts <= bound, "{attempts} of {bound}");
        Ok(())
    })
    .await;
    rows.row(
        "sessionAffinity",
        "a header ties calls to a replica",
        async {
            let spec = "{policies: {}, targets: {apps: {b: {sessionAffinity: {header: x-user}}}}}";
            let a = Spec::new("tied").resource("r.yaml", &resiliency("r", spec));
            let a = a.start(&world).await?;
            for user in ["ann", "bob", "eve"] {
                apps.iter().for_each(|app| drop(app.take()));
                for _ in 0..20 {
                    drop(
                        a.send(&Request::get(REQUEST).header("x-user", user))
                            .await?,
                    );
                }
                let mut shares: Vec<usize> = apps.iter().map(|app| app.seen().len()).collect();
                shares.sort_unstable();
                same(user, vec![0, 0, 20], shares)?;
            }
            Ok(())
        },
    )
    .await;
    drop(sidecars);
    rows.close();
}
