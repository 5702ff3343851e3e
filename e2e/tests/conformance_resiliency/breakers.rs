//! Circuit breakers as callers and scrapers see them.

use anyhow::ensure;
use ironside_e2e::{Rows, Sidecar, wait};
use ironside_testkit::http::{Answer, HttpApp, Request};

use crate::rig::{
    Rig, contains, get, invoke_service, lines, not_invoked, said, same, series, until_status,
};

const OPEN: &str = "failed to invoke, id: b, err: circuit breaker is open";

async fn fail(rig: &Rig, a: &Sidecar, path: &str, times: usize) -> anyhow::Result<()> {
    for _ in 0..times {
        let (_, calls) = rig.calls(a, &get(path)).await?;
        same("calls", 1, calls)?;
    }
    Ok(())
}

/// when breakers open, and for which calls.
#[tokio::test]
async fn breakers_open() {
    let rig = Rig::start().await.unwrap();
    let spec = "{policies: {circuitBreakers: {c: {trip: consecutiveFailures >= 3, timeout: 60s}}}, \
                targets: {apps: {b: {circuitBreaker: c}}}}";
    let a = rig.caller("a", spec).await.unwrap();
    let mut rows = Rows::of("resiliency");
    rows.row("R-40 M-23 L-15", "three failures open it", async {
        fail(&rig, &a, "status/500/x", 3).await?;
        let (reply, calls) = rig.calls(&a, &get("status/500/x")).await?;
        same("calls", 0, calls)?;
        not_invoked(&reply, OPEN)?;
        let line = "Circuit breaker \"b:status/500/x\" changed state from closed to open";
        said(&a, line).await?;
        let labels =
            |status: &'static str| ["policy=\"circuitbreaker\"", "target=\"app_b\"", status];
        for (name, status, count) in [
            ("dapr_resiliency_count", "status=\"closed\"", 3),
            ("dapr_resiliency_count", "status=\"open\"", 1),
            ("dapr_resiliency_activations_total", "status=\"open\"", 1),
            ("dapr_resiliency_cb_state", "status=\"open\"", 1),
            ("dapr_resiliency_cb_state", "status=\"closed\"", 0),
        ] {
            same(name, count, series(&a, name, &labels(status)).await?)?;
        }
        let reply = invoke_service(&a, "b", "status/500/x").await?;
        same("code", Some(2), reply.code())?;
        same(
            "message",
            "circuit breaker is open",
            reply.message().as_str(),
        )
    })
    .await;
    rows.row(
        "R-51 R-52 R-53",
        "4xx count, methods have breakers of their own, queries do not",
        async {
            for query in ["?x=1", "?x=2", "?x=3"] {
                fail(&rig, &a, &format!("status/404/q{query}"), 1).await?;
            }
            let (reply, calls) = rig.calls(&a, &get("status/404/q?x=4")).await?;
            same("calls", 0, calls)?;
            not_invoked(&reply, OPEN)?;
            fail(&rig, &a, "status/404/other", 1).await
        },
    )
    .await;
    rows.row("R-45 R-48", "other expressions", async {
        for (id, policy, most) in [
            ("none", "{}", 6),
            ("two", "{trip: totalFailures > 2 && requests > 5}", 6),
        ] {
            let spec = format!("{{policies: {{circuitBreakers: {{c: {policy}}}}}, targets: {{apps: {{b: {{circuitBreaker: c}}}}}}}}");
            let a = rig.caller(id, &spec).await?;
            fail(&rig, &a, "status/500/x", most).await?;
            let (reply, calls) = rig.calls(&a, &get("status/500/x")).await?;
            same(id, 0, calls)?;
            not_invoked(&reply, OPEN)?;
        }
        Ok(())
    })
    .await;
    rows.row("R-54", "each attempt counts, and an open breaker ends the retries", async {
        let spec = "{policies: {circuitBreakers: {c: {trip: consecutiveFailures >= 3}}, retries: {r: {duration: 1ms, maxRetries: 5}}}, \
                    targets: {apps: {b: {circuitBreaker: c, retry: r}}}}";
        let a = rig.caller("both", spec).await?;
        let (reply, calls) = rig.calls(&a, &get("status/500/x")).await?;
        same("calls", 3, calls)?;
        not_invoked(&reply, OPEN)
    })
    .await;
    rows.row("R-56", "the longest unused breaker goes first", async {
        let spec = "{policies: {circuitBreakers: {c: {trip: consecutiveFailures >= 3}}}, \
                    targets: {apps: {b: {circuitBreaker: c, circuitBreakerCacheSize: 1}}}}";
        let a = rig.caller("small", spec).await?;
        fail(&rig, &a, "status/500/x", 3).await?;
        fail(&rig, &a, "status/200/y", 1).await?;
        fail(&rig, &a, "status/500/x", 1).await
    })
    .await;
    rows.row("R-59", "bodies of unknown length count", async {
        let spec = "{policies: {circuitBreakers: {c: {trip: consecutiveFailures >= 3}}, retries: {r: {duration: 1ms, maxRetries: 2}}}, \
                    targets: {apps: {b: {circuitBreaker: c, retry: r}}}}";
        let a = rig.caller("chunked", spec).await?;
        let request = Request::new("POST", "/v1.0/invoke/b/method/status/500/x").chunked(["abc"]);
        for _ in 0..3 {
            let (reply, calls) = rig.calls(&a, &request).await?;
            same("calls", (1, 500), (calls, reply.status()))?;
        }
        let (reply, calls) = rig.calls(&a, &request).await?;
        same("calls", 0, calls)?;
        not_invoked(&reply, OPEN)
    })
    .await;
    rows.row("matching", "a breaker that ignores client errors", async {
        let spec = "{policies: {circuitBreakers: {c: {trip: consecutiveFailures >= 2, matching: {httpStatusCodes: 500-599}}}}, \
                    targets: {apps: {b: {circuitBreaker: c}}}}";
        let a = rig.caller("strict", spec).await?;
        fail(&rig, &a, "status/404/x", 5).await?;
        fail(&rig, &a, "status/500/x", 2).await?;
        let (_, calls) = rig.calls(&a, &get("status/500/x")).await?;
        same("calls", 0, calls)
    })
    .await;
    rows.row("methods", "a part of an app with policies of its own", async {
        let spec = "{policies: {circuitBreakers: {c: {trip: consecutiveFailures >= 2}}, retries: {r: {duration: 1ms, maxRetries: 2}}}, \
                    targets: {apps: {b: {methods: [{path: /status/500/*, circuitBreaker: c}, {path: /status/502/**, verbs: [GET], retry: r}]}}}}";
        let a = rig.caller("parts", spec).await?;
        fail(&rig, &a, "status/500/x", 1).await?;
        fail(&rig, &a, "status/500/y", 1).await?;
        let (reply, calls) = rig.calls(&a, &get("status/500/z")).await?;
        same("one breaker for all paths", 0, calls)?;
        not_invoked(&reply, OPEN)?;
        let (_, calls) = rig.calls(&a, &get("status/502/x")).await?;
        same("retried", 3, calls)?;
        let (_, calls) = rig.calls(&a, &get("status/503/x")).await?;
        same("no policy", 1, calls)
    })
    .await;
    rows.close();
}

async fn closed(a: &Sidecar) -> anyhow::Result<()> {
    wait::until("a closed breaker", wait::LONG, || async {
        (lines(a, "from half-open to closed") == 1).then_some(())
    })
    .await
}

/// M-24: an open breaker lets probes through.
#[tokio::test]
async fn breakers_close() {
    let rig = Rig::start().await.unwrap();
    let gate = ironside_testkit::http::Gate::new();
    let opened = gate.clone();
    // Fails until it is told otherwise; a probe can be held.
    let health = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(500));
    let state = std::sync::Arc::clone(&health);
    let app = HttpApp::start(move |seen| {
        let code = state.load(std::sync::atomic::Ordering::Relaxed);
        let answer = Answer::status(code);
        if seen.path().contains("held") && code == 200 {
            answer.gate(&opened).body("x")
        } else {
            answer.body("x")
        }
    })
    .await
    .unwrap();
    let _c = ironside_e2e::Spec::new("c")
        .app(app.port())
        .ready(&rig.world)
        .await
        .unwrap();
    let spec = |more: &str| {
        format!(
            "{{policies: {{circuitBreakers: {{c: {{trip: consecutiveFailures >= 2, timeout: 300ms{more}}}}}}}, \
             targets: {{apps: {{c: {{circuitBreaker: c}}}}}}}}"
        )
    };
    let call = |path: &str| Request::get(&format!("/v1.0/invoke/c/method/{path}"));
    let set = |code| health.store(code, std::sync::atomic::Ordering::Relaxed);
    let mut rows = Rows::of("resiliency");
    rows.row("R-41 R-42 M-24", "a probe decides", async {
        let a = rig.caller("probing", &spec("")).await?;
        for _ in 0..2 {
            same("status", 500, a.send(&call("x")).await?.status())?;
        }
        let open = "changed state from closed to open";
        said(&a, open).await?;
        // The probe fails: open again.
        wait::until("a failed probe", wait::LONG, || async {
            drop(a.send(&call("x")).await.ok()?);
            (lines(&a, "from half-open to open") > 0).then_some(())
        })
        .await?;
        contains(
            "refused",
            &a.send(&call("x")).await?.text(),
            "circuit breaker is open",
        )?;
        set(200);
        until_status(&a, &call("x"), 200).await?;
        closed(&a).await?;
        let labels = |status: &'static str| ["policy=\"circuitbreaker\"", status];
        let gauge = "dapr_resiliency_cb_state";
        same(
            "gauge",
            1,
            series(&a, gauge, &labels("status=\"closed\"")).await?,
        )?;
        same(
            "gauge",
            0,
            series(&a, gauge, &labels("status=\"half-open\"")).await?,
        )?;
        for _ in 0..3 {
            same("status", 200, a.send(&call("x")).await?.status())?;
        }
        Ok(())
    })
    .await;
    rows.row("R-43", "one probe at a time", async {
        set(500);
        let a = rig.caller("single", &spec(", maxRequests: 1")).await?;
        for _ in 0..2 {
            same("status", 500, a.send(&call("held")).await?.status())?;
        }
        set(200);
        drop(app.take());
        let path = call("held");
        let (probe, refused) = tokio::join!(
            async {
                wait::until("the probe", wait::LONG, || async {
                    let reply = a.send(&path).await.ok()?;
                    (reply.status() == 200).then_some(())
                })
                .await
            },
            async {
                wait::within("the probe at the app", wait::LONG, app.arrived(1)).await?;
                let refused = a.send(&path).await;
                gate.open();
                refused.map_err(anyhow::Error::from)
            }
        );
        probe?;
        not_invoked(&refused?, "too many requests")
    })
    .await;
    rows.row("R-44", "three successes close it", async {
        set(500);
        let a = rig.caller("three", &spec(", maxRequests: 3")).await?;
        for _ in 0..2 {
            same("status", 500, a.send(&call("x")).await?.status())?;
        }
        set(200);
        until_status(&a, &call("x"), 200).await?;
        for count in [0, 1] {
            same("closed", 0, lines(&a, "from half-open to closed"))?;
            ensure!(a.send(&call("x")).await?.status() == 200, "success {count}");
        }
        // It hears of a success when the last byte has gone.
        closed(&a).await
    })
    .await;
    rows.close();
}
