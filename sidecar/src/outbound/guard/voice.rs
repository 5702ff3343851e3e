//! What is told of a call's attempts: lines in the words of the reference, and series.
//!
//! A line for the first retry of each kind, one when a call recovers, one for each change of a breaker. Meters
//! are made once and kept beside the policies they count for. Source: resiliency-observability 1.3, 1.5, 1.13.

use std::{fmt, sync::Arc, time::Duration};

use ironside_resiliency::{
    attempts::{Level, Stop},
    breaker::{Change, State},
    compile::BUILT_IN_SERVICE_RETRIES,
    target::{Owned, Rules, Target},
};
use ironside_resources::GoDuration;
use ironside_telemetry::{
    metrics::{
        AttemptsMeter, BreakerMeter, BreakerState, Metrics, PolicyKind, PolicyLabels, PolicyMeter,
    },
    without_user,
};
use tracing::{debug, info, warn};

/// Scope of these lines; that of the reference.
const LOG: &str = "dapr.runtime";

/// Counters of the policies of a target, or of a part of it.
#[derive(Debug)]
struct Meters {
    timeout: Option<PolicyMeter>,
    retry: Option<PolicyMeter>,
    breaker: Option<BreakerMeter>,
    attempts: AttemptsMeter,
}

/// What a call took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// Attempts.
    pub(super) sent: u32,
    /// What is left of the retry budget of its target, if there is one.
    pub(super) balance: Option<u64>,
}

/// Which operation it is, for lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation<'a> {
    /// The target as written.
    pub(super) target: &'a str,
    /// Key of its breaker within the target.
    pub(super) key: &'a str,
    /// What stands between both.
    pub(super) joint: &'static str,
}

/// What tells.
#[derive(Debug)]
pub(super) struct Voice {
    meters: Option<Arc<Meters>>,
    has_timed_out: bool,
    has_retried: bool,
    has_repeated: bool,
}

// === impl Meters ===

impl Meters {
    fn new(metrics: &Metrics, target: &Target, rules: &Rules) -> Self {
        let written = &*without_user(target.written());
        Self {
            timeout: rules.timeout.as_ref().map(|policy| {
                metrics.resiliency_policy(PolicyKind::Timeout, labels(policy, written))
            }),
            retry: rules.retry.as_ref().map(|policy| {
                metrics.resiliency_policy(PolicyKind::Retry, labels(policy, written))
            }),
            breaker: rules
                .breakers
                .as_ref()
                .map(|policy| metrics.resiliency_breaker(labels(policy, written))),
            attempts: metrics.resiliency_attempts(written),
        }
    }
}

fn labels<'a, T>(policy: &'a Owned<T>, target: &'a str) -> PolicyLabels<'a> {
    PolicyLabels {
        name: &policy.owner.name,
        namespace: &policy.owner.namespace,
        target,
    }
}

fn word(state: State) -> BreakerState {
    match state {
        State::Closed => BreakerState::Closed,
        State::HalfOpen => BreakerState::HalfOpen,
        State::Open => BreakerState::Open,
    }
}

/// How the attempts of a call ended, in a word.
pub(super) const fn word_of(stop: Stop) -> &'static str {
    match stop {
        Stop::Success => "success",
        Stop::Exhausted { .. } => "exhausted",
        Stop::NotMatched => "not_matched",
        Stop::Budget => "budget",
        Stop::Deadline => "deadline",
        Stop::Committed => "committed",
        Stop::Final => "final",
        Stop::BodyGone => "body_gone",
        Stop::Pushback => "pushback",
    }
}

// === impl Operation ===

impl fmt::Display for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, key, joint } = self;
        write!(f, "{target}{joint}{key}")
    }
}

// === impl Voice ===

impl Voice {
    /// Begins with a call that has these policies; a breaker is in this state.
    pub(super) fn begin(
        metrics: &Metrics,
        target: &Target,
        rules: &Rules,
        state: Option<State>,
    ) -> Self {
        let meters = rules.attached(|| Meters::new(metrics, target, rules));
        if let Some(meters) = &meters {
            let policies = [&meters.timeout, &meters.retry];
            policies
                .into_iter()
                .flatten()
                .for_each(PolicyMeter::looked_up);
            if let (Some(breaker), Some(state)) = (&meters.breaker, state) {
                breaker.looked_up(word(state));
            }
        }
        Self {
            meters,
            has_timed_out: false,
            has_retried: false,
            has_repeated: false,
        }
    }

    /// A breaker went over to another state.
    pub(super) fn changed(&self, change: Change, operation: Operation<'_>) {
        let Change { from, to } = change;
        info!(target: LOG, "Circuit breaker \"{operation}\" changed state from {from} to {to}");
        let meters = self.meters.as_ref();
        if let Some(breaker) = meters.and_then(|meters| meters.breaker.as_ref()) {
            breaker.changed(word(to));
        }
    }

    /// The limit of an attempt passed.
    pub(super) fn timed_out(&mut self) {
        let meters = self.meters.as_ref();
        if let Some(timeout) = meters.and_then(|meters| meters.timeout.as_ref())
            && !std::mem::replace(&mut self.has_timed_out, true)
        {
            timeout.activated();
        }
    }

    /// Another attempt follows after a pause.
    pub(super) fn waits(
        &mut self,
        pause: Duration,
        level: Level,
        operation: Operation<'_>,
        cause: impl FnOnce() -> String,
    ) {
        let said = match level {
            Level::Address => {
                debug!(target: LOG, "no answer from an address of {}, the next one is asked: {}", operation.target, cause());
                return;
            }
            Level::BuiltIn => &mut self.has_repeated,
            Level::Policy => &mut self.has_retried,
        };
        if std::mem::replace(said, true) {
            return;
        }
        let pause = GoDuration::from(pause);
        match level {
            Level::BuiltIn => {
                warn!(target: LOG, "Error processing operation {BUILT_IN_SERVICE_RETRIES}. Retrying in {pause}…");
            }
            Level::Policy | Level::Address => {
                let Operation { target, key, .. } = operation;
                warn!(target: LOG, "Error processing operation endpoint[{target}, {target}:{key}]. Retrying in {pause}…");
                let meters = self.meters.as_ref();
                if let Some(retry) = meters.and_then(|meters| meters.retry.as_ref()) {
                    retry.activated();
                }
            }
        }
        debug!(target: LOG, "Error was: {}", cause());
    }

    /// The call has its end.
    pub(super) fn ended(
        &self,
        metrics: &Metrics,
        stop: Stop,
        taken: Taken,
        rules: &Rules,
        operation: Operation<'_>,
    ) {
        let Taken { sent, balance } = taken;
        if let Some(meters) = &self.meters {
            meters.attempts.took(sent, balance);
        }
        let has_retried = self.has_retried || self.has_repeated;
        let is_told = match stop {
            Stop::Success | Stop::NotMatched => has_retried,
            Stop::Exhausted { .. } | Stop::Budget | Stop::Deadline | Stop::Committed => true,
            Stop::Final | Stop::BodyGone | Stop::Pushback => false,
        };
        if !is_told {
            return;
        }
        let outcome = word_of(stop);
        let policy = match &rules.retry {
            Some(retry) => &*retry.name,
            None => BUILT_IN_SERVICE_RETRIES,
        };
        metrics.resiliency_retried(operation.target, policy, outcome);
        if stop != Stop::Success {
            return;
        }
        if self.has_repeated {
            info!(target: LOG, "Recovered processing operation {BUILT_IN_SERVICE_RETRIES} after {sent} attempts");
        }
        if self.has_retried {
            let Operation { target, key, .. } = operation;
            info!(target: LOG, "Recovered processing operation endpoint[{target}, {target}:{key}] after {sent} attempts");
        }
    }
}
