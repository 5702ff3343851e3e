//! One validated `Config`: what flags and environment said, as types.
//!
//! Owns the shape; `flags.rs` reads the command line, `env.rs` is the one file of this program that reads the
//! environment, and `validate.rs` joins them or says what is wrong. Nothing here changes after the start: what
//! may change lives in [`crate::live::Live`].

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use ironside_chassis::secret::Secret;
use ironside_identity::{AppId, Namespace, SpiffeId};
use ironside_transport::{MinTls, sentry_client::TokenSource};

use crate::payload::Payloads;

pub(crate) mod env;
pub(crate) mod flags;
pub(crate) mod host;
pub(crate) mod internal_port;
pub(crate) mod validate;

/// What this sidecar was told at its start.
#[derive(Debug)]
pub(crate) struct Config {
    /// Own app ID.
    pub(crate) app_id: AppId,
    /// Own namespace; `NAMESPACE` set but empty gives the empty one.
    pub(crate) namespace: Namespace,
    /// The app beside this sidecar; `None` without `--app-port`.
    pub(crate) app: Option<AppTarget>,
    /// Calls that the app may have at once; `None` is no limit.
    pub(crate) app_max_concurrency: Option<usize>,
    /// `--enable-app-health-check` and what belongs to it.
    pub(crate) app_health: Option<AppHealth>,
    /// Limit of HTTP request bodies; `None` is no limit.
    pub(crate) max_body: Option<u64>,
    /// Limit of one gRPC message, in bytes.
    pub(crate) max_message: usize,
    /// `--read-buffer-size` in bytes.
    pub(crate) read_buffer: usize,
    /// Demanded of API callers (`DAPR_API_TOKEN`).
    pub(crate) api_token: Option<Secret<Box<str>>>,
    /// Sent to the app (`APP_API_TOKEN`).
    pub(crate) app_token: Option<Secret<Box<str>>>,
    /// Host address that peers are told in forwarded headers (7.1 `DAPR_HOST_IP`).
    pub(crate) host_address: IpAddr,
    /// Host that name resolution announces: the host address, or a loopback one if only that is bound.
    pub(crate) announced_host: Box<str>,
    /// Name of this machine.
    pub(crate) hostname: Box<str>,
    /// Idle limit of a peer connection (`DAPR_GRPC_MAX_CONN_IDLE`).
    pub(crate) peer_idle: Duration,
    /// Period of the idle sweep (`DAPR_GRPC_CONN_COLLECTOR_INTERVAL`).
    pub(crate) peer_sweep: Duration,
    /// Addresses and ports of all listeners.
    pub(crate) listen: Listen,
    /// Single-threaded runtimes on the data path.
    pub(crate) data_workers: NonZeroUsize,
    /// `--dapr-graceful-shutdown-seconds`; `None` waits for ever.
    pub(crate) grace: Option<Duration>,
    /// `--dapr-block-shutdown-duration`.
    pub(crate) block_shutdown: Option<Duration>,
    /// How an identity is had; `None` where none is: standalone, with mTLS off.
    pub(crate) identity: Option<IdentityConfig>,
    /// `--enable-mtls`: peers prove who they are.
    pub(crate) is_mtls: bool,
    /// `--mode kubernetes` and what belongs to it.
    pub(crate) kubernetes: Option<KubernetesConfig>,
    /// The operator's stream of access control; `None` without one.
    pub(crate) stream: Option<StreamConfig>,
    /// An operator was named and cannot be asked, because mutual TLS is off: its objects would refuse peers, who
    /// have no identity (fact F11), so all are.
    pub(crate) is_operator_unasked: bool,
    /// Files that are read at the start and watched.
    pub(crate) files: Files,
    /// `--allowed-origins`, as written.
    pub(crate) allowed_origins: Box<str>,
    /// `--enable-api-logging`; `None` leaves it to the Configuration.
    pub(crate) api_logging: Option<bool>,
    /// `--access-control-strict`: an omitted default denies where there are entries.
    pub(crate) access_control_strict: bool,
    /// `--access-log-file` and what belongs to it.
    pub(crate) access_log_file: Option<AccessLogFile>,
    /// `--log-payloads` and what belongs to it.
    pub(crate) payloads: Option<Payloads>,
    /// `GET /dapr/config` of the app (`--disable-init-endpoints`).
    pub(crate) app_config_call: AppConfigCall,
}

/// The file that decisions of access control are written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessLogFile {
    /// `--access-log-file`.
    pub(crate) path: PathBuf,
    /// `--access-log-max-size`, in bytes.
    pub(crate) max_size: u64,
    /// `--access-log-max-files`, the one that is written included.
    pub(crate) max_files: u32,
}

/// Whether the app's `/dapr/config` is called once it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppConfigCall {
    /// As the reference does.
    Once,
    /// `--disable-init-endpoints config`.
    Skipped,
}

/// How this sidecar gets its identity.
#[derive(Debug, Clone)]
pub(crate) struct IdentityConfig {
    /// `--sentry-address`.
    pub(crate) sentry_address: Box<str>,
    /// Who Sentry must be.
    pub(crate) sentry_id: SpiffeId,
    /// `DAPR_TRUST_ANCHORS`: PEM text.
    pub(crate) trust_anchors: Option<Box<str>>,
    /// `DAPR_TRUST_ANCHORS_FILE`: watched.
    pub(crate) trust_anchors_file: Option<PathBuf>,
    /// `DAPR_TRUST_ANCHORS_CACHE`: what Sentry delivered, for the next start.
    pub(crate) trust_anchors_cache: Option<PathBuf>,
    /// `SENTRY_LOCAL_IDENTITY`, else the app ID.
    pub(crate) request_id: AppId,
    /// `DAPR_SENTRY_TOKEN_FILE`, or none.
    pub(crate) token: TokenSource,
    /// `--sentry-request-jwt-audiences`.
    pub(crate) jwt_audiences: Vec<String>,
    /// `--tls-min-version`.
    pub(crate) min_tls: MinTls,
}

/// What a sidecar in a cluster knows of it (kubernetes 2.9, 2.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KubernetesConfig {
    /// `--config`: the object of that name in the own namespace.
    pub(crate) configuration: Option<Box<str>>,
    /// `--control-plane-address`.
    pub(crate) operator_address: Box<str>,
    /// Who the operator must be.
    pub(crate) operator: SpiffeId,
    /// `POD_NAME`; the operator tells pods of one app by it.
    pub(crate) pod_name: Option<Box<str>>,
}

/// Where access control comes from besides files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamConfig {
    /// `--control-plane-address`.
    pub(crate) address: Box<str>,
    /// Who the operator must be.
    pub(crate) operator: SpiffeId,
    /// `--access-control`, else `DAPR_ACCESS_CONTROL`.
    pub(crate) demand: Demand,
    /// `--access-control-max-staleness`.
    pub(crate) max_staleness: Option<Duration>,
    /// `POD_NAME`, else the machine's: what the operator calls this sidecar.
    pub(crate) name: Box<str>,
}

/// What holds if the operator does not offer access control (fact F3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Files and Configuration alone decide.
    Auto,
    /// Calls are refused.
    Required,
}

/// Files and directories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    /// `--config`, in the order in which they are merged.
    pub(crate) configurations: Vec<PathBuf>,
    /// `--resources-path`, else `--components-path`.
    pub(crate) resources: Vec<PathBuf>,
    /// Period at which directories are listed again.
    pub(crate) relist: Duration,
}

/// What the start said, and what it wants said in the log.
#[derive(Debug)]
pub(crate) struct Startup {
    /// For the process.
    pub(crate) config: Config,
    /// Lines at warning level.
    pub(crate) warnings: Vec<String>,
}

/// Where and how the app is spoken to.
#[derive(Debug, Clone)]
pub(crate) struct AppTarget {
    /// `--app-channel-address`.
    pub(crate) address: Box<str>,
    /// `--app-port`.
    pub(crate) port: u16,
    /// `--app-protocol` (after `--app-ssl`).
    pub(crate) protocol: AppProtocol,
}

/// `--app-protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppProtocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS; the app's certificate is not verified.
    Https,
    /// HTTP/2 cleartext, prior knowledge.
    H2c,
    /// gRPC, plaintext.
    Grpc,
    /// gRPC over TLS; the app's certificate is not verified.
    Grpcs,
}

impl AppProtocol {
    /// The word of the flag.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }

    /// True if the app is spoken to over TLS.
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }

    /// True for `http`, `https` and `h2c`.
    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https | Self::H2c)
    }
}

/// App health probes.
#[derive(Debug, Clone)]
pub(crate) struct AppHealth {
    /// HTTP family only; starts with a slash.
    pub(crate) path: Box<str>,
    /// Time between two probes.
    pub(crate) interval: Duration,
    /// Limit of one probe.
    pub(crate) timeout: Duration,
    /// Consecutive failures that make the app unhealthy.
    pub(crate) threshold: u32,
}

/// Listeners.
#[derive(Debug, Clone)]
pub(crate) struct Listen {
    /// `--dapr-listen-addresses`; an empty entry is all interfaces.
    pub(crate) addresses: Vec<String>,
    /// HTTP API.
    pub(crate) http_port: u16,
    /// gRPC API.
    pub(crate) grpc_port: u16,
    /// Directory of the API sockets; replaces the two TCP listeners above.
    pub(crate) unix_socket: Option<PathBuf>,
    /// Sidecar to sidecar; `None` derives the stable one.
    pub(crate) internal_port: Option<u16>,
    /// Its address; empty is all interfaces.
    pub(crate) internal_address: String,
    /// Health and metadata without token.
    pub(crate) public: Option<(String, u16)>,
    /// Metrics; `None` with `--enable-metrics=false`.
    pub(crate) metrics: Option<(String, u16)>,
    /// HTTP/2 cleartext on the HTTP API port.
    pub(crate) h2c: bool,
}
