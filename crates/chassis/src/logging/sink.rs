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
/// Pause before a non-blocking pipe that is full is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(5);

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
    dropped: u64,
}

// === impl Sink ===

impl Sink {
    /// Starts the thread that writes to `out`; it ends with the process, because any line may
    /// be the last one.
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
            let idle = |state: &mut State| state.waiting.is_empty();
            let waited = self.arrived.wait_while(self.lock(), idle);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut batch, &mut state.waiting);
            state.writing = true;
            drop(state);
            // A closed stream must not end the process that logs to it.
            let _lost = write_patiently(&mut out, &batch);
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

/// Writes all of `bytes`, also to a pipe that somebody made non-blocking.
fn write_patiently(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(FULL_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

impl State {
    /// A line longer than the buffer passes when it is alone.
    fn has_room(&self, line: usize) -> bool {
        self.waiting.is_empty() || self.waiting.len() + line <= CAPACITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one byte at a time, after an interruption and a full pipe.
    #[derive(Default)]
    struct Moody {
        calls: usize,
        taken: Vec<u8>,
    }

    impl Write for Moody {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            match self.calls % 3 {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                1 => Err(io::ErrorKind::Interrupted.into()),
                _ => self.taken.write(&bytes[..1]),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_that_is_full_loses_nothing() {
        let mut out = Moody::default();
        write_patiently(&mut out, b"all of it").unwrap();
        assert_eq!(out.taken, b"all of it");
        assert!(write_patiently(&mut [0_u8; 0].as_mut_slice(), b"x").is_err());
    }
}
