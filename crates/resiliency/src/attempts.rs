//! The attempts of one call: what comes next, given how the last one ended.
//!
//! Two loops, as in the reference: a policy's retries around a breaker and a limit, and inside each of those attempts
//! the built-in retries of the hop between sidecars. The driver asks [`Attempts::admit`] before it sends and
//! [`Attempts::next`] after; in between it sends, in between those it waits. Neither allocates. A peer that was never
//! reached is no attempt of either loop while another address is left: the call goes there at once. Where this differs
//! from the reference: a request that may have arrived is not repeated by the built-in retries unless that does no
//! harm, nothing is repeated once a part of a response went on, and denials are final. Source: resiliency-observability
//! 1.3, 1.7 to 1.10, 6.2.

mod decide;
mod step;

pub use step::{Body, Call, Go, Level, Refused, Route, Step, Stop};

use std::sync::Arc;
use std::time::Duration;

use ironside_resources::resiliency::{RetryPolicy, Verb};
use rand::Rng;

use crate::breaker::{Cell, Change, Permit, Refusal, State};
use crate::outcome::{End, Failure, Outcome, Path};
use crate::pauses::Pauses;
use crate::target::{Rules, Target};

/// The attempts of one call.
#[derive(Debug)]
pub struct Attempts {
    target: Arc<Target>,
    rules: Arc<Rules>,
    cell: Option<Arc<Cell>>,
    built_in: Option<Arc<RetryPolicy>>,
    path: Path,
    verb: Option<Verb>,
    started: Duration,
    deadline: Option<Duration>,
    phase: Phase,
    policy_loop: Loop,
    built_in_loop: Loop,
    /// Why the built-in loop ended without success.
    cut: Option<Stop>,
    /// When the limit of this attempt passes.
    until: Option<Duration>,
    permit: Option<Permit>,
    change: Option<Change>,
    sent: u32,
    hops: u32,
    can_replay: bool,
    is_touched: bool,
    has_hop: bool,
    is_committed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before an attempt of the policy's loop.
    Attempt,
    /// Before a repetition within it.
    Repetition,
    Sending,
    Over,
}

#[derive(Debug, Clone, Copy, Default)]
struct Loop {
    retries: u32,
    pauses: Pauses,
}

// === impl Attempts ===

impl Attempts {
    /// The attempts of a call of `method` (a cleaned path) that begins now.
    #[must_use]
    pub fn begin(target: Arc<Target>, method: &str, call: Call, now: Duration) -> Self {
        Self::begin_keyed(target, method, method, call, now)
    }

    /// The same, where a breaker belongs to `key` and not to the method: an HTTPEndpoint has one for its URL.
    #[must_use]
    pub fn begin_keyed(
        target: Arc<Target>,
        method: &str,
        key: &str,
        call: Call,
        now: Duration,
    ) -> Self {
        let Call {
            path,
            route,
            verb,
            body,
            deadline,
        } = call;
        let rules = target.rules(method, verb).clone();
        let cell = rules.breaker(key).map(|(cell, _)| cell);
        let has_hop = route == Route::Peer;
        let built_in = target.built_in.clone();
        let built_in = built_in.filter(|_| has_hop && path != Path::Proxy);
        let overall = target.overall.map(|limit| now.saturating_add(limit));
        Self {
            rules,
            cell,
            built_in,
            path,
            verb,
            started: now,
            deadline: earliest(deadline, overall),
            phase: Phase::Attempt,
            policy_loop: Loop::default(),
            built_in_loop: Loop::default(),
            cut: None,
            until: None,
            permit: None,
            change: None,
            sent: 0,
            hops: 0,
            can_replay: body == Body::Kept,
            is_touched: false,
            has_hop,
            is_committed: false,
            target,
        }
    }

    /// Says that the body can no longer be sent again: bytes of it are gone that nobody kept.
    pub fn body_is_gone(&mut self) {
        self.can_replay = false;
        self.is_touched = true;
    }

    /// Says that a part of the response went on to the caller.
    pub fn commit(&mut self) {
        self.is_committed = true;
    }

    /// Asks whether to send now.
    pub fn admit(&mut self, now: Duration) -> Go {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return self.refuse(now, Refused::Deadline);
        }
        match self.phase {
            Phase::Attempt => {
                if let Err(refusal) = self.ask_breaker(now) {
                    return self.refuse(now, Refused::Breaker(refusal));
                }
                let timeout = self
                    .rules
                    .timeout
                    .as_ref()
                    .and_then(|timeout| timeout.policy);
                let limit = timeout.map(|timeout| now.saturating_add(timeout));
                self.until = earliest(limit, self.deadline);
            }
            Phase::Repetition if self.until.is_some_and(|until| until <= now) => {
                self.phase = Phase::Sending;
                return Go::TimedOut;
            }
            Phase::Repetition | Phase::Sending => {}
            Phase::Over => return Go::Refused(Refused::Deadline),
        }
        if let Err(wait) = self.target.shared.token(now) {
            if self.phase == Phase::Attempt {
                self.forget();
            }
            return self.refuse(now, Refused::Rate(wait));
        }
        if self.sent == 0 {
            self.target.shared.with_budget(|budget| budget.deposit(now));
        }
        self.sent = self.sent.saturating_add(1);
        self.phase = Phase::Sending;
        Go::Send {
            until: self.until,
            number: self.sent,
        }
    }

    /// Tells how an attempt ended, and asks what comes next.
    pub fn next(&mut self, now: Duration, outcome: Outcome, rng: &mut impl Rng) -> Step {
        let is_success = outcome.is_success(self.path);
        if let Some(step) = self.go_on(outcome) {
            return step;
        }
        if !is_success && let Some(step) = self.repeat(now, outcome, rng) {
            return step;
        }
        self.settle(now, outcome);
        let stop = if is_success {
            Stop::Success
        } else {
            match self.retry(now, outcome, rng) {
                Ok(step) => return step,
                Err(stop) => stop,
            }
        };
        self.phase = Phase::Over;
        Step::Stop(stop)
    }

    /// Says that the caller went away: the attempt under way failed, and no other follows.
    pub fn abandon(&mut self, now: Duration) {
        self.settle(now, Failure::Caller.into());
        self.phase = Phase::Over;
    }

    /// The state of the breaker, where there is one; looking may end an open one.
    pub fn breaker_state(&mut self, now: Duration) -> Option<State> {
        let (Some(cell), Some(breakers)) = (&self.cell, &self.rules.breakers) else {
            return None;
        };
        let (state, change) = cell.lock().state(breakers.policy.policy(), now);
        self.change = change.or(self.change);
        Some(state)
    }

    /// Whether a failure may be followed by another attempt, other than at another address.
    #[must_use]
    pub fn may_repeat(&self) -> bool {
        self.built_in.is_some() || self.rules.may_retry()
    }

    /// The target.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// A change of the breaker's state since the last look.
    pub fn take_change(&mut self) -> Option<Change> {
        self.change.take()
    }

    /// How often the request was sent.
    #[must_use]
    pub const fn sent(&self) -> u32 {
        self.sent
    }

    /// How many retries the policy made.
    #[must_use]
    pub const fn retries(&self) -> u32 {
        self.policy_loop.retries
    }

    /// How many built-in retries the last attempt used up, for its error text.
    #[must_use]
    pub const fn built_in_exhausted(&self) -> Option<u32> {
        match self.cut {
            Some(Stop::Exhausted { retries, .. }) => Some(retries),
            _ => None,
        }
    }

    /// The policies of this call.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    fn refuse(&mut self, now: Duration, refused: Refused) -> Go {
        self.settle(now, Failure::Timeout.into());
        self.phase = Phase::Over;
        Go::Refused(refused)
    }

    fn ask_breaker(&mut self, now: Duration) -> Result<(), Refusal> {
        let (Some(cell), Some(breakers)) = (&self.cell, &self.rules.breakers) else {
            return Ok(());
        };
        let (verdict, change) = cell.lock().admit(breakers.policy.policy(), now);
        self.change = change.or(self.change);
        self.permit = Some(verdict?);
        Ok(())
    }

    /// Tells the breaker how the attempt ended; only the first time counts. An end that says nothing is none.
    fn settle(&mut self, now: Duration, outcome: Outcome) {
        if outcome.end == End::Failed(Failure::Idle) {
            return self.forget();
        }
        let Some(permit) = self.permit.take() else {
            return;
        };
        let (Some(cell), Some(breakers)) = (&self.cell, &self.rules.breakers) else {
            return;
        };
        let policy = breakers.policy.policy();
        let is_success = !outcome.is_failure(self.path, &policy.matching);
        let change = cell.lock().record(policy, now, permit, is_success);
        self.change = change.or(self.change);
    }

    fn forget(&mut self) {
        if let (Some(cell), Some(permit)) = (&self.cell, self.permit.take()) {
            cell.lock().forget(permit);
        }
    }
}

impl Drop for Attempts {
    /// Whoever stops without a word gives its place at the breaker back, or a probe would never end.
    fn drop(&mut self) {
        self.forget();
    }
}

fn earliest(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
