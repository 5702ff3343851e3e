//! What `spec.mtls.tokenValidators` says of the key set.
//!
//! Owns the options of security 1.7: where the set comes from (a URL, a file, or the text itself, in base64 or not),
//! whom to trust for the URL, and the two times. Fetching is `keys`' matter.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Uri;
use ironside_identity::pem::{self, PemError};
use ironside_resources::GoDuration;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time between two fetches that unknown keys may cause.
const MIN_REFRESH: Duration = Duration::from_secs(600);
/// Shorter ones are ignored, as in the reference.
const LEAST_REFRESH: Duration = Duration::from_secs(1);
/// Time that one fetch may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Shorter ones are ignored, as in the reference.
const LEAST_TIMEOUT: Duration = Duration::from_millis(1);

/// The options of the validator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JwksOptions {
    pub(crate) source: Source,
    pub(crate) min_refresh: Duration,
    pub(crate) timeout: Duration,
}

/// Where the key set comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Fetched, and fetched again when a key is missing.
    Url {
        url: Uri,
        /// Roots in the place of the system's.
        roots: Option<Vec<CertificateDer<'static>>>,
    },
    /// Read, and read again when it changes.
    File(PathBuf),
    /// The text of the set.
    Inline(Vec<u8>),
}

/// An option that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JwksError {
    #[error("token validator 'jwks': options: {0}")]
    Shape(&'static str),
    #[error("token validator 'jwks': source is neither a URL, nor a file, nor a key set")]
    Source,
    #[error("token validator 'jwks': source {url:?} is no URL: {cause}")]
    Url {
        url: String,
        cause: http::uri::InvalidUri,
    },
    #[error("token validator 'jwks': cannot read caCertificate {}: {cause}", path.display())]
    Roots { path: PathBuf, cause: io::Error },
    #[error("token validator 'jwks': caCertificate: {0}")]
    RootsPem(#[from] PemError),
    #[error("token validator 'jwks': {key}: {value} is no duration")]
    Duration { key: &'static str, value: String },
}

// === impl JwksOptions ===

impl JwksOptions {
    /// Reads the options as they stand in the configuration.
    ///
    /// # Errors
    /// [`JwksError`] names the option.
    pub(crate) fn read(options: &Value) -> Result<Self, JwksError> {
        let source = text(options, "source")?.ok_or(JwksError::Shape("source is missing"))?;
        let roots = text(options, "caCertificate")?
            .map(read_roots)
            .transpose()?;
        let min_refresh = duration(options, "minRefreshInterval")?;
        let timeout = duration(options, "requestTimeout")?;
        Ok(Self {
            source: Source::read(source, roots)?,
            min_refresh: min_refresh
                .filter(|time| *time > LEAST_REFRESH)
                .unwrap_or(MIN_REFRESH),
            timeout: timeout
                .filter(|time| *time > LEAST_TIMEOUT)
                .unwrap_or(TIMEOUT),
        })
    }
}

// === impl Source ===

impl Source {
    fn read(text: &str, roots: Option<Vec<CertificateDer<'static>>>) -> Result<Self, JwksError> {
        if text.starts_with("https://") || text.starts_with("http://") {
            let url = text.parse().map_err(|cause| JwksError::Url {
                url: text.to_owned(),
                cause,
            })?;
            return Ok(Self::Url { url, roots });
        }
        if is_object(text.as_bytes()) {
            return Ok(Self::Inline(text.as_bytes().to_vec()));
        }
        let decoded = STANDARD
            .decode(text.trim())
            .or_else(|_other_alphabet| URL_SAFE_NO_PAD.decode(text.trim()));
        if let Ok(decoded) = decoded
            && is_object(&decoded)
        {
            return Ok(Self::Inline(decoded));
        }
        match Path::new(text).is_file() {
            true => Ok(Self::File(text.into())),
            false => Err(JwksError::Source),
        }
    }
}

fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{")
}

fn text<'a>(options: &'a Value, key: &'static str) -> Result<Option<&'a str>, JwksError> {
    match options.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(JwksError::Shape("source and caCertificate are texts")),
    }
}

/// A path, or the text itself.
fn read_roots(text: &str) -> Result<Vec<CertificateDer<'static>>, JwksError> {
    if text.contains("-----BEGIN ") {
        return Ok(pem::certificates(text.as_bytes())?);
    }
    let read = std::fs::read(text).map_err(|cause| JwksError::Roots {
        path: text.into(),
        cause,
    })?;
    Ok(pem::certificates(&read)?)
}

/// Go's way to write a duration, or whole seconds.
fn duration(options: &Value, key: &'static str) -> Result<Option<Duration>, JwksError> {
    let Some(value) = options.get(key).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let wrong = || JwksError::Duration {
        key,
        value: value.to_string(),
    };
    if let Some(seconds) = value.as_i64() {
        return Ok(u64::try_from(seconds).ok().map(Duration::from_secs));
    }
    let text = value.as_str().ok_or_else(wrong)?;
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(u64::try_from(seconds).ok().map(Duration::from_secs));
    }
    let duration: GoDuration = text.parse().map_err(|_no_duration| wrong())?;
    Ok(duration.to_std())
}
