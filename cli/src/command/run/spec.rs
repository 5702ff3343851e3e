//! What is to be run: one app and its sidecar, with every setting decided.
//!
//! Flags and templates both end here. Facts: cli-and-clients 1.3, 1.4.

use std::ffi::OsString;
use std::path::PathBuf;

use ironside_chassis::args::parse_quantity;

use crate::folders::Home;
use crate::grammar::Values;

/// The largest body of a request unless told otherwise.
const MAX_BODY: &str = "4Mi";
/// The largest head of a request unless told otherwise.
const READ_BUFFER: &str = "4Ki";

/// One app and its sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AppSpec {
    /// The app's id; empty for a generated one.
    pub app_id: String,
    /// The words of the app's command; none for a sidecar alone.
    pub command: Vec<OsString>,
    /// Where the app listens; below 1 for nowhere.
    pub app_port: i64,
    /// `http`, `https`, `h2c`, `grpc`, `grpcs`.
    pub app_protocol: String,
    /// The host the app listens on.
    pub app_channel_address: String,
    /// How many calls it gets at once.
    pub app_max_concurrency: i64,
    /// The deprecated way to say https or grpcs.
    pub app_ssl: bool,
    /// The configuration file, if any.
    pub config: Option<PathBuf>,
    /// The folders of resource files.
    pub resources: Vec<PathBuf>,
    /// The ports asked for.
    pub ports: AskedPorts,
    /// Whether the sidecar's profiling is on.
    pub enable_profiling: bool,
    /// The sidecar's log level.
    pub log_level: String,
    /// The largest body, as a quantity.
    pub max_body_size: String,
    /// The largest head, as a quantity.
    pub read_buffer_size: String,
    /// The folder of Unix sockets, which then replace the ports.
    pub unix_domain_socket: Option<PathBuf>,
    /// The app's health probes.
    pub health: Health,
    /// Whether API calls are logged; none leaves it to the configuration.
    pub api_logging: Option<bool>,
    /// The addresses the API listens on.
    pub listen_addresses: String,
    /// The address of a placement service, passed on; empty for none.
    pub placement_host_address: String,
    /// The address of a scheduler service, passed on; empty for none.
    pub scheduler_host_address: String,
    /// The working directory of both; none for ours.
    pub folder: Option<PathBuf>,
    /// Variables for the app, which beat all others.
    pub environment: Vec<(String, String)>,
    /// Whether it gets its identity from this user's Sentry.
    pub own_sentry: bool,
    /// Where the sidecar's program lies.
    pub home: Option<Home>,
}

/// The ports asked for; below 1 for a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AskedPorts {
    /// The HTTP API.
    pub http: i64,
    /// The gRPC API.
    pub grpc: i64,
    /// Calls of other sidecars.
    pub internal: i64,
    /// Metrics.
    pub metrics: i64,
    /// Profiling.
    pub profile: i64,
}

/// The app's health probes; zero and empty leave it to the sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Whether the app is probed.
    pub enabled: bool,
    /// The path of the probe.
    pub path: String,
    /// The pause between probes, in seconds.
    pub interval: i64,
    /// The limit of a probe, in milliseconds.
    pub timeout: i64,
    /// Failed probes until unhealthy.
    pub threshold: i64,
}

// === impl AskedPorts ===

impl Default for AskedPorts {
    fn default() -> Self {
        Self {
            http: -1,
            grpc: -1,
            internal: -1,
            metrics: -1,
            profile: -1,
        }
    }
}

// === impl AppSpec ===

impl Default for AppSpec {
    fn default() -> Self {
        Self {
            app_id: String::new(),
            command: Vec::new(),
            app_port: 0,
            app_protocol: "http".to_owned(),
            app_channel_address: "127.0.0.1".to_owned(),
            app_max_concurrency: -1,
            app_ssl: false,
            config: None,
            resources: Vec::new(),
            ports: AskedPorts::default(),
            enable_profiling: false,
            log_level: "info".to_owned(),
            max_body_size: MAX_BODY.to_owned(),
            read_buffer_size: READ_BUFFER.to_owned(),
            unix_domain_socket: None,
            health: Health::default(),
            api_logging: None,
            listen_addresses: String::new(),
            placement_host_address: String::new(),
            scheduler_host_address: String::new(),
            folder: None,
            environment: Vec::new(),
            own_sentry: false,
            home: None,
        }
    }
}

impl AppSpec {
    /// What the flags of `run` and the words after them ask for.
    pub(crate) fn from_flags(values: &Values, words: &[OsString], home: Option<Home>) -> Self {
        let defaults = Self::default();
        let text = |name: &str, default: String| values.text(name).map_or(default, str::to_owned);
        let number = |name: &str, default| values.number(name).unwrap_or(default);
        let path = |name: &str| {
            values
                .text(name)
                .filter(|text| !text.is_empty())
                .map(PathBuf::from)
        };
        let standard = home.clone();
        let config = path("config").or_else(|| {
            standard
                .as_ref()
                .map(Home::configuration)
                .filter(|file| file.exists())
        });
        Self {
            app_id: text("app-id", defaults.app_id),
            command: words.to_vec(),
            app_port: number("app-port", defaults.app_port),
            app_protocol: text("app-protocol", defaults.app_protocol),
            app_channel_address: text("app-channel-address", defaults.app_channel_address),
            app_max_concurrency: number("app-max-concurrency", defaults.app_max_concurrency),
            app_ssl: values.switch("app-ssl"),
            config,
            resources: resources(values, standard.as_ref()),
            ports: AskedPorts {
                http: number("dapr-http-port", -1),
                grpc: number("dapr-grpc-port", -1),
                internal: number("dapr-internal-grpc-port", -1),
                metrics: number("metrics-port", -1),
                profile: number("profile-port", -1),
            },
            enable_profiling: values.switch("enable-profiling"),
            log_level: text("log-level", defaults.log_level),
            max_body_size: size(
                values,
                "max-body-size",
                "dapr-http-max-request-size",
                "Mi",
                MAX_BODY,
            ),
            read_buffer_size: size(
                values,
                "read-buffer-size",
                "dapr-http-read-buffer-size",
                "Ki",
                READ_BUFFER,
            ),
            unix_domain_socket: path("unix-domain-socket"),
            health: Health {
                enabled: values.switch("enable-app-health-check"),
                path: text("app-health-check-path", String::new()),
                interval: number("app-health-probe-interval", 0),
                timeout: number("app-health-probe-timeout", 0),
                threshold: number("app-health-threshold", 0),
            },
            api_logging: values
                .given("enable-api-logging")
                .then(|| values.switch("enable-api-logging")),
            listen_addresses: text("dapr-listen-addresses", defaults.listen_addresses),
            placement_host_address: text("placement-host-address", defaults.placement_host_address),
            scheduler_host_address: text("scheduler-host-address", defaults.scheduler_host_address),
            folder: None,
            environment: Vec::new(),
            own_sentry: values.switch("mtls"),
            home,
        }
    }

    /// The words of the command, joined by spaces.
    pub(crate) fn command_text(&self) -> String {
        let words = self.command.iter().map(|word| word.to_string_lossy());
        words.collect::<Vec<_>>().join(" ")
    }
}

fn resources(values: &Values, home: Option<&Home>) -> Vec<PathBuf> {
    let given: Vec<PathBuf> = values
        .texts("resources-path")
        .into_iter()
        .map(PathBuf::from)
        .collect();
    if !given.is_empty() {
        return given;
    }
    if let Some(old) = values
        .text("components-path")
        .filter(|path| !path.is_empty())
    {
        return vec![PathBuf::from(old)];
    }
    home.map(Home::resources)
        .filter(|folder| folder.is_dir())
        .into_iter()
        .collect()
}

/// A size: the quantity, else the old flag in its fixed unit.
fn size(values: &Values, name: &str, old: &str, unit: &str, default: &str) -> String {
    match (values.text(name), values.number(old)) {
        (Some(quantity), _) => quantity.to_owned(),
        (None, Some(number)) => format!("{number}{unit}"),
        (None, None) => default.to_owned(),
    }
}

/// The quantity in bytes; a negative one means no value of its own.
pub(crate) fn size_in_bytes(name: &str, quantity: &str) -> anyhow::Result<i64> {
    match parse_quantity(quantity) {
        Ok(bytes) => Ok(bytes.max(-1)),
        Err(error) => anyhow::bail!("error parsing {name} {quantity:?}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{GLOBAL, ROOT};

    fn spec(line: &[&str]) -> AppSpec {
        let parsed =
            crate::grammar::parse(ROOT, "ironside", GLOBAL, line.iter().map(OsString::from))
                .unwrap();
        AppSpec::from_flags(&parsed.values, &parsed.words, None)
    }

    #[test]
    fn without_flags_everything_has_its_default() {
        assert_eq!(spec(&["run"]), AppSpec::default());
    }

    #[test]
    fn old_size_flags_give_way_to_quantities() {
        assert_eq!(
            spec(&["run", "--dapr-http-max-request-size", "8"]).max_body_size,
            "8Mi"
        );
        assert_eq!(
            spec(&["run", "--dapr-http-read-buffer-size", "8"]).read_buffer_size,
            "8Ki"
        );
        let both = spec(&[
            "run",
            "--dapr-http-max-request-size",
            "8",
            "--max-body-size",
            "1Mi",
        ]);
        assert_eq!(both.max_body_size, "1Mi");
    }

    #[test]
    fn negative_sizes_become_minus_one() {
        assert_eq!(size_in_bytes("max-body-size", "-5Mi").unwrap(), -1);
        assert_eq!(size_in_bytes("max-body-size", "4Mi").unwrap(), 4 << 20);
        assert!(size_in_bytes("max-body-size", "much").is_err());
    }
}
