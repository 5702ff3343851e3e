//! The webhook on the real API server: whom it trusts, what happens when its configuration changes, how long it takes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::{StreamExt as _, stream};
use ironside_e2e::k8s::{self, Machine, Place};
use ironside_e2e::wait::Stopwatch;
use ironside_identity::TrustBundle;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};

use crate::breaking::{
    CONTROL, INJECTOR, ask, is_injected, kubectl, restarts, scale, wanting, webhook,
};

/// Keys that every API server understands: of an elliptic curve, or RSA; by the object identifier in the certificate.
const KEYS: [&[u8]; 2] = [
    &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01],
    &[
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
    ],
];

/// The roots in the webhook's configuration; none if there are none.
async fn trusted(place: &Place) -> Option<TrustBundle> {
    let configuration = webhook(place).await.ok()?;
    let bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str()?;
    TrustBundle::from_pem(&BASE64_STANDARD.decode(bundle).ok()?).ok()
}

/// The roots that Sentry published.
async fn published(place: &Place) -> Result<TrustBundle> {
    let maps = place.beside(CONTROL).api::<ConfigMap>();
    let map = maps.get("dapr-trust-bundle").await.context("the bundle")?;
    let data = map.data.unwrap_or_default();
    let pem = data.get("ca.crt").context("roots are published")?;
    TrustBundle::from_pem(pem.as_bytes()).context("published roots")
}

fn der(bundle: &TrustBundle) -> Vec<&[u8]> {
    let anchors = bundle.anchors().iter();
    anchors.map(|anchor| anchor.der().as_ref()).collect()
}

/// Waits until the API server trusts what Sentry published.
async fn trusts(place: &Place) -> Result<()> {
    let wanted = published(place).await?;
    let look = async || {
        let bundle = trusted(place).await?;
        (der(&bundle) == der(&wanted)).then_some(())
    };
    place
        .until("the roots in the webhook's configuration", look)
        .await
}

/// The first certificate that the injector shows to somebody who trusts `bundle` and looks for `name`.
async fn shown(place: &Place, bundle: &TrustBundle, name: &str) -> Result<Vec<u8>> {
    let control = place.beside(CONTROL);
    let pod = control.pod(&format!("app={INJECTOR}")).await?;
    let mut forward = control.api::<Pod>().portforward(&pod, &[4000]).await?;
    let stream = forward.take_stream(4000).context("the forwarded port")?;
    let mut roots = RootCertStore::empty();
    for anchor in bundle.anchors() {
        roots.add(anchor.der().clone())?;
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned())?;
    let tls = TlsConnector::from(std::sync::Arc::new(config))
        .connect(name, stream)
        .await?;
    let (_io, connection) = tls.get_ref();
    let chain = connection.peer_certificates().context("a certificate")?;
    let leaf = chain.first().context("a leaf")?;
    Ok(leaf.to_vec())
}

async fn certificate(place: &Place) -> Result<()> {
    let bundle = trusted(place).await.context("roots in the webhook")?;
    let name = format!("{INJECTOR}.{CONTROL}.svc");
    let leaf = shown(place, &bundle, &name).await?;
    let has = |identifier: &&[u8]| {
        leaf.windows(identifier.len())
            .any(|part| part == *identifier)
    };
    ensure!(
        KEYS.iter().any(has),
        "the API server may not know this kind of key"
    );
    ensure!(
        leaf.windows(name.len()).any(|part| part == name.as_bytes()),
        "no name"
    );
    let other = shown(place, &bundle, "dapr-sidecar-injector.elsewhere.svc").await;
    ensure!(other.is_err(), "the certificate is good for another name");
    Ok(())
}

fn patch(place: &Place, patch: &Value) -> Result<()> {
    let patch = format!("--patch={patch}");
    let arguments = [
        "patch",
        "mutatingwebhookconfiguration",
        INJECTOR,
        "--type=json",
        &patch,
    ];
    kubectl(place, &arguments).map(drop)
}

async fn configuration(_machine: &Machine, place: &Place) -> Result<()> {
    // KI-32
    certificate(place).await?;
    // KI-33: a ready injector has said whom the API server may trust.
    trusts(place).await?;
    let empty =
        json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": ""}]);
    scale(place, INJECTOR, 0).await?;
    patch(place, &empty)?;
    scale(place, INJECTOR, 1).await?;
    let bundle = trusted(place)
        .await
        .context("ready, and no roots in the webhook")?;
    ensure!(
        der(&bundle) == der(&published(place).await?),
        "ready with other roots"
    );
    // KI-35
    let control = place.beside(CONTROL);
    let before = control.pod(&format!("app={INJECTOR}")).await?;
    patch(place, &empty)?;
    let watch = Stopwatch::start();
    trusts(place).await?;
    k8s::figure(&format!(
        "emptied caBundle restored after {:.2} s",
        watch.elapsed().as_secs_f64()
    ));
    let after = control
        .api::<Pod>()
        .get(&before)
        .await
        .context("the injector")?;
    ensure!(restarts(&after) == 0, "the injector was restarted");
    let admitted = async || ask(place, &wanting()).await.ok().filter(is_injected);
    place.until("a pod is admitted again", admitted).await?;
    // KI-36
    let mut saved = webhook(place).await?;
    scale(place, INJECTOR, 0).await?;
    kubectl(place, &["delete", "mutatingwebhookconfiguration", INJECTOR])?;
    kubectl(
        &control,
        &["scale", "--replicas=1", &format!("deploy/{INJECTOR}")],
    )?;
    let waits = async || {
        let pod = control.pod(&format!("app={INJECTOR}")).await.ok()?;
        let log = control.logs(&pod, INJECTOR).await.ok()?;
        log.contains("waiting for it").then_some(pod)
    };
    let pod = control
        .until("the injector misses its configuration", waits)
        .await?;
    let health = control.get(&pod, 8080, "/healthz").await?;
    ensure!(
        health.status == 503,
        "healthy without a webhook: {}",
        health.status
    );
    if let Some(metadata) = saved["metadata"].as_object_mut() {
        for field in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
            "managedFields",
        ] {
            metadata.remove(field);
        }
    }
    saved["webhooks"][0]["clientConfig"]["caBundle"] = "".into();
    let said = place.kubectl(&["create", "--filename", "-"], Some(&saved.to_string()))?;
    ensure!(said.ok, "{}", said.stderr);
    control.rolled_out(INJECTOR).await?;
    trusts(place).await
}

/// KI-32, KI-33, KI-35, KI-36: certificate and roots of the webhook, with and without its configuration.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn the_api_server_trusts_the_injector_whatever_happens_to_the_configuration() {
    let name = "webhook::the_api_server_trusts_the_injector_whatever_happens_to_the_configuration";
    k8s::test_on_own(name, &[], configuration).await;
}

/// Pods in a burst.
const BURST: usize = 200;

/// The API server's own account of the webhook: how many calls took at most so long, in seconds.
async fn account(place: &Place) -> Result<Vec<(f64, f64)>> {
    let text = kubectl(place, &["get", "--raw=/metrics"])?;
    let series = "apiserver_admission_webhook_admission_duration_seconds_bucket{";
    let of_ours = |line: &&str| {
        line.starts_with(series) && line.contains("name=\"sidecar-injector.dapr.io\"")
    };
    let mut buckets = Vec::new();
    for line in text.lines().filter(of_ours) {
        let (_, rest) = line.split_once("le=\"").context("a bucket's bound")?;
        let (bound, _) = rest.split_once('"').context("a bucket's bound")?;
        let count = line.rsplit(' ').next().context("a bucket's count")?;
        let bound = bound.replace("+Inf", "inf").parse()?;
        buckets.push((bound, count.parse()?));
    }
    Ok(buckets)
}

async fn burst(_machine: &Machine, place: &Place) -> Result<()> {
    let first = async || ask(place, &wanting()).await.ok().filter(is_injected);
    place.until("a pod is admitted", first).await?;
    let before = account(place).await?;
    let asked = stream::iter(0..BURST).map(|_| async {
        let watch = Stopwatch::start();
        let answer = ask(place, &wanting()).await;
        (watch.elapsed(), answer.map(|pod| is_injected(&pod)))
    });
    let mut took = Vec::new();
    for (time, answer) in asked.buffer_unordered(BURST).collect::<Vec<_>>().await {
        ensure!(matches!(answer, Ok(true)), "{answer:?}");
        took.push(time);
    }
    took.sort();
    let after = account(place).await?;
    let buckets: Vec<(f64, f64)> = after
        .iter()
        .map(|(bound, count)| {
            let earlier = before.iter().find(|(of, _)| of == bound);
            (*bound, count - earlier.map_or(0.0, |(_, count)| *count))
        })
        .collect();
    let all = buckets
        .iter()
        .fold(0.0_f64, |most, (_, count)| most.max(*count));
    ensure!(
        all >= 200.0,
        "the API server counted {all} calls of the webhook"
    );
    let within = |part: f64| {
        let enough = buckets.iter().filter(|(_, count)| *count >= all * part);
        enough.fold(f64::INFINITY, |least, (bound, _)| least.min(*bound))
    };
    let ms = |at: usize| took.get(at).map_or(0.0, Duration::as_secs_f64) * 1000.0;
    k8s::figure(&format!(
        "burst of {BURST} pods: webhook p50 <= {} s, p99 <= {} s (API server's buckets); \
         the whole request p50 {:.0} ms, p99 {:.0} ms",
        within(0.5),
        within(0.99),
        ms(BURST / 2),
        ms(BURST * 99 / 100)
    ));
    Ok(())
}

/// A burst of pods: all get their sidecar; how long the webhook took is told.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn a_burst_of_pods_is_admitted() {
    k8s::test_on_own("webhook::a_burst_of_pods_is_admitted", &[], burst).await;
}
