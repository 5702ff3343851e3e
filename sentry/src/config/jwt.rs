//! The flags of JWT SVIDs and of their discovery.
//!
//! Owns the rules of process-interface 3 for them: which combinations make no sense, and which are silently nothing
//! (discovery without JWTs).

use super::{Address, ConfigError};
use crate::jwt::{Algorithm, Terms};
use crate::store::JwtFiles;
use http::Uri;
use http::uri::PathAndQuery;
use ironside_chassis::args::Parsed;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::warn;

/// The logger of the reference.
const SCOPE: &str = "dapr.sentry";
/// Lives that a token may have. As with certificates, the least is twice what a sidecar needs for a calm renewal.
const TTLS: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(100 * 8760 * 3600);

/// How tokens are issued.
#[derive(Debug)]
pub(crate) struct JwtConfig {
    pub(crate) store: JwtFiles,
    algorithm: Algorithm,
    key_id: Option<String>,
    issuer: Option<String>,
    ttl: Duration,
}

/// How discovery is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OidcConfig {
    pub(crate) address: Address,
    /// None for plain HTTP.
    pub(crate) tls: Option<OidcTls>,
    /// What the documents say in the place of the own address.
    pub(crate) issuer: Option<String>,
    pub(crate) jwks_uri: Option<String>,
    /// Begins with a slash and does not end with one, or is empty.
    pub(crate) prefix: String,
    pub(crate) allowed_hosts: Vec<String>,
}

/// The files of discovery's own certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OidcTls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

// === impl JwtConfig ===

impl JwtConfig {
    pub(super) fn read(parsed: &Parsed) -> Result<Option<Self>, ConfigError> {
        let issuer = given(parsed, "jwt-issuer");
        if !parsed.bool("jwt-enabled") {
            return match issuer {
                Some(_) => Err(ConfigError::JwtIssuer),
                None => Ok(None),
            };
        }
        let value = parsed.duration("jwt-ttl");
        let ttl = value.to_std().filter(|ttl| TTLS.contains(ttl));
        Ok(Some(Self {
            store: JwtFiles::new(
                Path::new(parsed.text("issuer-credentials")),
                absolute(parsed, "jwt-key-filename", "jwt.key"),
                absolute(parsed, "jwks-filename", "jwks.json"),
            ),
            algorithm: parsed.text("jwt-signing-algorithm").parse()?,
            key_id: given(parsed, "jwt-key-id"),
            issuer,
            ttl: ttl.ok_or(ConfigError::JwtTtl { value })?,
        }))
    }

    /// Returns what is asked of tokens, and where their key is.
    pub(crate) fn into_terms(self, skew: Duration) -> (Terms, JwtFiles) {
        let Self {
            store,
            algorithm,
            key_id,
            issuer,
            ttl,
        } = self;
        let terms = Terms {
            algorithm,
            key_id,
            issuer,
            ttl,
            skew,
        };
        (terms, store)
    }
}

// === impl OidcConfig ===

impl OidcConfig {
    pub(super) fn read(parsed: &Parsed) -> Result<Option<Self>, ConfigError> {
        let certificate = given(parsed, "oidc-server-tls-cert-file");
        let files = match (certificate, given(parsed, "oidc-server-tls-key-file")) {
            (Some(certificate), Some(key)) => Some(OidcTls {
                certificate: certificate.into(),
                key: key.into(),
            }),
            (None, None) => None,
            _ => return Err(ConfigError::OidcPair),
        };
        // Without JWTs there is nothing to discover, whatever the other flags say.
        if !(parsed.bool("oidc-enabled") && parsed.bool("jwt-enabled")) {
            return Ok(None);
        }
        let tls = match parsed.bool("oidc-server-tls-enabled") {
            true => Some(files.ok_or(ConfigError::OidcFiles)?),
            false => None,
        };
        Ok(Some(Self {
            address: Address::read(
                parsed,
                "oidc-server-listen-address",
                "oidc-server-listen-port",
            )?,
            tls,
            issuer: given(parsed, "jwt-issuer"),
            jwks_uri: given(parsed, "oidc-jwks-uri")
                .map(checked_uri)
                .transpose()?,
            prefix: prefix(parsed.text("oidc-path-prefix"))?,
            allowed_hosts: parsed.list("oidc-allowed-hosts").to_vec(),
        }))
    }
}

/// A flag's text, if it is not empty.
fn given(parsed: &Parsed, flag: &'static str) -> Option<String> {
    Some(parsed.text(flag).to_owned()).filter(|text| !text.is_empty())
}

/// As in the reference, only an absolute path is heard; another is at least told of.
fn absolute<'a>(parsed: &'a Parsed, flag: &'static str, default: &'static str) -> &'a str {
    let text = parsed.text(flag);
    if Path::new(text).is_absolute() {
        return text;
    }
    if text != default {
        warn!(target: SCOPE, "--{flag} {text:?} is no absolute path: {default} in the credentials folder is used");
    }
    default
}

fn prefix(text: &str) -> Result<String, ConfigError> {
    let trimmed = text.trim_end_matches('/');
    let prefix = match trimmed {
        "" => return Ok(String::new()),
        rooted if rooted.starts_with('/') => rooted.to_owned(),
        relative => format!("/{relative}"),
    };
    let parsed = prefix.parse::<PathAndQuery>().ok();
    match parsed.filter(|parsed| parsed.path() == prefix) {
        Some(_) => Ok(prefix),
        None => Err(ConfigError::OidcPrefix(text.to_owned())),
    }
}

fn checked_uri(text: String) -> Result<String, ConfigError> {
    let parsed = text.parse::<Uri>().ok();
    let scheme = parsed.as_ref().and_then(Uri::scheme_str);
    match scheme {
        Some("http" | "https") => Ok(text),
        _ => Err(ConfigError::OidcJwksUri(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::flags::FLAGS;
    use super::*;

    fn parsed(words: &[&str]) -> Parsed {
        FLAGS.parse(words.iter().map(Into::into)).unwrap()
    }

    fn jwt(words: &[&str]) -> Result<Option<JwtConfig>, ConfigError> {
        JwtConfig::read(&parsed(words))
    }

    fn oidc(words: &[&str]) -> Result<Option<OidcConfig>, ConfigError> {
        let switches = ["--jwt-enabled", "--oidc-enabled"];
        OidcConfig::read(&parsed(&[&switches, words].concat()))
    }

    fn refused<T: std::fmt::Debug>(read: Result<T, ConfigError>, text: &str) {
        let error = read.unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }

    /// Fact: security.md 1.11; process-interface 3.
    #[test]
    fn jwts_are_off_until_they_are_wanted() {
        assert!(
            jwt(&["--jwt-ttl=1s", "--jwt-signing-algorithm=none"])
                .unwrap()
                .is_none()
        );
        let skew = Duration::from_secs(900);
        let (terms, store) = jwt(&["--jwt-enabled"]).unwrap().unwrap().into_terms(skew);
        let expected = Terms {
            algorithm: Algorithm::Rs256,
            key_id: None,
            issuer: None,
            ttl: Duration::from_secs(86_400),
            skew,
        };
        assert_eq!(terms, expected);
        let folder = Path::new("/var/run/secrets/dapr.io/credentials");
        assert_eq!(store, JwtFiles::new(folder, "jwt.key", "jwks.json"));
    }

    /// Fact: security.md 1.11: relative names are ignored, absolute ones are not.
    #[test]
    fn only_absolute_names_are_heard() {
        let named = |key: &str| {
            let flag = format!("--jwt-key-filename={key}");
            let config = jwt(&["--jwt-enabled", "--issuer-credentials=/c", &flag]);
            config.unwrap().unwrap().store
        };
        let store = |key| JwtFiles::new(Path::new("/c"), key, "jwks.json");
        assert_eq!(named("other.key"), store("jwt.key"));
        assert_eq!(named("/k/other.key"), store("/k/other.key"));
    }

    #[test]
    fn bad_values_are_named() {
        refused(
            jwt(&["--jwt-issuer=x"]),
            "jwt-issuer cannot be set when jwt-enabled is false",
        );
        let with = |word| jwt(&["--jwt-enabled", word]);
        refused(
            with("--jwt-ttl=59s"),
            "invalid value for --jwt-ttl: 59s is not",
        );
        refused(
            with("--jwt-ttl=-1h"),
            "invalid value for --jwt-ttl: -1h0m0s is not",
        );
        let text =
            "invalid value for --jwt-signing-algorithm: unsupported signing algorithm \"HS256\"";
        refused(with("--jwt-signing-algorithm=HS256"), text);
        let text = "oidc-server-tls-cert-file and oidc-server-tls-key-file must be set together";
        refused(oidc(&["--oidc-server-tls-cert-file=x"]), text);
        let text = "oidc-server-tls-cert-file and oidc-server-tls-key-file are needed";
        refused(oidc(&[]), text);
        let plain = |word| oidc(&["--oidc-server-tls-enabled=false", word]);
        refused(
            plain("--oidc-path-prefix=a b"),
            "invalid value for --oidc-path-prefix: \"a b\"",
        );
        refused(
            plain("--oidc-path-prefix=/a?b"),
            "invalid value for --oidc-path-prefix: \"/a?b\"",
        );
        refused(
            plain("--oidc-jwks-uri=file:///x"),
            "invalid value for --oidc-jwks-uri: ",
        );
        refused(
            plain("--oidc-server-listen-port=-1"),
            "invalid value for --oidc-server-listen-port",
        );
    }

    /// Fact: security.md 1.14: TLS that is switched off asks for no files, and uses none.
    #[test]
    fn discovery_speaks_plain_http_where_it_is_told_to() {
        let files = [
            "--oidc-server-tls-cert-file=/c",
            "--oidc-server-tls-key-file=/k",
        ];
        let config = oidc(&files).unwrap().unwrap();
        assert_eq!(
            config.tls,
            Some(OidcTls {
                certificate: "/c".into(),
                key: "/k".into()
            })
        );
        let off = "--oidc-server-tls-enabled=false";
        assert_eq!(oidc(&[off]).unwrap().unwrap().tls, None);
        let config = oidc(&[&[off, "--oidc-path-prefix=a/b/"], &files[..]].concat());
        let config = config.unwrap().unwrap();
        assert_eq!((config.tls, config.prefix.as_str()), (None, "/a/b"));
        assert_eq!(
            (config.address.host.as_str(), config.address.port),
            ("localhost", 9080)
        );
    }

    #[test]
    fn discovery_needs_jwts() {
        let read = OidcConfig::read(&parsed(&["--oidc-enabled"]));
        assert_eq!(read.unwrap(), None);
    }
}
