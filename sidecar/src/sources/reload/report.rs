//! What an edit has changed, one line for each resource, in the reference's words.
//!
//! Owns which resources are the same in two snapshots, the order of the lines, and what an edit of the
//! Configuration changes only with the next start. Decides nothing of what takes effect. Source:
//! process-interface 2.9.

use ironside_resources::{AccessControl, Configuration, access_control::Mode};
use tracing::{info, warn};

use super::LOG;
use crate::sources::disk::Snapshot;

/// One line for each resource that came, changed or went, in the reference's words.
pub(super) fn report(before: &Snapshot, after: &Snapshot) {
    let line = |kind: &str, event: &str, name: &str| {
        info!(target: "dapr.runtime.hotreload.reconciler", "Received {kind} {event} event: {name}");
    };
    let component = |c: &ironside_resources::Component| c.log_name().to_string();
    for (event, name) in changes(
        &before.loaded.components,
        &after.loaded.components,
        |list, wanted| list.iter().position(|c| c.name == wanted.name),
        component,
    ) {
        line("Component", event, &name);
    }
    let endpoint = |e: &ironside_resources::HttpEndpoint| e.name.clone();
    for (event, name) in changes(
        &before.loaded.http_endpoints,
        &after.loaded.http_endpoints,
        |list, wanted| list.iter().position(|e| e.name == wanted.name),
        endpoint,
    ) {
        line("HTTPEndpoint", event, &name);
    }
    let resiliency = |r: &ironside_resources::Resiliency| r.name.clone();
    for (event, name) in changes(
        &before.loaded.resiliencies,
        &after.loaded.resiliencies,
        |list, wanted| {
            let place = (&wanted.namespace, &wanted.name);
            let mut list = list.iter();
            list.position(|r| (&r.namespace, &r.name) == place)
        },
        resiliency,
    ) {
        line("Resiliency", event, &name);
    }
    policy_report(
        &before.loaded.access_controls,
        &after.loaded.access_controls,
    );
    if before.configuration != after.configuration {
        let name = after.configuration_name().unwrap_or("--config");
        line("Configuration", "UPDATED", name);
    }
    for key in fixed(&before.configuration, &after.configuration) {
        warn!(target: LOG, "{key} has changed: that takes effect when this sidecar is started again");
    }
}

/// What of a Configuration is read at the start only.
fn fixed(before: &Configuration, after: &Configuration) -> Vec<&'static str> {
    let mut keys = Vec::new();
    if before.spec.name_resolution != after.spec.name_resolution {
        keys.push("spec.nameResolution");
    }
    if before.metric() != after.metric() {
        keys.push("spec.metrics");
    }
    keys
}

/// As above; the removal of the last one opens the app (security M8).
fn policy_report(before: &[AccessControl], after: &[AccessControl]) {
    for (event, name) in changes(before, after, find_policy, |p| p.name.clone()) {
        info!(target: "dapr.runtime.hotreload.reconciler", "Received AccessControl {event} event: {name}");
    }
    let decides =
        |list: &[AccessControl]| list.iter().any(|policy| policy.spec.mode == Mode::Enforce);
    if decides(before) && !decides(after) {
        warn!(target: LOG, "the last AccessControl for this app is gone: callers that the Configuration does not refuse are allowed");
    }
}

pub(super) fn find_policy(list: &[AccessControl], wanted: &AccessControl) -> Option<usize> {
    let mut list = list.iter();
    list.position(|item| (&item.namespace, &item.name) == (&wanted.namespace, &wanted.name))
}

/// Deleted first, then updated, then created (process-interface 2.9).
pub(super) fn changes<T: PartialEq>(
    before: &[T],
    after: &[T],
    find: impl Fn(&[T], &T) -> Option<usize>,
    log_name: impl Fn(&T) -> String,
) -> Vec<(&'static str, String)> {
    let deleted = before
        .iter()
        .filter(|item| find(after, item).is_none())
        .map(|item| ("DELETED", log_name(item)));
    let mut later: Vec<(&'static str, String)> = deleted.collect();
    let mut created = Vec::new();
    for item in after {
        match find(before, item).and_then(|at| before.get(at)) {
            None => created.push(("CREATED", log_name(item))),
            Some(old) if old != item => later.push(("UPDATED", log_name(item))),
            Some(_) => {}
        }
    }
    later.append(&mut created);
    later
}
