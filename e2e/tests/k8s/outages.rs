//! Parts of the control plane are away: what runs goes on, and what is new waits and recovers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{self, Helm, Machine, Place, Sample};
use ironside_e2e::wait::Stopwatch;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use serde_json::json;

use crate::breaking::{
    self, CONTROL, INJECTOR, Load, SENTRY, ask, churning, is_injected, kubectl, reaches, restarts,
    scale, wanting,
};

/// How long what is away stays away, once everybody has met its absence.
const AWAY: Duration = Duration::from_secs(10);

/// Starts a Deployment without waiting for it; returns its one pod as soon as there is one.
async fn begun(place: &Place, sample: &Sample, labels: &str) -> Result<String> {
    place.apply(&sample.manifest().to_string())?;
    let look = async || place.pod(labels).await.ok();
    place.until("a new pod", look).await
}

async fn without_sentry(_machine: &Machine, place: &Place) -> Result<()> {
    let load = Load::start(place).await?;
    scale(place, SENTRY, 0).await?;
    let late = begun(place, &Sample::with_sidecar("late"), "app=late").await?;
    // It has met the absence, and is neither ready nor given up.
    let asked = async || {
        let log = place.logs(&late, "daprd").await.ok()?;
        log.to_lowercase().contains("sentry").then_some(())
    };
    place
        .until("the new sidecar asks for a certificate", asked)
        .await?;
    load.goes_on().await?;
    tokio::time::sleep(AWAY).await;
    load.goes_on().await?;
    let pod = place.api::<Pod>().get(&late).await.context("the new pod")?;
    ensure!(is_injected(&pod), "the new pod has no sidecar");
    let phase = pod.status.and_then(|status| status.phase);
    ensure!(
        phase.as_deref() == Some("Pending"),
        "without a certificate: {phase:?}"
    );
    scale(place, SENTRY, 1).await?;
    let watch = Stopwatch::start();
    place.rolled_out("late").await?;
    let pod = place.api::<Pod>().get(&late).await.context("the new pod")?;
    k8s::figure(&format!(
        "Sentry back to the waiting pod ready: {:.1} s, {} restarts",
        watch.elapsed().as_secs_f64(),
        restarts(&pod)
    ));
    reaches(place, &late, "callee").await?;
    load.end("Sentry down").await
}

/// Running pods call on without Sentry, and a new one waits for it and then works.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn without_sentry_running_pods_go_on_and_new_ones_wait() {
    let name = "outages::without_sentry_running_pods_go_on_and_new_ones_wait";
    k8s::test_on_own(name, &[], without_sentry).await;
}

async fn without_injector(_machine: &Machine, place: &Place) -> Result<()> {
    let load = Load::start(place).await?;
    scale(place, INJECTOR, 0).await?;
    let refusal = match ask(place, &wanting()).await {
        Ok(pod) => anyhow::bail!(
            "admitted without an injector, injected: {}",
            is_injected(&pod)
        ),
        Err(error) => error.to_string(),
    };
    ensure!(
        refusal.contains("failed calling webhook \"sidecar-injector.dapr.io\""),
        "the refusal does not name the webhook: {refusal}"
    );
    for other in [json!({}), json!({"dapr.io/enabled": "false"})] {
        let pod = ask(place, &other)
            .await
            .context("a pod without a sidecar")?;
        ensure!(!is_injected(&pod), "{other}: injected by nobody");
    }
    // Its Deployment is told, and tries again.
    place.apply(&Sample::with_sidecar("late").manifest().to_string())?;
    let told = async || {
        let events = place
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .ok()?;
        let mut messages = events.items.into_iter().filter_map(|event| event.message);
        messages.find(|text| text.contains("sidecar-injector.dapr.io"))
    };
    let message = place.until("an event of the refused pod", told).await?;
    ensure!(message.contains("failed calling webhook"), "{message}");
    load.goes_on().await?;
    ensure!(
        place.pods("app=late").await?.is_empty(),
        "a pod in spite of the refusal"
    );
    scale(place, INJECTOR, 1).await?;
    let watch = Stopwatch::start();
    place.rolled_out("late").await?;
    k8s::figure(&format!(
        "injector back to the waiting Deployment ready: {:.1} s",
        watch.elapsed().as_secs_f64()
    ));
    let pods = place.pods("app=late").await?;
    ensure!(pods.iter().all(is_injected), "a pod without a sidecar");
    load.end("injector down").await?;
    ignoring(place).await
}

/// The other policy, which is Dapr's: a pod is stored without its sidecar, which the watchdog tells of and mends.
async fn ignoring(place: &Place) -> Result<()> {
    let helm = Helm::new(place.cluster());
    let ignore = "dapr_sidecar_injector.webhookFailurePolicy=Ignore";
    helm.install(&[ignore])?;
    scale(place, INJECTOR, 0).await?;
    // The API server reads the changed configuration in its own time.
    let stored = async || {
        let pod = ask(place, &wanting()).await.ok()?;
        (!is_injected(&pod)).then_some(())
    };
    place
        .until("a pod is stored without a sidecar", stored)
        .await?;
    place.start(&Sample::with_sidecar("bare")).await?;
    let bare = place.pod("app=bare").await?;
    told_of(place, &bare, "delete it to get one").await?;
    shows_without(place, 1).await?;

    scale(place, INJECTOR, 1).await?;
    helm.install(&[ignore, "dapr_operator.watchInterval=1s"])?;
    let made_again = async || {
        let pods = place.pods("app=bare").await.ok()?;
        let [pod] = pods.as_slice() else { return None };
        (is_injected(pod) && pod.metadata.name.as_deref() != Some(bare.as_str())).then_some(())
    };
    place
        .until("the pod is made again, with its sidecar", made_again)
        .await?;
    told_of(place, &bare, "evicted").await?;
    place.rolled_out("bare").await?;
    reaches(place, &place.pod("app=bare").await?, "callee").await?;
    shows_without(place, 0).await
}

/// Waits for an Event of the watchdog about a pod.
async fn told_of(place: &Place, pod: &str, words: &str) -> Result<()> {
    let look = async || {
        let events = place.api::<Event>().list(&ListParams::default()).await;
        let told = events.ok()?.items.into_iter().any(|event| {
            event.reason.as_deref() == Some("SidecarMissing")
                && event.involved_object.name.as_deref() == Some(pod)
                && event.message.is_some_and(|text| text.contains(words))
        });
        told.then_some(())
    };
    let what = format!("an event of {pod}, which has no sidecar: {words}");
    place.until(&what, look).await
}

/// Waits until the operator counts so many pods without their sidecar.
async fn shows_without(place: &Place, count: u32) -> Result<()> {
    let control = place.beside(CONTROL);
    let shown = format!("dapr_operator_pods_without_sidecar {count}");
    let look = async || {
        let operator = format!("app={}", breaking::OPERATOR);
        let pod = control.pod(&operator).await.ok()?;
        let page = control.get(&pod, 9090, "/metrics").await.ok()?;
        let text = String::from_utf8_lossy(&page.body);
        text.lines().any(|line| line == shown).then_some(())
    };
    place.until(&shown, look).await
}

/// KI-26, KO-23: a pod that asks for a sidecar is refused, others are not; with `Ignore` it is stored without one, and
/// the watchdog tells of it, and evicts it once an injector is back and it may.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn without_injector_pods_that_ask_for_a_sidecar_wait() {
    let name = "outages::without_injector_pods_that_ask_for_a_sidecar_wait";
    k8s::test_on_own(name, &[], without_injector).await;
}

async fn replaced_injector(_machine: &Machine, place: &Place) -> Result<()> {
    let rounds = if k8s::is_full() { 5 } else { 2 };
    let control = place.beside(CONTROL);
    let replaced = async {
        for _ in 0..rounds {
            let deployment = format!("deploy/{INJECTOR}");
            kubectl(&control, &["rollout", "restart", &deployment])?;
            control.rolled_out(INJECTOR).await?;
            // The old pod answers until the API server knows that it goes.
            let of = ListParams::default().labels(&format!("app={INJECTOR}"));
            let pods = control.api::<Pod>();
            let alone = async || {
                let left = pods.list(&of).await.ok()?;
                (left.items.len() == 1).then_some(())
            };
            control.until("the end of the old injector", alone).await?;
        }
        Ok(())
    };
    let ((), churn) = churning(place, Duration::from_millis(10), replaced).await?;
    k8s::figure(&format!(
        "{rounds} rolling restarts of the injector: {} pods admitted, {} refused",
        churn.admitted,
        churn.refused.len()
    ));
    ensure!(churn.refused.is_empty(), "{:?}", churn.refused);
    ensure!(churn.admitted > 50, "only {} pods", churn.admitted);
    Ok(())
}

/// KH-19: no pod is refused while the injector is replaced.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn replacing_the_injector_refuses_no_pod() {
    let name = "outages::replacing_the_injector_refuses_no_pod";
    k8s::test_on_own(name, &[], replaced_injector).await;
}

async fn without_api_server(machine: &Machine, place: &Place) -> Result<()> {
    let load = Load::start(place).await?;
    let rounds = if k8s::is_full() { 5 } else { 2 };
    for _ in 0..rounds {
        machine.stop("kube-apiserver")?;
        let version = async || place.cluster().client().apiserver_version().await;
        ensure!(version().await.is_err(), "the API server still answers");
        tokio::time::sleep(AWAY).await;
        machine.start("kube-apiserver")?;
        let back = async || version().await.ok();
        place.until("the API server answers", back).await?;
        load.goes_on().await?;
    }
    // Everything that follows the API has found it again.
    place.start(&Sample::with_sidecar("late")).await?;
    let late = place.pod("app=late").await?;
    reaches(place, &late, "callee").await?;
    reaches(place, load.pod(), "late").await?;
    for program in [SENTRY, INJECTOR, breaking::OPERATOR] {
        place.beside(CONTROL).rolled_out(program).await?;
    }
    load.end("API server restarted").await
}

/// The API server goes and comes under load: no call fails, and afterwards new apps work as before.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn restarts_of_the_api_server_fail_no_call() {
    let name = "outages::restarts_of_the_api_server_fail_no_call";
    k8s::test_on_own(name, &[], without_api_server).await;
}
