//! What the configuration file says: lives, skew, validators.
//!
//! Owns `spec.mtls` as far as Sentry reads it (security 1.13), its defaults and bounds (fact O-S15), and what happens
//! without a file (fact O-S14). YAML and variables are the resources crate's.

use crate::authority::Authority;
use crate::cluster::views::Configuration;
use crate::cluster::{CallError, Cluster};
use crate::config::{ConfigFile, env};
use crate::issue::leaf::Validity;
use crate::validator::jwks::{JwksError, JwksOptions};
use ironside_identity::Namespace;
use ironside_resources::configuration::{self, ConfigError};
use ironside_resources::configuration::{Mtls, TokenValidator};
use ironside_resources::{DurationError, GoDuration};
use serde::Deserialize as _;
use std::io;
use std::time::{Duration, SystemTime};
use tracing::{error, warn};

/// The logger of the reference.
const SCOPE: &str = "dapr.sentry";
/// Life of a leaf (security 1.13).
const DEFAULT_TTL: &str = "24h";
/// How far NotBefore lies in the past (security 1.13).
const DEFAULT_SKEW: &str = "15m";
/// Shortest life of a leaf: twice the least that a sidecar needs for a calm renewal (fact O-S15).
const MIN_TTL: Duration = Duration::from_secs(60);

/// What leaves are made of beside names and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) workload_cert_ttl: Duration,
    pub(crate) allowed_clock_skew: Duration,
}

/// All that the file says.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    /// The one validator that can be named.
    pub(crate) jwks: Option<JwksOptions>,
}

/// The file, or what it says, can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("loading default config. couldn't find config name {path:?}: {cause}")]
    Missing { path: String, cause: io::Error },
    #[error("loading default config. couldn't find config name {name:?}: {cause}")]
    NoConfiguration { name: String, cause: NotLoaded },
    #[error(transparent)]
    File(#[from] ConfigError),
    #[error("invalid spec.mtls.{key}: {cause}")]
    Duration {
        key: &'static str,
        cause: DurationError,
    },
    #[error("invalid spec.mtls.{key}: {value} is negative")]
    Negative {
        key: &'static str,
        value: GoDuration,
    },
    #[error(
        "invalid spec.mtls.workloadCertTTL: {value} is less than the least of {}",
        GoDuration::from(MIN_TTL)
    )]
    TooShort { value: GoDuration },
    #[error(
        "invalid token validator: the built-in 'kubernetes' and 'insecure' validators cannot be configured manually"
    )]
    BuiltInValidator,
    #[error(transparent)]
    Jwks(#[from] JwksError),
    #[error("token validator 'jwks' is named twice")]
    TwoJwks,
    #[error("invalid token validator name: '{0}'; supported values: 'jwks'")]
    UnknownValidator(String),
}

/// Why there is no Configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLoaded {
    #[error("there is no such Configuration in namespace {0}")]
    Missing(Namespace),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("spec.mtls: {0}")]
    Shape(#[from] serde_json::Error),
}

/// Reads the file, or takes the defaults where none was asked for and none is there.
///
/// # Errors
/// [`SettingsError`] for a file that was named and is missing, and for values out of bounds.
pub(crate) fn load(file: &ConfigFile) -> Result<Loaded, SettingsError> {
    let path = file.path.display().to_string();
    let bytes = match std::fs::read(&file.path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && !file.explicit => {
            warn!(target: SCOPE, "No configuration file given and no file {path:?} found; using the defaults");
            return Loaded::new(&Mtls::default());
        }
        Err(cause) => return Err(SettingsError::Missing { path, cause }),
    };
    let file = configuration::ConfigFile {
        path: &path,
        bytes: &bytes,
    };
    let configuration = configuration::load([file], env::lookup)?;
    Loaded::new(&configuration.spec.mtls.unwrap_or_default())
}

/// Reads the Configuration of that name in the namespace of the control plane, or takes the defaults where none was
/// asked for and none is there.
///
/// # Errors
/// [`SettingsError`] for one that was named and is missing, one that can't be read, and values out of bounds.
pub(crate) async fn load_from(
    cluster: &Cluster,
    file: &ConfigFile,
) -> Result<Loaded, SettingsError> {
    let (name, namespace) = (file.path.display().to_string(), cluster.namespace());
    let failed = |cause: NotLoaded| SettingsError::NoConfiguration {
        name: name.clone(),
        cause,
    };
    let found = cluster
        .get::<Configuration>(namespace.as_str(), &name)
        .await;
    let Some(found) = found.map_err(|cause| failed(cause.into()))? else {
        if file.explicit {
            return Err(failed(NotLoaded::Missing(namespace.clone())));
        }
        warn!(
            target: SCOPE,
            "No configuration given and no Configuration {name:?} found in namespace {namespace}; using the defaults"
        );
        return Loaded::new(&Mtls::default());
    };
    let mtls = found.spec.get("mtls").filter(|mtls| !mtls.is_null());
    let mtls = mtls.map(Mtls::deserialize).transpose();
    let mtls = mtls.map_err(|cause| failed(cause.into()))?;
    Loaded::new(&mtls.unwrap_or_default())
}

// === impl Loaded ===

impl Loaded {
    fn new(mtls: &Mtls) -> Result<Self, SettingsError> {
        Ok(Self {
            jwks: jwks(mtls.token_validators.iter().flatten())?,
            settings: Settings::new(mtls)?,
        })
    }
}

// === impl Settings ===

impl Settings {
    fn new(mtls: &Mtls) -> Result<Self, SettingsError> {
        let ttl = mtls.workload_cert_ttl.as_deref();
        let skew = mtls.allowed_clock_skew.as_deref();
        let workload_cert_ttl = duration("workloadCertTTL", ttl, DEFAULT_TTL)?;
        let allowed_clock_skew = duration("allowedClockSkew", skew, DEFAULT_SKEW)?;
        if workload_cert_ttl < MIN_TTL {
            return Err(SettingsError::TooShort {
                value: workload_cert_ttl.into(),
            });
        }
        Ok(Self {
            workload_cert_ttl,
            allowed_clock_skew,
        })
    }

    /// Tells of a life that the reference's sidecars can't bear (fact O-S15).
    pub(crate) fn warn_of_loops(&self) {
        let (ttl, skew) = (
            self.workload_cert_ttl.into(),
            self.allowed_clock_skew.into(),
        );
        if self.workload_cert_ttl <= self.allowed_clock_skew {
            let (ttl, skew): (GoDuration, GoDuration) = (ttl, skew);
            error!(
                target: SCOPE,
                "workloadCertTTL {ttl} is not longer than allowedClockSkew {skew}: sidecars of Dapr renew without \
                 a pause; lower the skew or raise the TTL"
            );
        }
    }

    /// The span of a leaf issued at `now`, which never outlives the issuer (fact O-S7).
    pub(crate) fn leaf_validity(&self, now: SystemTime, authority: &Authority) -> Validity {
        Validity {
            not_before: now - self.allowed_clock_skew,
            not_after: (now + self.workload_cert_ttl).min(authority.issuer_not_after()),
        }
    }
}

fn duration(
    key: &'static str,
    text: Option<&str>,
    default: &str,
) -> Result<Duration, SettingsError> {
    let text = text.filter(|text| !text.is_empty()).unwrap_or(default);
    let value: GoDuration = text
        .parse()
        .map_err(|cause| SettingsError::Duration { key, cause })?;
    value.to_std().ok_or(SettingsError::Negative { key, value })
}

fn jwks<'a>(
    named: impl Iterator<Item = &'a TokenValidator>,
) -> Result<Option<JwksOptions>, SettingsError> {
    let mut jwks = None;
    for validator in named {
        match validator.name.as_str() {
            "jwks" if jwks.is_some() => return Err(SettingsError::TwoJwks),
            "jwks" => jwks = Some(JwksOptions::read(&validator.options)?),
            "kubernetes" | "insecure" => return Err(SettingsError::BuiltInValidator),
            other => return Err(SettingsError::UnknownValidator(other.to_owned())),
        }
    }
    Ok(jwks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironside_testkit::certs::{Ca, now};
    use std::path::Path;

    fn read(mtls: &str) -> Result<Settings, SettingsError> {
        let text = format!("spec:\n  mtls:\n    enabled: true\n{mtls}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        load(&ConfigFile {
            path,
            explicit: true,
        })
        .map(|loaded| loaded.settings)
    }

    fn refused(mtls: &str, text: &str) {
        let error = read(mtls).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }

    const HOUR: Duration = Duration::from_secs(3600);

    /// Fact: security.md 1.13.
    #[test]
    fn lives_are_read_or_defaulted() {
        let settings = |ttl, skew| Settings {
            workload_cert_ttl: ttl,
            allowed_clock_skew: skew,
        };
        assert_eq!(read("").unwrap(), settings(24 * HOUR, HOUR / 4));
        let given = "    workloadCertTTL: 1h\n    allowedClockSkew: 90s\n";
        assert_eq!(
            read(given).unwrap(),
            settings(HOUR, Duration::from_secs(90))
        );
        assert_eq!(
            read("    allowedClockSkew: 0s\n")
                .unwrap()
                .allowed_clock_skew,
            Duration::ZERO
        );
    }

    /// Fact: security.md O-S15, K005.
    #[test]
    fn bad_values_are_named() {
        refused(
            "    workloadCertTTL: 25s\n",
            "invalid spec.mtls.workloadCertTTL: 25s is less than the least of 1m0s",
        );
        refused(
            "    workloadCertTTL: 1d\n",
            "invalid spec.mtls.workloadCertTTL: time: unknown unit",
        );
        refused(
            "    allowedClockSkew: -1s\n",
            "invalid spec.mtls.allowedClockSkew: -1s is negative",
        );
        let validators = |name| format!("    tokenValidators:\n    - name: {name}\n");
        refused(
            &validators("kubernetes"),
            "invalid token validator: the built-in 'kubernetes' and 'insecure'",
        );
        refused(
            &validators("insecure"),
            "invalid token validator: the built-in 'kubernetes' and 'insecure'",
        );
        refused(
            &validators("foo"),
            "invalid token validator name: 'foo'; supported values: 'jwks'",
        );
        refused(
            &validators("jwks"),
            "token validator 'jwks': options: source is missing",
        );
    }

    /// Fact: security.md O-S14, K062; process-interface 10, row 18.
    #[test]
    fn only_a_named_file_must_exist() {
        let missing = |explicit| {
            load(&ConfigFile {
                path: Path::new("/none/daprsystem").into(),
                explicit,
            })
        };
        assert!(missing(false).is_ok());
        let error = missing(true).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "loading default config. couldn't find config name \"/none/daprsystem\""
            ),
            "{error}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        std::fs::write(&path, "").unwrap();
        assert!(
            load(&ConfigFile {
                path,
                explicit: true
            })
            .is_ok()
        );
    }

    /// Fact: security.md O-S7, K023, K024.
    #[test]
    fn a_leaf_never_outlives_its_issuer() {
        let (now, settings) = (now(), read("").unwrap());
        let authority = |ca: &Ca| {
            let texts = [ca.root_pem(), ca.issuer_pem(), ca.issuer_key_pem()];
            let [root, issuer, key] = texts.each_ref().map(String::as_bytes);
            Authority::from_pem(root, issuer, key, now).unwrap()
        };
        let span = settings.leaf_validity(now, &authority(&Ca::new()));
        assert_eq!(
            (span.not_before, span.not_after),
            (now - HOUR / 4, now + 24 * HOUR)
        );
        let ending = authority(
            &Ca::builder()
                .issuer_valid(now - HOUR, now + HOUR / 6)
                .build(),
        );
        assert_eq!(
            settings.leaf_validity(now, &ending).not_after,
            ending.issuer_not_after()
        );
    }
}
