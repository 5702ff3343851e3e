//! What Sentry is told: flags and environment, as one validated [`Config`].
//!
//! Owns the rules of process-interface 3 for single flags and for their combinations. The configuration file is
//! read later, by `settings`; its path is only noted here.

mod cluster;
pub(crate) mod env;
pub(crate) mod flags;
mod jwt;

pub(crate) use jwt::{JwtConfig, OidcConfig, OidcTls};

use crate::cluster::ClusterOptions;
use crate::jwt::AlgorithmError;
use crate::rotation::Plan;
use crate::rotation::plan::RootKey;
use crate::settings::Settings;
use crate::shared::Sharing;
use crate::store::FileStore;
use env::Env;
use ironside_chassis::args::Parsed;
use ironside_chassis::program::{Address, PortError};
use ironside_identity::{
    AppId, AppIdError, Namespace, NamespaceError, SpiffeId, SpiffeIdError, TrustDomain,
    TrustDomainError,
};
use ironside_resources::GoDuration;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::warn;

/// Everything that the command line and the environment say.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) grpc: Address,
    pub(crate) healthz: Address,
    /// None when metrics are off.
    pub(crate) metrics: Option<Address>,
    /// Who this Sentry is; its trust domain is also the one of a new root.
    pub(crate) own: SpiffeId,
    pub(crate) store: FileStore,
    /// None when self-hosted.
    pub(crate) cluster: Option<ClusterOptions>,
    pub(crate) lives: Lives,
    pub(crate) file: ConfigFile,
    /// Whether anyone may bear a name of the control plane.
    pub(crate) control_plane_allowed: bool,
    /// Whether it is shared by programs that come and go.
    pub(crate) sharing: Sharing,
    /// None when no JWTs are issued.
    pub(crate) jwt: Option<JwtConfig>,
    /// None when there is no discovery.
    pub(crate) oidc: Option<OidcConfig>,
}

/// How long an authority of our own lives, and what becomes of its root's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lives {
    ca_ttl: Duration,
    root_ttl: Duration,
    root_key: RootKey,
}

/// The file, or the Configuration, with `spec.mtls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    /// Named on the command line: then it must exist (fact O-S14).
    pub(crate) explicit: bool,
}

/// A flag, or a combination, that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("invalid mode: {0}")]
    Mode(String),
    #[error(
        "mode kubernetes refuses to run as root (uid 0): set runAsNonRoot in the pod's securityContext, or \
         DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK=true"
    )]
    Root,
    #[error("mode kubernetes needs the namespace of the control plane: set NAMESPACE")]
    NoNamespace,
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("invalid value for --{flag}: {value} is not between 1m and 876000h")]
    Life {
        flag: &'static str,
        value: GoDuration,
    },
    #[error("invalid value for --linger: {0} is negative")]
    Linger(GoDuration),
    #[error("invalid value for --trust-domain: {0}")]
    TrustDomain(#[from] TrustDomainError),
    #[error("invalid NAMESPACE: {0}")]
    Namespace(#[from] NamespaceError),
    #[error("trust domain and NAMESPACE make no SPIFFE ID: {0}")]
    Own(#[from] SpiffeIdError),
    #[error(transparent)]
    AppId(#[from] AppIdError),
    #[error("jwt-issuer cannot be set when jwt-enabled is false")]
    JwtIssuer,
    #[error("invalid value for --jwt-signing-algorithm: {0}")]
    JwtAlgorithm(#[from] AlgorithmError),
    #[error("invalid value for --jwt-ttl: {value} is not between 1m and 876000h")]
    JwtTtl { value: GoDuration },
    #[error("invalid value for --oidc-path-prefix: {0:?} is no path")]
    OidcPrefix(String),
    #[error("invalid value for --oidc-jwks-uri: {0:?} is no http or https URI")]
    OidcJwksUri(String),
    #[error("oidc-server-tls-cert-file and oidc-server-tls-key-file must be set together")]
    OidcPair,
    #[error(
        "oidc-server-tls-cert-file and oidc-server-tls-key-file are needed when oidc-server-tls-enabled is true"
    )]
    OidcFiles,
}

/// The logger of the reference.
const SCOPE: &str = "dapr.sentry";
/// Lives that an authority may have.
const LIVES: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(100 * 8760 * 3600);
/// The name of Sentry in its own SPIFFE ID.
const SENTRY: &str = "dapr-sentry";

// === impl Config ===

impl Config {
    /// Validates what was given.
    ///
    /// # Errors
    /// [`ConfigError`] names the flag.
    pub(crate) fn new(parsed: &Parsed, env: &Env) -> Result<Self, ConfigError> {
        let cluster = cluster::read(parsed, env)?;
        let jwt = JwtConfig::read(parsed)?;
        let oidc = OidcConfig::read(parsed)?;
        let store = FileStore::new(
            Path::new(parsed.text("issuer-credentials")),
            parsed.text("issuer-ca-filename"),
            parsed.text("issuer-certificate-filename"),
            parsed.text("issuer-key-filename"),
        );
        let file = ConfigFile {
            path: parsed.text("config").into(),
            explicit: parsed.given("config"),
        };
        let metrics = parsed.bool("enable-metrics");
        let metrics =
            metrics.then(|| Address::read(parsed, "metrics-listen-address", "metrics-port"));
        Ok(Self {
            grpc: Address::read(parsed, "listen-address", "port")?,
            healthz: Address::read(parsed, "healthz-listen-address", "healthz-port")?,
            metrics: metrics.transpose()?,
            own: own_id(parsed, env)?,
            store,
            cluster,
            lives: Lives::read(parsed)?,
            file,
            control_plane_allowed: parsed.bool("allow-control-plane-identities"),
            sharing: sharing(parsed)?,
            jwt,
            oidc,
        })
    }
}

// === impl Lives ===

impl Lives {
    fn read(parsed: &Parsed) -> Result<Self, ConfigError> {
        let life = |flag: &'static str| {
            let value = parsed.duration(flag);
            let life = value.to_std().filter(|life| LIVES.contains(life));
            life.ok_or(ConfigError::Life { flag, value })
        };
        Ok(Self {
            ca_ttl: life("ca-ttl")?,
            root_ttl: life("root-ttl")?,
            root_key: match parsed.bool("keep-root-key") {
                true => RootKey::Keep,
                false => RootKey::Discard,
            },
        })
    }

    /// Makes the plan for these lives and for leaves as the settings have them. An authority lives as long as its
    /// rotation needs, even where less was asked for.
    pub(crate) fn plan(&self, settings: &Settings) -> Plan {
        let plan = Plan {
            leaf_ttl: settings.workload_cert_ttl,
            skew: settings.allowed_clock_skew,
            ca_ttl: self.ca_ttl,
            root_ttl: self.root_ttl,
            root_key: self.root_key,
        };
        let least = plan.least_ca_ttl();
        if plan.ca_ttl < least {
            warn!(
                target: SCOPE,
                "--ca-ttl {} is too short for a rotation with leaves of {}: authorities will live for {}",
                GoDuration::from(plan.ca_ttl),
                GoDuration::from(plan.leaf_ttl),
                GoDuration::from(least),
            );
        }
        Plan {
            ca_ttl: plan.ca_ttl.max(least),
            ..plan
        }
    }
}

fn sharing(parsed: &Parsed) -> Result<Sharing, ConfigError> {
    let path = |flag| {
        Some(parsed.text(flag))
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    let linger = parsed.duration("linger");
    Ok(Sharing {
        port_file: path("port-file"),
        clients_file: path("clients-file"),
        linger: linger.to_std().ok_or(ConfigError::Linger(linger))?,
    })
}

fn own_id(parsed: &Parsed, env: &Env) -> Result<SpiffeId, ConfigError> {
    let trust_domain = TrustDomain::parse(parsed.text("trust-domain"))?;
    let namespace = env
        .namespace
        .as_deref()
        .map_or_else(|| Ok(Namespace::default()), Namespace::parse)?;
    Ok(SpiffeId::new(
        trust_domain,
        namespace,
        AppId::parse(SENTRY)?,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(words: &[&str]) -> Result<Config, ConfigError> {
        let parsed = flags::FLAGS.parse(words.iter().map(Into::into)).unwrap();
        Config::new(&parsed, &Env::default())
    }

    fn refused(words: &[&str], text: &str) {
        let error = config(words).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }

    /// Fact: process-interface 3.
    #[test]
    fn the_defaults_are_the_references() {
        let config = config(&[]).unwrap();
        let any = |port| Address {
            host: String::new(),
            port,
        };
        assert_eq!((config.grpc, config.healthz), (any(50001), any(8080)));
        assert_eq!(
            config.metrics,
            Some(Address {
                host: "0.0.0.0".into(),
                port: 9090
            })
        );
        assert_eq!(
            config.own.to_string(),
            "spiffe://localhost/ns/default/dapr-sentry"
        );
        let file = |name| Path::new("/var/run/secrets/dapr.io/credentials").join(name);
        assert_eq!(
            config.store.files(),
            ["ca.crt", "issuer.crt", "issuer.key"].map(file)
        );
        assert_eq!(
            config.file,
            ConfigFile {
                path: "daprsystem".into(),
                explicit: false
            }
        );
        assert!(config.jwt.is_none() && config.oidc.is_none() && !config.control_plane_allowed);
    }

    #[test]
    fn every_flag_of_the_reference_is_accepted() {
        let words = [
            "-mode=standalone",
            "--kubeconfig=/k",
            "--jwt-enabled",
            "--jwt-key-filename=a",
            "--jwks-filename=b",
            "--jwt-issuer=https://i",
            "--jwt-signing-algorithm=ES256",
            "--jwt-key-id=k",
            "--jwt-ttl=1h",
            "--oidc-enabled",
            "--oidc-server-listen-port=1",
            "--oidc-server-listen-address=h",
            "--oidc-server-tls-enabled=false",
            "--oidc-jwks-uri=https://u/keys",
            "--oidc-path-prefix=/p",
            "--oidc-allowed-hosts=a,b",
            "--log-file=/dev/null",
            "--enable-metrics=false",
        ];
        let config = config(&words).unwrap();
        assert!(config.jwt.is_some() && config.oidc.is_some());
        assert_eq!(config.metrics, None);
    }

    #[test]
    fn bad_values_are_named() {
        refused(&["--mode=x"], "invalid mode: x");
        refused(
            &["--mode=kubernetes"],
            "mode kubernetes refuses to run as root",
        );
        refused(&["--port=70000"], "invalid value for --port: 70000");
        refused(
            &["--linger=-1s"],
            "invalid value for --linger: -1s is negative",
        );
        refused(
            &["--trust-domain=Upper"],
            "invalid value for --trust-domain: trust domain characters",
        );
        refused(
            &["--trust-domain="],
            "invalid value for --trust-domain: trust domain is missing",
        );
    }

    #[test]
    fn the_namespace_is_the_processes() {
        let parsed = flags::FLAGS.parse(["--trust-domain=td".into()]).unwrap();
        let namespace = |text: &str| {
            Config::new(
                &parsed,
                &Env {
                    namespace: Some(text.to_owned()),
                    ..Env::default()
                },
            )
        };
        assert_eq!(
            namespace("dapr-system").unwrap().own.to_string(),
            "spiffe://td/ns/dapr-system/dapr-sentry"
        );
        assert!(matches!(namespace("a/b"), Err(ConfigError::Namespace(_))));
        assert!(matches!(namespace(""), Err(ConfigError::Own(_))));
    }
}
