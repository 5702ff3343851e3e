//! What holds for the sidecars of all pods.
//!
//! Owns nothing but the values; they come from the environment of the injector (kubernetes 2.1), and are checked
//! there.

use super::pod::Toleration;

/// The part of the configuration that ends up in pods.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Image of the sidecar.
    pub(crate) image: String,
    /// `Always`, `Never` or `IfNotPresent`.
    pub(crate) pull_policy: &'static str,
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    /// Domain of the cluster's names.
    pub(crate) cluster_domain: String,
    /// Trust domain of the control plane.
    pub(crate) trust_domain: String,
    /// Native sidecars, where a pod says nothing.
    pub(crate) native: bool,
    /// With one of these a pod runs the sidecar without the image's entry point.
    pub(crate) ignore_entrypoint: Vec<Toleration>,
    pub(crate) security: Security,
    /// Whether the address of the pod is put into the environment.
    pub(crate) host_ip: bool,
    pub(crate) actors: Option<Service>,
    pub(crate) reminders: Option<Service>,
    /// Whether sidecars are told of a scheduler.
    pub(crate) scheduler: bool,
}

/// What the sidecar may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Security {
    pub(crate) run_as_non_root: bool,
    pub(crate) run_as_user: Option<i64>,
    pub(crate) run_as_group: Option<i64>,
    pub(crate) read_only_root: bool,
    pub(crate) drop_all: bool,
}

/// A service beside the control plane's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// What kind it is, as `placement`.
    pub(crate) name: String,
    /// Name of the Kubernetes Service in the namespace of the control plane.
    pub(crate) service: String,
    pub(crate) port: u16,
}

// === impl Settings ===

impl Settings {
    /// The address of a service of the control plane.
    pub(crate) fn address(&self, service: &str, port: u16) -> String {
        let Self {
            namespace,
            cluster_domain,
            ..
        } = self;
        format!("{service}.{namespace}.svc.{cluster_domain}:{port}")
    }

    /// Who Sentry is, which is also the audience of tokens for it.
    pub(crate) fn sentry_id(&self) -> String {
        let Self {
            namespace,
            trust_domain,
            ..
        } = self;
        format!("spiffe://{trust_domain}/ns/{namespace}/dapr-sentry")
    }
}
