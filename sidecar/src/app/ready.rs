//! From "servers are up" to "the app is there": the last steps of a start, while requests are served already.
//!
//! Owns the wait for the app's port, the start of its probes and the line that says that the sidecar runs.

use std::sync::Arc;

use ironside_chassis::{Tasks, Tick, fatal, health::Target};
use tokio::sync::watch;
use tracing::info;

use super::LOG;
use crate::{
    channel::health::{self, Prober},
    config::{AppConfigCall, AppTarget},
    worker::Shared,
};

/// Waits for the app, then declares the sidecar ready. `app_up` tells when the app was seen.
pub(super) async fn become_ready(
    shared: Arc<Shared>,
    runtime: Target,
    app_up: watch::Sender<bool>,
    began: Tick,
    tasks: Tasks,
) -> Target {
    if let Some(target) = &shared.config.app {
        info!(
            target: LOG,
            "application protocol: {}. waiting on port {}.  This will block until the app is listening on that port.",
            target.protocol.as_str(), target.port
        );
        health::wait_for_port(target).await;
        info!(target: LOG, "application discovered on port {}", target.port);
        accompany(&shared, target, &tasks);
    }
    app_up.send_replace(true);
    // Before the line: whoever waits for the line may ask at once.
    runtime.ready();
    let took = (shared.clock.monotonic() - began).as_millis();
    info!(target: LOG, "dapr initialized. Status: Running. Init Elapsed {took}ms");
    runtime
}

/// Starts what goes on beside an app.
fn accompany(shared: &Arc<Shared>, target: &AppTarget, tasks: &Tasks) {
    let group = tasks.group("app-client");
    if let Some(settings) = shared.config.app_health.clone() {
        match Prober::new(
            target,
            &settings.path,
            &shared.config,
            &group,
            &shared.clock,
        ) {
            Ok(prober) => {
                let probing = health::probe(Arc::clone(shared), prober, settings, tasks.token());
                tasks.spawn("app-health", probing);
            }
            // Said once, loudly: an app that cannot be probed counts as unhealthy.
            Err(cause) => {
                fatal!(target: LOG, "app health check path {:?} makes no URL: {cause}", settings.path)
            }
        }
    }
    if !target.protocol.is_http() {
        return;
    }
    match shared.config.app_config_call {
        AppConfigCall::Once => {
            let call =
                health::call_config(Arc::clone(shared), target.clone(), group, tasks.token());
            tasks.spawn("app-config", call);
        }
        AppConfigCall::Skipped => info!(
            target: LOG,
            "Skipping programmatic dapr configuration loading (see 'disable-init-endpoints' flag/annotation)"
        ),
    }
}
