//! The last decisions of one data thread.
//!
//! Owns the memory: so many slots, each with one text that is written anew and keeps its room, so that a full ring
//! allocates nothing. What a slot holds is bounded by `record.rs`.

use std::{ops::Range, time::SystemTime};

use ironside_policy::{Pointer, Reason, VerbSet};
use ironside_telemetry::metrics::Outcome;

use super::{
    KEPT,
    record::{CallerName, Protocol, Record, Said, TraceNumber},
};

/// The last decisions, the oldest at `next` once all slots are taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Ring {
    slots: Vec<Slot>,
    next: usize,
}

/// One decision; ranges are of `text`.
#[derive(Debug, Clone)]
struct Slot {
    text: String,
    time: SystemTime,
    said: KeptSaid,
    audit: Option<KeptSaid>,
    caller: Option<[Range<usize>; 3]>,
    operation: Range<usize>,
    raw: Option<Range<usize>>,
    is_cut: bool,
    verb: &'static str,
    overrides: VerbSet,
    protocol: Protocol,
    snapshot: u64,
    trace: Option<TraceNumber>,
}

#[derive(Debug, Clone)]
struct KeptSaid {
    outcome: Outcome,
    reason: Reason,
    policy: Range<usize>,
    rule: Option<Pointer>,
}

// === impl Ring ===

impl Ring {
    /// Takes note of one; the oldest one goes.
    pub(super) fn push(&mut self, record: &Record<'_>) {
        if self.slots.len() < KEPT {
            return self.slots.push(Slot::new(String::new(), record));
        }
        if let Some(slot) = self.slots.get_mut(self.next) {
            let text = std::mem::take(&mut slot.text);
            *slot = Slot::new(text, record);
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// All of them, the newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = Record<'_>> {
        let (after, before) = self
            .slots
            .split_at_checked(self.next)
            .unwrap_or((&self.slots, &[]));
        after
            .iter()
            .rev()
            .chain(before.iter().rev())
            .map(Slot::record)
    }
}

// === impl Slot ===

impl Slot {
    fn new(mut text: String, record: &Record<'_>) -> Self {
        text.clear();
        let mut keep = |part: &str| {
            let start = text.len();
            text.push_str(part);
            start..text.len()
        };
        let Record {
            time,
            said,
            audit,
            caller,
            operation,
            raw,
            is_cut,
            verb,
            overrides,
            protocol,
            snapshot,
            trace,
        } = *record;
        let mut keep_said = |said: Said<'_>| KeptSaid {
            outcome: said.outcome,
            reason: said.reason,
            policy: keep(said.policy),
            rule: said.rule,
        };
        let said = keep_said(said);
        let audit = audit.map(keep_said);
        let caller =
            caller.map(|name| [name.trust_domain, name.namespace, name.app_id].map(&mut keep));
        let operation = keep(operation);
        let raw = raw.map(keep);
        Self {
            time,
            said,
            audit,
            caller,
            operation,
            raw,
            is_cut,
            verb,
            overrides,
            protocol,
            snapshot,
            trace,
            text,
        }
    }

    fn part(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    fn said(&self, kept: &KeptSaid) -> Said<'_> {
        Said {
            outcome: kept.outcome,
            reason: kept.reason,
            // Counted already.
            scope: None,
            policy: self.part(&kept.policy),
            rule: kept.rule,
        }
    }

    fn record(&self) -> Record<'_> {
        let caller = self
            .caller
            .as_ref()
            .map(|[trust_domain, namespace, app_id]| CallerName {
                trust_domain: self.part(trust_domain),
                namespace: self.part(namespace),
                app_id: self.part(app_id),
            });
        Record {
            time: self.time,
            said: self.said(&self.said),
            audit: self.audit.as_ref().map(|kept| self.said(kept)),
            caller,
            operation: self.part(&self.operation),
            raw: self.raw.as_ref().map(|range| self.part(range)),
            is_cut: self.is_cut,
            verb: self.verb,
            overrides: self.overrides,
            protocol: self.protocol,
            snapshot: self.snapshot,
            trace: self.trace,
        }
    }
}
