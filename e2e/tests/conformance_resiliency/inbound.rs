//! The callee's bounds: how many calls wait for a place, how fast each caller calls, and rates of the caller.

use anyhow::ensure;
use ironside_e2e::{Rows, Spec, World};
use ironside_testkit::http::{Answer, Gate, HttpApp, Request};

use crate::rig::{contains, resiliency, same};

/// resiliency-observability 6.2, rows "Concurrency limits, load shedding" and "Rate limiting".
#[tokio::test]
async fn an_app_takes_in_what_it_can() {
    let world = World::new();
    let gate = Gate::new();
    let opened = gate.clone();
    let app = HttpApp::start(move |_| Answer::status(200).gate(&opened).body("ok"))
        .await
        .unwrap();
    let open = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
    let _small = Spec::new("small")
        .app(app.port())
        .flag("--app-max-concurrency", "1")
        .configure("  inbound:\n    queue:\n      size: 1\n")
        .ready(&world)
        .await
        .unwrap();
    let _slow = Spec::new("slow")
        .app(open.port())
        .configure("  inbound:\n    rateLimit:\n      requestsPerSecond: 0.01\n      burst: 2\n")
        .ready(&world)
        .await
        .unwrap();
    let spec =
        "{policies: {}, targets: {apps: {open: {rateLimit: {requestsPerSecond: 0.01, burst: 2}}}}}";
    let _open = Spec::new("open")
        .app(open.port())
        .ready(&world)
        .await
        .unwrap();
    let a = Spec::new("a")
        .resource("r.yaml", &resiliency("r", spec))
        .start(&world)
        .await
        .unwrap();
    let call = |app: &str| Request::get(&format!("/v1.0/invoke/{app}/method/x"));
    let mut rows = Rows::of("resiliency");
    rows.row(
        "queue",
        "one is served, one waits, the third is turned away",
        async {
            let request = call("small");
            let one = || async {
                let reply = a.send(&request).await;
                // Whichever is turned away, the others may go on now.
                if reply.as_ref().is_ok_and(|reply| reply.status() == 503) {
                    gate.open();
                    gate.open();
                }
                reply
            };
            let (first, second, third) = tokio::join!(one(), one(), one());
            let mut replies = [first?, second?, third?];
            replies.sort_by_key(ironside_testkit::http::Reply::status);
            let [one, other, refused] = replies;
            let statuses = (one.status(), other.status(), refused.status());
            same("served", (200, 200, 503), statuses)?;
            same("retry-after", Some("1"), refused.header("retry-after"))?;
            let text = "app is busy: 1 requests wait for a place already";
            contains("body", &refused.text(), text)
        },
    )
    .await;
    rows.row(
        "rates",
        "a caller that is too fast, by the callee and by its own policy",
        async {
            for (app, text) in [
                ("slow", "too many requests of this caller"),
                ("open", "rate limit of the target is used up"),
            ] {
                for _ in 0..2 {
                    same(app, 200, a.send(&call(app)).await?.status())?;
                }
                let reply = a.send(&call(app)).await?;
                same(app, 429, reply.status())?;
                contains(app, &reply.text(), text)?;
                let again: u64 = reply.header("retry-after").unwrap_or("0").parse()?;
                ensure!((90..=100).contains(&again), "retry-after {again}");
            }
            same("calls", 4, open.take().len())
        },
    )
    .await;
    rows.close();
}
