//! Lines on their way to the access log file.
//!
//! A data thread appends to its own [`Outbox`] and goes on; the thread that writes takes what is there and leaves an
//! empty one. Bounded: when the disk is slower than the calls, calls are counted instead of kept.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    json::{self, Names},
    record::Record,
};

/// Bytes that may wait in one outbox: some 3,000 calls.
const CAPACITY: usize = 1 << 20;
/// Bytes after which the writing thread does not wait for more.
const URGENT: usize = CAPACITY / 4;
/// How long the writing thread waits for more lines, so that they are written together.
const GATHER: Duration = Duration::from_millis(50);

/// Lines of one data thread.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    lines: String,
    left_out: u64,
}

/// Whether the writing thread must be woken, and how fast it must come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ring {
    /// It knows already, or need not.
    No,
    /// There is something.
    Something,
    /// There is much.
    Much,
}

/// Wakes the writing thread.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<State>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct State {
    something: bool,
    much: bool,
    stop: bool,
    stopped: bool,
}

// === impl Outbox ===

impl Outbox {
    /// Appends a line, or counts it if there is no room.
    pub(super) fn push(&mut self, record: &Record<'_>) -> Ring {
        let before = self.lines.len();
        json::object(record, Names::Apart, &mut self.lines);
        self.lines.push('\n');
        let after = self.lines.len();
        if after > CAPACITY {
            self.lines.truncate(before);
            self.left_out = self.left_out.saturating_add(1);
            return Ring::No;
        }
        match (before, after) {
            (before, after) if before < URGENT && after >= URGENT => Ring::Much,
            (0, _) => Ring::Something,
            (_, _) => Ring::No,
        }
    }

    /// Puts the lines into `empty`, whose room is used from now on; returns how many calls were left out.
    pub(super) fn take(&mut self, empty: &mut String) -> u64 {
        std::mem::swap(&mut self.lines, empty);
        std::mem::take(&mut self.left_out)
    }
}

// === impl Bell ===

impl Bell {
    /// Wakes the thread.
    pub(super) fn ring(&self, ring: Ring) {
        let mut state = self.lock();
        match ring {
            Ring::No => return,
            Ring::Something => state.something = true,
            Ring::Much => (state.something, state.much) = (true, true),
        }
        self.rung.notify_all();
    }

    /// The thread: waits for lines, at most `limit`; returns whether it goes on.
    pub(super) fn wait(&self, limit: Option<Duration>) -> bool {
        let idle = |state: &mut State| !state.something && !state.stop;
        let state = match limit {
            Some(limit) => {
                let waited = self.rung.wait_timeout_while(self.lock(), limit, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.rung.wait_while(self.lock(), idle);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
        let few = |state: &mut State| !state.much && !state.stop;
        let waited = self.rung.wait_timeout_while(state, GATHER, few);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        (state.something, state.much) = (false, false);
        !state.stop
    }

    /// The thread: all is written.
    pub(super) fn stopped(&self) {
        self.lock().stopped = true;
        self.rung.notify_all();
    }

    /// Ends the thread and waits until all is written, at most `limit`.
    pub(super) fn stop(&self, limit: Duration) {
        let mut state = self.lock();
        state.stop = true;
        self.rung.notify_all();
        let busy = |state: &mut State| !state.stopped;
        // Whether it ran out of time makes no difference to what can be done.
        drop(self.rung.wait_timeout_while(state, limit, busy));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a single step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
