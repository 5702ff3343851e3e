//! Circuit breakers: calls that are refused without being made.
//!
//! Owns the state machine of one breaker ([`Breaker`]) and the breakers of a target by key ([`Breakers`]), of
//! which the longest unused goes first. Time is an argument; counts start anew with each state, and a result
//! of an earlier state is ignored. Source: resiliency-observability 1.5.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashlink::LruCache;
use ironside_resources::resiliency::BreakerPolicy;
use thiserror::Error;

use crate::trip::{Counts, trips};

/// One breaker.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    state: State,
    generation: u64,
    counts: Counts,
    /// When the state ends by itself; the closed one starts counting anew then.
    expiry: Option<Duration>,
}

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// It lets them through.
    #[default]
    Closed,
    /// It lets a few through, to see.
    HalfOpen,
    /// It refuses them.
    Open,
}

/// Why a call was refused. The texts are the ones that callers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The breaker is open.
    #[error("circuit breaker is open")]
    Open,
    /// It is half-open and its probes are under way.
    #[error("too many requests")]
    TooMany,
}

/// The right to one call; its end is told with [`Breaker::record`] or [`Breaker::forget`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a probe that never ends keeps the breaker half-open"]
pub struct Permit(u64);

/// A change of state, for the log and the series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
}

/// The breakers of a target.
#[derive(Debug)]
pub struct Breakers {
    policy: BreakerPolicy,
    size: NonZeroU32,
    cells: Mutex<LruCache<Box<str>, Arc<Cell>, RandomState>>,
}

/// A breaker that several calls share.
#[derive(Debug, Default)]
pub struct Cell(Mutex<Breaker>);

// === impl Breaker ===

impl Breaker {
    /// Asks for a call.
    ///
    /// # Errors
    /// [`Refusal`]: the call must not be made.
    pub fn admit(
        &mut self,
        policy: &BreakerPolicy,
        now: Duration,
    ) -> (Result<Permit, Refusal>, Option<Change>) {
        let change = self.observe(policy, now);
        let verdict = match self.state {
            State::Open => Err(Refusal::Open),
            State::HalfOpen if self.counts.requests >= policy.max_requests.get() => {
                Err(Refusal::TooMany)
            }
            State::HalfOpen | State::Closed => {
                self.counts.requests = self.counts.requests.saturating_add(1);
                Ok(Permit(self.generation))
            }
        };
        (verdict, change)
    }

    /// Tells the end of a call.
    pub fn record(
        &mut self,
        policy: &BreakerPolicy,
        now: Duration,
        permit: Permit,
        is_success: bool,
    ) -> Option<Change> {
        let change = self.observe(policy, now);
        if permit.0 != self.generation {
            return change;
        }
        if is_success {
            self.counts.success();
        } else {
            self.counts.failure();
        }
        let next = match self.state {
            State::Closed if !is_success && trips(policy.trip.expr(), &self.counts) => State::Open,
            State::HalfOpen if !is_success => State::Open,
            State::HalfOpen if self.counts.consecutive_successes >= policy.max_requests.get() => {
                State::Closed
            }
            State::Closed | State::HalfOpen | State::Open => return change,
        };
        Some(self.enter(next, policy, now))
    }

    /// Gives a permit back: the call was not made.
    pub fn forget(&mut self, permit: Permit) {
        if permit.0 == self.generation {
            self.counts.requests = self.counts.requests.saturating_sub(1);
        }
    }

    /// The state at this time; looking may end an open one.
    pub fn state(&mut self, policy: &BreakerPolicy, now: Duration) -> (State, Option<Change>) {
        let change = self.observe(policy, now);
        (self.state, change)
    }

    /// The counts since the last change.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn observe(&mut self, policy: &BreakerPolicy, now: Duration) -> Option<Change> {
        if self.expiry.is_some_and(|expiry| expiry >= now) {
            return None;
        }
        match self.state {
            State::Open => Some(self.enter(State::HalfOpen, policy, now)),
            State::Closed if policy.interval.is_some() => {
                let is_first = self.expiry.is_none();
                // The first look only starts the clock: a new breaker has nothing to clear.
                if is_first {
                    self.expiry = policy.interval.map(|interval| now.saturating_add(interval));
                } else {
                    self.start(policy, now);
                }
                None
            }
            State::Closed | State::HalfOpen => None,
        }
    }

    fn enter(&mut self, state: State, policy: &BreakerPolicy, now: Duration) -> Change {
        let from = std::mem::replace(&mut self.state, state);
        self.start(policy, now);
        Change { from, to: state }
    }

    /// Starts a generation.
    fn start(&mut self, policy: &BreakerPolicy, now: Duration) {
        self.generation += 1;
        self.counts = Counts::default();
        let life = match self.state {
            State::Closed => policy.interval,
            State::HalfOpen => None,
            State::Open => Some(policy.timeout),
        };
        self.expiry = life.map(|life| now.saturating_add(life));
    }
}

// === impl State ===

impl State {
    /// Returns its word in logs and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Breakers ===

impl Breakers {
    /// No breaker yet; at most `size` are remembered.
    #[must_use]
    pub fn new(policy: BreakerPolicy, size: NonZeroU32) -> Self {
        let capacity = usize::try_from(size.get()).unwrap_or(usize::MAX);
        let cells = LruCache::with_hasher(capacity, RandomState::new());
        Self {
            policy,
            size,
            cells: Mutex::new(cells),
        }
    }

    /// The breaker of a key; a new one is closed.
    #[must_use]
    pub fn of(&self, key: &str) -> Arc<Cell> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = cells.get(key) {
            return cell.clone();
        }
        let cell = Arc::new(Cell::default());
        cells.insert(key.into(), cell.clone());
        cell
    }

    /// Their definition.
    #[must_use]
    pub const fn policy(&self) -> &BreakerPolicy {
        &self.policy
    }

    /// Whether breakers of this definition may go on in these.
    #[must_use]
    pub fn is_same(&self, policy: &BreakerPolicy, size: NonZeroU32) -> bool {
        self.policy == *policy && self.size == size
    }
}

// === impl Cell ===

impl Cell {
    /// The breaker; held for a moment, never while a call is made.
    pub fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
