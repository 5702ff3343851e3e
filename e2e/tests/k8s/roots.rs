//! Root and issuer become others under load, and pods that know only the old root come back after a crash.

use std::time::Duration;

use anyhow::{Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ironside_e2e::k8s::{self, Machine, Place, Sample};
use ironside_e2e::wait::{self, Stopwatch};
use ironside_identity::TrustBundle;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::breaking::{CONTROL, Load, churning, kubectl, reaches, webhook};

/// Leaves of a minute, which is the shortest that Sentry issues, and clocks that agree: they are one clock.
pub(crate) const SHORT: [&str; 2] = [
    "global.mtls.workloadCertTTL=60s",
    "global.mtls.allowedClockSkew=1s",
];

/// Two lives of a leaf, what Sentry adds to them, and much patience.
const ROTATION: Duration = Duration::from_secs(420);

/// The published roots, as DER.
pub(crate) async fn roots(place: &Place) -> Option<Vec<Vec<u8>>> {
    let maps = place.beside(CONTROL).api::<ConfigMap>();
    let map = maps.get("dapr-trust-bundle").await.ok()?;
    let bundle = TrustBundle::from_pem(map.data?.get("ca.crt")?.as_bytes()).ok()?;
    let anchors = bundle.anchors().iter();
    Some(anchors.map(|anchor| anchor.der().to_vec()).collect())
}

/// Waits until the published roots are as wanted.
async fn until_roots(
    place: &Place,
    what: &str,
    wanted: impl Fn(&[Vec<u8>]) -> bool,
) -> Result<Vec<Vec<u8>>> {
    let look = async || roots(place).await.filter(|roots| wanted(roots));
    wait::until(what, ROTATION, look).await
}

async fn rotate(place: &Place, load: &Load<'_>) -> Result<()> {
    let watch = Stopwatch::start();
    let old = until_roots(place, "a root", |roots| roots.len() == 1).await?;
    let secret = [
        "annotate",
        "secret",
        "dapr-trust-bundle",
        "dapr.io/rotate-request=now",
    ];
    kubectl(&place.beside(CONTROL), &secret)?;
    let both = until_roots(place, "two roots", |roots| roots.len() == 2).await?;
    ensure!(
        old.iter().all(|root| both.contains(root)),
        "the old root went at once"
    );
    // KI-34: the API server trusts both as well.
    let trusted = async || {
        let bundle = webhook(place).await.ok()?["webhooks"][0]["clientConfig"]["caBundle"].clone();
        let pem = BASE64_STANDARD.decode(bundle.as_str()?).ok()?;
        let count = TrustBundle::from_pem(&pem).ok()?.anchors().len();
        (count == 2).then_some(())
    };
    place.until("two roots in the webhook", trusted).await?;
    k8s::figure(&format!(
        "rotation: two roots in the webhook after {:.1} s",
        watch.elapsed().as_secs_f64()
    ));
    place.start(&Sample::with_sidecar("between")).await?;
    reaches(place, &place.pod("app=between").await?, "callee").await?;
    reaches(place, load.pod(), "between").await?;
    until_roots(place, "the new root alone", |roots| {
        roots.len() == 1 && roots != old
    })
    .await?;
    k8s::figure(&format!(
        "rotation: the new root alone after {:.1} s",
        watch.elapsed().as_secs_f64()
    ));
    load.goes_on().await
}

async fn rotated(machine: &Machine, place: &Place) -> Result<()> {
    let load = Load::start(place).await?;
    let caller = load.pod().to_owned();
    let pause = Duration::from_millis(100);
    let ((), churn) = churning(place, pause, Box::pin(rotate(place, &load))).await?;
    k8s::figure(&format!(
        "root rotated: {} pods admitted, {} refused",
        churn.admitted,
        churn.refused.len()
    ));
    ensure!(churn.refused.is_empty(), "{:?}", churn.refused);
    load.end("root rotated").await?;
    place.start(&Sample::with_sidecar("late")).await?;
    reaches(place, &place.pod("app=late").await?, "callee").await?;
    // Pods older than the rotation, whose environment has the old root alone, start again.
    machine.stop("node")?;
    machine.start("node")?;
    for app in ["callee", "caller", "between", "late"] {
        place.rolled_out(app).await?;
    }
    reaches(place, &caller, "callee").await?;
    reaches(place, &caller, "late").await
}

/// KH-22, KI-34, KI-37: no call and no admission fails while the root is replaced and every certificate with it, and
/// sidecars that were started with the old root come back after it was withdrawn.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn a_root_replaced_under_load_fails_no_call() {
    let name = "roots::a_root_replaced_under_load_fails_no_call";
    Box::pin(k8s::test_on_own(name, &SHORT, rotated)).await;
}
