//! Limits of attempts and of calls, and callers that go away.

use std::time::Duration;

use anyhow::ensure;
use ironside_e2e::{Rows, wait};
use ironside_testkit::http::{Connection, End};

use crate::rig::{Rig, contains, get, invoke_service, not_invoked, said, same, series, timed};

/// limits over HTTP and InvokeService.
#[tokio::test]
async fn limits_hold() {
    let rig = Rig::start().await.unwrap();
    let spec = "{policies: {timeouts: {t: 300ms}}, targets: {apps: {b: {timeout: t}}}}";
    let a = rig.caller("timed", spec).await.unwrap();
    let mut rows = Rows::of("resiliency");
    rows.row("R-33", "an app that is too slow", async {
        let (reply, took) = timed(a.send(&get("slow/20000"))).await;
        not_invoked(
            &reply?,
            "failed to invoke, id: b, err: context deadline exceeded",
        )?;
        ensure!(took >= Duration::from_millis(300), "took {took:?}");
        wait::within("the app's request", wait::LONG, rig.app.cancelled()).await?;
        let labels = ["policy=\"timeout\"", "target=\"app_b\""];
        same(
            "count",
            1,
            series(&a, "dapr_resiliency_count", &labels).await?,
        )?;
        same(
            "activations",
            1,
            series(&a, "dapr_resiliency_activations_total", &labels).await?,
        )?;
        let reply = invoke_service(&a, "b", "slow/20000").await?;
        same("code", Some(4), reply.code())
    })
    .await;
    rows.row("R-35", "each attempt has its own limit", async {
        let spec = "{policies: {timeouts: {t: 200ms}, retries: {r: {duration: 200ms, maxRetries: 2}}}, \
                    targets: {apps: {b: {timeout: t, retry: r}}}}";
        let a = rig.caller("thrice", spec).await?;
        drop(rig.app.take());
        let (reply, took) = timed(a.send(&get("slow/20000"))).await;
        not_invoked(&reply?, "context deadline exceeded")?;
        ensure!(took >= Duration::from_millis(1000), "took {took:?}");
        wait::until("three calls", wait::LONG, || async {
            (rig.app.seen().len() == 3).then_some(())
        })
        .await
    })
    .await;
    rows.row("R-36", "a body that takes too long is cut, and nothing is sent again", async {
        let spec = "{policies: {timeouts: {t: 300ms}, retries: {r: {duration: 1ms, maxRetries: 3}}}, \
                    targets: {apps: {b: {timeout: t, retry: r}}}}";
        let a = rig.caller("cut", spec).await?;
        drop(rig.app.take());
        let mut connection = Connection::tcp(a.http()).await?;
        let reply = connection.send(&get("dribble/20000")).await;
        let is_cut = match &reply {
            Err(_) => true,
            Ok(reply) => reply.end != End::Whole,
        };
        ensure!(is_cut, "a well-formed answer: {reply:?}");
        same("calls", 1, rig.app.take().len())
    })
    .await;
    rows.row("overallTimeout", "all attempts together", async {
        let spec = "{policies: {retries: {r: {duration: 1s}}}, \
                    targets: {apps: {b: {retry: r, overallTimeout: 1900ms}}}}";
        let a = rig.caller("overall", spec).await?;
        let (reply, calls) = rig.calls(&a, &get("status/503/x")).await?;
        // A third attempt would be too late: the last answer stands.
        same("calls", (2, 503), (calls, reply.status()))?;
        let reply = a.send(&get("slow/20000")).await?;
        not_invoked(&reply, "context deadline exceeded")
    })
    .await;
    rows.row(
        "idle",
        "an answer that goes quiet is cut, others go on",
        async {
            let spec = "{policies: {circuitBreakers: {c: {trip: consecutiveFailures >= 1}}}, \
                        targets: {apps: {b: {circuitBreaker: c, idleTimeout: 1s}}}}";
            let a = rig.caller("idle", spec).await?;
            same(
                "whole",
                "firstsecond",
                &*a.send(&get("dribble/100")).await?.text(),
            )?;
            let slow = a.send(&get("slow/1500")).await?;
            same("a slow answer is none that went quiet", 200, slow.status())?;
            // No fault of the app: its breaker lets the next one through.
            for _ in 0..2 {
                drop(rig.app.take());
                let (reply, took) = timed(a.send(&get("dribble/60000"))).await;
                let is_cut = reply.as_ref().map_or(true, |reply| reply.end != End::Whole);
                ensure!(is_cut, "a well-formed answer: {reply:?}");
                ensure!(took >= Duration::from_secs(1), "took {took:?}");
                wait::within("the app's request", wait::LONG, rig.app.cancelled()).await?;
            }
            Ok(())
        },
    )
    .await;
    rows.row("R-77", "a caller that leaves during a wait", async {
        let spec = "{policies: {retries: {r: {duration: 500ms, maxRetries: 50}}}, targets: {apps: {b: {retry: r}}}}";
        let a = rig.caller("leaving", spec).await?;
        drop(rig.app.take());
        let mut connection = Connection::tcp(a.http()).await?;
        connection.write(get("status/500/gone").bytes()).await?;
        a.program.logged("Retrying in 500ms").await?;
        let calls = rig.app.seen().len();
        drop(connection);
        // The request was dropped where it waited: the record of it is its end.
        wait::until("the record of a client that left", wait::LONG, || async {
            let labels = ["status=\"499\""];
            let name = "dapr_http_server_request_count";
            let count = series(&a, name, &labels).await.ok()?;
            (count == 1).then_some(())
        })
        .await?;
        ensure!(rig.app.seen().len() <= calls + 1, "calls go on");
        said(&a, "Retrying in").await?;
        contains("alive", &a.send(&get("ok")).await?.text(), "ok")
    })
    .await;
    rows.close();
}
