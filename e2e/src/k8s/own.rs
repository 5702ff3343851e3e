//! Tests that break a cluster: each has one of its own, with the control plane on it, and takes turns with the others.
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
    let prepared = prepared(own, settings).await;
    let (machine, cluster) = prepared.expect("a cluster of its own");
    test_on(&cluster, name, async |place| body(&machine, place).await).await;
}

/// Runs `body` on a cluster of its own without a control plane, and leaves it without one.
///
/// # Panics
/// As [`super::test`], and if there is no such cluster.
pub async fn test_on_bare(name: &str, body: impl AsyncFnOnce(&Machine, &Place) -> Result<()>) {
    let _turn = BARE_TURN.lock().await;
    let machine = Machine::own(BARE).expect("a cluster of its own");
    let cluster = machine.cluster().await.expect("a cluster of its own");
    let helm = Helm::new(&cluster);
    helm.uninstall().expect("no control plane");
    test_on(&cluster, name, async |place| body(&machine, place).await).await;
    helm.uninstall().expect("no control plane");
}

async fn prepared(name: &str, settings: &[&str]) -> Result<(Machine, Cluster)> {
    let machine = Machine::own(name)?;
    let cluster = machine.cluster().await?;
    Helm::new(&cluster)
        .install(settings)
        .context("the control plane")?;
    Ok((machine, cluster))
}
