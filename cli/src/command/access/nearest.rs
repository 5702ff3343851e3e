//! The rule that would have allowed a recorded call, by the files that its sidecar reads.
//!
//! The sidecar remembers what decided, not every rule. Its files are read as they are now and asked again: only if
//! they decide as the sidecar did, by the same rule, is anything said. Objects of an operator are in no file.

use std::path::Path;

use ironside_policy::{AppKind, Callee, Explanation, PolicySet};
use serde_json::{Value, json};

use super::{Session, call::Call, callee, rules::Sources, show};
use crate::instances::{Instance, proc};

/// The nearest rule, in words and as an object.
pub(super) struct Found {
    pub(super) text: String,
    pub(super) json: Value,
}

/// Looks for the rule of the sidecar's own files that is nearest to allowing a call which it denied.
pub(super) fn of(session: &Session, instance: &Instance, decision: &Value) -> Option<Found> {
    if member(decision, "decision") != "deny" {
        return None;
    }
    let call: Call = serde_json::from_value(decision.clone()).ok()?;
    if call.truncated {
        return None;
    }
    let vector = &instance.vector;
    let folder = proc::folder(instance.process.pid)?;
    let below = |paths: &[String]| -> Vec<String> {
        let paths = paths.iter().map(|path| folder.join(Path::new(path)));
        paths.map(|path| path.display().to_string()).collect()
    };
    let (resources, configurations) = (&vector.resources_paths, &vector.configurations);
    let sources = Sources::read(&[], &below(resources), &below(configurations)).ok()?;
    let asked = call.asked(&app(&call, decision, &vector.app_id)?).ok()?;
    let rules = sources.rules(&asked.callee, session).ok()?;
    let explained = asked.explain(&rules.set);
    if !decides_so(&explained, &rules.set, decision) {
        return None;
    }
    let nearest = explained.nearest?;
    let rule = show::rule_text(&rules.set, &sources, nearest.rule)?;
    Some(Found {
        text: format!("{rule} allows {}", nearest.sample),
        json: json!({
            "rule": show::rule_json(&rules.set, &sources, Some(nearest.rule)),
            "allows": show::sample_json(&nearest.sample),
        }),
    })
}

/// The called app. Objects are of its namespace, so the one that decided tells it.
fn app(call: &Call, decision: &Value, app_id: &str) -> Option<Callee> {
    let kind = match call.protocol.as_str() {
        "http" => AppKind::Http,
        _ => AppKind::Grpc,
    };
    let object = member(decision, "policy");
    let namespace = match object.split_once('/') {
        Some((namespace, _)) if namespace != "Configuration" => namespace,
        _ => "default",
    };
    callee(&format!("{namespace}/{app_id}"), kind).ok()
}

/// Whether these rules decide as it was decided.
fn decides_so(explained: &Explanation, set: &PolicySet, decision: &Value) -> bool {
    let verdict = &explained.decision.verdict;
    let matched = verdict.matched();
    let place = matched.rule.and_then(|rule| set.place(rule));
    let object = place.map(|place| place.object()).unwrap_or_default();
    let pointer = place.map(|place| place.to_string()).unwrap_or_default();
    !verdict.is_allowed()
        && matched.reason.as_str() == member(decision, "reason")
        && object == member(decision, "policy")
        && pointer == member(decision, "rule")
}

fn member<'a>(decision: &'a Value, name: &str) -> &'a str {
    decision
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
