//! What one data thread keeps: its last decisions, and the counters of its callers.
//!
//! Counters are looked up once for each caller and object and then kept, so that an allowed call adds one to two
//! numbers. Both tables are bounded and start anew when they are full: the counters themselves stay.

use std::collections::HashMap;

use ironside_policy::Reason;
use ironside_telemetry::metrics::{AclCaller, DecisionCount, DecisionLabels, Metrics, Outcome};

use super::{
    outbox::{self, Outbox},
    record::{CallerName, Record, Said},
    ring::Ring,
};

/// Callers whose counters are kept.
const MAX_CALLERS: usize = 1024;
/// Counters that are kept for one caller.
const MAX_COUNTS: usize = 64;
/// The label of a decision that no object made.
const NO_POLICY: &str = "-";

/// What one data thread keeps.
#[derive(Debug, Default)]
pub(super) struct Book {
    ring: Ring,
    /// For the access log file, if there is one.
    outbox: Option<Outbox>,
    /// By trust domain, namespace and app ID, joined; the empty text is nobody.
    callers: HashMap<Box<str>, Series>,
    /// The name that is looked up; keeps its room.
    name: String,
}

/// The counters of one caller.
#[derive(Debug)]
struct Series {
    reference: AclCaller,
    counts: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    outcome: Outcome,
    reason: Reason,
    policy: Box<str>,
    count: DecisionCount,
}

// === impl Book ===

impl Book {
    /// An empty one; with an outbox if there is an access log file.
    pub(super) fn new(outbox: Option<Outbox>) -> Self {
        Self {
            outbox,
            ..Self::default()
        }
    }

    /// Counts a decision and keeps it; returns whether the access log file must be seen to.
    pub(super) fn note(&mut self, metrics: &Metrics, record: &Record<'_>) -> outbox::Ring {
        self.count(metrics, record);
        self.ring.push(record);
        match &mut self.outbox {
            Some(outbox) => outbox.push(record),
            None => outbox::Ring::No,
        }
    }

    /// Puts the lines for the access log file into `empty`; returns how many calls they lack.
    pub(super) fn take_lines(&mut self, empty: &mut String) -> u64 {
        self.outbox.as_mut().map_or(0, |outbox| outbox.take(empty))
    }

    /// The last decisions.
    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    fn count(&mut self, metrics: &Metrics, record: &Record<'_>) {
        if !metrics.is_enabled() {
            return;
        }
        let name = record.caller.unwrap_or(CallerName::NOBODY);
        self.name.clear();
        for part in [name.trust_domain, name.namespace, name.app_id] {
            self.name.push_str(part);
            // A slash stands in none of the three.
            self.name.push('/');
        }
        if !self.callers.contains_key(self.name.as_str()) {
            if self.callers.len() >= MAX_CALLERS {
                self.callers.clear();
            }
            let reference = metrics.acl_caller(name.app_id, name.trust_domain, name.namespace);
            let counts = Vec::new();
            self.callers
                .insert(self.name.as_str().into(), Series { reference, counts });
        }
        if let Some(series) = self.callers.get_mut(self.name.as_str()) {
            series.count(metrics, name, &record.said);
            if let Some(audit) = &record.audit {
                series.count(metrics, name, audit);
            }
        }
    }
}

// === impl Series ===

impl Series {
    fn count(&mut self, metrics: &Metrics, caller: CallerName<'_>, said: &Said<'_>) {
        if let Some((scope, outcome)) = said.scope {
            self.reference.decided(scope, outcome);
        }
        let is_kept = |kept: &&Kept| {
            (kept.outcome, kept.reason) == (said.outcome, said.reason)
                && *kept.policy == *said.policy
        };
        if let Some(kept) = self.counts.iter().find(is_kept) {
            return kept.count.inc();
        }
        let policy = if said.policy.is_empty() {
            NO_POLICY
        } else {
            said.policy
        };
        let count = metrics.decision_count(&DecisionLabels {
            outcome: said.outcome,
            reason: said.reason.as_str(),
            policy,
            app_id: caller.app_id,
            namespace: caller.namespace,
        });
        count.inc();
        if self.counts.len() >= MAX_COUNTS {
            self.counts.clear();
        }
        self.counts.push(Kept {
            outcome: said.outcome,
            reason: said.reason,
            policy: said.policy.into(),
            count,
        });
    }
}
