//! Reading the files of `--config`.
//!
//! Variables are replaced in the whole text first; of each file the first
//! document counts; the files are laid over one another in order. An empty
//! file is a valid one.

use serde::Deserialize;
use thiserror::Error;

use super::merge::Merge as _;
use super::{Configuration, Spec};
use crate::{YamlError, expand, yaml};

/// A file of `--config`.
#[derive(Clone, Copy, Debug)]
pub struct ConfigFile<'a> {
    /// Where it lies, for errors.
    pub path: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The bytes are no text.
    #[error("{0} is not UTF-8 text")]
    NotText(Box<str>),
    /// The text is no YAML, or of another shape.
    #[error("error parsing {path}: {cause}")]
    Shape {
        /// The file.
        path: Box<str>,
        /// What the parser says.
        cause: YamlError,
    },
}

/// Everything else about the object is not looked at, its kind included.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(deserialize_with = "yaml::null_default")]
    spec: Spec,
}

/// Reads `files` over one another; no file gives the default configuration.
///
/// # Errors
/// [`ConfigError`] for the first file that cannot be used.
pub fn load<'a>(
    files: impl IntoIterator<Item = ConfigFile<'a>>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Configuration, ConfigError> {
    let mut configuration = Configuration::default();
    for file in files {
        let later = read(file, &lookup)?;
        configuration.spec.merge(later);
    }
    Ok(configuration)
}

/// Reads an object as a cluster gives it: nothing is replaced in it.
///
/// # Errors
/// [`ConfigError`] if it cannot be used; `name` stands for the path.
pub fn from_json(name: &str, bytes: &[u8]) -> Result<Configuration, ConfigError> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(ConfigError::NotText(name.into()));
    };
    let document = yaml::decode::<Document>(text).map_err(|cause| ConfigError::Shape {
        path: name.into(),
        cause,
    })?;
    Ok(Configuration {
        spec: document.unwrap_or_default().spec,
    })
}

fn read(
    file: ConfigFile<'_>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Spec, ConfigError> {
    let Ok(text) = std::str::from_utf8(file.bytes) else {
        return Err(ConfigError::NotText(file.path.into()));
    };
    let text = expand(text, lookup);
    let Some(document) = yaml::documents(&text).next() else {
        return Ok(Spec::default());
    };
    match yaml::decode::<Document>(document) {
        Ok(document) => Ok(document.unwrap_or_default().spec),
        Err(cause) => Err(ConfigError::Shape {
            path: file.path.into(),
            cause,
        }),
    }
}
