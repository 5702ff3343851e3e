//! The environment, read once.
//!
//! The only place of this program that asks for variables, for the user that it runs as, and for the domain of the
//! cluster. What the texts mean is read in the parent.

use std::collections::HashMap;
use std::path::PathBuf;

/// The variables that the injector knows (kubernetes 2.1), and what else the process is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Env {
    pub(super) texts: HashMap<&'static str, String>,
    /// The effective user.
    pub(crate) uid: u32,
    /// The text of `/etc/resolv.conf`.
    pub(crate) resolv_conf: String,
}

/// Where resolvers are configured.
const RESOLV_CONF: &str = "/etc/resolv.conf";

const NAMES: &[&str] = &[
    "SIDECAR_IMAGE",
    "NAMESPACE",
    "SIDECAR_IMAGE_PULL_POLICY",
    "KUBE_CLUSTER_DOMAIN",
    "ALLOWED_SERVICE_ACCOUNTS",
    "ALLOWED_SERVICE_ACCOUNTS_PREFIX_NAMES",
    "IGNORE_ENTRYPOINT_TOLERATIONS",
    "ACTORS_ENABLED",
    "ACTORS_SERVICE_NAME",
    "ACTORS_SERVICE_ADDRESS",
    "REMINDERS_SERVICE_NAME",
    "REMINDERS_SERVICE_ADDRESS",
    "SIDECAR_RUN_AS_NON_ROOT",
    "SIDECAR_RUN_AS_USER",
    "SIDECAR_RUN_AS_GROUP",
    "SIDECAR_READ_ONLY_ROOT_FILESYSTEM",
    "SIDECAR_DROP_ALL_CAPABILITIES",
    "ENABLE_K8S_DOWNWARD_APIS",
    "NATIVE_SIDECAR_ENABLED",
    "DAPR_TRUST_ANCHORS_FILE",
    "DAPR_TRUST_ANCHORS_CONFIGMAP",
    "DAPR_CONTROL_PLANE_TRUST_DOMAIN",
    "DAPR_SENTRY_ADDRESS",
    "DAPR_SENTRY_TOKEN_FILE",
    "DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK",
    "HOME",
    "HOSTNAME",
];

// === impl Env ===

impl Env {
    /// Reads the variables of this process.
    pub(crate) fn read() -> Self {
        let texts = NAMES
            .iter()
            .filter_map(|&name| Some((name, variable(name)?)));
        Self {
            texts: texts.collect(),
            uid: rustix::process::geteuid().as_raw(),
            resolv_conf: std::fs::read_to_string(RESOLV_CONF).unwrap_or_default(),
        }
    }

    /// A variable that is set, even to nothing.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// A variable that is set and not empty.
    pub(crate) fn some(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|text| !text.is_empty())
    }

    /// A path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.some(name).map(PathBuf::from)
    }

    /// The environment of a test.
    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&'static str, &str)]) -> Self {
        let texts = pairs.iter().map(|(name, text)| (*name, (*text).to_owned()));
        Self {
            texts: texts.collect(),
            uid: 65532,
            resolv_conf: String::new(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the environment")]
fn variable(name: &str) -> Option<String> {
    let text = std::env::var_os(name)?;
    Some(text.to_string_lossy().into_owned())
}
