//! The lines of a start, in the reference's words: people and tools match them.
//!
//! Owns texts only (process-interface 2.5, 7; golden 35). Lines about building blocks that are not offered are
//! not written.

use ironside_chassis::build_info;
use ironside_resources::Configuration;
use ironside_telemetry::Sampling;
use tracing::{info, warn};

use super::LOG;
use crate::config::Config;

/// Scope of metric lines.
const DIAGNOSTICS: &str = "dapr.runtime.diagnostics";

/// The first two lines.
pub(super) fn starting(level: &str) {
    let (version, commit) = (build_info::VERSION, build_info::COMMIT);
    info!(target: LOG, "Starting Dapr Runtime -- version {version} -- commit {commit}");
    info!(target: LOG, "Log level set to: {}", level.to_ascii_lowercase());
}

/// mTLS is off.
pub(super) fn no_mtls() {
    warn!(target: "dapr.runtime.security", "mTLS is disabled. Skipping certificate request and tls validation");
}

/// What the configuration switches.
pub(super) fn configured(config: &Config, configuration: &Configuration, sampling: Sampling) {
    let named = config
        .kubernetes
        .as_ref()
        .and_then(|kubernetes| kubernetes.configuration.as_ref());
    if config.files.configurations.is_empty() && named.is_none() {
        info!(target: LOG, "loading default configuration");
    }
    let features = configuration.enabled_features().join(" ");
    if !features.is_empty() {
        info!(target: LOG, "Enabled features: {features}");
    }
    let metric = configuration.metric();
    // Only maps with keys that are no text can fail.
    let text = serde_json::to_string(&metric).unwrap_or_default();
    info!(target: DIAGNOSTICS, "metric spec: {text}");
    if metric
        .http
        .as_ref()
        .and_then(|http| http.increased_cardinality)
        .is_none()
    {
        warn!(
            target: DIAGNOSTICS,
            "The default value for 'spec.metric.http.increasedCardinality' will change to 'false' in Dapr 1.15 or later"
        );
    }
    let directories: Vec<String> = config
        .files
        .resources
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    if config.kubernetes.is_some() {
        info!(target: LOG, "kubernetes mode configured");
    } else {
        info!(target: "dapr.runtime.hotreload.loader.disk", "Watching directories: [{}]", directories.join(" "));
        info!(target: LOG, "standalone mode configured");
    }
    info!(target: LOG, "app id: {}", config.app_id);
    info!(target: LOG, "Dapr trace sampler initialized: {sampling}");
}

/// Components and endpoints.
pub(super) fn loaded(components: &[String], endpoints: usize) {
    info!(target: LOG, "Loading components…");
    for name in components {
        info!(target: LOG, "Component loaded: {name}");
    }
    info!(target: LOG, "All outstanding components processed");
    info!(target: LOG, "Loading endpoints…");
    info!(target: LOG, "All outstanding http endpoints processed");
    if endpoints > 0 {
        info!(target: LOG, endpoints, "endpoints loaded");
    }
}

/// Live reload is on.
pub(super) fn hot_reload() {
    info!(
        target: "dapr.runtime.hotreload",
        "Hot reloading enabled. Daprd will reload 'Component', 'Configuration' and 'HTTPEndpoint' resources when they are added, updated or deleted."
    );
}
