//! The start of a sidecar in a cluster: what the operator says, before anything listens.
//!
//! Owns how long the start waits for it. With a Configuration assigned it waits for that without end, because its
//! rules would otherwise be missing; without one it goes on with defaults after [`PATIENCE`], and stays unready until
//! the operator has said everything. The reference ends the process after 30 s instead. Source: kubernetes 3.10.

use std::{pin::pin, time::Duration};

use ironside_chassis::{Tasks, health::Target};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{LOG, identity::Held};
use crate::{
    config::{Config, KubernetesConfig},
    sources::{
        cluster::Kind,
        disk::Disk,
        operator::{Parts, Source, State},
        reload,
    },
};

/// How long the start waits for what it could do without.
const PATIENCE: Duration = Duration::from_secs(10);

/// Follows the operator from now on, if there is one; nothing is waited for.
pub(super) fn follow(
    config: &Config,
    held: Option<&Held>,
    tasks: &Tasks,
) -> Option<watch::Receiver<State>> {
    let (kubernetes, held) = config.kubernetes.clone().zip(held)?;
    let parts = Parts {
        config: kubernetes,
        namespace: config.namespace.clone(),
        tls: held.client(),
        relist: config.files.relist,
    };
    let (source, states) = Source::new(parts, tasks);
    tasks.spawn("operator", source.run(tasks.token()));
    Some(states)
}

/// Waits until the start may go on.
pub(super) async fn arrived(disk: &mut Disk, kubernetes: &KubernetesConfig) {
    let Some(mut states) = disk.states() else {
        return;
    };
    info!(target: LOG, "waiting for the operator at {}", kubernetes.operator_address);
    let mut late = pin!(tokio::time::sleep(PATIENCE));
    let mut is_late = false;
    loop {
        let is_complete = states.borrow_and_update().is_complete();
        reload::say_refused(&disk.gather());
        let is_configured = kubernetes.configuration.as_ref().is_none_or(|name| {
            let accepted = disk.accepted().map(|accepted| accepted.objects());
            accepted.is_some_and(|all| all.contains_key(&(Kind::Configuration, name.clone())))
        });
        if is_configured && is_complete {
            return;
        }
        if is_configured && is_late {
            warn!(target: LOG, "the operator has not said everything within {PATIENCE:?}: starting with what is known; this sidecar is not ready until it has");
            return;
        }
        tokio::select! {
            Ok(()) = states.changed() => {}
            () = late.as_mut(), if !is_late => is_late = true,
        }
    }
}

/// Makes `target` ready once the operator has said everything; what it said then stays.
pub(super) async fn readiness(
    mut states: watch::Receiver<State>,
    target: Target,
    stop: CancellationToken,
) {
    let complete = async { states.wait_for(State::is_complete).await.is_ok() };
    let is_complete = tokio::select! {
        () = stop.cancelled() => return,
        is_complete = complete => is_complete,
    };
    if is_complete {
        target.ready();
    }
    // The target leaves the registry when it is dropped.
    stop.cancelled().await;
}
