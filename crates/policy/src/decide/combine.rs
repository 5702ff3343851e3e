//! What several objects say together: rules M1 to M10 of security 4.5.
//!
//! An answer on purpose beats an answer by default, and among equals a denial beats a permission. Answers by
//! default do not depend on the call, so they are found once, when a set is compiled; of the objects only those
//! that name the caller are asked.

use ironside_identity::SpiffeId;

use super::{Caller, Decision, Matched, Reason, Verdict};
use crate::{
    compile::Compiled,
    object::{Answer, Entry, Question, Style},
};

/// What is known before the path is looked at.
pub(super) enum View<'a> {
    /// Everything.
    Settled(Decision),
    /// Rules must be asked.
    Open(CallerView<'a>),
}

/// The entries that one caller meets.
pub(crate) struct CallerView<'a> {
    set: &'a Compiled,
    caller: &'a SpiffeId,
    /// Entries with this app ID, by object.
    exact: &'a [u32],
    /// Only the block counts: a self-call (fact M7).
    is_own: bool,
}

/// Denial before permission, first before second.
#[derive(Clone, Copy, Default)]
struct Tally {
    deny: Option<Matched>,
    allow: Option<Matched>,
}

// === impl Compiled ===

impl Compiled {
    /// Resolves a caller.
    pub(super) fn view<'a>(&'a self, caller: Caller<'a>) -> View<'a> {
        let caller = match caller {
            Caller::Own => return View::Settled(self.fixed.own),
            Caller::Anonymous => return View::Settled(self.fixed.anonymous),
            Caller::Peer(caller) => caller,
        };
        let is_own = self.callee.is(caller);
        if let Some(decision) = self.fixed.all.filter(|_| !is_own) {
            return View::Settled(decision);
        }
        View::Open(self.peer(caller))
    }

    /// Resolves a caller that proved who it is, as if every object could be used.
    pub(crate) fn peer<'a>(&'a self, caller: &'a SpiffeId) -> CallerView<'a> {
        let exact = self.callers.get(caller.app_id().as_str());
        CallerView {
            set: self,
            caller,
            exact: exact.map(Vec::as_slice).unwrap_or_default(),
            is_own: self.callee.is(caller),
        }
    }
}

// === impl CallerView ===

impl CallerView<'_> {
    /// Asks every object that names the caller.
    pub(crate) fn decide(&self, question: Question<'_>) -> Decision {
        let mut enforced = Tally::default();
        let mut audited = Tally::default();
        let mut exact = self.exact;
        let mut wild = self.set.wild.as_slice();
        while let Some(object_id) = self.next_object(exact, wild) {
            let (ours, rest) = self.group(exact, object_id);
            let (starred, others) = self.group(wild, object_id);
            (exact, wild) = (rest, others);
            let Some(object) = self.set.objects.get(object_id as usize) else {
                continue;
            };
            if self.is_own && object.style != Style::Block {
                continue;
            }
            let entries = ours.iter().chain(starred);
            let entries = entries.filter_map(|id| self.set.entries.get(*id as usize));
            let mut answers = entries
                .filter(|entry| self.is_named(entry))
                .filter_map(|entry| entry.ask(object.style, &self.set.forest, question));
            let Some(answer) = answers.next() else {
                continue;
            };
            audited.add(answer);
            if !object.is_audit {
                enforced.add(answer);
            }
        }
        let defaults = if self.is_own {
            &self.set.fixed.own
        } else {
            &self.set.fixed.defaults
        };
        Decision {
            verdict: enforced.verdict(defaults.verdict),
            audit: defaults.audit.map(|default| audited.verdict(default)),
        }
    }

    /// Whether any rules are in force for the caller.
    pub(super) fn is_ruled(&self) -> bool {
        let mut objects = self.set.objects.iter();
        objects.any(|object| !object.is_audit && (!self.is_own || object.style == Style::Block))
    }

    /// Both lists are sorted by object; the smaller first one is next.
    fn next_object(&self, exact: &[u32], wild: &[u32]) -> Option<u32> {
        let first = |list: &[u32]| self.object_of(*list.first()?);
        match (first(exact), first(wild)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn object_of(&self, entry: u32) -> Option<u32> {
        Some(self.set.entries.get(entry as usize)?.object)
    }

    /// Splits off the entries of one object.
    fn group<'l>(&self, list: &'l [u32], object: u32) -> (&'l [u32], &'l [u32]) {
        let is_other = |id: &u32| self.object_of(*id) != Some(object);
        let end = list.iter().position(is_other).unwrap_or(list.len());
        list.split_at_checked(end).unwrap_or((list, &[]))
    }

    fn is_named(&self, entry: &Entry) -> bool {
        entry.names(self.caller)
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, answer: Answer) {
        let side = if answer.allows {
            &mut self.allow
        } else {
            &mut self.deny
        };
        side.get_or_insert(answer.matched);
    }

    /// Rule M4.
    fn verdict(self, default: Verdict) -> Verdict {
        match self {
            Self {
                deny: Some(matched),
                ..
            } => Verdict::Deny(matched),
            Self {
                allow: Some(matched),
                ..
            } => Verdict::Allow(matched),
            Self { .. } => default,
        }
    }
}

/// Decisions that no path can change.
#[derive(Debug)]
pub(crate) struct Fixed {
    /// Where no entry decides.
    pub(crate) defaults: Decision,
    /// For callers without identity.
    pub(crate) anonymous: Decision,
    /// For the own app.
    pub(crate) own: Decision,
    /// For every peer: an object cannot be used.
    pub(crate) all: Option<Decision>,
}

impl Fixed {
    /// What holds if an object of an unknown meaning applies (fact F6).
    pub(crate) fn invalid() -> Decision {
        Decision::deny(Reason::PolicyInvalid)
    }
}

impl Decision {
    /// The two answers of a set: without and with the objects under audit.
    pub(crate) fn of(enforced: Verdict, audited: Option<Verdict>) -> Self {
        Self {
            verdict: enforced,
            audit: audited,
        }
    }
}
