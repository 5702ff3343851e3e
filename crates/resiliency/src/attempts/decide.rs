//! The three ways on after a failure: another address at once, a built-in retry, a retry of the policy.

use std::time::Duration;

use ironside_resources::resiliency::RetryPolicy;
use rand::Rng;

use super::{Attempts, Level, Loop, Phase, Step, Stop};
use crate::Budget;
use crate::outcome::{End, Failure, Outcome, Pushback};

/// Addresses that a call goes on to without using up a retry; more are not worth their caller's time.
pub(super) const MAX_HOPS: u32 = 7;

// === impl Attempts ===

impl Attempts {
    /// Another address at once, within the same attempt: no app knows of this one, and nothing was used up. Where only
    /// a connection had ended it may be the same address, once.
    pub(super) fn go_on(&mut self, outcome: Outcome) -> Option<Step> {
        let can_go = self.has_hop && !self.is_touched && !self.is_committed;
        let is_well = outcome.end == End::Failed(Failure::NotBegun) && self.hops == 0;
        let has_place = is_well || (outcome.is_unreached() && outcome.elsewhere);
        if !(has_place && can_go && self.hops < MAX_HOPS) {
            return None;
        }
        self.hops += 1;
        self.phase = Phase::Repetition;
        Some(Step::Wait {
            pause: Duration::ZERO,
            level: Level::Address,
            retry: self.hops,
        })
    }

    /// A built-in retry within the same attempt; `None` where the attempt ends.
    pub(super) fn repeat(
        &mut self,
        now: Duration,
        outcome: Outcome,
        rng: &mut impl Rng,
    ) -> Option<Step> {
        self.cut = None;
        let policy = self.built_in.clone()?;
        if !self.can_replay || self.is_committed || !self.is_harmless(outcome, &policy) {
            return None;
        }
        let retries = self.built_in_loop.retries;
        if policy.max_retries.is_some_and(|most| most <= retries) {
            let level = Level::BuiltIn;
            self.cut = Some(Stop::Exhausted { retries, level });
            return None;
        }
        let own = self.built_in_loop.pauses.next(&policy, rng);
        // Time heals an address, not the way to another one; what was not reached had its other addresses.
        let pause = if outcome.elsewhere && !outcome.is_unreached() {
            Duration::ZERO
        } else {
            own
        };
        let wake = now.saturating_add(pause);
        if policy
            .max_elapsed
            .is_some_and(|most| wake > self.started.saturating_add(most))
        {
            let level = Level::BuiltIn;
            self.cut = Some(Stop::Exhausted { retries, level });
            return None;
        }
        if self.deadline.is_some_and(|deadline| deadline <= wake) {
            self.cut = Some(Stop::Deadline);
            return None;
        }
        self.phase = Phase::Repetition;
        let (level, retry) = (Level::BuiltIn, retries.saturating_add(1));
        // The limit of the attempt passes first: it is waited for, and nothing is sent then.
        if let Some(until) = self.until.filter(|until| *until <= wake) {
            let pause = until.saturating_sub(now);
            return Some(Step::Wait {
                pause,
                level,
                retry,
            });
        }
        let withdraw = |budget: &mut Budget| budget.withdraw(now);
        if self.target.shared.with_budget(withdraw) == Some(false) {
            self.phase = Phase::Sending;
            self.cut = Some(Stop::Budget);
            return None;
        }
        self.built_in_loop.retries = retry;
        Some(Step::Wait {
            pause,
            level,
            retry,
        })
    }

    /// Whether the hop failed in a way that another one repairs without doing anything twice.
    fn is_harmless(&self, outcome: Outcome, policy: &RetryPolicy) -> bool {
        match outcome.end {
            End::Failed(Failure::Unreachable | Failure::NotBegun) => true,
            End::Failed(Failure::Lost) => self
                .verb
                .is_some_and(|verb| verb.is_idempotent() || policy.matching.verbs.names(verb)),
            End::Failed(
                Failure::Unresolved
                | Failure::Timeout
                | Failure::Idle
                | Failure::Denied
                | Failure::Unfit
                | Failure::Caller
                | Failure::Other,
            )
            | End::Http(_)
            | End::Grpc(_) => false,
        }
    }

    /// A retry of the policy.
    pub(super) fn retry(
        &mut self,
        now: Duration,
        outcome: Outcome,
        rng: &mut impl Rng,
    ) -> Result<Step, Stop> {
        let rules = self.rules.clone();
        let Some(retry) = &rules.retry else {
            return Err(self.cut.unwrap_or(Stop::Final));
        };
        let policy = &retry.policy;
        if self.is_committed {
            return Err(Stop::Committed);
        }
        if !self.can_replay {
            return Err(Stop::BodyGone);
        }
        let is_final = matches!(
            outcome.end,
            End::Failed(Failure::Idle | Failure::Denied | Failure::Unfit | Failure::Caller)
        );
        if is_final {
            return Err(Stop::Final);
        }
        let is_verb = self
            .verb
            .is_none_or(|verb| policy.matching.verbs.covers(verb));
        if !is_verb || !outcome.is_retriable(&policy.matching) {
            return Err(Stop::NotMatched);
        }
        let retries = self.policy_loop.retries;
        let level = Level::Policy;
        let exhausted = Stop::Exhausted { retries, level };
        if policy.max_retries.is_some_and(|most| most <= retries) {
            return Err(exhausted);
        }
        let own = self.policy_loop.pauses.next(policy, rng);
        let pause = asked_for(outcome.pushback, policy).ok_or(Stop::Pushback)?;
        let pause = pause.unwrap_or(own);
        let wake = now.saturating_add(pause);
        if policy
            .max_elapsed
            .is_some_and(|most| wake > self.started.saturating_add(most))
        {
            return Err(exhausted);
        }
        if self.deadline.is_some_and(|deadline| deadline <= wake) {
            return Err(Stop::Deadline);
        }
        let withdraw = |budget: &mut Budget| budget.withdraw(now);
        let is_bound = self.target.budget_binds_policies;
        if is_bound && self.target.shared.with_budget(withdraw) == Some(false) {
            return Err(Stop::Budget);
        }
        self.phase = Phase::Attempt;
        self.built_in_loop = Loop::default();
        let retry = retries.saturating_add(1);
        self.policy_loop.retries = retry;
        Ok(Step::Wait {
            pause,
            level,
            retry,
        })
    }
}

/// The pause that a callee asks for, if it may; `None` if it wants no retry.
fn asked_for(pushback: Option<Pushback>, policy: &RetryPolicy) -> Option<Option<Duration>> {
    let capped = |pause: Duration| Some(pause.min(policy.max_interval));
    match pushback {
        None => Some(None),
        Some(Pushback::Never) => None,
        Some(Pushback::After(pause)) => Some(capped(pause)),
        Some(Pushback::RetryAfter(pause)) if policy.honor_retry_after => Some(capped(pause)),
        Some(Pushback::RetryAfter(_)) => Some(None),
    }
}
