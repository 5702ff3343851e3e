//! Which Events two statuses make.

use super::*;
use serde_json::json;

fn object() -> Object {
    let value = json!({
        "metadata": {"name": "p", "namespace": "shop", "uid": "u", "generation": 3},
        "spec": {"mode": "Audit", "defaultAction": "deny"},
    });
    Object::of(value).unwrap()
}

fn status(generation: i64, conditions: &[(&str, &str, &str)]) -> AccessControlStatus {
    let condition = |(kind, status, reason): &(&str, &str, &str)| Condition {
        kind: (*kind).to_owned(),
        status: (*status).to_owned(),
        reason: (*reason).to_owned(),
        message: format!("about {reason}"),
        ..Condition::default()
    };
    AccessControlStatus {
        observed_generation: generation,
        conditions: conditions.iter().map(condition).collect(),
        ..AccessControlStatus::default()
    }
}

#[test]
fn each_turn_is_told_once() {
    let accepted = (ACCEPTED, "True", "Accepted");
    let refused = (ACCEPTED, "False", "InvalidPattern");
    let done = (PROGRAMMED, "True", "Programmed");
    let pending = (PROGRAMMED, "False", "Pending");
    let none = (PROGRAMMED, "False", "NoSidecars");
    let rejected = (PROGRAMMED, "False", "SidecarRejected");
    let outdated = (PROGRAMMED, "False", "OutdatedSidecars");
    let overlap = (CONFLICTED, "True", "OverlapsWith");
    let quiet = (CONFLICTED, "False", "NoOverlap");
    let old = status(2, &[accepted, done]);
    let rows: [(Option<&AccessControlStatus>, AccessControlStatus, &[&str]); 10] = [
        (None, status(3, &[accepted, none]), &["Normal Accepted"]),
        (
            Some(&old),
            status(3, &[accepted, done, quiet]),
            &["Normal Accepted", "Normal Programmed"],
        ),
        (
            Some(&old),
            status(3, &[accepted, pending]),
            &["Normal Accepted"],
        ),
        (
            Some(&old),
            status(3, &[refused, rejected]),
            &["Warning InvalidPattern", "Warning SidecarRejected"],
        ),
        (Some(&old), status(2, &[accepted, done]), &[]),
        (
            Some(&old),
            status(2, &[accepted, outdated]),
            &["Warning OutdatedSidecars"],
        ),
        (Some(&old), status(2, &[accepted, pending]), &[]),
        (
            Some(&old),
            status(2, &[accepted, done, overlap]),
            &["Warning OverlapsWith"],
        ),
        (
            Some(&status(2, &[accepted, pending])),
            status(2, &[accepted, done]),
            &["Normal Programmed"],
        ),
        (
            Some(&status(2, &[accepted, outdated])),
            status(2, &[accepted, outdated]),
            &[],
        ),
    ];
    for (before, after, want) in rows {
        let found = turns(&object(), before, &after);
        let found: Vec<String> = found
            .iter()
            .map(|(kind, reason, ..)| format!("{kind:?} {reason}"))
            .collect();
        assert_eq!(found, want, "{after:?}");
    }
    let told = turns(&object(), None, &status(3, &[accepted]));
    assert_eq!(
        told[0].3,
        "generation 3: mode Audit, policies 0, operations 0"
    );
}
