//! What policies did to outgoing calls: looked up, activated, and how their breakers stand.
//!
//! Labels are names of resources and targets as callers write them; there are at most so many series, all
//! further targets share theirs. A meter is looked up once and kept beside the policies it counts for. Source:
//! resiliency-observability 1.13, 3.4, 6.3.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::bounded::Overflow;
use super::family::{Count, Counts, Families, Histograms, Measure};

/// Targets with series of their own; further ones are counted under the label below.
const MAX_TARGETS: usize = 1000;
/// The label of targets for which there is no series left.
const OTHER: &str = "_other";
const OUTBOUND: &str = "outbound";
const LABELS: &[&str] = &[
    "name",
    "policy",
    "namespace",
    "flow_direction",
    "target",
    "status",
];

type Gauges = Family<Vec<(&'static str, String)>, Gauge>;

/// A kind of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// Limit of an attempt.
    Timeout,
    /// Retries.
    Retry,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// A few do.
    HalfOpen,
    /// None does.
    Open,
}

/// The state of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointState {
    /// In use.
    Ready,
    /// Left out.
    Ejected,
    /// Left out, but for one call.
    Probing,
}

/// Whose policy it is, and for which calls.
#[derive(Clone, Copy, Debug)]
pub struct PolicyLabels<'a> {
    /// The resource.
    pub name: &'a str,
    /// Its namespace; empty for files without one.
    pub namespace: &'a str,
    /// The target as the caller wrote it.
    pub target: &'a str,
}

/// Counters of one policy of one target.
#[derive(Debug)]
pub struct PolicyMeter(Option<Meter>);

/// What calls of one target take: attempts, and what their retry budget has left.
#[derive(Debug)]
pub struct AttemptsMeter(Option<AttemptsInner>);

#[derive(Debug)]
struct AttemptsInner {
    attempts: Histograms,
    balance: Gauges,
    target: String,
    series: OnceLock<Histogram>,
    left: OnceLock<Gauge>,
}

/// Counters of the breakers of one target.
#[derive(Debug)]
pub struct BreakerMeter(Option<BreakerInner>);

#[derive(Debug)]
struct BreakerInner {
    meters: [Meter; 3],
    gauges: Gauges,
    labels: [String; 3],
    shown: AtomicU8,
}

/// Two counters that appear with their first event.
#[derive(Debug)]
struct Meter {
    families: Arc<Both>,
    labels: [String; 5],
    looked_up: OnceLock<Count>,
    activated: OnceLock<Count>,
}

#[derive(Debug)]
struct Both {
    count: Counts,
    activations: Counts,
}

#[derive(Debug)]
pub(super) struct ResiliencyFamilies {
    loaded: Counts,
    both: Arc<Both>,
    states: Gauges,
    retries: Counts,
    ejections: Counts,
    attempts: Histograms,
    balance: Gauges,
    endpoints: Gauges,
    targets: Mutex<HashSet<Box<str>>>,
    overflow: Overflow,
}

// === impl PolicyKind ===

impl PolicyKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Retry => "retry",
        }
    }
}

// === impl BreakerState ===

impl BreakerState {
    const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

// === impl EndpointState ===

impl EndpointState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Ejected => "ejected",
            Self::Probing => "probing",
        }
    }
}

// === impl PolicyMeter ===

impl PolicyMeter {
    pub(super) const fn disabled() -> Self {
        Self(None)
    }

    /// A call has this policy.
    pub fn looked_up(&self) {
        if let Some(meter) = &self.0 {
            meter.looked_up();
        }
    }

    /// It did something to a call; once for each call.
    pub fn activated(&self) {
        if let Some(meter) = &self.0 {
            meter.activated();
        }
    }
}

// === impl AttemptsMeter ===

impl AttemptsMeter {
    pub(super) const fn disabled() -> Self {
        Self(None)
    }

    /// A call took so many attempts; `balance` is what is left of its retry budget, if it has one.
    pub fn took(&self, attempts: u32, balance: Option<u64>) {
        let Some(inner) = &self.0 else { return };
        let series = || inner.attempts.series(&[&inner.target]);
        inner
            .series
            .get_or_init(series)
            .observe(f64::from(attempts));
        let Some(balance) = balance else { return };
        let labels = || vec![("target", inner.target.clone())];
        let gauge = || inner.balance.get_or_create_owned(&labels());
        let balance = i64::try_from(balance).unwrap_or(i64::MAX);
        inner.left.get_or_init(gauge).set(balance);
    }
}

// === impl BreakerMeter ===

impl BreakerMeter {
    pub(super) const fn disabled() -> Self {
        Self(None)
    }

    /// A call has a breaker, which is in this state.
    pub fn looked_up(&self, state: BreakerState) {
        if let Some(inner) = &self.0 {
            inner.with(state, Meter::looked_up);
            inner.show(state);
        }
    }

    /// A breaker went over to this state.
    pub fn changed(&self, state: BreakerState) {
        if let Some(inner) = &self.0 {
            inner.with(state, Meter::activated);
            inner.show(state);
        }
    }
}

// === impl BreakerInner ===

impl BreakerInner {
    fn with(&self, state: BreakerState, measure: impl FnOnce(&Meter)) {
        if let Some(meter) = self.meters.get(state as usize) {
            measure(meter);
        }
    }

    /// One series for each state, 1 for the present one.
    fn show(&self, state: BreakerState) {
        let mark = state as u8 + 1;
        if self.shown.swap(mark, Ordering::Relaxed) == mark {
            return;
        }
        let [name, namespace, target] = &self.labels;
        let states = BreakerState::ALL.map(BreakerState::as_str);
        for label in states.into_iter().chain(["unknown"]) {
            let values = [
                name.as_str(),
                "circuitbreaker",
                namespace,
                OUTBOUND,
                target,
                label,
            ];
            let pairs = LABELS.iter().zip(values);
            let labels = pairs.map(|(key, value)| (*key, value.to_owned())).collect();
            let is_it = i64::from(label == state.as_str());
            self.gauges.get_or_create_owned(&labels).set(is_it);
        }
    }
}

// === impl Meter ===

impl Meter {
    fn looked_up(&self) {
        let series = || self.families.count.series(&self.values());
        self.looked_up.get_or_init(series).inc();
    }

    fn activated(&self) {
        let series = || self.families.activations.series(&self.values());
        self.activated.get_or_init(series).inc();
    }

    fn values(&self) -> [&str; 6] {
        let [name, policy, namespace, target, status] = &self.labels;
        [name, policy, namespace, OUTBOUND, target, status]
    }
}

// === impl ResiliencyFamilies ===

impl ResiliencyFamilies {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        let both = Both {
            count: families.counts(
                "resiliency_count",
                "The number of times a resiliency policy has been executed",
                LABELS,
            ),
            activations: families.counts(
                "resiliency_activations_total",
                "Number of times a resiliency policy has been activated by a failure or a change of state",
                LABELS,
            ),
        };
        Self {
            loaded: families.counts(
                "resiliency_loaded",
                "Number of resiliency policies loaded",
                &["name", "namespace"],
            ),
            both: Arc::new(both),
            states: families.gauges(
                "resiliency_cb_state",
                "A resiliency policy's current CircuitBreakerState: 1 for the state it is in",
            ),
            retries: families.counts(
                "resiliency_retries_total",
                "Calls that were sent more than once, or would have been, by how that ended",
                &["target", "policy_name", "outcome"],
            ),
            ejections: families.counts(
                "resiliency_ejections_total",
                "Addresses of an app that were left out for a while",
                &["target", "reason"],
            ),
            attempts: families.histograms(
                Measure::Attempts,
                "resiliency_attempts",
                "Attempts that calls took",
                &["target"],
            ),
            balance: families.gauges(
                "resiliency_retry_budget_balance",
                "Retries that all calls of a target together have left, when one of them last ended",
            ),
            endpoints: families.gauges(
                "resiliency_endpoints",
                "Addresses of an app that has several, by state",
            ),
            targets: Mutex::default(),
            overflow: families.governor("resiliency_count"),
        }
    }

    pub(super) fn loaded(&self, name: &str, namespace: &str) {
        self.loaded.series(&[name, namespace]).inc();
    }

    pub(super) fn policy(&self, kind: PolicyKind, labels: PolicyLabels<'_>) -> PolicyMeter {
        let target = self.target(labels.target);
        PolicyMeter(Some(self.meter(kind.as_str(), labels, &target, "")))
    }

    pub(super) fn breaker(&self, labels: PolicyLabels<'_>) -> BreakerMeter {
        let target = self.target(labels.target);
        let meter =
            |state: BreakerState| self.meter("circuitbreaker", labels, &target, state.as_str());
        BreakerMeter(Some(BreakerInner {
            meters: BreakerState::ALL.map(meter),
            gauges: self.states.clone(),
            labels: [labels.name.to_owned(), labels.namespace.to_owned(), target],
            shown: AtomicU8::new(0),
        }))
    }

    pub(super) fn retried(&self, target: &str, policy: &str, outcome: &'static str) {
        let target = self.target(target);
        self.retries.series(&[&target, policy, outcome]).inc();
    }

    pub(super) fn attempts(&self, target: &str) -> AttemptsMeter {
        AttemptsMeter(Some(AttemptsInner {
            attempts: self.attempts.clone(),
            balance: self.balance.clone(),
            target: self.target(target),
            series: OnceLock::new(),
            left: OnceLock::new(),
        }))
    }

    pub(super) fn ejected(&self, target: &str, reason: &'static str) {
        let target = self.target(target);
        self.ejections.series(&[&target, reason]).inc();
    }

    pub(super) fn endpoints(&self, target: &str, state: EndpointState, count: usize) {
        let target = self.target(target);
        let labels = vec![("target", target), ("state", state.as_str().to_owned())];
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.endpoints.get_or_create_owned(&labels).set(count);
    }

    fn meter(&self, policy: &str, labels: PolicyLabels<'_>, target: &str, status: &str) -> Meter {
        let values = [labels.name, policy, labels.namespace, target, status];
        Meter {
            families: Arc::clone(&self.both),
            labels: values.map(str::to_owned),
            looked_up: OnceLock::new(),
            activated: OnceLock::new(),
        }
    }

    /// The label of a target, shared by all for which there is no room.
    fn target(&self, written: &str) -> String {
        // A set of names is valid after any interrupted change.
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let is_own = targets.contains(written) || targets.len() < MAX_TARGETS;
        if !is_own {
            self.overflow.inc();
            return format!("app_{OTHER}");
        }
        if !targets.contains(written) {
            targets.insert(written.into());
        }
        format!("app_{written}")
    }
}
