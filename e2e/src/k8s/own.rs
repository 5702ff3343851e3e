//! Tests that break a cluster: each has one of its own, with the control plane on it, and takes turns with the others.
//!
//! One at a time, because a machine that also builds has no room for several. A cluster [`NAME`] that already runs is
//! used and left, so a developer brings one up once and repeats.

use anyhow::{Context as _, Result};
use tokio::sync::Mutex;

use super::{Cluster, Helm, Machine, Place, test_on};

/// The cluster's name.
const NAME: &str = "broken";

/// Whose turn it is.
static TURN: Mutex<()> = Mutex::const_new(());

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

async fn prepared(settings: &[&str]) -> Result<(Machine, Cluster)> {
    let machine = Machine::own(NAME)?;
    let cluster = machine.cluster().await?;
    Helm::new(&cluster)
        .install(settings)
        .context("the control plane")?;
    Ok((machine, cluster))
}
