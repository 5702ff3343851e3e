//! The version before this one is upgraded under traffic, and comes back under traffic. Row KH-20; the chapter on
//! version skew, both ways.

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{self, Helm, Machine, Place, Sample};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};

use crate::breaking::{CONTROL, Load, reaches};

/// The image of the sidecar of an app's pods.
async fn image(place: &Place, app: &str) -> Result<String> {
    let pods: Vec<Pod> = place.pods(&format!("app={app}")).await?;
    let pod = pods.first().with_context(|| format!("a pod of {app}"))?;
    let spec = pod.spec.as_ref().context("a pod has a spec")?;
    let init = spec.init_containers.iter().flatten();
    let mut all = init.chain(&spec.containers);
    let sidecar = all.find(|container| container.name == "daprd");
    let image = sidecar.and_then(|container| container.image.clone());
    image.with_context(|| format!("a sidecar in {app}"))
}

/// Starts an app that gets the sidecar of this version, and calls it and from it.
async fn joined(place: &Place, caller: &str, app: &str, tag: &str) -> Result<()> {
    place.start(&Sample::with_sidecar(app)).await?;
    let found = image(place, app).await?;
    ensure!(found.ends_with(tag), "{app} has {found}");
    reaches(place, caller, app).await?;
    reaches(place, &place.pod(&format!("app={app}")).await?, "callee").await
}

async fn roots(place: &Place) -> Result<Option<String>> {
    let maps = place.beside(CONTROL).api::<ConfigMap>();
    let map = maps.get("dapr-trust-bundle").await?;
    Ok(map.data.and_then(|mut data| data.remove("ca.crt")))
}

async fn there_and_back(machine: &Machine, place: &Place) -> Result<()> {
    let previous = Helm::previous(machine, place.cluster())?;
    let current = Helm::new(place.cluster());
    previous.install(&[])?;
    let load = Load::start(place).await?;
    let caller = load.pod().to_owned();
    let found = image(place, "callee").await?;
    ensure!(found.ends_with(":e2e-prev"), "callee has {found}");
    let anchors = roots(place).await?;
    ensure!(anchors.is_some(), "no roots are published");

    current.install(&[])?;
    load.goes_on().await?;
    joined(place, &caller, "newer", ":e2e").await?;
    load.so_far("upgrade from the version before").await?;
    ensure!(anchors == roots(place).await?, "the upgrade changed roots");

    current.roll_back()?;
    load.goes_on().await?;
    joined(place, &caller, "older", ":e2e-prev").await?;
    // Sidecars of the later version go on below the earlier control plane.
    reaches(place, &caller, "newer").await?;
    ensure!(anchors == roots(place).await?, "the rollback changed roots");
    load.end("upgrade from the version before, and rollback")
        .await
}

/// KH-20: no call fails while the control plane goes to this version and back, and sidecars of both call each other.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn the_version_before_is_upgraded_and_rolled_back_without_a_failed_call() {
    let name = "upgrade::the_version_before_is_upgraded_and_rolled_back_without_a_failed_call";
    Box::pin(k8s::test_on_bare(name, there_and_back)).await;
}
