//! A cluster of its own: the chart comes, changes and goes, and what it leaves is what the guide lists.
//! Rows KI-25, KI-27, KI-29, KH-14, KH-15.

use std::{cell::RefCell, collections::BTreeSet};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{
    k8s::{self, Helm, Machine, Place, Sample},
    wait::Stopwatch,
};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use serde_json::{Value, json};

/// From the creation of the control plane until every program of it is available, in seconds.
const READY: i64 = 15;

/// Requests that the injector has had.
const REQUESTS: &str = "dapr_injector_sidecar_injection_requests_total";

/// Reads an object as JSON.
fn read(place: &Place, arguments: &[&str]) -> Result<Value> {
    let said = place.kubectl(&[&["get", "--output=json"], arguments].concat(), None)?;
    ensure!(said.ok, "{arguments:?}: {}", said.stderr);
    serde_json::from_str(&said.stdout).context("what kubectl prints")
}

/// Runs `kubectl`, which must succeed.
fn order(place: &Place, arguments: &[&str]) -> Result<()> {
    let said = place.kubectl(arguments, None)?;
    ensure!(said.ok, "{arguments:?}: {}", said.stderr);
    Ok(())
}

/// Every object of the cluster but events and those of the test's namespace, as `Kind namespace/name`.
fn objects(place: &Place) -> Result<BTreeSet<String>> {
    let said = place.kubectl(&["api-resources", "--verbs=list", "--output=name"], None)?;
    let kinds: Vec<&str> = said
        .stdout
        .lines()
        .filter(|kind| !kind.starts_with("events"))
        .collect();
    let template = "{range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}";
    let template = format!("--output=jsonpath={template}");
    let said = place.kubectl(
        &["get", "--all-namespaces", &template, &kinds.join(",")],
        None,
    )?;
    ensure!(said.ok, "{}", said.stderr);
    let here = format!("{}/", place.namespace());
    let others = said.stdout.lines().filter(|line| !line.contains(&here));
    Ok(others.map(str::to_owned).collect())
}

/// The authority, and whom the API server trusts when it asks the injector.
fn trust(place: &Place) -> Result<[Value; 3]> {
    let secret = read(place, &["secret", "dapr-trust-bundle"])?;
    let anchors = read(place, &["configmap", "dapr-trust-bundle"])?;
    let webhook = read(
        place,
        &["mutatingwebhookconfiguration", "dapr-sidecar-injector"],
    )?;
    let bundle = webhook["webhooks"][0]["clientConfig"]["caBundle"].clone();
    ensure!(bundle.is_string(), "no caBundle: {webhook}");
    Ok([secret["data"].clone(), anchors["data"].clone(), bundle])
}

/// How long the slowest program took from its Deployment's creation, by the API server's account, in seconds.
async fn readiness(control: &Place) -> Result<i64> {
    let mut slowest = 0;
    let programs = control
        .api::<Deployment>()
        .list(&ListParams::default())
        .await?;
    ensure!(programs.items.len() == 3, "{:?}", programs.items);
    for program in programs {
        let made = program.metadata.creation_timestamp.context("a time")?;
        let conditions = program.status.and_then(|status| status.conditions);
        let available = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == "Available" && condition.status == "True");
        let since = available.and_then(|condition| condition.last_transition_time);
        let since = since.context("a program is not available")?;
        slowest = slowest.max(since.0.as_second() - made.0.as_second());
    }
    Ok(slowest)
}

/// A counter of the injector without labels.
async fn requests(control: &Place) -> Result<f64> {
    let pod = control.pod("app=dapr-sidecar-injector").await?;
    let answer = control.get(&pod, 9090, "/metrics").await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(REQUESTS));
    value
        .context("the counter")?
        .trim()
        .parse()
        .context("a number")
}

/// A pod that no node ever starts.
fn idle(name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "schedulingGates": [{"name": "test.example.org/never"}],
            "containers": [{"name": "app", "image": "ironside.test/sample:e2e"}],
        },
    })
}

async fn life(place: &Place) -> Result<()> {
    let helm = Helm::new(place.cluster());
    let control = place.beside(helm.namespace());
    let before = objects(place)?;

    let watch = Stopwatch::start();
    helm.install(&[])?;
    let took = watch.elapsed();
    println!("helm install --wait: {:.1} s", took.as_secs_f64());
    let ready = readiness(&control).await?;
    println!("the last program was available after {ready} s");
    ensure!(ready < READY, "the control plane is ready after {ready} s");
    println!("{}", helm.test()?);

    asked_only_about_its_own(place, &control).await?;

    for name in ["caller", "callee"] {
        place.start(&Sample::with_sidecar(name)).await?;
    }
    let caller = place.pod("app=caller").await?;
    let call = json!({"url": "http://127.0.0.1:3500/v1.0/invoke/callee/method/hello"});
    let calls = async || -> Result<()> {
        let outcome = place.call(&caller, &call).await?;
        ensure!(outcome["status"] == 200, "{outcome}");
        Ok(())
    };
    calls().await?;

    // KH-14; and KI-25 with the policy that lets pods through that nobody could review.
    let first = trust(&control)?;
    helm.install(&["dapr_sidecar_injector.webhookFailurePolicy=Ignore"])?;
    ensure!(
        first == trust(&control)?,
        "an upgrade changed the trust bundle"
    );
    let policy = |control: &Place| -> Result<Value> {
        let webhook = read(
            control,
            &["mutatingwebhookconfiguration", "dapr-sidecar-injector"],
        )?;
        Ok(webhook["webhooks"][0]["failurePolicy"].clone())
    };
    ensure!(policy(&control)? == "Ignore", "the policy stays");
    let bad = json!({"dapr.io/enabled": "true", "dapr.io/app-id": "App_1"});
    let said = place.try_apply(&idle("bad", &bad).to_string())?;
    let head = "admission webhook \"sidecar-injector.dapr.io\" denied the request: invalid app id";
    ensure!(!said.ok && said.stderr.contains(head), "{said:?}");
    helm.roll_back()?;
    ensure!(policy(&control)? == "Fail", "the policy stays");
    ensure!(
        first == trust(&control)?,
        "a rollback changed the trust bundle"
    );
    calls().await?;

    // KH-15
    let nothing = r#"[{"op": "remove", "path": "/data"}]"#;
    order(
        &control,
        &[
            "patch",
            "configmap",
            "dapr-trust-bundle",
            "--type=json",
            "--patch",
            nothing,
        ],
    )?;
    order(
        &control,
        &["rollout", "restart", "deployment", "dapr-sentry"],
    )?;
    control.rolled_out("dapr-sentry").await?;
    let restored = async || (trust(&control).ok()? == first).then_some(());
    place
        .until("Sentry restores the trust anchors", restored)
        .await?;

    helm.uninstall()?;
    left(place, &before, helm.namespace()).await?;
    // Sidecars go on, and the Services of their apps.
    calls().await?;
    order(place, &["get", "service", "callee-dapr"])
}

/// KI-27, KI-29
async fn asked_only_about_its_own(place: &Place, control: &Place) -> Result<()> {
    let before = requests(control).await?;
    let pods: Vec<Value> = (0..100)
        .map(|n| idle(&format!("plain-{n}"), &json!({})))
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pods});
    place.apply(&list.to_string())?;
    let after = requests(control).await?;
    ensure!(
        (before - after).abs() < 0.5,
        "{before} reviews, then {after}"
    );

    place.start(&Sample::with_sidecar("changed")).await?;
    let pod = place.pod("app=changed").await?;
    let before = requests(control).await?;
    ensure!(before > after, "{after} reviews, then {before}");
    order(place, &["label", "pod", &pod, "a=b"])?;
    order(
        place,
        &[
            "debug",
            &pod,
            "--image=ironside.test/sample:e2e",
            "--image-pull-policy=Never",
            "--profile=restricted",
            "--quiet",
            "--",
            "/sample",
            "--help",
        ],
    )?;
    let changed = read(place, &["pod", &pod])?;
    ensure!(
        changed["spec"]["ephemeralContainers"].is_array(),
        "{changed}"
    );
    let after = requests(control).await?;
    ensure!(
        (before - after).abs() < 0.5,
        "{before} reviews, then {after}"
    );
    Ok(())
}

/// What is there that was not, once everything that goes is gone.
async fn left(place: &Place, before: &BTreeSet<String>, namespace: &str) -> Result<()> {
    let mut want = BTreeSet::from([
        "APIService /v1alpha1.dapr.io".to_owned(),
        format!("Namespace /{namespace}"),
        format!("ConfigMap {namespace}/kube-root-ca.crt"),
        format!("ServiceAccount {namespace}/default"),
    ]);
    for plural in [
        "accesscontrols",
        "components",
        "configurations",
        "httpendpoints",
        "resiliencies",
    ] {
        want.insert(format!("CustomResourceDefinition /{plural}.dapr.io"));
    }
    let last = RefCell::new(BTreeSet::new());
    let gone = async || {
        let now = objects(place).ok()?;
        last.replace(now.difference(before).cloned().collect());
        (*last.borrow() == want).then_some(())
    };
    let outcome = place
        .until("nothing is left but what the guide lists", gone)
        .await;
    outcome.with_context(|| format!("left: {:#?}", last.borrow()))
}

/// Install, KI-27, KI-29, KH-14, KI-25, rollback, KH-15, uninstall: decision by decision on one cluster.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn the_chart_comes_changes_and_goes() {
    let machine = Machine::own("install").expect("a cluster");
    let cluster = machine.cluster().await.expect("a cluster");
    k8s::test_on(&cluster, "install::the_chart_comes_changes_and_goes", life).await;
}
