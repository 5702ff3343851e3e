//! The environment of this process, read once.
//!
//! The only place of the command line that reads it; everything else takes an [`Environment`], so tests bring their
//! own. Facts: cli-and-clients 1.1 (table of variables).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The variables this process was started with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

// === impl Environment ===

impl Environment {
    /// Reads the environment of this process.
    pub(crate) fn read() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// A variable that is set and not empty, as text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(OsStr::new(name))?
            .to_str()
            .filter(|text| !text.is_empty())
    }

    /// A variable that is set and not empty, as a path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self
            .0
            .get(OsStr::new(name))
            .filter(|value| !value.is_empty())?;
        Some(PathBuf::from(value))
    }

    /// Every variable, each name once.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.0.iter()
    }

    /// The folder for files that last as long as the machine runs.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.path("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(
            pairs
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
        )
    }
}
