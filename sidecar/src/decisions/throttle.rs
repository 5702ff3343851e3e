//! How many lines a caller that is refused may cause.
//!
//! Ten a minute for each caller and operation, then a count (fact O-A9). The table is bounded: a caller that asks
//! for ever new operations gets one more budget for all of them together, and so do callers beyond the first ones.
//! Values in, values out: time is an argument, lines are written elsewhere.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, Hash},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ironside_chassis::Tick;
use ironside_telemetry::metrics::Outcome;

/// Lines of one caller and operation in one window.
const LINES: u64 = 10;
/// Length of a window, from its first line.
const WINDOW: Duration = Duration::from_secs(60);
/// Parts of the table, so that threads seldom meet.
const SHARDS: usize = 16;
/// Callers of one part with a budget of their own.
const MAX_CALLERS: usize = 16;
/// Operations of one caller with a budget of their own.
const MAX_OPERATIONS: usize = 32;

/// What was refused, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Event<'a> {
    /// What was decided.
    pub(super) outcome: Outcome,
    /// SPIFFE ID; empty without one.
    pub(super) caller: &'a str,
    /// The cleaned path, as lines have it.
    pub(super) operation: &'a str,
    /// The verb.
    pub(super) verb: &'static str,
}

/// Lines that were not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    /// SPIFFE ID; `None` for callers beyond the first ones.
    pub(super) caller: Option<Box<str>>,
    /// What they were about; `None` for operations beyond the first ones.
    pub(super) about: Option<About>,
    /// How many.
    pub(super) count: u64,
}

/// What a window is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) outcome: Outcome,
    pub(super) operation: Box<str>,
    pub(super) verb: &'static str,
}

/// Who may cause how many lines.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

/// Keys are hashes under a random key: two that meet share a budget.
#[derive(Debug, Default)]
struct Shard {
    callers: HashMap<u64, Budget>,
    others: Option<Window>,
}

#[derive(Debug)]
struct Budget {
    caller: Box<str>,
    operations: HashMap<u64, (About, Window)>,
    others: Option<Window>,
}

/// Lines since a first one.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: Tick,
    seen: u64,
}

// === impl Throttle ===

impl Throttle {
    /// Returns whether the event gets a line, and what was left out in the window before.
    pub(super) fn admit(&self, now: Tick, event: &Event<'_>) -> (bool, Option<Summary>) {
        let caller = self.hasher.hash_one(event.caller);
        let operation = self.hasher.hash_one(event);
        let shards = self.shards.len() as u64;
        let at = usize::try_from(caller % shards).unwrap_or_default();
        let Some(shard) = self.shards.get(at) else {
            return (true, None);
        };
        lock(shard).admit(now, (caller, operation), event)
    }

    /// Forgets windows that are over; returns what was left out in them.
    pub(super) fn ended(&self, now: Tick) -> Vec<Summary> {
        self.take(|window| now.since(window.began) >= WINDOW)
    }

    /// Forgets everything; returns what was left out.
    pub(super) fn all(&self) -> Vec<Summary> {
        self.take(|_| true)
    }

    fn take(&self, is_over: impl Fn(&Window) -> bool) -> Vec<Summary> {
        let mut left_out = Vec::new();
        for shard in &self.shards {
            lock(shard).take(&is_over, &mut left_out);
        }
        left_out
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A table of counts is valid after any interrupted change.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Shard ===

impl Shard {
    fn admit(
        &mut self,
        now: Tick,
        (caller, operation): (u64, u64),
        event: &Event<'_>,
    ) -> (bool, Option<Summary>) {
        if !self.callers.contains_key(&caller) {
            if self.callers.len() >= MAX_CALLERS {
                let (writes, left_out) = admit(&mut self.others, now);
                return (writes, summary(None, None, left_out));
            }
            self.callers.insert(caller, Budget::new(event.caller));
        }
        match self.callers.get_mut(&caller) {
            Some(budget) => budget.admit(now, operation, event),
            None => (true, None),
        }
    }

    fn take(&mut self, is_over: &impl Fn(&Window) -> bool, left_out: &mut Vec<Summary>) {
        self.callers.retain(|_, budget| {
            budget.take(is_over, left_out);
            !budget.operations.is_empty() || budget.others.is_some()
        });
        if let Some(window) = self.others.take_if(|window| is_over(window)) {
            left_out.extend(summary(None, None, window.left_out()));
        }
    }
}

// === impl Budget ===

impl Budget {
    fn new(caller: &str) -> Self {
        Self {
            caller: caller.into(),
            operations: HashMap::new(),
            others: None,
        }
    }

    fn admit(&mut self, now: Tick, key: u64, event: &Event<'_>) -> (bool, Option<Summary>) {
        if let Some((about, window)) = self.operations.get_mut(&key) {
            let mut open = Some(*window);
            let (writes, left_out) = admit(&mut open, now);
            *window = open.unwrap_or(*window);
            let about = (left_out > 0).then(|| about.clone());
            return (writes, summary(Some(&self.caller), about, left_out));
        }
        if self.operations.len() >= MAX_OPERATIONS {
            let (writes, left_out) = admit(&mut self.others, now);
            return (writes, summary(Some(&self.caller), None, left_out));
        }
        let about = About {
            outcome: event.outcome,
            operation: event.operation.into(),
            verb: event.verb,
        };
        let window = Window {
            began: now,
            seen: 1,
        };
        self.operations.insert(key, (about, window));
        (true, None)
    }

    fn take(&mut self, is_over: &impl Fn(&Window) -> bool, left_out: &mut Vec<Summary>) {
        let caller = &self.caller;
        self.operations.retain(|_, (about, window)| {
            let over = is_over(window);
            if over {
                left_out.extend(summary(
                    Some(caller),
                    Some(about.clone()),
                    window.left_out(),
                ));
            }
            !over
        });
        if let Some(window) = self.others.take_if(|window| is_over(window)) {
            left_out.extend(summary(Some(caller), None, window.left_out()));
        }
    }
}

// === impl Window ===

impl Window {
    fn left_out(self) -> u64 {
        self.seen.saturating_sub(LINES)
    }
}

/// Counts one more; returns whether it gets a line, and what the window before left out.
fn admit(window: &mut Option<Window>, now: Tick) -> (bool, u64) {
    let over = window.take_if(|window| now.since(window.began) >= WINDOW);
    let open = window.get_or_insert(Window {
        began: now,
        seen: 0,
    });
    open.seen = open.seen.saturating_add(1);
    (open.seen <= LINES, over.map_or(0, Window::left_out))
}

fn summary(caller: Option<&str>, about: Option<About>, count: u64) -> Option<Summary> {
    (count > 0).then(|| Summary {
        caller: caller.map(Into::into),
        about,
        count,
    })
}

#[cfg(test)]
mod tests;
