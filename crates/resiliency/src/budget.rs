//! A retry budget: how many retries all calls of a target may have together.
//!
//! Each call deposits a share of a retry, each retry withdraws one; both are forgotten after the budget's time
//! to live. A reserve of the minimum rate times that life is there from the start. Source:
//! resiliency-observability 6.2, row "Retry budget".

use std::time::Duration;

use ironside_resources::resiliency::RetryBudget;

/// Parts of the time to live that are forgotten one by one.
const SLOTS: u32 = 10;
/// A retry, in the unit of the balance.
const RETRY: i64 = 1000;

/// The balance of a target.
#[derive(Debug, Clone)]
pub struct Budget {
    params: RetryBudget,
    slots: [i64; SLOTS as usize],
    /// Number of the slot of the latest event.
    latest: u64,
    /// Sum of the slots.
    sum: i64,
}

// === impl Budget ===

impl Budget {
    /// A budget with its reserve and no call yet.
    #[must_use]
    pub const fn new(params: RetryBudget) -> Self {
        Self {
            params,
            slots: [0; SLOTS as usize],
            latest: 0,
            sum: 0,
        }
    }

    /// How it was defined.
    #[must_use]
    pub const fn params(&self) -> RetryBudget {
        self.params
    }

    /// A first attempt.
    pub fn deposit(&mut self, now: Duration) {
        #[expect(clippy::cast_possible_truncation, reason = "the ratio is at most 10")]
        let share = (self.params.ratio * RETRY as f64).round() as i64;
        self.add(now, share);
    }

    /// A retry; false if there is none left, and nothing is taken then.
    #[must_use]
    pub fn withdraw(&mut self, now: Duration) -> bool {
        self.forget(now);
        let is_covered = self.reserve().saturating_add(self.sum) >= RETRY;
        if is_covered {
            self.add(now, -RETRY);
        }
        is_covered
    }

    /// Retries that are left.
    #[must_use]
    pub fn balance(&mut self, now: Duration) -> u64 {
        self.forget(now);
        let balance = self.reserve().saturating_add(self.sum).max(0);
        u64::try_from(balance / RETRY).unwrap_or_default()
    }

    fn reserve(&self) -> i64 {
        let per_second = i64::from(self.params.min_retries_per_second) * RETRY;
        let millis = i64::try_from(self.params.ttl.as_millis()).unwrap_or(i64::MAX);
        per_second.saturating_mul(millis) / 1000
    }

    fn add(&mut self, now: Duration, amount: i64) {
        self.forget(now);
        let at = usize::try_from(self.latest % u64::from(SLOTS)).unwrap_or_default();
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = slot.saturating_add(amount);
            self.sum = self.sum.saturating_add(amount);
        }
    }

    /// Clears the slots whose time came again; at most all of them.
    fn forget(&mut self, now: Duration) {
        let length = (self.params.ttl / SLOTS).as_nanos().max(1);
        let current = u64::try_from(now.as_nanos() / length).unwrap_or(u64::MAX);
        // Threads may bring times in any order; a slot never comes back.
        let passed = current.saturating_sub(self.latest).min(SLOTS.into());
        for step in 1..=passed {
            let at = (self.latest.wrapping_add(step)) % u64::from(SLOTS);
            let at = usize::try_from(at).unwrap_or_default();
            if let Some(slot) = self.slots.get_mut(at) {
                self.sum = self.sum.saturating_sub(std::mem::take(slot));
            }
        }
        self.latest = self.latest.max(current);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn retries(budget: &mut Budget, now: u64) -> u32 {
        let mut count = 0;
        while count < 10_000 && budget.withdraw(at(now)) {
            count += 1;
        }
        count
    }

    #[test]
    fn the_reserve_is_there_from_the_start() {
        let mut budget = Budget::new(RetryBudget::default());
        assert_eq!(budget.balance(at(0)), 100);
        assert_eq!(retries(&mut budget, 0), 100);
        assert_eq!(budget.balance(at(0)), 0);
        assert_eq!(retries(&mut budget, 9_999), 0);
        assert_eq!(retries(&mut budget, 10_000), 100);
    }

    #[test]
    fn calls_earn_retries_for_a_while() {
        let params = RetryBudget {
            ratio: 0.2,
            min_retries_per_second: 0,
            ttl: Duration::from_secs(10),
        };
        let mut budget = Budget::new(params);
        assert!(!budget.withdraw(at(0)));
        for _ in 0..4 {
            budget.deposit(at(0));
        }
        assert!(!budget.withdraw(at(1)));
        budget.deposit(at(1));
        assert!(budget.withdraw(at(1)));
        assert!(!budget.withdraw(at(1)));
        for _ in 0..5 {
            budget.deposit(at(2000));
        }
        assert_eq!(budget.balance(at(11_999)), 1);
        assert_eq!(budget.balance(at(12_000)), 0);
        assert_eq!(budget.balance(Duration::MAX), 0);
    }

    /// always 503, maxRetries 3, 1000 calls at 100 a second.
    #[test]
    fn sustained_failure_is_bounded() {
        let mut budget = Budget::new(RetryBudget::default());
        let (mut attempts, calls) = (0_u32, 1000);
        for call in 0..calls {
            let now = at(call * 10);
            budget.deposit(now);
            attempts += 1;
            for _ in 0..3 {
                attempts += u32::from(budget.withdraw(now));
            }
        }
        assert!(attempts <= 1200 + 100, "{attempts}");
        assert!(attempts >= 1200, "{attempts}");
    }

    proptest! {
        /// Retries never exceed the share of calls and the reserve of each started life.
        #[test]
        fn retries_are_bounded(
            ratio in 0.0_f64..2.0,
            min in 0_u32..20,
            ttl in 1_u64..=60,
            events in prop::collection::vec((0_u64..2000, any::<bool>()), 0..300),
        ) {
            let params = RetryBudget { ratio, min_retries_per_second: min, ttl: Duration::from_secs(ttl) };
            let mut budget = Budget::new(params);
            let (mut now, mut calls, mut retries) = (0, 0.0, 0.0);
            for (step, is_call) in events {
                now += step;
                if is_call {
                    budget.deposit(at(now));
                    calls += 1.0;
                } else if budget.withdraw(at(now)) {
                    retries += 1.0;
                }
                // Nine of ten slots are certain to lie between a withdrawal and its end.
                let lives = (now * 10 / (ttl * 9000) + 1) as f64;
                let bound = calls * ((ratio * 1000.0).round() / 1000.0) + f64::from(min) * ttl as f64 * lives;
                prop_assert!(retries <= bound + 1e-6, "{retries} > {bound} at {now}");
            }
        }
    }
}
