//! What the sidecar and the app are told: arguments and environment, as lists of words.
//!
//! Pure. Facts: cli-and-clients 1.5, 1.6, CH6, CL-12, CL-22 to CL-24.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::spec::{AppSpec, size_in_bytes};
use crate::api::Endpoint;
use crate::env::Environment;

/// The port of a placement service whose address names none.
const PLACEMENT_PORT: u16 = 50_005;
/// The port of a scheduler service whose address names none.
const SCHEDULER_PORT: u16 = 50_006;

/// The ports a sidecar gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChosenPorts {
    /// The HTTP API.
    pub http: u16,
    /// The gRPC API.
    pub grpc: u16,
    /// Calls of other sidecars.
    pub internal: u16,
    /// Metrics.
    pub metrics: u16,
    /// Profiling, when it is on.
    pub profile: Option<u16>,
}

/// Whether the sidecar is to ask for an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MutualTls {
    /// Of the Sentry with this address.
    From(String),
    /// It is not.
    Off,
}

/// The form of the sidecar's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogForm {
    /// Lines of text.
    Text,
    /// JSON.
    Json,
}

/// The sidecar's arguments, in the reference's order.
pub(crate) fn arguments(
    spec: &AppSpec,
    ports: ChosenPorts,
    mutual_tls: &MutualTls,
    log: LogForm,
) -> anyhow::Result<Vec<OsString>> {
    let mut out = Arguments::default();
    out.path("--config", spec.config.as_deref());
    out.text("--app-protocol", &spec.app_protocol);
    out.text("--dapr-listen-addresses", &spec.listen_addresses);
    out.switch("--enable-profiling", spec.enable_profiling);
    out.text("--log-level", &spec.log_level);
    out.number(
        "--app-max-concurrency",
        if spec.app_max_concurrency < 1 {
            -1
        } else {
            spec.app_max_concurrency
        },
    );
    out.text(
        "--placement-host-address",
        &with_port(&spec.placement_host_address, PLACEMENT_PORT),
    );
    for folder in &spec.resources {
        out.path("--resources-path", Some(folder));
    }
    out.switch("--app-ssl", spec.app_ssl);
    out.number(
        "--max-body-size",
        size_in_bytes("max-body-size", &spec.max_body_size)?,
    );
    out.number(
        "--read-buffer-size",
        size_in_bytes("read-buffer-size", &spec.read_buffer_size)?,
    );
    out.switch("--enable-app-health-check", spec.health.enabled);
    out.text("--app-health-check-path", &spec.health.path);
    out.given("--app-health-probe-interval", spec.health.interval);
    out.given("--app-health-probe-timeout", spec.health.timeout);
    out.given("--app-health-threshold", spec.health.threshold);
    match spec.api_logging {
        Some(true) => out.word("--enable-api-logging"),
        // Said, because silence would leave it to the configuration.
        Some(false) => out.word("--enable-api-logging=false"),
        None => {}
    }
    out.text(
        "--scheduler-host-address",
        &with_port(&spec.scheduler_host_address, SCHEDULER_PORT),
    );
    out.text("--app-id", &spec.app_id);
    if spec.app_channel_address != "127.0.0.1" {
        out.text("--app-channel-address", &spec.app_channel_address);
    }
    out.number("--app-port", spec.app_port.max(0));
    out.number("--dapr-http-port", i64::from(ports.http));
    out.number("--dapr-grpc-port", i64::from(ports.grpc));
    out.number("--profile-port", ports.profile.map_or(-1, i64::from));
    out.number("--metrics-port", i64::from(ports.metrics));
    out.path("--unix-domain-socket", spec.unix_domain_socket.as_deref());
    out.number("--dapr-internal-grpc-port", i64::from(ports.internal));
    if let MutualTls::From(address) = mutual_tls {
        out.word("--enable-mtls");
        out.text("--sentry-address", address);
    }
    out.switch("--log-as-json", log == LogForm::Json);
    Ok(out.0)
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

// === impl Arguments ===

impl Arguments {
    fn word(&mut self, word: &str) {
        self.0.push(word.into());
    }

    fn switch(&mut self, name: &str, on: bool) {
        if on {
            self.word(name);
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.word(name);
            self.word(value);
        }
    }

    fn path(&mut self, name: &str, value: Option<&Path>) {
        if let Some(value) = value {
            self.word(name);
            self.0.push(value.into());
        }
    }

    fn number(&mut self, name: &str, value: i64) {
        self.text(name, &value.to_string());
    }

    fn given(&mut self, name: &str, value: i64) {
        if value != 0 {
            self.number(name, value);
        }
    }
}

/// The address with a port; an empty one stays empty, which means off.
fn with_port(address: &str, port: u16) -> String {
    let has_port = address.rsplit_once(':').is_some_and(|(host, end)| {
        end.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    if address.is_empty() || has_port {
        address.to_owned()
    } else {
        format!("{address}:{port}")
    }
}

/// The app's whole environment: the parent's, then ours, then the template's; each name once, the last value wins.
pub(crate) fn environment(
    spec: &AppSpec,
    ports: ChosenPorts,
    parent: &Environment,
) -> Vec<(OsString, OsString)> {
    let mut all: BTreeMap<OsString, OsString> = parent
        .all()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut set = |name: &str, value: String| all.insert(name.into(), value.into());
    set("APP_ID", spec.app_id.clone());
    set("APP_CHANNEL_ADDRESS", spec.app_channel_address.clone());
    if spec.app_port > 0 {
        set("APP_PORT", spec.app_port.to_string());
    }
    set("DAPR_HTTP_PORT", ports.http.to_string());
    set("DAPR_GRPC_PORT", ports.grpc.to_string());
    set("DAPR_METRICS_PORT", ports.metrics.to_string());
    if let Some(protocol) = protocol(spec) {
        set("APP_PROTOCOL", protocol.to_owned());
    }
    if let Some(folder) = &spec.unix_domain_socket
        && let Endpoint::Socket(path) =
            Endpoint::socket(&absolute(folder, spec), &spec.app_id, "grpc")
    {
        set("DAPR_GRPC_ENDPOINT", format!("unix://{}", path.display()));
    }
    for (name, value) in &spec.environment {
        set(name, value.clone());
    }
    all.into_iter().collect()
}

fn absolute(folder: &Path, spec: &AppSpec) -> PathBuf {
    let folder = spec
        .folder
        .as_ref()
        .map_or_else(|| folder.to_path_buf(), |base| base.join(folder));
    std::path::absolute(&folder).unwrap_or(folder)
}

pub(crate) fn protocol(spec: &AppSpec) -> Option<&'static str> {
    match (
        spec.app_protocol.to_ascii_lowercase().as_str(),
        spec.app_ssl,
    ) {
        ("http" | "", false) => Some("http"),
        ("http" | "", true) | ("https", _) => Some("https"),
        ("grpc", false) => Some("grpc"),
        ("grpc", true) | ("grpcs", _) => Some("grpcs"),
        ("h2c", _) => Some("h2c"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
