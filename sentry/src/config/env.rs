//! The environment, read once.
//!
//! The only place of this program that asks for variables.

/// The variables that Sentry knows (process-interface 3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Env {
    /// `NAMESPACE`, if it is set and not empty.
    pub(crate) namespace: Option<String>,
}

// === impl Env ===

impl Env {
    /// Reads the variables of this process.
    #[expect(clippy::disallowed_methods, reason = "the environment")]
    pub(crate) fn read() -> Self {
        let namespace = std::env::var_os("NAMESPACE").filter(|text| !text.is_empty());
        Self {
            namespace: namespace.map(|text| text.to_string_lossy().into_owned()),
        }
    }
}

/// Replaces `$VAR` and `${VAR}` in configuration files.
#[expect(clippy::disallowed_methods, reason = "the environment")]
pub(crate) fn lookup(name: &str) -> Option<String> {
    std::env::var_os(name).map(|text| text.to_string_lossy().into_owned())
}
