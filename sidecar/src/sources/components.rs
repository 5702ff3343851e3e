//! What is counted of components: those that are in service, and those that are not.
//!
//! A component counts when it is new or was edited, at the start and with each reload. Lines about them are the
//! start's and `compile.rs`'. Source: resiliency-observability 3.4.

use ironside_resources::Component;
use ironside_telemetry::metrics::{ComponentFailure, Metrics};

/// Counts the components of `after` that `before` does not hold; `failed` names those that are not in service.
pub(crate) fn count(
    before: &[Component],
    after: &[Component],
    failed: &[(Box<str>, ComponentFailure)],
    metrics: &Metrics,
) {
    for component in after.iter().filter(|component| !before.contains(component)) {
        let (name, kind) = (component.name.as_str(), component.spec.kind.as_str());
        let failure = failed.iter().find(|(failed, _why)| **failed == *name);
        match failure {
            Some((_name, why)) => metrics.component_failed(kind, *why, name),
            None => {
                metrics.component_started(kind);
                metrics.component_loaded();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ironside_resources::component::ComponentSpec;
    use ironside_telemetry::metrics::Settings;

    use super::*;

    fn component(name: &str, kind: &str) -> Component {
        let spec = ComponentSpec {
            kind: kind.to_owned(),
            ..ComponentSpec::default()
        };
        Component {
            name: name.to_owned(),
            spec,
            ..Component::default()
        }
    }

    /// resiliency-observability 3.4
    #[test]
    fn only_new_components_count() {
        let metrics = Metrics::new("a", Settings::default());
        let (upper, store) = (
            component("up", "middleware.http.uppercase"),
            component("st", "state.redis"),
        );
        let failed = [("st".into(), ComponentFailure::Creation)];
        let first = [upper.clone(), store.clone()];
        count(&[], &first, &failed, &metrics);
        // An edit of another one.
        let other = component("up2", "middleware.http.uppercase");
        count(&first, &[upper, store, other], &failed, &metrics);
        let text = metrics.exposition();
        for (name, labels, value) in [
            (
                "init_total",
                &["component=\"middleware.http.uppercase\""][..],
                " 2",
            ),
            (
                "init_fail_total",
                &[
                    "component=\"state.redis\"",
                    "reason=\"creation\"",
                    "componentName=\"st\"",
                ],
                " 1",
            ),
            ("loaded", &["app_id=\"a\""], " 2"),
        ] {
            let start = format!("dapr_runtime_component_{name}{{");
            let is_it = |line: &str| {
                line.starts_with(&start)
                    && line.ends_with(value)
                    && labels.iter().all(|label| line.contains(label))
            };
            assert!(text.lines().any(is_it), "{name}: {text}");
        }
    }
}
