//! Whole worlds for sidecars, and whether there is anything to make them of: the definition of the kind.
//!
//! Owns when it is looked for, and the difference between a kind that is gone and objects that are.

use std::time::Duration;

use futures_util::FutureExt as _;
use tracing::{error, info, warn};

use super::{Done, PLACE, Reconciler, SCOPE, told};
use crate::cluster::calls::Place;
use crate::index::access::{Definition, Publish};

/// Name of the definition of the kind.
pub(super) const DEFINITION: &str = "accesscontrols.dapr.io";
/// Pause between two looks for the definition.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

// === impl Reconciler ===

impl Reconciler {
    /// Gives sidecars what has changed.
    pub(super) fn publish(&mut self) {
        if !self.is_stale || self.is_looking {
            return;
        }
        match self.objects.publish(self.found, self.parts.deny_by_default) {
            Publish::Wait => self.is_stale = false,
            Publish::Look => self.look(),
            Publish::Whole(world) => {
                self.is_stale = false;
                if std::mem::replace(&mut self.is_lost, false) {
                    info!(target: SCOPE, "the definition {DEFINITION} is there again");
                }
                self.parts.metrics.show_source(told::Source::Synced);
                self.parts.metrics.show_objects(&self.objects);
                self.parts.discovery.publish(world);
                if let Some(listed) = self.listed {
                    self.parts.discovery.confirm(listed);
                }
                self.tell_removed();
            }
            Publish::Lost(world) => {
                if !std::mem::replace(&mut self.is_lost, true) {
                    error!(target: SCOPE, "there is no definition {DEFINITION}, or it is being removed: sidecars keep the rules that they have, and new ones wait for theirs; install it");
                    self.parts.metrics.show_source(told::Source::Lost);
                    if let Some(world) = world {
                        self.parts.discovery.publish(world);
                    }
                }
                if self.found == Some(Definition::Going) {
                    // It may come back without a word of the watch.
                    self.look();
                } else {
                    self.is_stale = false;
                }
            }
        }
    }

    /// Looks whether the definition of the kind is there.
    fn look(&mut self) {
        let now = self.now();
        if self.look_at > now {
            return;
        }
        self.look_at = now + LOOK_PAUSE;
        self.is_looking = true;
        let (calls, only) = (self.parts.calls.clone(), self.parts.only.clone());
        self.jobs.push(
            async move {
                let definition = match calls.get(Place::CRDS, None, DEFINITION).await {
                    Ok(Some(found)) => match found.pointer("/metadata/deletionTimestamp") {
                        Some(_) => Definition::Going,
                        None => Definition::Served,
                    },
                    Ok(None) => Definition::Going,
                    // Where nobody may look, the watch has the only word.
                    Err(cause) if cause.is_forbidden() => Definition::Served,
                    Err(cause) => {
                        warn!(target: SCOPE, "cannot read the definition {DEFINITION}, trying again: {cause}");
                        Definition::Unknown
                    }
                };
                let revision = calls.revision(PLACE, only.as_deref()).await.ok().flatten();
                Done::Looked(definition, revision)
            }
            .boxed(),
        );
    }

    pub(super) fn looked(&mut self, definition: Definition, revision: Option<u64>) {
        self.is_looking = false;
        self.found = Some(definition);
        if let Some(revision) = revision {
            self.objects.reached(revision);
        }
        if definition != Definition::Served {
            self.look_at = self.now() + LOOK_PAUSE;
        }
    }
}
