//! Where lines wait for the stream, so that a slow reader does not stop a call.
//!
//! One thread writes; everybody else appends to a bounded buffer. When it is
//! full a producer waits a moment, then drops its line, which is counted and
//! reported. Formatting is refused.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that may wait; some ten thousand lines.
const CAPACITY: usize = 2 << 20;
/// How long a producer waits for room. A stalled reader costs a call this much once a line.
const ROOM_LIMIT: Duration = Duration::from_millis(50);

/// The buffer between producers and the writing thread.
#[derive(Debug)]
pub(super) struct Sink {
    state: Mutex<State>,
    arrived: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether the thread holds bytes it has not yet written.
    writing: bool,
    /// Whether nobody will push any more.
    closed: bool,
    dropped: u64,
}

// === impl Sink ===

impl Sink {
    /// Starts the thread that writes to `out`; it ends when the last owner is gone.
    pub(super) fn start(out: Box<dyn Write + Send>) -> io::Result<Arc<Self>> {
        let sink = Arc::new(Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
            written: Condvar::new(),
        });
        let shared = sink.clone();
        let thread = std::thread::Builder::new().name("log".to_owned());
        thread.spawn(move || shared.write_all(out))?;
        Ok(sink)
    }

    /// Appends a line; returns how many were dropped since the last one that found room.
    pub(super) fn push(&self, line: &str) -> u64 {
        let mut state = self.lock();
        if !state.has_room(line.len()) {
            let full = |state: &mut State| !state.has_room(line.len());
            let waited = self.written.wait_timeout_while(state, ROOM_LIMIT, full);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if !state.has_room(line.len()) {
            state.dropped += 1;
            return 0;
        }
        state.waiting.extend_from_slice(line.as_bytes());
        self.arrived.notify_one();
        std::mem::take(&mut state.dropped)
    }

    /// Waits until everything pushed so far is written, at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        // Whether it ran out of time makes no difference to what can be done.
        drop(self.written.wait_timeout_while(self.lock(), limit, busy));
    }

    /// The thread: takes all that waits, writes it at once.
    fn write_all(&self, mut out: Box<dyn Write + Send>) {
        let mut batch = Vec::new();
        loop {
            let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
            let waited = self.arrived.wait_while(self.lock(), idle);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.waiting.is_empty() {
                return;
            }
            std::mem::swap(&mut batch, &mut state.waiting);
            state.writing = true;
            drop(state);
            // A closed stream must not end the process that logs to it.
            let _lost = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            self.lock().writing = false;
            self.written.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change to the state is a single step, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A line longer than the buffer passes when it is alone.
    fn has_room(&self, line: usize) -> bool {
        self.waiting.is_empty() || self.waiting.len() + line <= CAPACITY
    }
}
