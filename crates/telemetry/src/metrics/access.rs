//! What access control decided, and by which state of its rules.
//!
//! Labels are words of ours, names of objects and parts of certificates, never a path, and there are at most so
//! many series: all further ones share theirs. A [`DecisionCount`] is looked up once and kept. The gauges say
//! what is in force; whoever publishes rules sets them. Source: security 4.9.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::bounded::Overflow;
use super::family::{Count, Counts, Families, Latest};

/// Series of decisions; further ones are counted under the label below.
const MAX_SERIES: usize = 5000;
/// The label of names for which there is no series left.
const OTHER: &str = "_other";

type Gauges = Family<Vec<(&'static str, String)>, Gauge>;

/// What a decision said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The call went on.
    Allow,
    /// It did not.
    Deny,
    /// It went on, and would not if objects under audit counted.
    WouldDeny,
    /// It did not, and would if objects under audit counted.
    WouldAllow,
}

/// The labels of one series of decisions.
#[derive(Clone, Copy, Debug)]
pub struct DecisionLabels<'a> {
    /// What was said.
    pub outcome: Outcome,
    /// Why: one of a fixed list of words.
    pub reason: &'static str,
    /// The object that decided, `-` if none did.
    pub policy: &'a str,
    /// App ID of the caller's certificate; empty without one.
    pub app_id: &'a str,
    /// Namespace of the caller's certificate; empty without one.
    pub namespace: &'a str,
}

/// The counter of one series of decisions.
#[derive(Clone, Debug)]
pub struct DecisionCount(Option<Count>);

/// How an object of access control stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectState {
    /// In force.
    Ok,
    /// Cannot be used.
    Invalid,
    /// Watched only.
    Audit,
}

/// Where the rules in force come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceState {
    /// A stream that is alive.
    Live,
    /// A stream that was lost.
    Stale,
    /// A stream that never was.
    Unavailable,
    /// A stream that nobody offers.
    Unsupported,
    /// Files.
    File,
}

#[derive(Debug)]
pub(super) struct AccessFamilies {
    overflow: Overflow,
    decisions: Counts,
    known: Mutex<HashMap<Box<str>, Count>>,
    log_dropped: Latest,
    snapshot: Latest,
    objects: Gauges,
    heartbeat: Latest,
    source: Gauges,
}

// === impl Outcome ===

impl Outcome {
    /// Returns the value of the label `decision`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::WouldDeny => "would_deny",
            Self::WouldAllow => "would_allow",
        }
    }
}

// === impl DecisionCount ===

impl DecisionCount {
    pub(super) const fn disabled() -> Self {
        Self(None)
    }

    /// Counts one decision.
    pub fn inc(&self) {
        if let Some(count) = &self.0 {
            count.inc();
        }
    }
}

// === impl ObjectState ===

impl ObjectState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Invalid => "invalid",
            Self::Audit => "audit",
        }
    }
}

// === impl SourceState ===

impl SourceState {
    const ALL: [Self; 5] = [
        Self::Live,
        Self::Stale,
        Self::Unavailable,
        Self::Unsupported,
        Self::File,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::File => "file",
        }
    }
}

// === impl AccessFamilies ===

impl AccessFamilies {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        let decisions = "runtime_accesscontrol_decisions_total";
        Self {
            overflow: families.governor(decisions),
            decisions: families.counts(
                decisions,
                "The number of decisions of access control",
                &[
                    "decision",
                    "reason",
                    "policy",
                    "src_app_id",
                    "src_namespace",
                ],
            ),
            known: Mutex::default(),
            log_dropped: families.latest(
                MetricType::Counter,
                "runtime_access_log_dropped_total",
                "The number of calls that the access log file does not hold",
            ),
            snapshot: families.latest(
                MetricType::Gauge,
                "runtime_accesscontrol_snapshot",
                "The number of the state of access control that is in force",
            ),
            objects: families.gauges(
                "runtime_accesscontrol_objects",
                "The number of objects of access control",
            ),
            heartbeat: families.latest(
                MetricType::Gauge,
                "runtime_accesscontrol_seconds_since_heartbeat",
                "The seconds since the source of access control was heard of",
            ),
            source: families.gauges(
                "runtime_accesscontrol_source",
                "The source of access control",
            ),
        }
    }

    pub(super) fn decision(&self, labels: &DecisionLabels<'_>) -> DecisionCount {
        let DecisionLabels {
            outcome,
            reason,
            policy,
            app_id,
            namespace,
        } = *labels;
        let outcome = outcome.as_str();
        // A map of handles is valid after any interrupted change.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // NUL stands in no name.
        let key = [outcome, reason, policy, app_id, namespace].join("\0");
        if let Some(count) = known.get(key.as_str()) {
            return DecisionCount(Some(count.clone()));
        }
        if known.len() >= MAX_SERIES {
            self.overflow.inc();
            let shared = [outcome, reason, OTHER, OTHER, OTHER];
            return DecisionCount(Some(self.decisions.series(&shared)));
        }
        let values = [outcome, reason, policy, app_id, namespace];
        let count = self.decisions.series(&values);
        known.insert(key.into(), count.clone());
        DecisionCount(Some(count))
    }

    pub(super) fn log_dropped(&self, calls: u64) {
        self.log_dropped.add(calls);
    }

    pub(super) fn snapshot(&self, number: u64) {
        self.snapshot.set(number);
    }

    pub(super) fn objects(&self, state: ObjectState, count: usize) {
        let labels = vec![("state", state.as_str().to_owned())];
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.objects.get_or_create_owned(&labels).set(count);
    }

    pub(super) fn heartbeat(&self, age: Duration) {
        self.heartbeat.set(age.as_secs());
    }

    pub(super) fn source(&self, state: SourceState) {
        for each in SourceState::ALL {
            let labels = vec![("state", each.as_str().to_owned())];
            let gauge = self.source.get_or_create_owned(&labels);
            gauge.set(i64::from(each == state));
        }
    }
}
