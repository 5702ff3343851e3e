//! What the API server is told about pods before they run: patches, denials and warnings as people see them.
//!
//! Rows KI-24, KI-25, KI-28, KI-31, KP-37.

use anyhow::{Result, ensure};
use ironside_e2e::k8s::{self, Helm, Place, Sample};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::inject::{injected, pod, sidecars};

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
        "reviews::a_dry_run_shows_the_sidecar_and_leaves_nothing",
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
const WARNED: [(&str, &str, &str); 7] = [
    ("app-prot", "http", "dapr.io/app-prot"),
    ("enabled", "yes", "dapr.io/enabled"),
    (
        "enabled",
        "ture",
        "dapr.io/enabled: \"ture\" counts as false; no sidecar is injected",
    ),
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
    k8s::test("reviews::bad_annotations_are_told_to_who_applies_them", bad).await;
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
        "reviews::the_default_token_is_mounted_where_the_pod_wants_it",
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
        "reviews::a_pod_that_is_reviewed_again_has_one_sidecar",
        again,
    )
    .await;
}
