//! Pods get their sidecar: every workload, in both modes, and what a user is told who asks for the impossible.
//! Rows KI-23 to KI-31, KP-21, KP-29, KP-30, KP-37.

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{self, Helm, PATIENCE, Place, Sample};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Container, ContainerStatus, Event, Pod},
};
use kube::api::ListParams;
use serde_json::{Value, json};

/// The annotation that says whether the sidecar is native.
const NATIVE: &str = "dapr.io/enable-native-sidecar";

/// The sidecar's container and its kind: native or classic.
fn sidecars(pod: &Pod) -> Vec<(&Container, bool)> {
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
async fn injected(place: &Place, labels: &str, count: usize, native: bool) -> Result<Vec<Pod>> {
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

/// A pod that asks for a sidecar, and changes to its metadata.
fn pod(name: &str, annotations: Value) -> Value {
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

async fn dry(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let arguments = [
        "create",
        "--dry-run=server",
        "--output=json",
        "--filename=-",
    ];
    let said = place.kubectl(&arguments, Some(&pod("dry", json!({})).to_string()))?;
    ensure!(said.ok, "{}", said.stderr);
    let answered: Pod = serde_json::from_str(&said.stdout)?;
    ensure!(sidecars(&answered).len() == 1, "{answered:#?}");
    let stored = place.api::<Pod>().list(&ListParams::default()).await?;
    ensure!(stored.items.is_empty(), "{:?}", stored.items);
    let events = place.api::<Event>().list(&ListParams::default()).await?;
    ensure!(events.items.is_empty(), "{:?}", events.items);
    Ok(())
}

/// KI-24
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_dry_run_shows_the_sidecar_and_leaves_nothing() {
    k8s::test(
        "inject::a_dry_run_shows_the_sidecar_and_leaves_nothing",
        dry,
    )
    .await;
}

/// Annotations with which no sidecar can be made, and what is said of them.
const DENIED: [(&str, &str, &str); 5] = [
    ("app-id", "App_1", "invalid app id (input: 'App_1'"),
    ("app-id", "a.b", "invalid app id (input: 'a.b'"),
    ("app-id", "-a", "invalid app id (input: '-a'"),
    (
        "app-port",
        "70000",
        "dapr.io/app-port: \"70000\" is no port",
    ),
    (
        "metrics-port",
        "0",
        "dapr.io/metrics-port: \"0\" is no port",
    ),
];

/// Annotations that change nothing, and what is said of them; the pod is made.
const WARNED: [(&str, &str, &str); 6] = [
    ("app-prot", "http", "dapr.io/app-prot"),
    ("enabled", "yes", "dapr.io/enabled"),
    ("app-max-concurrency", "many", "is no number"),
    ("sidecar-memory-limit", "lots", "is no quantity"),
    ("app-protocol", "gopher", "is none of http"),
    ("enable-debug", "true", "it has no effect here"),
];

async fn bad(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let create = |manifest: &Value| {
        let arguments = ["create", "--dry-run=server", "--filename=-"];
        place.kubectl(&arguments, Some(&manifest.to_string()))
    };
    let head = "admission webhook \"sidecar-injector.dapr.io\" denied the request: ";
    let long = "a".repeat(59);
    let too_long = ("app-id", long.as_str(), "invalid app id");
    for (name, value, text) in DENIED.into_iter().chain([too_long]) {
        let said = create(&pod("bad", json!({format!("dapr.io/{name}"): value})))?;
        let is_told = !said.ok && said.stderr.contains(head) && said.stderr.contains(text);
        ensure!(is_told, "{name}: {value}: {said:?}");
    }
    for (name, value, text) in WARNED {
        let said = create(&pod("odd", json!({format!("dapr.io/{name}"): value})))?;
        let is_told = said.ok && said.stderr.contains("Warning: ") && said.stderr.contains(text);
        ensure!(is_told, "{name}: {value}: {said:?}");
    }
    let deployment = Sample::with_sidecar("bad").annotation("dapr.io/app-id", "App_1");
    place.apply(&deployment.manifest().to_string())?;
    let failed = async || {
        let events = place
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .ok()?;
        events.items.into_iter().find_map(|event| {
            let is_it = event.reason.as_deref() == Some("FailedCreate");
            event.message.filter(|_| is_it)
        })
    };
    let message = place.until("an event FailedCreate", failed).await?;
    ensure!(
        message.contains(head) && message.contains("invalid app id"),
        "{message}"
    );
    let pods = place.pods("app=bad").await?;
    ensure!(pods.is_empty(), "{pods:?}");
    Ok(())
}

/// KI-25, KI-31: who applies a pod that can have no sidecar is told why, and who applies an odd one is warned.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn bad_annotations_are_told_to_who_applies_them() {
    k8s::test("inject::bad_annotations_are_told_to_who_applies_them", bad).await;
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

async fn mounts(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    for (name, automount) in [("with", true), ("without", false)] {
        let mut manifest = pod(name, json!({}));
        manifest["spec"]["automountServiceAccountToken"] = json!(automount);
        place.apply(&manifest.to_string())?;
        let made = place.api::<Pod>().get(name).await?;
        let found = sidecars(&made);
        let [(sidecar, _)] = found.as_slice() else {
            anyhow::bail!("{} sidecars: {made:#?}", found.len());
        };
        let mounts = sidecar.volume_mounts.iter().flatten();
        let mut names = mounts.map(|mount| mount.name.as_str());
        let mounted = names
            .clone()
            .any(|name| name.starts_with("kube-api-access-"));
        ensure!(mounted == automount, "{sidecar:#?}");
        ensure!(
            names.any(|name| name == "dapr-identity-token"),
            "{sidecar:#?}"
        );
    }
    Ok(())
}

/// KP-37
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn the_default_token_is_mounted_where_the_pod_wants_it() {
    k8s::test(
        "inject::the_default_token_is_mounted_where_the_pod_wants_it",
        mounts,
    )
    .await;
}

async fn again(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let shared = place.kubectl(
        &[
            "get",
            "mutatingwebhookconfiguration",
            "dapr-sidecar-injector",
            "--output=json",
        ],
        None,
    )?;
    ensure!(shared.ok, "{}", shared.stderr);
    let shared: Value = serde_json::from_str(&shared.stdout)?;
    let mut webhook = shared["webhooks"][0].clone();
    // It comes after the chart's, is asked about pods that have their sidecar, and again if the pod changes.
    webhook["name"] = json!("again.dapr.io");
    webhook["matchConditions"] = json!([]);
    let own = json!({"matchLabels": {"kubernetes.io/metadata.name": place.namespace()}});
    webhook["namespaceSelector"] = own;
    let name = format!("z-{}", place.namespace());
    let registered = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [webhook],
    });
    place.apply(&registered.to_string())?;
    let outcome = async {
        // The token that is mounted into the sidecar is a change after the first round: there is a second.
        place.start(&Sample::with_sidecar("twice")).await?;
        injected(place, "app=twice", 1, true).await
    };
    let outcome = outcome.await;
    let said = place.kubectl(&["delete", "mutatingwebhookconfiguration", &name], None)?;
    ensure!(said.ok, "{}", said.stderr);
    outcome.map(drop)
}

/// KI-28: asked twice about a pod, with a change in between, the injector gives it one sidecar.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_pod_that_is_reviewed_again_has_one_sidecar() {
    k8s::test(
        "inject::a_pod_that_is_reviewed_again_has_one_sidecar",
        again,
    )
    .await;
}
