//! The signals that ask the command line to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The stream of requests to end: interrupt, terminate and hang-up alike.
///
/// Installed before the first child is started, so that a request at any moment is an orderly end.
#[derive(Debug)]
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

// === impl Interrupts ===

impl Interrupts {
    /// Takes the signals over.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next request.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
