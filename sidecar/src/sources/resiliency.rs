//! Policies for outgoing calls: from resources to the table that requests read.
//!
//! Owns what is said of them and what a bad edit means: a resource that cannot be used leaves the one before it
//! in force, and every other one takes effect. Breakers, budgets and tokens of unchanged definitions go on.
//! Source: resiliency-observability 1.1, 1.2, 1.12.

use std::sync::Arc;

use ironside_resiliency::{Compiled, Input, Table};
use ironside_resources::{Resiliency, loader::Loaded};
use ironside_telemetry::metrics::Metrics;
use tracing::info;

use crate::config::Config;

/// Scope of these lines; that of the reference.
const LOG: &str = "dapr.runtime";

/// The table, and what should be said of it.
pub(super) struct Policies {
    /// What requests read.
    pub(super) table: Arc<Table>,
    /// Names of the resources that apply.
    pub(super) names: Vec<Box<str>>,
    /// What was probably not meant.
    pub(super) warnings: Vec<String>,
    /// What cannot be used.
    pub(super) errors: Vec<String>,
}

/// Compiles the resources that apply to the own app; the state of `previous` goes on.
pub(super) fn compile(loaded: &Loaded, config: &Config, previous: Option<&Table>) -> Policies {
    let Compiled { table, notes } = Table::compile(&Input {
        app_id: config.app_id.as_str(),
        namespace: config.namespace.as_str(),
        resources: &loaded.resiliencies,
        previous,
    });
    Policies {
        names: table.resources().iter().map(|o| o.name.clone()).collect(),
        table: Arc::new(table),
        warnings: notes.iter().map(ToString::to_string).collect(),
        errors: loaded
            .resiliency_failures
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

/// Puts back what a bad edit would take away: the last good state of a resource that cannot be used now.
pub(super) fn keep_good(before: &Loaded, next: &mut Loaded) {
    let Loaded {
        resiliencies,
        resiliency_failures,
        ..
    } = next;
    for failure in resiliency_failures.iter() {
        let is_it = |resource: &&Resiliency| *resource.name == *failure.name;
        let old = before.resiliencies.iter().position(|old| is_it(&old));
        if let Some(place) = old
            && !resiliencies.iter().any(|resource| is_it(&resource))
            && let Some(old) = before.resiliencies.get(place)
        {
            resiliencies.insert(place.min(resiliencies.len()), old.clone());
        }
    }
}

/// Says which resources are new in force.
pub(crate) fn announce(before: &[Resiliency], after: &[Resiliency], metrics: &Metrics) {
    for resource in after.iter().filter(|resource| !before.contains(resource)) {
        info!(target: LOG, "Loading Resiliency configuration: {}", resource.name);
        metrics.resiliency_loaded(&resource.name, &resource.namespace);
    }
}

#[cfg(test)]
mod tests {
    use ironside_resources::loader::{Loader, ResourceFile};

    use super::*;

    fn load(documents: &[&str]) -> Loaded {
        let loader = Loader {
            namespace: "",
            app_id: "a",
            deny: &[],
        };
        let files = documents.iter().map(|document| ResourceFile {
            name: "f.yaml",
            bytes: document.as_bytes(),
        });
        loader.load(files)
    }

    fn document(name: &str, timeout: &str) -> String {
        format!(
            "{{apiVersion: dapr.io/v1alpha1, kind: Resiliency, metadata: {{name: {name}}}, \
             spec: {{policies: {{timeouts: {{t: {timeout}}}}}, targets: {{apps: {{b: {{timeout: t}}}}}}}}}}"
        )
    }

    /// R-38, resiliency-observability 1.1: nothing of a bad resource is used, and a bad edit changes nothing.
    #[test]
    fn a_bad_edit_leaves_the_last_good_resource_in_force() {
        let good = load(&[&document("r", "1s"), &document("s", "2s")]);
        let mut bad = load(&[&document("r", "abc"), &document("s", "3s")]);
        assert_eq!(bad.resiliencies.len(), 1);
        keep_good(&good, &mut bad);
        let names: Vec<&str> = bad.resiliencies.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["r", "s"]);
        assert_eq!(bad.resiliencies[0], good.resiliencies[0]);
        assert_ne!(bad.resiliencies[1], good.resiliencies[1]);
        let failure = bad.resiliency_failures[0].to_string();
        assert!(
            failure.starts_with("Could not read resiliency policy r: "),
            "{failure}"
        );
        // At the start there is nothing to keep.
        let mut first = load(&[&document("r", "abc")]);
        keep_good(&Loaded::default(), &mut first);
        assert!(first.resiliencies.is_empty());
        // A resource that is gone is gone.
        let mut gone = load(&[&document("s", "2s")]);
        keep_good(&good, &mut gone);
        assert_eq!(gone.resiliencies.len(), 1);
    }
}
