//! How often each object refused a call, or would have, since the operator was last told.
//!
//! Names come from compiled objects, so there are few; counts that nobody fetches stay bounded all the same.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use ironside_policy::{Decision, PolicySet, Verdict};
use ironside_proto::discovery::{ObjectStats, Stats};

/// Objects that are counted at most.
const MAX_OBJECTS: usize = 4096;

/// Counts by object. Only denials take the lock.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<HashMap<Box<str>, ObjectStats>>);

// === impl Tally ===

impl Tally {
    /// Counts a decision that an object made, or would have made were it not under audit.
    pub(crate) fn record(&self, policy: &PolicySet, decision: &Decision) {
        let (rule, is_audit) = match (decision.verdict, decision.audit) {
            (Verdict::Deny(matched), _) => (matched.rule, false),
            (Verdict::Allow(_), Some(Verdict::Deny(matched))) => (matched.rule, true),
            (Verdict::Allow(_), Some(Verdict::Allow(_)) | None) => return,
        };
        let Some(place) = rule.and_then(|rule| policy.place(rule)) else {
            return;
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = counts.contains_key(place.object());
        if !is_known && counts.len() >= MAX_OBJECTS {
            return;
        }
        let count = counts.entry(place.object().into()).or_default();
        let side = if is_audit {
            &mut count.would_deny
        } else {
            &mut count.denied
        };
        *side = side.saturating_add(1);
    }

    /// Takes the counts of objects that `uid_of` knows; the others, of files and of the Configuration, are
    /// nobody's business. `None` if there are none.
    pub(super) fn take<'a>(&self, uid_of: impl Fn(&str) -> Option<&'a str>) -> Option<Stats> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut objects = HashMap::new();
        for (name, count) in counts.drain() {
            if let Some(uid) = uid_of(&name) {
                objects.insert(uid.to_owned(), count);
            }
        }
        (!objects.is_empty()).then_some(Stats { objects })
    }
}
