//! Decisions that no path can change, found once.
//!
//! Owns what holds where no entry decides, for callers without identity, and for the own app (facts M2, M4, M7,
//! M8; security 4.4, step 1). With objects under audit there are two of each.

use crate::{
    Matched, Reason, RuleId, Source, Verdict,
    decide::{Decision, Fixed},
    object::{Object, Style},
};

/// Finds them; `is_closed` if an object of an unknown meaning applies.
pub(super) fn fixed(objects: &[Object], deny_by_default: bool, is_closed: bool) -> Fixed {
    let none = if deny_by_default {
        Verdict::Deny(matched(Reason::GlobalDefault, None))
    } else {
        Verdict::Allow(matched(Reason::NoPolicy, None))
    };
    let all: Vec<(u32, &Object)> = (0..).zip(objects).collect();
    let enforced: Vec<(u32, &Object)> = all
        .iter()
        .filter(|(_, object)| !object.is_audit)
        .copied()
        .collect();
    let has_audit = enforced.len() < all.len();
    let both = |pick: fn(&[(u32, &Object)]) -> Option<Verdict>| {
        let audited = has_audit.then(|| pick(&all).unwrap_or(none));
        Decision::of(pick(&enforced).unwrap_or(none), audited)
    };
    let block = (0..)
        .zip(objects)
        .find(|(_, object)| object.style == Style::Block);
    let own = match block {
        Some((id, block)) => default_of(id, block),
        None => Verdict::Allow(matched(Reason::NoPolicy, None)),
    };
    Fixed {
        defaults: both(strictest_default),
        anonymous: if is_closed {
            Fixed::invalid()
        } else {
            both(without_identity)
        },
        own: Decision::of(own, None),
        all: is_closed.then(Fixed::invalid),
    }
}

/// A default that denies before one that allows, the first before the second.
fn strictest_default(objects: &[(u32, &Object)]) -> Option<Verdict> {
    let mut first = None;
    for (id, object) in objects {
        let default = default_of(*id, object);
        if !default.is_allowed() {
            return Some(default);
        }
        first.get_or_insert(default);
    }
    first
}

fn without_identity(objects: &[(u32, &Object)]) -> Option<Verdict> {
    let mut strictest: Option<Verdict> = None;
    for (id, object) in objects {
        if object.needs_identity {
            return Some(Verdict::Deny(matched(Reason::NoIdentity, Some(*id))));
        }
        let default = default_of(*id, object);
        if strictest.is_none_or(|found| found.is_allowed() && !default.is_allowed()) {
            strictest = Some(default);
        }
    }
    strictest
}

/// What an object says where no entry decides.
pub(crate) fn default_of(id: u32, object: &Object) -> Verdict {
    let matched = matched(Reason::GlobalDefault, Some(id));
    if object.allows {
        Verdict::Allow(matched)
    } else {
        Verdict::Deny(matched)
    }
}

/// What an object says of callers without identity.
pub(crate) fn anonymous_of(id: u32, object: &Object) -> Verdict {
    if object.needs_identity {
        Verdict::Deny(matched(Reason::NoIdentity, Some(id)))
    } else {
        default_of(id, object)
    }
}

fn matched(reason: Reason, object: Option<u32>) -> Matched {
    Matched {
        reason,
        rule: object.map(|object| RuleId {
            object,
            entry: None,
            operation: None,
        }),
        source: Source::Global,
    }
}
