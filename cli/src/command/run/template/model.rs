//! A template as it is written: every key optional, so that an absent value and a zero stay apart (CH8).
//!
//! Facts: cli-and-clients 1.9.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::command::run::yaml::{self, Line, YamlError};

/// The keys of the top.
const TOP: [&str; 4] = ["version", "name", "common", "apps"];
/// The keys of an app alone.
const OWN: [&str; 16] = [
    "appDirPath",
    "appID",
    "command",
    "appPort",
    "daprHTTPPort",
    "daprGRPCPort",
    "daprInternalGRPCPort",
    "metricsPort",
    "profilePort",
    "appChannelAddress",
    "unixDomainSocket",
    "containerImage",
    "containerImagePullPolicy",
    "createService",
    "daprHTTPMaxRequestSize",
    "daprHTTPReadBufferSize",
];
/// The keys of an app and of `common`.
const SHARED: [&str; 26] = [
    "resourcesPaths",
    "resourcesPath",
    "configFilePath",
    "appProtocol",
    "apiListenAddresses",
    "logLevel",
    "placementHostAddress",
    "schedulerHostAddress",
    "maxBodySize",
    "readBufferSize",
    "appHealthCheckPath",
    "appMaxConcurrency",
    "appHealthProbeInterval",
    "appHealthProbeTimeout",
    "appHealthThreshold",
    "enableProfiling",
    "appSSL",
    "enableAppHealthCheck",
    "enableApiLogging",
    "mtls",
    "runtimePath",
    "env",
    "daprdLogDestination",
    "appLogDestination",
    "daprHTTPMaxRequestSize",
    "daprHTTPReadBufferSize",
];

/// A template.
#[derive(Debug, Default)]
pub(crate) struct Template {
    /// The version of the format.
    pub version: Option<i64>,
    /// The template's name.
    pub name: Option<String>,
    /// Values for all apps.
    pub common: Shared,
    /// The apps, each with its own values and those it may share.
    pub apps: Vec<(Own, Shared)>,
    /// Keys that mean nothing.
    pub unknown: Vec<Unknown>,
}

/// A key that means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// The key.
    pub key: String,
    /// The line it stands on.
    pub line: u64,
}

/// The values that only an app has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Own {
    /// The app's folder.
    pub app_dir_path: Option<String>,
    /// The app's id.
    #[serde(rename = "appID")]
    pub app_id: Option<String>,
    /// The words of its command.
    pub command: Option<Vec<Option<String>>>,
    /// Where it listens.
    pub app_port: Option<i64>,
    /// The sidecar's HTTP port.
    #[serde(rename = "daprHTTPPort")]
    pub http_port: Option<i64>,
    /// The sidecar's gRPC port.
    #[serde(rename = "daprGRPCPort")]
    pub grpc_port: Option<i64>,
    /// The port other sidecars call.
    #[serde(rename = "daprInternalGRPCPort")]
    pub internal_port: Option<i64>,
    /// The metrics port.
    pub metrics_port: Option<i64>,
    /// The profiling port.
    pub profile_port: Option<i64>,
    /// The host the app listens on.
    pub app_channel_address: Option<String>,
    /// The folder of Unix sockets.
    pub unix_domain_socket: Option<String>,
    /// Kubernetes: what runs.
    pub container_image: Option<String>,
    /// Kubernetes: whether it is reached from outside the cluster.
    pub create_service: Option<bool>,
    /// Kubernetes: when the image is pulled.
    pub container_image_pull_policy: Option<String>,
}

/// The values that an app may take from `common`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Shared {
    /// The folders of resource files.
    pub resources_paths: Option<Vec<String>>,
    /// The old key for one folder.
    pub resources_path: Option<String>,
    /// The configuration file.
    pub config_file_path: Option<String>,
    /// The app's protocol.
    pub app_protocol: Option<String>,
    /// The addresses the API listens on.
    pub api_listen_addresses: Option<String>,
    /// The sidecar's log level.
    pub log_level: Option<String>,
    /// The address of a placement service.
    pub placement_host_address: Option<String>,
    /// The address of a scheduler service.
    pub scheduler_host_address: Option<String>,
    /// The largest body.
    pub max_body_size: Option<String>,
    /// The largest head.
    pub read_buffer_size: Option<String>,
    /// The old key for the largest body, in MiB.
    #[serde(rename = "daprHTTPMaxRequestSize")]
    pub max_request_size: Option<i64>,
    /// The old key for the largest head, in KiB.
    #[serde(rename = "daprHTTPReadBufferSize")]
    pub http_read_buffer_size: Option<i64>,
    /// The path of health probes.
    pub app_health_check_path: Option<String>,
    /// How many calls the app gets at once.
    pub app_max_concurrency: Option<i64>,
    /// The pause between health probes.
    pub app_health_probe_interval: Option<i64>,
    /// The limit of a health probe.
    pub app_health_probe_timeout: Option<i64>,
    /// Failed probes until unhealthy.
    pub app_health_threshold: Option<i64>,
    /// The sidecar's profiling.
    pub enable_profiling: Option<bool>,
    /// The deprecated way to say https or grpcs.
    #[serde(rename = "appSSL")]
    pub app_ssl: Option<bool>,
    /// Whether the app is probed.
    pub enable_app_health_check: Option<bool>,
    /// Whether API calls are logged.
    pub enable_api_logging: Option<bool>,
    /// Whether the sidecar gets its identity from this user's Sentry.
    pub mtls: Option<bool>,
    /// The folder that holds `.dapr`.
    pub runtime_path: Option<String>,
    /// Variables for the app; any scalar, in the spelling of the file.
    pub env: Option<BTreeMap<String, Option<String>>>,
    /// Where the sidecar's log goes.
    pub daprd_log_destination: Option<String>,
    /// Where the app's output goes.
    pub app_log_destination: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OwnPass {
    version: Option<i64>,
    name: Option<String>,
    apps: Option<Vec<Own>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SharedPass {
    common: Option<Shared>,
    apps: Option<Vec<Shared>>,
}

#[derive(Default)]
struct Keys(Vec<Unknown>);

/// Reads a template.
///
/// The text is read once for each view of it: flattening the views into one type would make the YAML reader guess the
/// types of `env` values, which have to keep their spelling.
pub(crate) fn parse(text: &str) -> Result<Template, YamlError> {
    let OwnPass {
        version,
        name,
        apps,
    } = yaml::read(text)?;
    let SharedPass {
        common,
        apps: shared,
    } = yaml::read(text)?;
    Ok(Template {
        version,
        name,
        common: common.unwrap_or_default(),
        apps: apps
            .unwrap_or_default()
            .into_iter()
            .zip(shared.unwrap_or_default())
            .collect(),
        unknown: yaml::read::<TopKeys>(text)?.0,
    })
}

/// The unknown keys of a whole template.
struct TopKeys(Vec<Unknown>);

/// The unknown keys of `common`.
struct CommonKeys(Keys);

/// The unknown keys of an app.
struct AppKeys(Keys);

// === impl TopKeys ===

impl<'de> Deserialize<'de> for TopKeys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(TopVisitor)
    }
}

struct TopVisitor;

impl<'de> Visitor<'de> for TopVisitor {
    type Value = TopKeys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a template")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TopKeys, A::Error> {
        let mut unknown = Vec::new();
        while let Some(key) = map.next_key::<Line<String>>()? {
            match key.as_str() {
                "common" => unknown.extend(
                    map.next_value::<Option<CommonKeys>>()?
                        .into_iter()
                        .flat_map(|keys| keys.0.0),
                ),
                "apps" => {
                    let apps = map
                        .next_value::<Option<Vec<AppKeys>>>()?
                        .unwrap_or_default();
                    unknown.extend(apps.into_iter().flat_map(|keys| keys.0.0));
                }
                _ => {
                    let _skipped: IgnoredAny = map.next_value()?;
                    unknown.extend(Unknown::unless(&key, &[&TOP]));
                }
            }
        }
        Ok(TopKeys(unknown))
    }
}

impl<'de> Deserialize<'de> for CommonKeys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(KeysVisitor(&[&SHARED])).map(Self)
    }
}

impl<'de> Deserialize<'de> for AppKeys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(KeysVisitor(&[&OWN, &SHARED]))
            .map(Self)
    }
}

struct KeysVisitor(&'static [&'static [&'static str]]);

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut unknown = Vec::new();
        while let Some(key) = map.next_key::<Line<String>>()? {
            let _skipped: IgnoredAny = map.next_value()?;
            unknown.extend(Unknown::unless(&key, self.0));
        }
        Ok(Keys(unknown))
    }
}

// === impl Unknown ===

impl Unknown {
    fn unless(key: &Line<String>, known: &[&[&str]]) -> Option<Self> {
        let is_known = known.iter().any(|keys| keys.contains(&key.as_str()));
        (!is_known).then(|| Self {
            key: String::clone(key),
            line: key.line(),
        })
    }
}
