//! Tests that break a cluster: each has one of its own, with the control plane on it, and takes turns with the others.
//!
//! One at a time of each kind, because a machine that also builds has no room for several: those that find the control
//! plane there on [`NAME`], and those that bring one themselves on [`BARE`], which mostly wait. A cluster that already
//! runs is used and left, so a developer brings one up once and repeats.

use anyhow::{Context as _, Result};
use tokio::sync::Mutex;

use super::{Cluster, Helm, Machine, Place, test_on};

/// The name of the cluster with a control plane.
const NAME: &str = "broken";
/// The name of the one without.
const BARE: &str = "bare";

/// Whose turn it is.
static TURN: Mutex<()> = Mutex::const_new(());
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
    let _turn = TURN.lock().await;
    let (machine, cluster) = prepared(settings).await.expect("a cluster of its own");
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

async fn prepared(settings: &[&str]) -> Result<(Machine, Cluster)> {
    let machine = Machine::own(NAME)?;
    let cluster = machine.cluster().await?;
    Helm::new(&cluster)
        .install(settings)
        .context("the control plane")?;
    Ok((machine, cluster))
}
