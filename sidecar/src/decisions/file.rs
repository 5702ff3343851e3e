//! The access log file: decisions as JSON lines, written off the way of the calls.
//!
//! Owns the thread that writes and what is said when it cannot: lines wait in bounded queues, later ones are counted
//! as left out, and no call notices. What a line holds is the business of `json.rs`, files and their rotation that of
//! `file/rotated.rs`.

use std::{io, sync::Arc, time::Duration};

use ironside_chassis::Tick;
use tracing::{info, warn};

use self::rotated::{Batch, Rotated};
use super::{Decisions, lock};
use crate::config::AccessLogFile;

mod rotated;

/// Scope of lines about the file.
const LOG: &str = "dapr.runtime.accesslog";
/// Pause before a file that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Time between two lines about calls that were left out.
const REMIND: Duration = Duration::from_secs(60);
/// How long an exiting process waits for the disk.
const LAST: Duration = Duration::from_secs(2);

/// The thread that writes. Dropping it writes what is left.
pub(crate) struct Writing {
    decisions: Arc<Decisions>,
}

/// What the thread holds.
struct Writer {
    decisions: Arc<Decisions>,
    file: Rotated,
    /// By data thread: what was taken and is not yet written.
    batches: Vec<Batch>,
    /// Why the last attempt failed.
    trouble: Option<String>,
    /// Calls that were left out, and not yet spoken of.
    left_out: u64,
    reminded: Option<Tick>,
}

/// Opens the file and starts the thread.
///
/// # Errors
/// The system's, if the file cannot be opened or the thread not be started.
pub(crate) fn start(settings: &AccessLogFile, decisions: &Arc<Decisions>) -> io::Result<Writing> {
    let writer = Writer {
        decisions: Arc::clone(decisions),
        file: Rotated::open(settings.clone())?,
        batches: Vec::new(),
        trouble: None,
        left_out: 0,
        reminded: None,
    };
    let thread = std::thread::Builder::new().name("access-log".to_owned());
    thread.spawn(move || writer.run())?;
    Ok(Writing {
        decisions: Arc::clone(decisions),
    })
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.decisions.common.bell.stop(LAST);
    }
}

// === impl Writer ===

impl Writer {
    fn run(mut self) {
        let common = Arc::clone(&self.decisions.common);
        loop {
            let is_late = self.batches.iter().any(|batch| !batch.is_written());
            let goes_on = common
                .bell
                .wait((is_late || self.left_out > 0).then_some(AGAIN));
            self.write();
            if !goes_on {
                // What came between the last look and the end.
                self.write();
                return common.bell.stopped();
            }
        }
    }

    /// Takes what waits and writes it.
    fn write(&mut self) {
        let mut left_out = 0;
        let recorders = lock(&self.decisions.recorders).clone();
        self.batches.resize_with(recorders.len(), Batch::default);
        let mut wrote = Ok(());
        for (recorder, batch) in recorders.iter().zip(&mut self.batches) {
            if batch.is_written() {
                left_out += lock(&recorder.book).take_lines(batch.refilled());
            }
            wrote = wrote.and_then(|()| self.file.append(batch));
        }
        if left_out > 0 {
            self.decisions.common.metrics.access_log_dropped(left_out);
            self.left_out += left_out;
        }
        self.tell(wrote);
    }

    fn tell(&mut self, wrote: io::Result<()>) {
        match (wrote, &self.trouble) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => {
                self.trouble = None;
                info!(target: LOG, "the access log file is written again");
            }
            (Err(cause), trouble) => {
                let cause = cause.to_string();
                if trouble.as_ref() != Some(&cause) {
                    warn!(
                        target: LOG,
                        "the access log file {} cannot be written: {cause}; calls go on, and are left out of it once the queue is full",
                        self.file.path().display()
                    );
                    self.trouble = Some(cause);
                }
            }
        }
        self.remind();
    }

    fn remind(&mut self) {
        if self.left_out == 0 {
            return;
        }
        let common = &self.decisions.common;
        let now = common.clock.monotonic();
        if self.reminded.is_some_and(|then| now.since(then) < REMIND) {
            return;
        }
        self.reminded = Some(now);
        let calls = std::mem::take(&mut self.left_out);
        warn!(target: LOG, calls, "calls were left out of the access log file: it could not be written, or not fast enough");
    }
}

#[cfg(test)]
mod tests;
