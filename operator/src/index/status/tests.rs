//! Conditions and the pace of writes as tables.

use super::*;
use crate::index::access::Object;
use serde_json::json;

const S: fn(u64) -> Duration = Duration::from_secs;
const EARLIER: &str = "2026-01-01T00:00:00Z";
const NOW: &str = "2026-01-01T00:01:00Z";

fn object(generation: i64, spec: &serde_json::Value) -> Object {
    let value = json!({
        "metadata": {"name": "p", "namespace": "shop", "uid": "u", "generation": generation},
        "spec": spec,
    });
    Object::of(value).unwrap()
}

fn good() -> Object {
    object(3, &json!({"defaultAction": "deny"}))
}

fn standing([applied, rejected, outdated, pending]: [usize; 4]) -> Standing {
    let laggards = rejected + outdated + pending;
    Standing {
        expected: applied + laggards,
        connected: applied + rejected + pending,
        applied,
        rejected,
        outdated,
        pending,
        laggards: (0..laggards.min(5))
            .map(|n| format!("pod-{n} (why)"))
            .collect(),
        ..Standing::default()
    }
}

fn status_of(
    object: &Object,
    standing: &Standing,
    held: Option<&AccessControlStatus>,
    now: &str,
) -> AccessControlStatus {
    facts(object, standing, held).status(now)
}

fn facts<'a>(
    object: &'a Object,
    standing: &'a Standing,
    held: Option<&'a AccessControlStatus>,
) -> Facts<'a> {
    Facts {
        object,
        held,
        rules: object.rules.as_ref().ok().map(AsRef::as_ref),
        standing,
        lint: &[],
        equivalent: None,
        conflicted: None,
        last_hour: Counts::default(),
        mtls: Mtls::On,
    }
}

fn condition<'a>(status: &'a AccessControlStatus, kind: &str) -> &'a Condition {
    let found = status.conditions.iter().find(|one| one.kind == kind);
    found.unwrap()
}

/// Decision, and the table of security 4.2: what `Programmed` says.
#[test]
fn programmed_names_the_reason() {
    for (counts, status, reason, words) in [
        ([0, 0, 0, 0], "False", "NoSidecars", "no running pod"),
        ([3, 0, 0, 0], "True", "Programmed", "in force on 3 sidecars"),
        (
            [2, 0, 0, 1],
            "False",
            "Pending",
            "2 of 3 sidecars run this generation; not: pod-0 (why)",
        ),
        ([2, 0, 1, 1], "False", "OutdatedSidecars", "2 of 4"),
        ([2, 1, 1, 1], "False", "SidecarRejected", "2 of 5"),
        (
            [0, 0, 9, 0],
            "False",
            "OutdatedSidecars",
            "pod-4 (why) and 4 more",
        ),
    ] {
        let (object, standing) = (good(), standing(counts));
        let found = status_of(&object, &standing, None, NOW);
        let programmed = condition(&found, PROGRAMMED);
        assert_eq!(
            (programmed.status.as_str(), programmed.reason.as_str()),
            (status, reason)
        );
        assert!(programmed.message.contains(words), "{}", programmed.message);
        assert_eq!(programmed.observed_generation, Some(3));
        assert_eq!(
            found.sidecars.summary,
            format!("{}/{}", standing.applied, standing.connected)
        );
    }
}

/// Fact K194: without mutual TLS nobody has an identity that rules could name.
#[test]
fn without_mutual_tls_nothing_is_programmed() {
    let (object, standing) = (good(), standing([3, 0, 0, 0]));
    let facts = Facts {
        mtls: Mtls::Off,
        ..facts(&object, &standing, None)
    };
    let found = facts.status(NOW);
    assert_eq!(condition(&found, PROGRAMMED).reason, "MTLSDisabled");
    assert_eq!(is_true(&found, PROGRAMMED), Some(false));
}

/// Facts K203, K204: the reason is the compiler's, and what is in force instead is said.
#[test]
fn what_is_not_accepted_says_what_is_in_force() {
    let bad = object(3, &json!({"defaultAction": "deny", "mode": "Shadow"}));
    let last = good();
    let none = standing([0, 1, 0, 0]);
    let found = status_of(&bad, &none, None, NOW);
    let accepted = condition(&found, ACCEPTED);
    assert_eq!(
        (accepted.status.as_str(), accepted.reason.as_str()),
        ("False", "UnknownField")
    );
    assert!(
        accepted
            .message
            .ends_with("everything in its scope is denied"),
        "{}",
        accepted.message
    );
    let facts = Facts {
        rules: last.rules.as_ref().ok().map(AsRef::as_ref),
        ..facts(&bad, &none, None)
    };
    let found = facts.status(NOW);
    assert!(
        condition(&found, ACCEPTED)
            .message
            .ends_with("the last good generation stays in force")
    );
    assert_eq!(condition(&found, CONFLICTED).status, "Unknown");
}

#[test]
fn a_condition_keeps_the_time_of_its_turn() {
    let object = good();
    let first = status_of(&object, &standing([1, 0, 1, 0]), None, EARLIER);
    let second = status_of(&object, &standing([2, 0, 0, 0]), Some(&first), NOW);
    assert_eq!(condition(&second, ACCEPTED).last_transition_time, EARLIER);
    assert_eq!(condition(&second, PROGRAMMED).last_transition_time, NOW);
    let third = status_of(
        &object,
        &standing([2, 0, 0, 0]),
        Some(&second),
        "2026-01-01T00:09:00Z",
    );
    assert_eq!(third, second, "nothing but time has passed");
}

/// Fact K192: what an object under audit would have denied is counted in its status.
#[test]
fn sizes_and_counts_are_those_of_the_rules() {
    let rules = json!({"mode": "Audit", "policies": [
        {"appId": "a", "namespace": "x", "operations": [{"name": "/1", "action": "deny"}, {"name": "/2", "action": "deny"}]},
        {"appId": "b", "namespace": "x", "defaultAction": "deny"},
    ]});
    let (object, standing) = (object(1, &rules), standing([1, 0, 0, 0]));
    let facts = Facts {
        last_hour: Counts {
            denied: 0,
            would_deny: 4,
        },
        ..facts(&object, &standing, None)
    };
    let found = facts.status(NOW);
    assert_eq!((found.policy_count, found.operation_count), (2, 2));
    assert_eq!(found.denials, None, "an object under audit denies nothing");
    assert_eq!(found.audit.map(|audit| audit.would_deny_last_hour), Some(4));
}

/// Security 4.8: at most every five seconds for an object, never without a change; counts once a minute.
#[test]
fn writes_are_paced() {
    let object = good();
    let complete = standing([2, 0, 0, 0]);
    let (one, pending) = (standing([1, 0, 1, 0]), standing([1, 0, 0, 1]));
    let all = status_of(&object, &complete, None, NOW);
    let some = status_of(&object, &one, None, NOW);
    let counted = AccessControlStatus {
        denials: Some(Denials { last_hour: 9 }),
        ..all.clone()
    };
    let older = AccessControlStatus {
        observed_generation: 2,
        ..all.clone()
    };
    let pace = Pace {
        written: Some(S(100)),
        since: S(102),
        leads_since: S(0),
    };
    let now = Duration::from_millis(102_200);
    for (held, next, standing, want, why) in [
        (
            Some(&all),
            &all,
            &complete,
            Due::Never,
            "nothing has changed",
        ),
        (
            None,
            &all,
            &complete,
            Due::Now,
            "nobody has spoken yet, and everybody answered",
        ),
        (
            Some(&older),
            &all,
            &complete,
            Due::Now,
            "a new generation, however soon",
        ),
        (
            Some(&older),
            &some,
            &one,
            Due::At(S(103)),
            "somebody may still answer",
        ),
        (
            Some(&older),
            &status_of(&object, &pending, None, NOW),
            &pending,
            Due::At(S(103)),
            "likewise",
        ),
        (
            Some(&some),
            &all,
            &complete,
            Due::At(S(105)),
            "five seconds",
        ),
        (Some(&all), &counted, &complete, Due::At(S(160)), "a minute"),
    ] {
        assert_eq!(due(held, next, standing, pace, now), want, "{why}");
    }
    let unwritten = Pace {
        written: None,
        ..pace
    };
    assert_eq!(
        due(Some(&some), &all, &complete, unwritten, now),
        Due::Now,
        "by another replica, long ago"
    );
    let refused = object_refused();
    let next = status_of(&refused, &pending, None, NOW);
    assert_eq!(
        due(Some(&older), &next, &pending, pace, now),
        Due::Now,
        "no answer can change that"
    );
}

fn object_refused() -> Object {
    object(3, &json!({"defaultAction": "deny", "mode": "Shadow"}))
}

/// What was said of a generation is not taken back because pods come or a replica has just begun to lead.
#[test]
fn a_receipt_is_not_taken_back_lightly() {
    let object = good();
    let all = status_of(&object, &standing([2, 0, 0, 0]), None, NOW);
    let pace = Pace {
        written: Some(S(100)),
        since: S(50),
        leads_since: S(190),
    };
    let mut starting = standing([2, 0, 1, 0]);
    starting.starting = 1;
    let gone = standing([1, 0, 1, 0]);
    let refuses = standing([1, 1, 0, 0]);
    for (standing, want) in [
        (&starting, Due::At(S(201))),
        (&gone, Due::At(S(220))),
        (&refuses, Due::At(S(220))),
    ] {
        let next = status_of(&object, standing, Some(&all), NOW);
        assert_eq!(
            due(Some(&all), &next, standing, pace, S(200)),
            want,
            "{standing:?}"
        );
    }
    let next = status_of(&object, &gone, Some(&all), NOW);
    assert_eq!(due(Some(&all), &next, &gone, pace, S(220)), Due::Now);
    // What is said of more of them is not held back.
    let more = standing([3, 0, 0, 0]);
    let next = status_of(&object, &more, Some(&all), NOW);
    assert_eq!(due(Some(&all), &next, &more, pace, S(200)), Due::Now);
}
