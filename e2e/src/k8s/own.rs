//! Tests that break a cluster: each has one of its own, with the control plane on it, and takes turns with the others.
//!
//! They need the project's own tool, so they say in their `#[ignore]` that they need a cluster of the tool's own:
//! `cargo xtask e2e k8s` leaves those out on a cluster that somebody brought.
//!
//! Few at a time, because a small machine has no room for many: those that find the control plane there on one of
//! [`NAMES`], and those that bring one themselves on [`BARE`], which mostly wait. A cluster that already runs is used
//! and left, so a developer brings one up once and repeats.

use anyhow::{Context as _, Result};
use tokio::sync::Mutex;

use super::{Cluster, Helm, Machine, Place, test_on};

/// The names of the clusters with a control plane.
const NAMES: [&str; 2] = ["broken", "torn"];
/// The name of the one without.
const BARE: &str = "bare";

/// Whose turn it is: each waits for one of the names.
static TURNS: [Mutex<()>; NAMES.len()] = [const { Mutex::const_new(()) }; NAMES.len()];
static BARE_TURN: Mutex<()> = Mutex::const_new(());

/// Runs `body` on a cluster of its own, where the chart is installed with `settings`.
///
/// # Panics
/// As [`super::test`], and if there is no such cluster.
pub async fn test_on_own(
    name: &str,
    settings: &[&str],
    body: impl AsyncFnOnce(&Machine, &Place) -> Result<()>,
) {
    let [first, second] = TURNS.each_ref().map(Mutex::lock);
    let (own, _turn) = tokio::select! {
        biased;
        turn = first => (NAMES[0], turn),
        turn = second => (NAMES[1], turn),
    };
    let (machine, cluster) = reached(own).await.expect("a cluster of its own");
    // Within the test, so that its state is kept when the control plane does not come up.
    let whole = async |place: &Place| {
        let installed = Helm::new(place.cluster()).install(settings);
        installed.context("the control plane")?;
        body(&machine, place).await
    };
    test_on(&cluster, name, whole).await;
}

/// Runs `body` on the cluster of this run, with the tool that started it.
///
/// # Panics
/// As [`super::test`], and if somebody else brought the cluster.
pub async fn test_on_machine(name: &str, body: impl AsyncFnOnce(&Machine, &Place) -> Result<()>) {
    let machine = Machine::shared().expect("a cluster of the tool's own");
    super::test(name, async |place| body(&machine, place).await).await;
}

/// Runs `body` on a cluster of its own without a control plane, and leaves it without one.
///
/// # Panics
/// As [`super::test`], and if there is no such cluster.
pub async fn test_on_bare(name: &str, body: impl AsyncFnOnce(&Machine, &Place) -> Result<()>) {
    let _turn = BARE_TURN.lock().await;
    let (machine, cluster) = reached(BARE).await.expect("a cluster of its own");
    let whole = async |place: &Place| {
        let helm = Helm::new(place.cluster());
        helm.uninstall().context("no control plane")?;
        body(&machine, place).await
    };
    test_on(&cluster, name, whole).await;
    let helm = Helm::new(&cluster);
    helm.uninstall().expect("no control plane");
}

async fn reached(name: &str) -> Result<(Machine, Cluster)> {
    let machine = Machine::own(name)?;
    let cluster = machine.cluster().await?;
    Ok((machine, cluster))
}
