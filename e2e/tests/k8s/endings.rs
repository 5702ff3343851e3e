//! A pod that is to go is called no longer, well before it has gone.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{
    k8s::{self, Helm, Place, Sample},
    wait::Stopwatch,
};
use serde_json::{Value, json};

/// How long an app that is told to go still answers.
const LINGER: Duration = Duration::from_secs(25);

/// Calls that none of which reaches a pod show that it is left alone.
const MANY: u64 = 40;

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

async fn left(place: &Place, is_native: bool) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let linger = format!("--linger={}", LINGER.as_millis());
    let orders = Sample::with_sidecar("orders").replicas(2);
    place
        .start(&orders.native(is_native).argument(&linger))
        .await?;
    place.start(&Sample::with_sidecar("web")).await?;
    let web = place.pod("app=web").await?;
    let call = json!({
        "url": "http://localhost:3500/v1.0/invoke/orders/method/orders", "method": "POST",
        "timeout_ms": 30_000,
    });
    let load = json!({"call": call, "workers": 4, "pause_ms": 10});
    place.start_load(&web, &load).await?;
    let pods = place.pods("app=orders").await?;
    let pod = pods.first().and_then(|pod| pod.metadata.name.clone());
    let pod = pod.context("a pod")?;
    let calls = async || Some(number(&place.counts(&pod).await.ok()?["/orders"]));
    let is_called = async || (calls().await? > MANY).then_some(());
    place.until("both pods are called", is_called).await?;
    let watch = Stopwatch::start();
    let said = place.kubectl(&["delete", "pod", &pod, "--wait=false"], None)?;
    ensure!(said.ok, "{}", said.stderr);
    let (mut seen, mut last, mut since) = (0, Duration::ZERO, 0);
    loop {
        // It answers as long as it lingers: an error means that it was called to its end.
        let now = number(&place.counts(&pod).await?["/orders"]);
        let made = number(&place.load(&web).await?["ok"]);
        if now != seen {
            (seen, last, since) = (now, watch.elapsed(), made);
        } else if made >= since + MANY {
            break;
        }
    }
    let account = place.end_load(&web).await?;
    let style = if is_native { "native" } else { "classic" };
    k8s::figure(&format!(
        "ending {style}: the last call came {:.2} s after the deletion; {} calls, {} failed",
        last.as_secs_f64(),
        account["ok"],
        account["failed"]
    ));
    ensure!(account["failed"] == 0, "{account}");
    Ok(())
}

/// DNS alone tells: a native sidecar hears of the end after its app.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_native_pod_is_left_alone_while_it_ends() {
    k8s::test(
        "endings::a_native_pod_is_left_alone_while_it_ends",
        async |place: &Place| left(place, true).await,
    )
    .await;
}

/// The sidecar tells, on its connections.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_classic_pod_is_left_alone_while_it_ends() {
    k8s::test(
        "endings::a_classic_pod_is_left_alone_while_it_ends",
        async |place: &Place| left(place, false).await,
    )
    .await;
}
