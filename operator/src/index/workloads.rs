//! Deployments and their like, as far as their Service needs them.
//!
//! Owns the reading of the pod template's annotations (kubernetes 3.4). A workload whose template asks for no sidecar
//! has no view and costs nothing; of the others neither the pod's spec nor the status is even decoded.

use super::is_truthy;
use super::pods::{APP_ID, ENABLED};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

const GRPC_PORT: &str = "dapr.io/grpc-port";
const INTERNAL_PORT: &str = "dapr.io/internal-grpc-port";
const METRICS_PORT: &str = "dapr.io/metrics-port";
const ENABLE_METRICS: &str = "dapr.io/enable-metrics";
const EXTRA: &str = "dapr.io/sidecar-svc-annotations";
/// Suffix of an app's Service.
const SUFFIX: &str = "-dapr";
/// Longest name of a Service.
const MAX_NAME: usize = 63;

/// Kinds that have a Service made for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum WorkloadKind {
    Deployment,
    StatefulSet,
    /// Of Argo.
    Rollout,
}

/// A workload that asks for sidecars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) kind: WorkloadKind,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) uid: Arc<str>,
    /// When it was made, as the API server writes it, which sorts.
    pub(crate) created: Box<str>,
    /// As written; it may be no app ID at all.
    pub(crate) app_id: Arc<str>,
    pub(crate) match_labels: BTreeMap<String, String>,
    pub(crate) ports: Ports,
    /// None when metrics are off.
    pub(crate) metrics: bool,
    /// What the user wants on the Service, as written.
    pub(crate) extra: Option<Box<str>>,
}

/// Ports of a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) grpc: u16,
    pub(crate) internal: u16,
    pub(crate) metrics: u16,
}

/// A workload as the API server sends it, and nothing that does not matter.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct WorkloadSpec {
    #[serde(default)]
    selector: Option<Selector>,
    #[serde(default)]
    template: Option<Template>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    #[serde(default)]
    match_labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Template {
    #[serde(default)]
    metadata: Option<TemplateMeta>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct TemplateMeta {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Why a text names no app that a Service can be made for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppIdProblem {
    #[error("the pod template has no annotation {APP_ID}")]
    Missing,
    #[error(
        "{0:?} in {APP_ID} is no app ID: lower-case letters, digits and '-' between them, at most {most} characters",
        most = MAX_NAME - SUFFIX.len()
    )]
    Invalid(Arc<str>),
}

// === impl WorkloadKind ===

impl WorkloadKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::Rollout => "Rollout",
        }
    }

    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::Deployment | Self::StatefulSet => "apps/v1",
            Self::Rollout => "argoproj.io/v1alpha1",
        }
    }

    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::Rollout => "rollouts",
        }
    }

    /// The kind that an owner reference names.
    pub(crate) fn of(kind: &str) -> Option<Self> {
        [Self::Deployment, Self::StatefulSet, Self::Rollout]
            .into_iter()
            .find(|known| known.as_str() == kind)
    }
}

// === impl Workload ===

impl Workload {
    /// Takes what matters; none of a workload that asks for no sidecars, or is being deleted: then what it owns goes
    /// with it.
    pub(crate) fn of(
        kind: WorkloadKind,
        meta: &kube::core::ObjectMeta,
        spec: &WorkloadSpec,
    ) -> Option<Self> {
        let template = spec.template.as_ref().and_then(|t| t.metadata.as_ref());
        let annotations = template.and_then(|meta| meta.annotations.as_ref())?;
        let annotation = |name: &str| {
            let text = annotations.get(name).map(|text| text.trim());
            text.filter(|text| !text.is_empty())
        };
        if meta.deletion_timestamp.is_some() || !annotation(ENABLED).is_some_and(is_truthy) {
            return None;
        }
        let port = |name: &str, default: u16| {
            let port = annotation(name).and_then(|text| text.parse().ok());
            port.filter(|port| *port != 0).unwrap_or(default)
        };
        let selector = spec.selector.as_ref();
        let created = meta.creation_timestamp.as_ref();
        Some(Self {
            kind,
            namespace: meta.namespace.as_deref()?.into(),
            name: meta.name.as_deref()?.into(),
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            created: created
                .map(|time| time.0.to_string())
                .unwrap_or_default()
                .into(),
            app_id: annotation(APP_ID).unwrap_or_default().into(),
            match_labels: selector
                .and_then(|selector| selector.match_labels.clone())
                .unwrap_or_default(),
            ports: Ports {
                grpc: port(GRPC_PORT, 50001),
                internal: port(INTERNAL_PORT, 50002),
                metrics: port(METRICS_PORT, 9090),
            },
            metrics: annotation(ENABLE_METRICS).is_none_or(is_truthy),
            extra: annotation(EXTRA).map(Into::into),
        })
    }

    /// Says what is wrong with its app ID.
    ///
    /// # Errors
    /// [`AppIdProblem`] if no Service can have that name.
    pub(crate) fn check_app_id(&self) -> Result<(), AppIdProblem> {
        let id = &*self.app_id;
        if id.is_empty() {
            return Err(AppIdProblem::Missing);
        }
        let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_label = id.bytes().all(is_inner)
            && !id.starts_with('-')
            && !id.ends_with('-')
            && id.len() <= MAX_NAME - SUFFIX.len();
        match is_label {
            true => Ok(()),
            false => Err(AppIdProblem::Invalid(Arc::clone(&self.app_id))),
        }
    }
}

/// The name of an app's Service.
pub(crate) fn service_name(app_id: &str) -> String {
    format!("{app_id}{SUFFIX}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A workload as the API server sends it, in the namespace `ns`.
    pub(crate) fn read(kind: WorkloadKind, name: &str, annotations: Value) -> Option<Workload> {
        let meta = json!({"name": name, "namespace": "ns", "uid": format!("uid-{name}"),
            "creationTimestamp": "2026-01-01T00:00:00Z"});
        let spec = json!({
            "replicas": 3, "selector": {"matchLabels": {"app": name}, "matchExpressions": [{"key": "x"}]},
            "template": {"metadata": {"annotations": annotations}, "spec": {"containers": null}},
        });
        let meta = serde_json::from_value(meta).unwrap();
        Workload::of(kind, &meta, &serde_json::from_value(spec).unwrap())
    }

    /// KO-03, KO-04.
    #[test]
    fn the_template_says_what_is_wanted() {
        let base = json!({"dapr.io/enabled": "yes", "dapr.io/app-id": " app1 "});
        let workload = read(WorkloadKind::Deployment, "d", base).unwrap();
        assert_eq!(&*workload.app_id, "app1");
        assert_eq!(
            workload.ports,
            Ports {
                grpc: 50001,
                internal: 50002,
                metrics: 9090
            }
        );
        assert!(workload.metrics);
        assert_eq!(workload.match_labels["app"], "d");
        let odd = json!({"dapr.io/enabled": "1", "dapr.io/app-id": "a", "dapr.io/grpc-port": "abc",
            "dapr.io/internal-grpc-port": "6002", "dapr.io/metrics-port": "70000", "dapr.io/enable-metrics": "no"});
        let workload = read(WorkloadKind::StatefulSet, "d", odd).unwrap();
        assert_eq!(
            workload.ports,
            Ports {
                grpc: 50001,
                internal: 6002,
                metrics: 9090
            }
        );
        assert!(!workload.metrics);
    }

    /// KO-03, KO-09: nothing is kept of a workload that asks for nothing.
    #[test]
    fn who_does_not_ask_has_no_view() {
        for annotations in [
            json!(null),
            json!({}),
            json!({"dapr.io/enabled": "false", "dapr.io/app-id": "a"}),
            json!({"dapr.io/app-id": "a"}),
        ] {
            let text = annotations.to_string();
            assert_eq!(
                read(WorkloadKind::Deployment, "d", annotations),
                None,
                "{text}"
            );
        }
        let meta = serde_json::from_value(json!({"name": "d"})).unwrap();
        let empty = WorkloadSpec::default();
        assert_eq!(Workload::of(WorkloadKind::Deployment, &meta, &empty), None);
    }

    /// KO-14: what is no app ID, and what is wrong with it.
    #[test]
    fn app_ids_are_names_of_services() {
        let long = "a".repeat(59);
        for (id, is_good) in [
            ("app1", true),
            ("a", true),
            ("1app", true),
            ("a-b", true),
            (&long[..58], true),
            (&long[..], false),
            ("", false),
            ("App", false),
            ("a.b", false),
            ("-a", false),
            ("a-", false),
            ("a b", false),
        ] {
            let annotations = json!({"dapr.io/enabled": "true", "dapr.io/app-id": id});
            let workload = read(WorkloadKind::Deployment, "d", annotations).unwrap();
            assert_eq!(workload.check_app_id().is_ok(), is_good, "{id}");
        }
    }
}
