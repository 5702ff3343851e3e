//! How much memory the control plane takes, idle and with sidecars: figures, and a bound that only a leak reaches.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{self, Machine, Place, Sample};
use k8s_openapi::api::apps::v1::Deployment;

use crate::breaking::{CONTROL, INJECTOR, OPERATOR, SENTRY, kubectl};

/// Sidecars of the second look.
const SIDECARS: u16 = 20;
/// So many start one after the other on a small machine.
const START: Duration = Duration::from_secs(300);
/// No program of the control plane comes near.
const BOUND: u64 = 512 * 1024 * 1024;

/// What the kubelet counts of memory: pages that only this program has, and all that it uses.
const SERIES: [&str; 2] = ["container_memory_rss", "container_memory_working_set_bytes"];

/// Bytes by container and series; of sidecars the most.
fn counted(place: &Place) -> Result<BTreeMap<(String, &'static str), u64>> {
    let node = kubectl(place, &["get", "nodes", "--output=name"])?;
    let node = node.trim().trim_start_matches("node/");
    let raw = format!("--raw=/api/v1/nodes/{node}/proxy/metrics/cadvisor");
    let text = kubectl(place, &["get", &raw])?;
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let series = SERIES
            .into_iter()
            .find(|name| line.starts_with(&format!("{name}{{")));
        let (Some(series), Some((labels, values))) = (series, line.split_once('}')) else {
            continue;
        };
        let container = labels
            .split_once("container=\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        let (container, _) = container.context("a container's name")?;
        let control = labels.contains(&format!("namespace=\"{CONTROL}\""));
        if control || container == "daprd" {
            let value = values.split_whitespace().next().context("a value")?;
            let bytes: f64 = value.parse()?;
            let most: &mut u64 = found.entry((container.to_owned(), series)).or_default();
            *most = (*most).max(whole(bytes));
        }
    }
    Ok(found)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes of memory"
)]
fn whole(bytes: f64) -> u64 {
    bytes as u64
}

/// Waits until the kubelet has counted all of them, and tells.
async fn tell(place: &Place, when: &str, names: &[&str]) -> Result<()> {
    let of = |found: &BTreeMap<(String, &'static str), u64>, name: &str| {
        SERIES.map(|series| found.get(&(name.to_owned(), series)).copied().unwrap_or(0))
    };
    let look = async || {
        let found = counted(place).ok()?;
        let all = names
            .iter()
            .all(|name| of(&found, name).iter().all(|bytes| *bytes > 0));
        all.then_some(found)
    };
    let found = place.until("the kubelet's account of memory", look).await?;
    for name in names {
        let bytes = of(&found, name);
        let [own, used] = bytes.map(|bytes| {
            let tenths = bytes.saturating_mul(10) >> 20;
            format!("{}.{}", tenths / 10, tenths % 10)
        });
        k8s::figure(&format!(
            "{when}: {name} {own} MiB resident of its own, {used} MiB working set"
        ));
        ensure!(
            bytes.iter().all(|bytes| *bytes < BOUND),
            "{name}: {bytes:?}"
        );
    }
    Ok(())
}

async fn memory(_machine: &Machine, place: &Place) -> Result<()> {
    let programs = [OPERATOR, INJECTOR, SENTRY];
    tell(place, "idle", &programs).await?;
    let many = Sample::with_sidecar("many").replicas(SIDECARS);
    place.apply(&many.manifest().to_string())?;
    let ready = |found: &Deployment| {
        let status = found.status.as_ref();
        status.and_then(|status| status.available_replicas) == Some(i32::from(SIDECARS))
    };
    place
        .object("many", "twenty pods are ready", START, ready)
        .await?;
    let with = format!("with {SIDECARS} pods");
    tell(place, &with, &[OPERATOR, INJECTOR, SENTRY, "daprd"]).await
}

/// Memory of the control plane, idle and with twenty sidecars.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn the_control_planes_memory_is_told() {
    k8s::test_on_own("footprint::the_control_planes_memory_is_told", &[], memory).await;
}
