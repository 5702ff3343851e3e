//! Pods that asked for a sidecar, by their metadata.
//!
//! Owns which Configuration an app runs with, decided for one pod where that is known (kubernetes 3.9, FIX 4), and
//! which pods have no sidecar though they asked for one (3.5). Everything else that pods carry is not kept: a pod
//! costs some hundred bytes.

use super::is_truthy;
use super::mirror::{Fact, Mirror};
use kube::core::ObjectMeta;
use std::sync::Arc;

/// Annotation: whether a pod wants a sidecar.
pub(crate) const ENABLED: &str = "dapr.io/enabled";
/// Annotation, and label of injected pods: the app.
pub(crate) const APP_ID: &str = "dapr.io/app-id";
/// Annotation: name of the Configuration.
pub(crate) const CONFIG: &str = "dapr.io/config";
/// Label of injected pods.
pub(crate) const INJECTED: &str = "dapr.io/sidecar-injected";
/// Label of pods that have a sidecar of their own.
pub(crate) const PATCHED: &str = "dapr.io/watchdog-patched";
/// Annotation of pods that the kubelet made of a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodView {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) uid: Box<str>,
    pub(crate) app_id: Box<str>,
    /// `dapr.io/config`.
    pub(crate) config: Option<Arc<str>>,
    /// It carries a label that says that all is well.
    pub(crate) is_settled: bool,
    /// It was made by the injector.
    pub(crate) is_injected: bool,
    pub(crate) is_ending: bool,
    /// The kubelet owns it; nobody can evict it for good.
    pub(crate) is_static: bool,
    /// Kind and UID of the controller that would make another one.
    pub(crate) controller: Option<(Box<str>, Box<str>)>,
}

/// All such pods.
#[derive(Debug, Default)]
pub(crate) struct Pods(Mirror<PodView>);

// === impl PodView ===

impl PodView {
    /// Takes what matters; none of a pod that wants no sidecar.
    pub(crate) fn of(meta: &ObjectMeta) -> Option<Self> {
        let annotation = |name: &str| {
            let text = meta.annotations.as_ref()?.get(name)?;
            Some(text.as_str()).filter(|text| !text.trim().is_empty())
        };
        if !annotation(ENABLED).is_some_and(is_truthy) {
            return None;
        }
        let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name));
        let name = meta.name.as_deref()?;
        let owners = meta.owner_references.iter().flatten();
        let controller = owners
            .into_iter()
            .find(|owner| owner.controller == Some(true));
        Some(Self {
            namespace: meta.namespace.as_deref()?.into(),
            name: name.into(),
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            app_id: annotation(APP_ID).unwrap_or(name).trim().into(),
            config: annotation(CONFIG).map(|config| config.trim().into()),
            is_settled: label(INJECTED).is_some() || label(PATCHED).is_some(),
            is_injected: label(INJECTED).is_some(),
            is_ending: meta.deletion_timestamp.is_some(),
            is_static: annotation(MIRROR).is_some(),
            controller: controller
                .map(|owner| (owner.kind.as_str().into(), owner.uid.as_str().into())),
        })
    }
}

// === impl Pods ===

impl Pods {
    /// Takes a fact.
    pub(crate) fn take(&mut self, fact: Fact<PodView>) {
        let _changes = self.0.take(fact);
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.0.is_whole()
    }

    /// The pod of this name, if it is one of this app.
    pub(crate) fn of_app(&self, namespace: &str, app_id: &str, pod: &str) -> Option<&Arc<PodView>> {
        let found = self.0.get(&(namespace.into(), pod.into()));
        found.filter(|pod| *pod.app_id == *app_id)
    }

    /// What the reference goes by: the first pod of an app that names a Configuration.
    pub(crate) fn first_config(&self, namespace: &str, app_id: &str) -> Option<Arc<str>> {
        let mut pods = self.0.of_namespace(namespace).map(|(_, pod)| pod);
        pods.find_map(|pod| pod.config.clone().filter(|_| *pod.app_id == *app_id))
    }

    /// Pods that asked for a sidecar and carry no label that says that they have one.
    pub(crate) fn suspects(&self) -> Vec<Arc<PodView>> {
        let all = self.0.all().map(|(_, pod)| pod);
        let suspects = all.filter(|pod| !pod.is_settled && !pod.is_ending);
        suspects.cloned().collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn meta(value: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    fn pod(name: &str, app: Option<&str>, config: Option<&str>) -> Fact<PodView> {
        let mut annotations = json!({ENABLED: "true"});
        if let Some(app) = app {
            annotations[APP_ID] = app.into();
        }
        if let Some(config) = config {
            annotations[CONFIG] = config.into();
        }
        let meta = meta(json!({"name": name, "namespace": "ns", "annotations": annotations}));
        Fact::Is(("ns".into(), name.into()), PodView::of(&meta))
    }

    /// KG-16, KG-17, KG-18: the pod decides; the app's first one where the pod is not known.
    #[test]
    fn a_configuration_is_that_of_the_pod() {
        let mut pods = Pods::default();
        for fact in [
            pod("a-old", Some("a"), Some("c1")),
            pod("b-new", Some("a"), Some("c2")),
            pod("plain", Some("b"), None),
            pod("own-name", None, Some("c3")),
        ] {
            pods.take(fact);
        }
        let of = |app, pod| {
            let pod = pods.of_app("ns", app, pod);
            pod.map(|pod| pod.config.as_deref().map(str::to_owned))
        };
        assert_eq!(of("a", "b-new"), Some(Some("c2".to_owned())));
        assert_eq!(of("b", "plain"), Some(None));
        assert_eq!(of("b", "b-new"), None, "a pod of another app");
        assert_eq!(of("a", "gone"), None);
        let first = |app| pods.first_config("ns", app);
        assert_eq!(first("a").as_deref(), Some("c1"));
        assert_eq!(first("b"), None);
        assert_eq!(first("own-name").as_deref(), Some("c3"));
        assert_eq!(pods.first_config("other", "a"), None);
    }

    #[test]
    fn only_pods_that_ask_are_kept() {
        for (enabled, kept) in [
            (Some("true"), true),
            (Some(" YES "), true),
            (Some("1"), true),
            (Some("false"), false),
            (Some("enabled"), false),
            (None, false),
        ] {
            let annotations = enabled.map(|text| json!({ENABLED: text}));
            let meta = meta(json!({"name": "p", "namespace": "ns", "annotations": annotations}));
            assert_eq!(PodView::of(&meta).is_some(), kept, "{enabled:?}");
        }
    }

    /// KO-23, KO-24: who is looked at.
    #[test]
    fn suspects_are_those_that_no_label_clears() {
        let mut pods = Pods::default();
        for (name, labels, ending) in [
            ("injected", json!({INJECTED: "true"}), false),
            ("patched", json!({PATCHED: "true"}), false),
            ("ending", json!({}), true),
            ("missing", json!({"app": "x"}), false),
        ] {
            let mut value = json!({"name": name, "namespace": "ns", "labels": labels,
                "annotations": {ENABLED: "true"}});
            if ending {
                value["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            let view = PodView::of(&meta(value));
            pods.take(Fact::Is(("ns".into(), name.into()), view));
        }
        let names: Vec<_> = pods
            .suspects()
            .iter()
            .map(|pod| pod.name.to_string())
            .collect();
        assert_eq!(names, ["missing"]);
    }
}
