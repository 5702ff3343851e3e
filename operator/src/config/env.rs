//! The environment, read once.
//!
//! The only place of this program that asks for variables.

use std::ffi::OsString;
use std::path::PathBuf;

/// The variables that the operator knows (kubernetes 3.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Env {
    /// `NAMESPACE`, if it is set and not empty.
    pub(crate) namespace: Option<String>,
    /// `HOSTNAME`, which is the name of a pod.
    pub(crate) hostname: Option<String>,
    /// `POD_IP`: where other replicas reach this one.
    pub(crate) pod_ip: Option<String>,
    /// `ENABLE_WEBHOOKS` is `false`, in any case.
    pub(crate) no_webhooks: bool,
    /// `DAPR_TRUST_ANCHORS_CONFIGMAP`.
    pub(crate) anchors_configmap: Option<String>,
    /// `KUBECONFIG`, or the file below `HOME`.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// `DAPR_SENTRY_TOKEN_FILE`: where the projected token lies, if not at the usual place.
    pub(crate) token_file: Option<PathBuf>,
}

// === impl Env ===

impl Env {
    /// Reads the variables of this process.
    pub(crate) fn read() -> Self {
        let text = |name| variable(name).map(|text| text.to_string_lossy().into_owned());
        let of_home =
            || variable("HOME").map(|home| PathBuf::from(home).join(".kube").join("config"));
        Self {
            namespace: text("NAMESPACE"),
            hostname: text("HOSTNAME"),
            pod_ip: text("POD_IP"),
            no_webhooks: text("ENABLE_WEBHOOKS")
                .is_some_and(|text| text.eq_ignore_ascii_case("false")),
            anchors_configmap: text("DAPR_TRUST_ANCHORS_CONFIGMAP"),
            kubeconfig: variable("KUBECONFIG").map(PathBuf::from).or_else(of_home),
            token_file: variable("DAPR_SENTRY_TOKEN_FILE").map(PathBuf::from),
        }
    }
}

/// A variable that is set and not empty.
#[expect(clippy::disallowed_methods, reason = "the environment")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|text| !text.is_empty())
}
