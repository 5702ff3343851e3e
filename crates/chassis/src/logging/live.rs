//! The level of a running process, changed by two signals.
//!
//! SIGUSR1 sets `debug`, SIGUSR2 restores the level of the start. Which flags set that one is the program's.
//! Without this the default action of both signals ends a process.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{self, SignalKind};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::level::{Level, Threshold};

/// Scope of the line that tells of a change.
const LOG: &str = "dapr.log";

/// Follows the two signals.
#[derive(Debug)]
pub struct LevelSwitch {
    threshold: Arc<Threshold>,
    start: Level,
    debug: unix::Signal,
    reset: unix::Signal,
}

// === impl LevelSwitch ===

impl LevelSwitch {
    pub(super) fn new(threshold: &Arc<Threshold>, start: Level) -> io::Result<Self> {
        Ok(Self {
            threshold: Arc::clone(threshold),
            start,
            debug: unix::signal(SignalKind::user_defined1())?,
            reset: unix::signal(SignalKind::user_defined2())?,
        })
    }

    /// Changes the level at each signal, until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let level = tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = self.debug.recv() => Level::Debug,
                Some(()) = self.reset.recv() => self.start,
            };
            self.change(level);
        }
    }

    /// The line is written at the more talkative of both levels, so that it is seen.
    fn change(&self, level: Level) {
        let tell = || info!(target: LOG, "Log level set to: {level}");
        if level < Level::Info {
            tell();
        }
        self.threshold.set(level);
        tracing::callsite::rebuild_interest_cache();
        if level >= Level::Info {
            tell();
        }
    }
}
