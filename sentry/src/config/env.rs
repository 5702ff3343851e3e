//! The environment, read once.
//!
//! The only place of this program that asks for variables, and for the user that it runs as.

use std::ffi::OsString;
use std::path::PathBuf;

/// The variables that Sentry knows (process-interface 3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Env {
    /// `NAMESPACE`, if it is set and not empty.
    pub(crate) namespace: Option<String>,
    /// `HOME`, if it is set and not empty.
    pub(crate) home: Option<PathBuf>,
    /// `HOSTNAME`, which is the name of a pod.
    pub(crate) hostname: Option<String>,
    /// Whether `DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK` is `true`.
    pub(crate) root_allowed: bool,
    /// The effective user.
    pub(crate) uid: u32,
}

// === impl Env ===

impl Env {
    /// Reads the variables of this process.
    pub(crate) fn read() -> Self {
        let text = |name| variable(name).map(|text| text.to_string_lossy().into_owned());
        Self {
            namespace: text("NAMESPACE"),
            home: variable("HOME").map(PathBuf::from),
            hostname: text("HOSTNAME"),
            root_allowed: text("DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK").as_deref()
                == Some("true"),
            uid: rustix::process::geteuid().as_raw(),
        }
    }
}

/// A variable that is set and not empty.
#[expect(clippy::disallowed_methods, reason = "the environment")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|text| !text.is_empty())
}

/// Replaces `$VAR` and `${VAR}` in configuration files.
#[expect(clippy::disallowed_methods, reason = "the environment")]
pub(crate) fn lookup(name: &str) -> Option<String> {
    std::env::var_os(name).map(|text| text.to_string_lossy().into_owned())
}
