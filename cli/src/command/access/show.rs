//! Verdicts, rules and requests as text and as JSON.

use ironside_policy::{PolicySet, Reason, RuleId, Sample, Verb, Verdict};
use serde_json::{Value, json};

use super::rules::Sources;

/// Allow or deny.
pub(super) fn word(is_allowed: bool) -> &'static str {
    if is_allowed { "allow" } else { "deny" }
}

/// Reason and rule of a verdict, as `caller-default shop/orders /spec/policies/0 (orders.yaml:9)`.
pub(super) fn because(set: &PolicySet, sources: &Sources, verdict: &Verdict) -> String {
    let matched = verdict.matched();
    match matched.rule.and_then(|rule| rule_text(set, sources, rule)) {
        Some(rule) => format!("{} {rule}", matched.reason.as_str()),
        None => matched.reason.as_str().to_owned(),
    }
}

/// Object, pointer and place of a rule.
pub(super) fn rule_text(set: &PolicySet, sources: &Sources, rule: RuleId) -> Option<String> {
    let place = set.place(rule)?;
    let pointer = place.to_string();
    Some(match sources.place(place.object(), &pointer) {
        Some(file) => format!("{} {pointer} ({file})", place.object()),
        None => format!("{} {pointer}", place.object()),
    })
}

/// A rule as members of an object.
pub(super) fn rule_json(set: &PolicySet, sources: &Sources, rule: Option<RuleId>) -> Value {
    let Some(place) = rule.and_then(|rule| set.place(rule)) else {
        return Value::Null;
    };
    let pointer = place.to_string();
    json!({
        "policy": place.object(),
        "rule": pointer,
        "at": sources.place(place.object(), &pointer),
    })
}

/// A verdict as an object.
pub(super) fn verdict_json(set: &PolicySet, sources: &Sources, verdict: &Verdict) -> Value {
    let matched = verdict.matched();
    json!({
        "decision": word(verdict.is_allowed()),
        "reason": matched.reason.as_str(),
        "rule": rule_json(set, sources, matched.rule),
    })
}

/// A request as an object.
pub(super) fn sample_json(sample: &Sample) -> Value {
    let Sample { caller, verb, path } = sample;
    json!({
        "caller": caller.as_ref().map(ToString::to_string),
        "verb": (*verb != Verb::None).then(|| verb.as_str()),
        "path": path,
    })
}

/// What a reason means, for a person who meets it the first time.
pub(super) fn meaning(reason: &str) -> &'static str {
    let known = [
        (Reason::OperationRule, "a rule for the path decided"),
        (
            Reason::CallerDefault,
            "no rule for the path: the default of the caller's entry decided",
        ),
        (
            Reason::GlobalDefault,
            "no entry decided: the default of the object did",
        ),
        (Reason::NoPolicy, "no rules apply to the app"),
        (
            Reason::NoIdentity,
            "the caller has no identity: mutual TLS is off",
        ),
        (
            Reason::AmbiguousPath,
            "an app may read the path in several ways, and one of them is denied",
        ),
        (
            Reason::ReservedService,
            "this service is never called through the proxy",
        ),
        (
            Reason::PolicyUnavailable,
            "rules have not arrived, or are too old",
        ),
        (
            Reason::PolicyInvalid,
            "an object cannot be used, and denies until it can",
        ),
        (Reason::InternalError, "the evaluation failed"),
    ];
    let found = known.iter().find(|(known, _)| known.as_str() == reason);
    found.map_or("", |(_, meaning)| meaning)
}
