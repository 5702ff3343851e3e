//! What the injector is told: flags and environment, as one validated [`Config`].
//!
//! Owns the rules of process-interface 5 and kubernetes 2.1 for single values and their defaults. Where the reference
//! leaves a door open that costs nothing to close, the default is the closed one: no capabilities, native sidecars.

pub(crate) mod env;
pub(crate) mod flags;

use crate::admission::caller::{Callers, PatternError};
use crate::patch::pod::Toleration;
use crate::patch::settings::{Security, Service, Settings};
use env::Env;
use ironside_chassis::args::{Parsed, is_truthy};
use ironside_chassis::program::{Address, PortError};
use ironside_cluster::AnchorsSource;
use ironside_identity::{
    AppId, AppIdError, Namespace, NamespaceError, SpiffeIdError, TrustDomain, TrustDomainError,
};
use ironside_transport::control_plane::{ControlPlane, NameError};
use ironside_transport::sentry_client::{TokenError, TokenSource};
use std::path::{Path, PathBuf};
use tracing::warn;

/// The logger of the reference.
const SCOPE: &str = "dapr.injector";
/// The own name.
const INJECTOR: &str = "dapr-injector";
/// Where the chart of the reference mounts the trust anchors, unless it says otherwise.
const ANCHORS_FILE: &str = "/var/run/dapr.io/tls/ca.crt";
/// Where a kubeconfig is looked for, below the home.
const KUBECONFIG: &str = ".kube/config";
const TRUST_DOMAIN: &str = "cluster.local";
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Everything that the command line and the environment say.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) webhook: Address,
    pub(crate) healthz: Address,
    /// None when metrics are off.
    pub(crate) metrics: Option<Address>,
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Who reports Events: the pod's name.
    pub(crate) instance: String,
    pub(crate) anchors: AnchorsSource,
    /// The system's Configuration.
    pub(crate) configuration: String,
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    pub(crate) callers: Callers,
}

/// Who the injector is, and whom it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) sentry_address: String,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) namespace: Namespace,
    pub(crate) app_id: AppId,
    pub(crate) token: TokenSource,
}

/// A flag or a variable that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(
        "refusing to run as root (uid 0): set runAsNonRoot in the pod's securityContext, or \
         DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK=true"
    )]
    Root,
    #[error("required environment variable {0} is not set, or empty")]
    Missing(&'static str),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("invalid NAMESPACE: {0}")]
    Namespace(#[from] NamespaceError),
    #[error("invalid DAPR_CONTROL_PLANE_TRUST_DOMAIN: {0}")]
    TrustDomain(#[from] TrustDomainError),
    #[error("DAPR_CONTROL_PLANE_TRUST_DOMAIN and NAMESPACE: {0}")]
    Name(#[from] NameError),
    #[error("trust domain and namespace make no SPIFFE ID: {0}")]
    Id(#[from] SpiffeIdError),
    #[error(transparent)]
    AppId(#[from] AppIdError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("invalid {variable}: {value:?} is no whole number that is not negative")]
    Number {
        variable: &'static str,
        value: String,
    },
    #[error("invalid {variable}: {value:?} is not of the form name:port")]
    Service {
        variable: &'static str,
        value: String,
    },
    #[error("allowed service accounts: {0}")]
    Callers(#[from] PatternError),
}

// === impl Config ===

impl Config {
    /// Validates what was given.
    ///
    /// # Errors
    /// [`ConfigError`] names the flag or the variable.
    pub(crate) fn new(parsed: &Parsed, env: &Env) -> Result<Self, ConfigError> {
        let root_allowed = env.get("DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK") == Some("true");
        if env.uid == 0 && !root_allowed {
            return Err(ConfigError::Root);
        }
        let settings = settings(parsed, env)?;
        let metrics = parsed.bool("enable-metrics");
        let metrics =
            metrics.then(|| Address::read(parsed, "metrics-listen-address", "metrics-port"));
        let given = |flag| Some(parsed.text(flag)).filter(|text| !text.is_empty());
        let home = env.path("HOME").map(|home| home.join(KUBECONFIG));
        Ok(Self {
            webhook: Address::read(parsed, "listen-address", "port")?,
            healthz: Address::read(parsed, "healthz-listen-address", "healthz-port")?,
            metrics: metrics.transpose()?,
            kubeconfig: given("kubeconfig").map(PathBuf::from).or(home),
            instance: env.some("HOSTNAME").unwrap_or(INJECTOR).to_owned(),
            anchors: AnchorsSource::choose(
                given("trust-anchors-file").map(PathBuf::from),
                env.some("DAPR_TRUST_ANCHORS_CONFIGMAP").map(str::to_owned),
                &settings.namespace,
                env.path("DAPR_TRUST_ANCHORS_FILE")
                    .as_deref()
                    .unwrap_or(Path::new(ANCHORS_FILE)),
            ),
            configuration: parsed.text("config").to_owned(),
            identity: Identity::read(env, &settings)?,
            callers: callers(env)?,
            settings,
        })
    }
}

// === impl Identity ===

impl Identity {
    fn read(env: &Env, settings: &Settings) -> Result<Self, ConfigError> {
        let trust_domain = TrustDomain::parse(&settings.trust_domain)?;
        let namespace = Namespace::parse(&settings.namespace)?;
        // Checked here, so that a bad name ends the start and not the task.
        ControlPlane::sentry_id(&trust_domain, &namespace)?;
        let address = env.some("DAPR_SENTRY_ADDRESS");
        let own = || settings.address("dapr-sentry", 443);
        Ok(Self {
            sentry_address: address.map_or_else(own, str::to_owned),
            trust_domain,
            namespace,
            app_id: AppId::parse(INJECTOR)?,
            token: TokenSource::choose(env.get("DAPR_SENTRY_TOKEN_FILE"), true)?,
        })
    }
}

fn settings(parsed: &Parsed, env: &Env) -> Result<Settings, ConfigError> {
    let needed = |name| {
        let text = env.some(name).ok_or(ConfigError::Missing(name));
        text.map(str::to_owned)
    };
    let truthy = |name, default| env.some(name).map_or(default, is_truthy);
    let trust_domain = env.some("DAPR_CONTROL_PLANE_TRUST_DOMAIN");
    Ok(Settings {
        image: needed("SIDECAR_IMAGE")?,
        namespace: needed("NAMESPACE")?,
        pull_policy: pull_policy(env.some("SIDECAR_IMAGE_PULL_POLICY")),
        cluster_domain: cluster_domain(env),
        trust_domain: trust_domain.unwrap_or(TRUST_DOMAIN).to_owned(),
        native: truthy("NATIVE_SIDECAR_ENABLED", true),
        ignore_entrypoint: tolerations(env),
        security: Security {
            run_as_non_root: truthy("SIDECAR_RUN_AS_NON_ROOT", true),
            run_as_user: number(env, "SIDECAR_RUN_AS_USER")?,
            run_as_group: number(env, "SIDECAR_RUN_AS_GROUP")?,
            read_only_root: truthy("SIDECAR_READ_ONLY_ROOT_FILESYSTEM", true),
            drop_all: truthy("SIDECAR_DROP_ALL_CAPABILITIES", true),
        },
        host_ip: truthy("ENABLE_K8S_DOWNWARD_APIS", false),
        actors: match truthy("ACTORS_ENABLED", true) {
            true => Some(actors(env)?),
            false => None,
        },
        reminders: reminders(env)?,
        scheduler: parsed.bool("scheduler-enabled"),
    })
}

fn pull_policy(text: Option<&str>) -> &'static str {
    match text {
        None | Some("Always") => "Always",
        Some("Never") => "Never",
        Some(_) => "IfNotPresent",
    }
}

/// The domain that was given, or the one of which the kubelet puts `svc.<domain>` into the search list, or what the
/// reference takes.
fn cluster_domain(env: &Env) -> String {
    if let Some(domain) = env.some("KUBE_CLUSTER_DOMAIN") {
        return domain.to_owned();
    }
    let mut lines = env.resolv_conf.lines().rev().map(str::trim);
    let list = lines.find_map(|line| line.strip_prefix("search "));
    let words = list.unwrap_or_default().split_ascii_whitespace();
    let mut words: Vec<&str> = words.map(|word| word.trim_end_matches('.')).collect();
    words.sort_unstable();
    let services = words.iter().find_map(|word| word.strip_prefix("svc."));
    let first = services.or(words.first().copied());
    first.unwrap_or(CLUSTER_DOMAIN).to_owned()
}

fn tolerations(env: &Env) -> Vec<Toleration> {
    let Some(text) = env.some("IGNORE_ENTRYPOINT_TOLERATIONS") else {
        return Vec::new();
    };
    serde_json::from_str(text).unwrap_or_else(|cause| {
        warn!(target: SCOPE, err = %cause, "IGNORE_ENTRYPOINT_TOLERATIONS is no list of tolerations and is ignored");
        Vec::new()
    })
}

fn number(env: &Env, variable: &'static str) -> Result<Option<i64>, ConfigError> {
    let Some(text) = env.some(variable) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number @ 0..) => Ok(Some(number)),
        Ok(_) | Err(_) => Err(ConfigError::Number {
            variable,
            value: text.to_owned(),
        }),
    }
}

fn actors(env: &Env) -> Result<Service, ConfigError> {
    let name = env.some("ACTORS_SERVICE_NAME").unwrap_or("placement");
    let address = env.some("ACTORS_SERVICE_ADDRESS");
    service(
        name,
        "ACTORS_SERVICE_ADDRESS",
        address.unwrap_or("dapr-placement-server:50005"),
    )
}

fn reminders(env: &Env) -> Result<Option<Service>, ConfigError> {
    let (name, address) = ("REMINDERS_SERVICE_NAME", "REMINDERS_SERVICE_ADDRESS");
    match (env.some(name), env.some(address)) {
        (Some(name), Some(text)) => service(name, address, text).map(Some),
        (Some(_), None) => {
            warn!(target: SCOPE, "{name} is set and {address} is not: sidecars are told of no such service");
            Ok(None)
        }
        (None, _) => Ok(None),
    }
}

fn service(name: &str, variable: &'static str, address: &str) -> Result<Service, ConfigError> {
    let parts = address.rsplit_once(':');
    let parts = parts.and_then(|(service, port)| Some((service, port.parse().ok()?)));
    let (service, port) = parts
        .filter(|(service, _)| !service.is_empty())
        .ok_or_else(|| ConfigError::Service {
            variable,
            value: address.to_owned(),
        })?;
    Ok(Service {
        name: name.to_owned(),
        service: service.to_owned(),
        port,
    })
}

fn callers(env: &Env) -> Result<Callers, ConfigError> {
    let allowed = env.get("ALLOWED_SERVICE_ACCOUNTS").unwrap_or_default();
    let prefixes = env.get("ALLOWED_SERVICE_ACCOUNTS_PREFIX_NAMES");
    let prefixes = prefixes.unwrap_or_default();
    if !prefixes.is_empty() {
        warn!(
            target: SCOPE,
            "ALLOWED_SERVICE_ACCOUNTS_PREFIX_NAMES is deprecated: use ALLOWED_SERVICE_ACCOUNTS, which takes the same patterns"
        );
    }
    Ok(Callers::new(&[allowed, prefixes])?)
}

#[cfg(test)]
mod tests;
