//! A pod's first call and its last beside a native sidecar: of every kind of workload, from init containers, from
//! preStop, at SIGTERM.

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{self, Helm, PATIENCE, Place, Sample};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::api::ListParams;
use serde_json::{Value, json};

/// A call of the callee at `path` through the own sidecar, which has one chance.
fn call(path: &str) -> Value {
    json!({
        "url": format!("http://localhost:3500/v1.0/invoke/orders/method/{path}"),
        "method": "POST", "body": "x", "timeout_ms": 30_000,
    })
}

/// A container that makes one call and ends.
fn once(name: &str, path: &str) -> Value {
    json!({
        "name": name, "image": k8s::image("sample"), "imagePullPolicy": k8s::pull_policy(),
        "args": ["once", call(path).to_string()],
    })
}

fn annotated(app: &str) -> Value {
    json!({
        "labels": {"app": app},
        "annotations": {"dapr.io/enabled": "true", "dapr.io/app-id": app},
    })
}

/// A pod that calls from an init container and then from its only container.
fn template(app: &str) -> Value {
    json!({
        "metadata": annotated(app),
        "spec": {
            "restartPolicy": "Never",
            "initContainers": [once("before", &format!("{app}-init"))],
            "containers": [once("app", app)],
        },
    })
}

async fn callee(place: &Place) -> Result<String> {
    Helm::new(place.cluster()).shared().await?;
    place.start(&Sample::with_sidecar("orders")).await?;
    place.pod("app=orders").await
}

async fn is_called(place: &Place, callee: &str, path: &str) -> Result<()> {
    let counts = place.counts(callee).await?;
    let count = &counts[format!("/{path}")];
    ensure!(count == 1, "{path}: {count} in {counts}");
    Ok(())
}

async fn completes(place: &Place, job: &str) -> Result<()> {
    let ended = |job: &Job| {
        let status = job.status.as_ref();
        status.is_some_and(|status| status.succeeded == Some(1) || status.failed.unwrap_or(0) > 0)
    };
    let job = place
        .object::<Job>(job, "a Job ends", PATIENCE, ended)
        .await?;
    let status = job.status.context("a status")?;
    ensure!(status.succeeded == Some(1), "{status:?}");
    Ok(())
}

async fn ends(place: &Place) -> Result<()> {
    let callee = callee(place).await?;
    let job = |kind: Value, name: &str, spec: Value| json!({"apiVersion": "batch/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let spec = json!({"backoffLimit": 0, "template": template("job")});
    place.apply(&job(json!("Job"), "job", spec).to_string())?;
    let spec = json!({
        "schedule": "0 0 1 1 *",
        "jobTemplate": {"spec": {"backoffLimit": 0, "template": template("cron")}},
    });
    place.apply(&job(json!("CronJob"), "cron", spec).to_string())?;
    let said = place.kubectl(&["create", "job", "cron", "--from=cronjob/cron"], None)?;
    ensure!(said.ok, "{}", said.stderr);
    let mut pod = template("bare");
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("bare");
    place.apply(&pod.to_string())?;
    completes(place, "job").await?;
    completes(place, "cron").await?;
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        matches!(phase.as_deref(), Some("Succeeded" | "Failed"))
    };
    let bare = place
        .object::<Pod>("bare", "a pod ends", PATIENCE, ended)
        .await?;
    let phase = bare.status.and_then(|status| status.phase);
    ensure!(phase.as_deref() == Some("Succeeded"), "{phase:?}");
    for app in ["job", "cron", "bare"] {
        is_called(place, &callee, &format!("{app}-init")).await?;
        is_called(place, &callee, app).await?;
    }
    Ok(())
}

/// Job, CronJob and a pod that is not restarted: each calls from an init container and from its app, and ends.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn pods_that_end_make_their_calls() {
    k8s::test("life::pods_that_end_make_their_calls", ends).await;
}

/// A workload whose app calls as it starts, from its preStop hook, and when it is told to go.
fn workload(kind: &str, app: &str) -> Value {
    let load = json!({"call": call(&format!("{app}-first")), "rounds": 1});
    let mut manifest = Sample::with_sidecar(app)
        .argument(&format!("--load={load}"))
        .argument(&format!("--last={}", call(&format!("{app}-last"))))
        .manifest();
    let hook = call(&format!("{app}-hook")).to_string();
    let template = &mut manifest["spec"]["template"];
    template["spec"]["containers"][0]["lifecycle"] =
        json!({"preStop": {"exec": {"command": ["/sample", "once", hook]}}});
    let mut template = template.clone();
    template["spec"]["restartPolicy"] = json!("Never");
    let metadata = json!({"name": app});
    match kind {
        "Job" => json!({
            "apiVersion": "batch/v1", "kind": kind, "metadata": metadata,
            "spec": {"backoffLimit": 0, "template": template},
        }),
        "Pod" => {
            let mut pod = template;
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!(kind);
            pod["metadata"]["name"] = json!(app);
            pod
        }
        "StatefulSet" => {
            manifest["kind"] = json!(kind);
            manifest["spec"]["serviceName"] = json!(app);
            manifest
        }
        _ => manifest,
    }
}

async fn first_and_last(place: &Place) -> Result<()> {
    let callee = callee(place).await?;
    let apps = [
        ("Deployment", "plain"),
        ("StatefulSet", "stateful"),
        ("Job", "job"),
        ("Pod", "bare"),
    ];
    for (kind, app) in apps {
        place.apply(&workload(kind, app).to_string())?;
    }
    for (kind, app) in apps {
        let called = async || {
            let pod = place.pod(&format!("app={app}")).await.ok()?;
            let account = place.load(&pod).await.ok()?;
            (account["running"] == false).then_some(account)
        };
        let account = place.until(&format!("{app} calls"), called).await?;
        ensure!(account["ok"] == 1 && account["failed"] == 0, "{account}");
        is_called(place, &callee, &format!("{app}-first")).await?;
        let workload = format!("{kind}/{app}");
        let delete = ["delete", &workload, "--cascade=foreground", "--wait=false"];
        let said = place.kubectl(&delete, None)?;
        ensure!(said.ok, "{}", said.stderr);
    }
    for (_, app) in apps {
        let labels = ListParams::default().labels(&format!("app={app}"));
        let gone = async || {
            let pods = place.api::<Pod>().list(&labels).await.ok()?.items;
            pods.is_empty().then_some(())
        };
        place.until(&format!("{app} is gone"), gone).await?;
        is_called(place, &callee, &format!("{app}-hook")).await?;
        is_called(place, &callee, &format!("{app}-last")).await?;
    }
    Ok(())
}

/// Deployment, StatefulSet, Job and a pod that is not restarted: the call that the app begins with, the one in preStop
/// and the one at SIGTERM each arrive once. Beside a classic sidecar, which is stopped together with its app, there is
/// no such promise.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn the_first_call_and_the_last_are_served() {
    k8s::test(
        "life::the_first_call_and_the_last_are_served",
        first_and_last,
    )
    .await;
}
