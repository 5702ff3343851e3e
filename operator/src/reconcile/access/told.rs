//! What is told of AccessControl besides its status: metrics, and Events.
//!
//! Owns names and texts. An Event is made of two statuses that follow each other, so that it tells each turn once.

use super::Reconciler;
use crate::index::access::{API_VERSION, KIND, Object, Objects};
use crate::index::status::{ACCEPTED, CONFLICTED, PROGRAMMED, is_true};
use ironside_cluster::{Kind, News, Subject};
use ironside_discovery::Totals;
use ironside_resources::access_control::{AccessControlStatus, Condition, Mode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::warn;

/// Apps that an Event names.
const MAX_NAMED: usize = 10;

/// Gauges of this part. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccessMetrics {
    sidecars: Family<State, Gauge>,
    objects: Family<State, Gauge>,
    source: Family<State, Gauge>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// Where the objects come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// They were read whole, and are watched.
    Synced,
    /// The definition of the kind is gone.
    Lost,
}

// === impl AccessMetrics ===

impl AccessMetrics {
    /// Has them shown.
    pub(crate) fn register(&self, all: &mut Registry) {
        let Self {
            sidecars,
            objects,
            source,
        } = self.clone();
        let help = "The number of sidecars connected to this replica, by how they stand to the AccessControls for them";
        all.register("accesscontrol_sidecars", help, sidecars);
        let help = "The number of AccessControls";
        all.register("accesscontrol_objects", help, objects);
        let help = "1 for the state of the source of AccessControls: synced, or lost when their definition is gone";
        all.register("accesscontrol_source", help, source);
    }

    pub(super) fn show_sidecars(&self, totals: Totals) {
        let Totals {
            connected,
            applied,
            rejected,
            outdated,
        } = totals;
        let states = [
            ("connected", connected),
            ("applied", applied),
            ("rejected", rejected),
            ("outdated", outdated),
        ];
        show(&self.sidecars, &states);
    }

    pub(super) fn show_objects(&self, objects: &Objects) {
        let refused = objects.all().filter(|object| object.rules.is_err()).count();
        let all = objects.all().count();
        show(
            &self.objects,
            &[("ok", all - refused), ("invalid", refused)],
        );
    }

    pub(super) fn show_source(&self, source: Source) {
        let is = |one: Source| usize::from(source == one);
        let states = [("synced", is(Source::Synced)), ("lost", is(Source::Lost))];
        show(&self.source, &states);
    }
}

fn show(family: &Family<State, Gauge>, states: &[(&'static str, usize)]) {
    for (state, count) in states {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        family.get_or_create(&State { state }).set(count);
    }
}

// === impl Reconciler ===

impl Reconciler {
    /// Tells what a new status says that the one before it did not.
    pub(super) fn tell_turn(
        &self,
        object: &Object,
        before: Option<&AccessControlStatus>,
        after: &AccessControlStatus,
    ) {
        for (kind, reason, action, note) in turns(object, before, after) {
            let news = News {
                kind,
                reason,
                action,
                note,
            };
            self.parts.recorder.tell(subject(object), news);
        }
    }

    /// Tells of apps whose last object is gone (rule M8), and forgets what was removed.
    pub(super) fn tell_removed(&mut self) {
        let removed = std::mem::take(&mut self.removed);
        if self.leads_since.is_none() {
            return;
        }
        for object in removed {
            let Some(apps) = self.left_open(&object) else {
                continue;
            };
            let rest = match self.parts.deny_by_default {
                true => "every caller is denied by default",
                false => "every caller is allowed",
            };
            let note = format!(
                "no AccessControl applies any more to {apps}: {rest}, unless a Configuration says otherwise"
            );
            warn!(target: super::SCOPE, "AccessControl {} is gone: {note}", object.full_name());
            let news = News {
                kind: Kind::Warning,
                reason: "LastRemoved",
                action: "Delete",
                note,
            };
            self.parts.recorder.tell(subject(&object), news);
        }
    }

    /// Apps, for people, that had this object and have none now; none if there are no such apps.
    fn left_open(&self, removed: &Object) -> Option<String> {
        let is_enforced = |object: &Object| match self.objects.in_force(object) {
            Some(rules) => rules.spec.mode == Mode::Enforce,
            None => true,
        };
        if !is_enforced(removed) {
            return None;
        }
        let left: Vec<&Arc<Object>> = self
            .objects
            .of_namespace(removed.namespace())
            .filter(|object| is_enforced(object))
            .collect();
        let is_open = |app: &&str| !left.iter().any(|object| object.is_for(app));
        let scopes = removed.stored.scopes.iter().map(|scope| &**scope);
        let pods = self.sidecars.pods_of(removed.namespace());
        let pods = pods
            .map(|pod| &*pod.app_id)
            .filter(|app| removed.is_for(app));
        let open: BTreeSet<&str> = scopes.chain(pods).filter(is_open).collect();
        if open.is_empty() {
            let is_all = removed.stored.scopes.is_empty() && left.is_empty();
            return is_all.then(|| format!("any app of {}", removed.namespace()));
        }
        let named: Vec<&str> = open.iter().copied().take(MAX_NAMED).collect();
        let mut text = named.join(", ");
        if open.len() > MAX_NAMED {
            text.push_str(&format!(" and {} more apps", open.len() - MAX_NAMED));
        }
        Some(text)
    }
}

fn subject(object: &Object) -> Subject {
    Subject {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        namespace: object.namespace().to_owned(),
        name: object.name.to_string(),
        uid: object.stored.uid.to_string(),
    }
}

/// Reasons that conditions have; an Event takes the same word.
const REASONS: [&str; 9] = [
    "Accepted",
    "Programmed",
    "InvalidPattern",
    "TooLarge",
    "CompatibleModeForbidsField",
    "UnknownField",
    "SidecarRejected",
    "OutdatedSidecars",
    "OverlapsWith",
];

type Turn = (Kind, &'static str, &'static str, String);

fn turns(
    object: &Object,
    before: Option<&AccessControlStatus>,
    after: &AccessControlStatus,
) -> Vec<Turn> {
    let generation = after.observed_generation;
    let is_new = before.is_none_or(|before| before.observed_generation != generation);
    let before = before.filter(|_| !is_new);
    let of = |status: &AccessControlStatus, kind| {
        let found = status
            .conditions
            .iter()
            .find(|one: &&Condition| one.kind == kind);
        found.cloned()
    };
    let mut turns = Vec::new();
    let mut tell = |kind: Kind, condition: &Condition, action, note: String| {
        let reason = REASONS.iter().find(|reason| **reason == condition.reason);
        turns.extend(reason.map(|reason| (kind, *reason, action, note)));
    };
    for kind in [ACCEPTED, PROGRAMMED, CONFLICTED] {
        let Some(now) = of(after, kind) else { continue };
        let then = before.and_then(|before| of(before, kind));
        if then.is_some_and(|then| {
            (then.status, then.reason) == (now.status.clone(), now.reason.clone())
        }) {
            continue;
        }
        let text = &now.message;
        match (kind, is_true(after, kind)) {
            (ACCEPTED, Some(true)) => {
                let mode = object.rules.as_ref().map(|rules| rules.spec.mode);
                let mode = if mode == Ok(Mode::Audit) {
                    "Audit"
                } else {
                    "Enforce"
                };
                let (policies, operations) = (after.policy_count, after.operation_count);
                let note = format!(
                    "generation {generation}: mode {mode}, policies {policies}, operations {operations}"
                );
                tell(Kind::Normal, &now, "Compile", note);
            }
            (ACCEPTED, Some(false)) => {
                tell(
                    Kind::Warning,
                    &now,
                    "Compile",
                    format!("generation {generation}: {text}"),
                );
            }
            (PROGRAMMED, Some(true)) => {
                tell(
                    Kind::Normal,
                    &now,
                    "Distribute",
                    format!("generation {generation}: {text}"),
                );
            }
            (PROGRAMMED, Some(false)) => {
                tell(
                    Kind::Warning,
                    &now,
                    "Distribute",
                    format!("generation {generation}: {text}"),
                );
            }
            (CONFLICTED, Some(true)) => tell(Kind::Warning, &now, "Examine", text.clone()),
            (_, Some(_) | None) => {}
        }
    }
    turns
}

#[cfg(test)]
mod tests;
