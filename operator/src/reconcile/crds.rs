//! The definitions of this project's kinds, brought to the version of this operator (decision 5).
//!
//! Owns the upgrade by the leader, once per leadership: server-side apply of what is embedded, over what Helm or the
//! reference's chart installed. A definition that is missing is not made: the chart does that. One that a later
//! operator applied is left alone, and so is a foreign definition of AccessControl.

use super::Common;
use crate::cluster::{CallError, Place};
use ironside_cluster::definitions;
use serde_json::Value;
use std::time::Duration;
use tracing::{error, info, warn};

/// The logger of this part.
const SCOPE: &str = "dapr.operator.crds";
/// Who writes definitions.
const MANAGER: &str = "dapr-operator";
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(30);

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
    Leave(String),
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
    match step(live.as_ref()) {
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
    definitions::stamp(&mut definition, own_version());
    Some(definition)
}

fn step(live: Option<&Value>) -> Step {
    let Some(live) = live else {
        return Step::Leave("it is not installed; the chart's crds/ hold it".to_owned());
    };
    match definitions::step(live, own_version()) {
        definitions::Step::Apply => Step::Apply,
        definitions::Step::Foreign => Step::Leave(
            "it is not this project's; two definitions of AccessControl cannot live together"
                .to_owned(),
        ),
        definitions::Step::Later(by) => {
            Step::Leave(format!("version {by} applied it, which is later"))
        }
    }
}

fn name(definition: &Value) -> &str {
    crate::index::text(definition, "/metadata/name").unwrap_or_default()
}

fn own_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
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
                definition["metadata"]["annotations"][definitions::APPLIED_BY],
                own_version()
            );
        }
    }

    #[test]
    fn what_is_not_installed_is_left_to_the_chart() {
        assert!(matches!(step(None), Step::Leave(_)));
        for mut definition in DEFINITIONS.into_iter().filter_map(read) {
            assert_eq!(step(Some(&definition)), Step::Apply);
            definition["metadata"]["annotations"][definitions::APPLIED_BY] = "999.0.0".into();
            let Step::Leave(why) = step(Some(&definition)) else {
                panic!("brought back: {}", name(&definition));
            };
            assert!(why.contains("999.0.0"), "{why}");
        }
    }
}
