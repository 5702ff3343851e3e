//! The definitions of this project's kinds, brought to the version of this operator (decision 5).
//!
//! Owns the upgrade by the leader, once per leadership: server-side apply of what is embedded, over what Helm or the
//! reference's chart installed. A definition that is missing is not made: the chart does that. One that a later
//! operator applied is left alone, and so is a foreign definition of AccessControl.

use super::Common;
use crate::cluster::{CallError, Place};
use serde_json::{Value, json};
use std::time::Duration;
use tracing::{error, info, warn};

/// The logger of this part.
const SCOPE: &str = "dapr.operator.crds";
/// Who writes definitions.
const MANAGER: &str = "dapr-operator";
/// Annotation: the version of the operator that applied it.
const VERSION: &str = "dapr.io/applied-by-version";
/// Label: whose it is.
const PART_OF: &str = "app.kubernetes.io/part-of";
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(30);
/// The only kind that is not the reference's too.
const OWN: &str = "accesscontrols.dapr.io";

/// What is embedded.
const DEFINITIONS: [&str; 5] = [
    include_str!("../../../crds/accesscontrols.dapr.io.yaml"),
    include_str!("../../../crds/components.dapr.io.yaml"),
    include_str!("../../../crds/configurations.dapr.io.yaml"),
    include_str!("../../../crds/httpendpoints.dapr.io.yaml"),
    include_str!("../../../crds/resiliencies.dapr.io.yaml"),
];

/// What is to be done with a definition.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Apply,
    /// It is left alone, because of this.
    Leave(&'static str),
}

/// Upgrades at the beginning of each leadership, for ever. To stop, drop the future.
pub(crate) async fn run(mut common: Common) {
    while common.leads().await {
        let mut leadership = common.clone();
        tokio::select! {
            () = leadership.follows() => {}
            () = upgrade(&common) => leadership.follows().await,
        }
    }
}

/// Upgrades all definitions; what fails is tried again.
async fn upgrade(common: &Common) {
    let mut left: Vec<Value> = DEFINITIONS.into_iter().filter_map(read).collect();
    loop {
        let mut failed = Vec::new();
        for definition in left {
            if let Err(cause) = upgrade_one(common, &definition).await {
                warn!(target: SCOPE, "Cannot upgrade {}: {cause}", name(&definition));
                failed.push(definition);
            }
        }
        if failed.is_empty() {
            return;
        }
        left = failed;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn upgrade_one(common: &Common, definition: &Value) -> Result<(), CallError> {
    let (calls, name) = (&common.calls, name(definition));
    let live = calls.get(Place::CRDS, None, name).await?;
    match step(definition, live.as_ref()) {
        Step::Leave(why) => {
            warn!(target: SCOPE, "Definition {name} is left alone: {why}");
            Ok(())
        }
        Step::Apply => {
            let how = (MANAGER, true);
            let applied = calls
                .apply(Place::CRDS, None, name, definition, how)
                .await?;
            let revision = |object: &Value| object.pointer("/metadata/resourceVersion").cloned();
            if live.as_ref().and_then(revision) != revision(&applied) {
                info!(target: SCOPE, "Definition {name} is brought to version {}", own_version());
            }
            Ok(())
        }
    }
}

/// An embedded definition with the version of this operator on it.
fn read(text: &str) -> Option<Value> {
    let read: Result<Value, _> = serde_yaml::from_str(text);
    let mut definition = match read {
        Ok(definition) => definition,
        Err(cause) => {
            error!(target: SCOPE, "an embedded definition cannot be read: {cause}");
            return None;
        }
    };
    let meta = definition.get_mut("metadata")?.as_object_mut()?;
    let notes = meta.entry("annotations").or_insert_with(|| json!({}));
    let notes = notes.as_object_mut()?;
    notes.insert(VERSION.to_owned(), own_version().into());
    Some(definition)
}

fn step(definition: &Value, live: Option<&Value>) -> Step {
    let Some(live) = live else {
        return Step::Leave("it is not installed; the chart's crds/ hold it");
    };
    let text = |object: &Value, map: &str, key: &str| {
        let map = object.pointer(&format!("/metadata/{map}"))?;
        map.get(key)?.as_str().map(str::to_owned)
    };
    let whose = |object| text(object, "labels", PART_OF);
    if name(definition) == OWN && whose(live) != whose(definition) {
        return Step::Leave(
            "it is not this project's; two definitions of AccessControl cannot live together",
        );
    }
    let applied = text(live, "annotations", VERSION);
    match applied.is_some_and(|applied| numbers(&applied) > numbers(own_version())) {
        true => Step::Leave("a later operator applied it"),
        false => Step::Apply,
    }
}

fn name(definition: &Value) -> &str {
    crate::index::text(definition, "/metadata/name").unwrap_or_default()
}

fn own_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The numbers of a version, to compare by.
fn numbers(version: &str) -> Vec<u64> {
    let parts = version.split(['.', '-', '+']);
    parts.map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_definitions_can_be_read() {
        let all: Vec<Value> = DEFINITIONS.into_iter().filter_map(read).collect();
        assert_eq!(all.len(), DEFINITIONS.len());
        for definition in &all {
            assert_eq!(definition["kind"], "CustomResourceDefinition");
            assert_eq!(definition["apiVersion"], "apiextensions.k8s.io/v1");
            assert!(
                name(definition).ends_with(".dapr.io"),
                "{}",
                name(definition)
            );
            assert_eq!(
                definition["metadata"]["annotations"][VERSION],
                own_version()
            );
        }
    }

    #[test]
    fn only_what_is_older_and_not_foreign_is_upgraded() {
        let all: Vec<Value> = DEFINITIONS.into_iter().filter_map(read).collect();
        let by_name = |wanted: &str| all.iter().find(|one| name(one) == wanted).unwrap();
        let (own, shared) = (by_name(OWN), by_name("configurations.dapr.io"));
        let foreign = json!({"metadata": {"labels": {PART_OF: "somebody"}}});
        assert!(matches!(step(own, None), Step::Leave(_)));
        assert!(matches!(step(own, Some(&foreign)), Step::Leave(_)));
        assert_eq!(step(own, Some(own)), Step::Apply);
        assert_eq!(
            step(shared, Some(&foreign)),
            Step::Apply,
            "of the reference"
        );
        let mut later = shared.clone();
        later["metadata"]["annotations"][VERSION] = "999.0.0".into();
        assert!(matches!(step(shared, Some(&later)), Step::Leave(_)));
        later["metadata"]["annotations"][VERSION] = "0.0.9".into();
        assert_eq!(step(shared, Some(&later)), Step::Apply);
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("0.10.0") > numbers("0.9.9"));
        assert_eq!(numbers("1.2.3-rc.1"), [1, 2, 3]);
    }
}
