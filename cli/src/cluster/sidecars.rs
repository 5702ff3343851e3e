//! Which pods have a sidecar, and what their specification says of it.
//!
//! Pure. A sidecar is a container `daprd`, also among the init containers, where native sidecars are; its arguments
//! come as two words or with `=`. Facts: kubernetes 0.1, 6.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};

/// The name of the sidecar's container.
pub(crate) const CONTAINER: &str = "daprd";

/// A sidecar as the specification of its pod has it.
#[derive(Debug, Clone)]
pub(crate) struct Sidecar<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its container.
    pub container: &'a Container,
}

// === impl Sidecar ===

impl<'a> Sidecar<'a> {
    /// The sidecar of a pod, if it has one.
    pub(crate) fn of(pod: &'a Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let native = spec.init_containers.iter().flatten();
        let container = native
            .chain(&spec.containers)
            .find(|container| container.name == CONTAINER)?;
        Some(Self { pod, container })
    }

    /// The value of a flag, such as `app-id`, in its arguments.
    pub(crate) fn flag(&self, name: &str) -> Option<&'a str> {
        flag(self.container, name)
    }

    /// What the cluster says of its container.
    pub(crate) fn status(&self) -> Option<&'a ContainerStatus> {
        let status = self.pod.status.as_ref()?;
        let native = status.init_container_statuses.iter().flatten();
        let beside = status.container_statuses.iter().flatten();
        native.chain(beside).find(|one| one.name == CONTAINER)
    }

    /// Whether its pod stays and its container runs.
    pub(crate) fn runs(&self) -> bool {
        let state = self.status().and_then(|status| status.state.as_ref());
        let is_leaving = self.pod.metadata.deletion_timestamp.is_some();
        !is_leaving && state.is_some_and(|state| state.running.is_some())
    }

    /// The app's id; empty if it has none.
    pub(crate) fn app_id(&self) -> &'a str {
        self.flag("app-id").unwrap_or_default()
    }
}

/// The value of a flag in the arguments of a container.
pub(crate) fn flag<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let mut words = container.args.iter().flatten();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        match flag.split_once('=') {
            Some((flag, value)) if flag == name => return Some(value),
            None if flag == name => return words.next().map(String::as_str),
            Some(_) | None => {}
        }
    }
    None
}

/// A name of the pod's metadata, empty if it has none.
pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's namespace.
pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// When an object was made.
pub(crate) fn created(metadata: &kube::api::ObjectMeta) -> Option<SystemTime> {
    let at: Timestamp = metadata.creation_timestamp.as_ref()?.0;
    Some(SystemTime::from(at))
}

/// How old an object is.
pub(crate) fn age(metadata: &kube::api::ObjectMeta, now: SystemTime) -> Duration {
    let created = created(metadata).unwrap_or(now);
    now.duration_since(created).unwrap_or_default()
}

#[cfg(test)]
mod tests;
