//! A node that loses its power and comes back: no pod that asked for a sidecar ever runs without one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{self, Machine, Place, Sample};
use ironside_e2e::wait::Stopwatch;
use k8s_openapi::api::{apps::v1::ReplicaSet, coordination::v1::Lease, core::v1::Pod};
use kube::{Api, api::ListParams};
use serde_json::json;

use crate::breaking::{CONTROL, INJECTOR, OPERATOR, SENTRY, is_injected, kubectl, reaches};

/// When the uninjected pods are counted, after the node is back.
const LOOK: Duration = Duration::from_secs(30);

/// Apps of the test, of several pods each.
const APPS: [&str; 3] = ["one", "two", "three"];

/// When the kubelet last said that it lives.
async fn beat(place: &Place) -> Option<String> {
    let leases = place.beside("kube-node-lease").api::<Lease>();
    let lease = leases
        .list(&ListParams::default())
        .await
        .ok()?
        .items
        .pop()?;
    let renewed = lease.spec?.renew_time?;
    serde_json::to_string(&renewed).ok()
}

/// Pods that run without the sidecar that they asked for, in every namespace but the control plane's.
async fn uninjected(place: &Place) -> Result<Vec<String>> {
    let pods = Api::<Pod>::all(place.cluster().client());
    let pods = pods
        .list(&ListParams::default())
        .await
        .context("all pods")?;
    let wants = |pod: &Pod| {
        let annotations = pod.metadata.annotations.as_ref();
        let value = annotations.and_then(|all| all.get("dapr.io/enabled"));
        value.is_some_and(|value| value == "true")
            && pod.metadata.namespace.as_deref() != Some(CONTROL)
    };
    let runs = |pod: &Pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        phase == Some("Running")
    };
    let found = pods
        .items
        .iter()
        .filter(|pod| wants(pod) && runs(pod) && !is_injected(pod));
    Ok(found.filter_map(|pod| pod.metadata.name.clone()).collect())
}

/// Waits until a replacement was refused because no injector answers.
///
/// The condition goes when one is made; of Events with the same words the later ones are left out.
async fn refused(place: &Place) -> Result<()> {
    let look = async || {
        let sets = place.api::<ReplicaSet>().list(&ListParams::default()).await;
        let statuses = sets.ok()?.items.into_iter().filter_map(|set| set.status);
        let mut conditions = statuses.flat_map(|status| status.conditions.unwrap_or_default());
        let is_it = conditions.any(|condition| {
            condition.reason.as_deref() == Some("FailedCreate")
                && condition
                    .message
                    .is_some_and(|text| text.contains("failed calling webhook"))
        });
        is_it.then_some(())
    };
    place
        .until("a pod is refused while no injector answers", look)
        .await
}

/// One loss of power; returns how long after the node's return everything was ready.
async fn lose_power(machine: &Machine, place: &Place) -> Result<Duration> {
    let before = beat(place).await.context("the kubelet lives")?;
    machine.stop("node")?;
    // Their replacements are asked for while no injector answers.
    let pods = place.pods("").await?;
    let names = pods
        .iter()
        .step_by(2)
        .filter_map(|pod| pod.metadata.name.as_deref());
    let delete = [
        "delete",
        "pod",
        "--force",
        "--grace-period=0",
        "--wait=false",
    ];
    kubectl(place, &delete.into_iter().chain(names).collect::<Vec<_>>())?;
    refused(place).await?;
    machine.start("node")?;
    returned(place, &before).await?;
    let watch = Stopwatch::start();
    while watch.elapsed() < LOOK {
        let found = uninjected(place).await?;
        ensure!(
            found.is_empty(),
            "{:?} after the return: {found:?}",
            watch.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for program in [SENTRY, INJECTOR, OPERATOR] {
        place.beside(CONTROL).rolled_out(program).await?;
    }
    for app in APPS {
        place.rolled_out(app).await?;
    }
    let took = watch.elapsed();
    let found = uninjected(place).await?;
    ensure!(found.is_empty(), "when all is ready: {found:?}");
    Ok(took)
}

async fn restarts(machine: &Machine, place: &Place) -> Result<()> {
    for app in APPS {
        place.apply(&Sample::with_sidecar(app).replicas(3).manifest().to_string())?;
    }
    for app in APPS {
        place.rolled_out(app).await?;
    }
    let count = if k8s::is_full() { 20 } else { 3 };
    for round in 1..=count {
        let took = lose_power(machine, place)
            .await
            .with_context(|| format!("restart {round}"))?;
        k8s::figure(&format!(
            "node restart {round} of {count}: 0 uninjected, everything ready {:.1} s after the return",
            took.as_secs_f64()
        ));
        let pods = place.pods("app=one").await?;
        let caller = pods.first().and_then(|pod| pod.metadata.name.clone());
        reaches(place, &caller.context("a pod of one")?, "two").await?;
    }
    Ok(())
}

/// Kubelet and all containers die at once, half of the app's pods are made anew before the injector
/// is back, and none of them ever runs without its sidecar.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn after_a_loss_of_power_no_pod_runs_without_its_sidecar() {
    let name = "node::after_a_loss_of_power_no_pod_runs_without_its_sidecar";
    k8s::test_on_own(name, &[], restarts).await;
}

/// Waits until the kubelet speaks again.
async fn returned(place: &Place, before: &str) -> Result<()> {
    let back = async || {
        let now = beat(place).await?;
        (now != before).then_some(())
    };
    place.until("the node is back", back).await
}

async fn names_return(machine: &Machine, place: &Place) -> Result<()> {
    place.start(&Sample::new("plain")).await?;
    place.apply(
        r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "plain"},
            "spec": {"selector": {"app": "plain"}, "ports": [{"port": 80, "targetPort": 8080}]}}"#,
    )?;
    let before = beat(place).await.context("the kubelet lives")?;
    machine.stop("node")?;
    machine.start("node")?;
    returned(place, &before).await?;
    let watch = Stopwatch::start();
    let call = json!({"url": "http://plain/healthz", "timeout_ms": 5000});
    let answered = async || {
        let pod = place.pod("app=plain").await.ok()?;
        let outcome = place.call(&pod, &call).await.ok()?;
        (outcome["status"] == 200).then_some(())
    };
    place.until("names are answered", answered).await?;
    k8s::figure(&format!(
        "names answered {:.1} s after the node's return",
        watch.elapsed().as_secs_f64()
    ));
    place
        .beside("kube-system")
        .rolled_out("coredns")
        .await
        .map(drop)
}

/// The cluster's DNS pod, which is older than the loss of power, answers after it.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn the_clusters_names_return_with_the_node() {
    let name = "node::the_clusters_names_return_with_the_node";
    k8s::test_on_own(name, &[], names_return).await;
}
