//! What the operator is told: flags and environment, as one validated [`Config`].
//!
//! Owns the rules of kubernetes 3.1 for single flags. What the Configuration of the control plane says is read later,
//! from the API server.

pub(crate) mod env;
pub(crate) mod flags;

use env::Env;
use ironside_chassis::args::Parsed;
use ironside_chassis::program::{Address, PortError};
use ironside_cluster::AnchorsSource;
use ironside_identity::{Namespace, NamespaceError};
use ironside_resources::GoDuration;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that the command line and the environment say.
#[derive(Debug)]
pub(crate) struct Config {
    /// Name of the Configuration of the control plane.
    pub(crate) configuration: String,
    /// The namespace of the control plane.
    pub(crate) namespace: Namespace,
    pub(crate) grpc: Address,
    pub(crate) healthz: Address,
    /// None when metrics are off.
    pub(crate) metrics: Option<Address>,
    /// None when webhooks are off.
    pub(crate) webhook: Option<Address>,
    pub(crate) anchors: AnchorsSource,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Who this replica is: the pod's name.
    pub(crate) instance: String,
    /// Where other replicas reach this one, if that is known.
    pub(crate) pod_ip: Option<String>,
    /// The only namespace that is looked at.
    pub(crate) watch_namespace: Option<Namespace>,
    pub(crate) elects: bool,
    pub(crate) services: bool,
    pub(crate) rollouts: bool,
    pub(crate) watchdog: Watchdog,
    pub(crate) manages_crds: bool,
    /// Calls to apps that no AccessControl applies to are denied.
    pub(crate) denies_by_default: bool,
}

/// How the watchdog works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watchdog {
    pub(crate) rounds: Rounds,
    /// None for no limit.
    pub(crate) restarts_per_minute: Option<u32>,
    pub(crate) labels: bool,
}

/// When the watchdog restarts pods. They are counted and told of in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounds {
    /// Never.
    Off,
    /// Once per leadership.
    Once,
    /// That often.
    Every(Duration),
}

/// A flag that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("'NAMESPACE' environment variable not set")]
    NoNamespace,
    #[error("invalid NAMESPACE: {0}")]
    Namespace(NamespaceError),
    #[error("invalid value for --watch-namespace: {0}")]
    WatchNamespace(NamespaceError),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error(
        "invalid value for --watch-interval: {0:?} is not 0, once, or a duration of at least 1s"
    )]
    WatchInterval(String),
    #[error("invalid value for --config: a name is needed")]
    NoConfiguration,
}

/// Shortest time between two rounds of the watchdog.
const SHORTEST_ROUND: Duration = Duration::from_secs(1);
/// Name of a replica outside of pods.
const INSTANCE: &str = "dapr-operator";

// === impl Config ===

impl Config {
    /// Validates what was given.
    ///
    /// # Errors
    /// [`ConfigError`] names the flag.
    pub(crate) fn new(parsed: &Parsed, env: &Env) -> Result<Self, ConfigError> {
        let namespace = env.namespace.as_deref().ok_or(ConfigError::NoNamespace)?;
        let namespace = Namespace::parse(namespace).map_err(ConfigError::Namespace)?;
        let only = Some(parsed.text("watch-namespace")).filter(|text| !text.is_empty());
        let only = only.map(Namespace::parse).transpose();
        let configuration = parsed.text("config").to_owned();
        if configuration.is_empty() {
            return Err(ConfigError::NoConfiguration);
        }
        let when = |on: bool, host, port| match on {
            true => Address::read(parsed, host, port).map(Some),
            false => Ok(None),
        };
        let given = Some(parsed.text("kubeconfig")).filter(|path| !path.is_empty());
        Ok(Self {
            configuration,
            grpc: Address::read(parsed, "listen-address", "port")?,
            healthz: Address::read(parsed, "healthz-listen-address", "healthz-port")?,
            metrics: when(
                parsed.bool("enable-metrics"),
                "metrics-listen-address",
                "metrics-port",
            )?,
            webhook: when(
                !env.no_webhooks,
                "webhook-server-listen-address",
                "webhook-server-port",
            )?,
            anchors: anchors(parsed, env, &namespace),
            token_file: env.token_file.clone(),
            kubeconfig: given.map(PathBuf::from).or_else(|| env.kubeconfig.clone()),
            instance: env.hostname.clone().unwrap_or_else(|| INSTANCE.to_owned()),
            pod_ip: env.pod_ip.clone(),
            watch_namespace: only.map_err(ConfigError::WatchNamespace)?,
            elects: !parsed.bool("disable-leader-election"),
            services: !parsed.bool("disable-service-reconciler"),
            rollouts: parsed.bool("enable-argo-rollout-service-reconciler"),
            watchdog: Watchdog {
                rounds: Rounds::read(parsed.text("watch-interval"))?,
                restarts_per_minute: u32::try_from(parsed.int("max-pod-restarts-per-minute"))
                    .ok()
                    .filter(|limit| *limit > 0),
                labels: parsed.bool("watchdog-can-patch-pod-labels"),
            },
            denies_by_default: parsed.bool("access-control-deny-by-default"),
            manages_crds: parsed.bool("manage-crds"),
            namespace,
        })
    }
}

/// The file that was asked for, else the ConfigMap that the environment names, else the usual file.
fn anchors(parsed: &Parsed, env: &Env, namespace: &Namespace) -> AnchorsSource {
    let file = PathBuf::from(parsed.text("trust-anchors-file"));
    let asked = parsed.given("trust-anchors-file").then(|| file.clone());
    AnchorsSource::choose(
        asked,
        env.anchors_configmap.clone(),
        namespace.as_str(),
        &file,
    )
}

// === impl Rounds ===

impl Rounds {
    fn read(text: &str) -> Result<Self, ConfigError> {
        match text.to_ascii_lowercase().as_str() {
            "" | "0" | "false" | "f" | "no" | "off" => return Ok(Self::Off),
            "once" => return Ok(Self::Once),
            _ => {}
        }
        let refuse = || ConfigError::WatchInterval(text.to_owned());
        let every: GoDuration = text.parse().map_err(|_no_duration| refuse())?;
        let every = every.to_std().filter(|every| *every >= SHORTEST_ROUND);
        every.map(Self::Every).ok_or_else(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(words: &[&str], env: Env) -> Result<Config, ConfigError> {
        let parsed = flags::FLAGS.parse(words.iter().map(Into::into)).unwrap();
        Config::new(&parsed, &env)
    }

    fn in_a_pod() -> Env {
        Env {
            namespace: Some("dapr-system".to_owned()),
            ..Env::default()
        }
    }

    /// Fact: kubernetes 3.1.
    #[test]
    fn the_defaults_are_the_references() {
        let config = config(&[], in_a_pod()).unwrap();
        let any = |port| Address {
            host: String::new(),
            port,
        };
        assert_eq!((config.grpc, config.healthz), (any(6500), any(8080)));
        assert_eq!(config.webhook, Some(any(19443)));
        assert_eq!(config.metrics.unwrap().host, "0.0.0.0");
        assert_eq!(config.configuration, "daprsystem");
        assert!(config.elects && config.services && !config.rollouts && !config.manages_crds);
        assert_eq!(config.watchdog.rounds, Rounds::Off);
        assert_eq!(config.watchdog.restarts_per_minute, Some(20));
        let file = AnchorsSource::File("/var/run/secrets/dapr.io/tls/ca.crt".into());
        assert_eq!(config.anchors, file);
    }

    /// KO-27: a bad interval is refused, all the words for "off" are known.
    #[test]
    fn an_interval_is_off_once_or_long_enough() {
        for (text, want) in [
            ("0", Some(Rounds::Off)),
            ("Off", Some(Rounds::Off)),
            ("no", Some(Rounds::Off)),
            ("f", Some(Rounds::Off)),
            ("once", Some(Rounds::Once)),
            ("1s", Some(Rounds::Every(Duration::from_secs(1)))),
            ("2m", Some(Rounds::Every(Duration::from_secs(120)))),
            ("500ms", None),
            ("-1s", None),
            ("abc", None),
            ("true", None),
        ] {
            let found = config(&[&format!("--watch-interval={text}")], in_a_pod());
            let found = found.map(|config| config.watchdog.rounds).ok();
            assert_eq!(found, want, "{text}");
        }
    }

    #[test]
    fn what_can_not_be_used_is_refused_by_name() {
        let text = |words: &[&str], env| config(words, env).unwrap_err().to_string();
        assert_eq!(
            text(&[], Env::default()),
            "'NAMESPACE' environment variable not set"
        );
        assert!(text(&["--port=70000"], in_a_pod()).contains("--port"));
        assert!(text(&["--watch-namespace=a/b"], in_a_pod()).contains("--watch-namespace"));
        assert!(text(&["--config="], in_a_pod()).contains("--config"));
    }

    #[test]
    fn a_config_map_is_used_where_no_file_is_named() {
        let env = Env {
            anchors_configmap: Some("dapr-trust-bundle".to_owned()),
            ..in_a_pod()
        };
        let named = AnchorsSource::ConfigMap {
            namespace: "dapr-system".to_owned(),
            name: "dapr-trust-bundle".to_owned(),
        };
        assert_eq!(config(&[], env.clone()).unwrap().anchors, named);
        let given = config(&["--trust-anchors-file=/x"], env).unwrap().anchors;
        assert_eq!(given, AnchorsSource::File("/x".into()));
    }

    #[test]
    fn zero_restarts_means_no_limit_and_webhooks_can_be_off() {
        let env = Env {
            no_webhooks: true,
            ..in_a_pod()
        };
        let config = config(&["--max-pod-restarts-per-minute=0"], env).unwrap();
        assert_eq!(config.watchdog.restarts_per_minute, None);
        assert_eq!(config.webhook, None);
    }
}
