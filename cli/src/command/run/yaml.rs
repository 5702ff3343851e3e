//! The one file of the command line that names serde_yaml: what is read from YAML, and how strictly.

use serde::Deserialize;

/// Why a YAML text was not understood.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct YamlError(String);

impl From<serde_yaml::Error> for YamlError {
    fn from(error: serde_yaml::Error) -> Self {
        // The first line says what and where; the rest is a picture of the text.
        let text = error.to_string();
        Self(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// Checks that every document of a text is YAML.
pub(crate) fn check(text: &str) -> Result<(), YamlError> {
    for document in documents(text) {
        let _checked: serde_json::Value = serde_yaml::from_str(document)?;
    }
    Ok(())
}

/// Reads a value from a text of one document.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, YamlError> {
    Ok(serde_yaml::from_str(text)?)
}

/// Whether a configuration turns mutual TLS on.
pub(crate) fn mutual_tls(text: &str) -> Result<bool, YamlError> {
    let Some(document) = documents(text).next() else {
        return Ok(false);
    };
    let value: serde_json::Value = serde_yaml::from_str(document)?;
    Ok(value
        .pointer("/spec/mtls/enabled")
        .and_then(serde_json::Value::as_bool)
        .unwrap_or(false))
}

/// The documents of a text that hold anything but comments.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_prefix("---").unwrap_or(text);
    text.split("\n---").filter(|document| {
        document
            .lines()
            .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    })
}

/// A value with the line it stands on.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Line<T>(serde_yaml::Spanned<T>);

// === impl Line ===

impl<T> Line<T> {
    /// The line, counted from 1.
    pub(crate) fn line(&self) -> u64 {
        self.0.referenced.line()
    }
}

impl<T> std::ops::Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}
