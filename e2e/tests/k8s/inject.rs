//! Pods get their sidecar: every workload, in both modes, where security is restricted, and where the app is late.
//! What is answered about a pod without one running is in `reviews`.

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{self, Helm, PATIENCE, Place, Sample};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Container, ContainerStatus, Pod},
};
use serde_json::{Value, json};

/// The annotation that says whether the sidecar is native.
const NATIVE: &str = "dapr.io/enable-native-sidecar";

/// The sidecar's container and its kind: native or classic.
pub(crate) fn sidecars(pod: &Pod) -> Vec<(&Container, bool)> {
    let spec = pod.spec.as_ref();
    let classic = spec.map(|spec| spec.containers.iter());
    let first = spec.and_then(|spec| spec.init_containers.as_deref());
    let classic = classic.into_iter().flatten().map(|found| (found, false));
    let native = first
        .unwrap_or_default()
        .iter()
        .map(|found| (found, found.restart_policy.as_deref() == Some("Always")));
    classic
        .chain(native)
        .filter(|(found, _)| found.name == "daprd")
        .collect()
}

/// Pods with these labels have one sidecar each, of this kind, and the three labels.
pub(crate) async fn injected(
    place: &Place,
    labels: &str,
    count: usize,
    native: bool,
) -> Result<Vec<Pod>> {
    let pods = place.pods(labels).await?;
    ensure!(pods.len() == count, "{} pods with {labels}", pods.len());
    for pod in &pods {
        let found = sidecars(pod);
        ensure!(found.len() == 1, "{} sidecars: {pod:#?}", found.len());
        ensure!(found.iter().all(|(_, is)| *is == native), "{pod:#?}");
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        for label in ["sidecar-injected", "app-id", "metrics-enabled"] {
            let label = format!("dapr.io/{label}");
            ensure!(labels.contains_key(&label), "no label {label}: {labels:?}");
        }
    }
    Ok(pods)
}

/// The same workload as a StatefulSet.
fn stateful(sample: &Sample) -> Value {
    let mut manifest = sample.manifest();
    manifest["kind"] = json!("StatefulSet");
    manifest["spec"]["serviceName"] = json!("none");
    manifest["spec"]["podManagementPolicy"] = json!("Parallel");
    manifest
}

/// The same pod as a Job that makes one call.
fn job(sample: &Sample, name: &str, arguments: &[&str]) -> Value {
    let mut manifest = sample.manifest();
    let mut template = manifest["spec"]["template"].take();
    template["spec"]["restartPolicy"] = json!("Never");
    let container = &mut template["spec"]["containers"][0];
    container["args"] = json!(arguments);
    if let Some(fields) = container.as_object_mut() {
        fields.remove("ports");
        fields.remove("readinessProbe");
    }
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": template},
    })
}

async fn completed(place: &Place, name: &str) -> Result<()> {
    let what = format!("job {name} ends");
    let ended = |job: &Job| {
        let status = job.status.as_ref();
        status.is_some_and(|status| status.succeeded == Some(1) || status.failed.is_some())
    };
    let job = place.object(name, &what, PATIENCE, ended).await?;
    let status = job.status.unwrap_or_default();
    ensure!(status.succeeded == Some(1), "job {name}: {status:?}");
    Ok(())
}

async fn workloads(place: &Place, native: bool) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let mode = native.to_string();
    let callee = Sample::with_sidecar("callee")
        .replicas(2)
        .annotation(NATIVE, &mode);
    place.start(&callee).await?;
    injected(place, "app=callee", 2, native).await?;

    let set = Sample::with_sidecar("set")
        .replicas(2)
        .annotation(NATIVE, &mode);
    place.apply(&stateful(&set).to_string())?;
    let ready = async || {
        let pods = place.pods("app=set").await.ok()?;
        (pods.len() == 2 && pods.iter().all(is_ready)).then_some(())
    };
    place.until("the stateful set is ready", ready).await?;
    let pods = injected(place, "app=set", 2, native).await?;
    for pod in &pods {
        let name = pod.metadata.name.as_deref().context("a name")?;
        let call = json!({"url": "http://127.0.0.1:3500/v1.0/invoke/callee/method/from-set"});
        let outcome = place.call(name, &call).await?;
        ensure!(outcome["status"] == 200, "{outcome}");
    }
    let once = Sample::new("once")
        .annotation("dapr.io/enabled", "true")
        .annotation("dapr.io/app-id", "once")
        .annotation(NATIVE, &mode);
    if native {
        // The first thing that the app does is a call, and nobody ends the sidecar.
        let call = json!({"url": "http://127.0.0.1:3500/v1.0/invoke/callee/method/from-job"});
        place.apply(&job(&once, "once", &["once", &call.to_string()]).to_string())?;
        completed(place, "once").await?;
        let mut calls = 0;
        for pod in place.pods("app=callee").await? {
            let counts = place.counts(&pod.metadata.name.unwrap_or_default()).await?;
            calls += counts["/from-job"].as_u64().unwrap_or(0);
        }
        ensure!(calls == 1, "{calls} calls of the job");
    } else {
        // A classic sidecar runs until it is told to end.
        let call = json!({"url": "http://127.0.0.1:3500/v1.0/shutdown", "method": "POST"});
        let arguments = ["once", "--want=204", "--patience=60000", &call.to_string()];
        place.apply(&job(&once, "once", &arguments).to_string())?;
        completed(place, "once").await?;
    }
    injected(place, "app=once", 1, native).await.map(drop)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|one| one.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// KI-23, KI-30, KP-29: a Deployment, a StatefulSet, and a Job that completes without a call of `/v1.0/shutdown`.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn every_workload_gets_a_native_sidecar() {
    k8s::test(
        "inject::every_workload_gets_a_native_sidecar",
        async |place| workloads(place, true).await,
    )
    .await;
}

/// KI-30: the same with a sidecar beside the app; the Job's app ends it.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn every_workload_gets_a_classic_sidecar() {
    k8s::test(
        "inject::every_workload_gets_a_classic_sidecar",
        async |place| workloads(place, false).await,
    )
    .await;
}

async fn restricted(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let label = "pod-security.kubernetes.io/enforce=restricted";
    let said = place.kubectl(&["label", "namespace", place.namespace(), label], None)?;
    ensure!(said.ok, "{}", said.stderr);
    for (name, native) in [("native", "true"), ("classic", "false")] {
        place
            .start(&Sample::with_sidecar(name).annotation(NATIVE, native))
            .await?;
    }
    let caller = place.pod("app=native").await?;
    let call = json!({"url": "http://127.0.0.1:3500/v1.0/invoke/classic/method/hello"});
    let outcome = place.call(&caller, &call).await?;
    ensure!(outcome["status"] == 200, "{outcome}");
    Ok(())
}

/// KP-21
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn pods_with_sidecars_run_where_security_is_restricted() {
    k8s::test(
        "inject::pods_with_sidecars_run_where_security_is_restricted",
        restricted,
    )
    .await;
}

/// A pod that asks for a sidecar, and changes to its metadata.
pub(crate) fn pod(name: &str, annotations: Value) -> Value {
    let mut template = Sample::with_sidecar(name).manifest()["spec"]["template"].take();
    if let (Some(all), Some(more)) = (
        template["metadata"]["annotations"].as_object_mut(),
        annotations.as_object(),
    ) {
        all.extend(more.clone());
    }
    template["apiVersion"] = json!("v1");
    template["kind"] = json!("Pod");
    template["metadata"]["name"] = json!(name);
    template
}

fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let first = status.init_container_statuses.iter().flatten();
    let all = status.container_statuses.iter().flatten().chain(first);
    all.into_iter().find(|status| status.name == container)
}

async fn late(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let port = "8082";
    place.apply(&pod("late", json!({"dapr.io/app-port": port, NATIVE: "true"})).to_string())?;
    // The app has been started although nobody listens on its port, and the sidecar is not ready.
    let running = |pod: &Pod| {
        let app = status(pod, "app").is_some_and(|status| status.ready);
        let sidecar = status(pod, "daprd");
        app && sidecar.is_some_and(|one| one.started == Some(true) && !one.ready)
    };
    place
        .object(
            "late",
            "the app is started before it listens",
            PATIENCE,
            running,
        )
        .await?;
    let port = format!("--port={port}");
    let mut app = place.cluster().kubectl();
    app.args([
        "--namespace",
        place.namespace(),
        "exec",
        "late",
        "--container",
        "app",
    ]);
    app.args(["--", "/sample", "serve", &port, "--control=9292"]);
    let mut app = app.spawn().context("starting kubectl")?;
    let ready = place
        .object("late", "the pod is ready", PATIENCE, is_ready)
        .await;
    app.kill()?;
    app.wait()?;
    ready.map(drop)
}

/// KP-30, with the app as late as it takes to see that the pod is started.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn an_app_may_listen_late() {
    k8s::test("inject::an_app_may_listen_late", late).await;
}
