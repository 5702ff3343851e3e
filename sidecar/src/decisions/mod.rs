//! What was decided about calls, for people: series, log lines, the last decisions, the access log file.
//!
//! A [`Recorder`] belongs to one data thread and is told every decision (stage 19); what it keeps is behind a lock
//! that only this thread takes, except while somebody reads. A call that is allowed costs the copy of a bounded
//! text and a look-up, and allocates nothing once its caller is known. Refuses to decide. Source: security 3.11,
//! 4.9.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ironside_chassis::Clock;
use ironside_policy::{Caller, Decision, Operation};
use ironside_telemetry::metrics::Metrics;

use self::{
    book::Book,
    outbox::{Bell, Outbox, Ring},
    record::{Protocol, Record, TraceNumber},
    throttle::Throttle,
};
use crate::{live::Live, sources::stream::Tally};

mod book;
pub(crate) mod file;
mod json;
mod log;
mod outbox;
pub(crate) mod record;
mod ring;
mod throttle;

pub(crate) use log::report;

/// Decisions that are kept.
pub(crate) const KEPT: usize = 256;

/// What policy was asked about one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Who calls.
    pub(crate) caller: Caller<'a>,
    /// What it wants to do.
    pub(crate) operation: Operation<'a>,
    /// The path before it was cleaned.
    pub(crate) raw: &'a str,
    /// How the app is spoken to.
    pub(crate) protocol: Protocol,
    /// The trace that the call belongs to.
    pub(crate) trace: Option<TraceNumber>,
}

/// All decisions of a process.
#[derive(Debug)]
pub(crate) struct Decisions {
    common: Arc<Common>,
    recorders: Mutex<Vec<Arc<Recorder>>>,
    /// Whether there is an access log file.
    is_filed: bool,
}

/// What one data thread tells.
#[derive(Debug)]
pub(crate) struct Recorder {
    common: Arc<Common>,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Common {
    metrics: Arc<Metrics>,
    clock: Clock,
    throttle: Throttle,
    /// For the access log file.
    bell: Bell,
    tally: Arc<Tally>,
}

// === impl Decisions ===

impl Decisions {
    /// Counts with `metrics`; lines for an access log file are kept if `is_filed`.
    pub(crate) fn new(metrics: Arc<Metrics>, clock: Clock, is_filed: bool) -> Self {
        let common = Common {
            metrics,
            clock,
            throttle: Throttle::default(),
            bell: Bell::default(),
            tally: Arc::default(),
        };
        Self {
            common: Arc::new(common),
            recorders: Mutex::default(),
            is_filed,
        }
    }

    /// What each object refused, for the operator.
    pub(crate) fn tally(&self) -> &Arc<Tally> {
        &self.common.tally
    }

    /// A recorder for one more data thread.
    pub(crate) fn recorder(&self) -> Arc<Recorder> {
        let recorder = Arc::new(Recorder {
            common: Arc::clone(&self.common),
            book: Mutex::new(Book::new(self.is_filed.then(Outbox::default))),
        });
        lock(&self.recorders).push(Arc::clone(&recorder));
        recorder
    }

    /// The last [`KEPT`] decisions of all threads, the newest first, as JSON.
    pub(crate) fn json(&self) -> String {
        let recorders = lock(&self.recorders).clone();
        let rings: Vec<ring::Ring> = recorders
            .iter()
            .map(|recorder| lock(&recorder.book).ring().clone())
            .collect();
        let mut newest: Vec<Record<'_>> = rings.iter().flat_map(ring::Ring::newest).collect();
        // Stable: what one thread decided within one tick of the clock stays in its order.
        newest.sort_by_key(|record| std::cmp::Reverse(record.time));
        newest.truncate(KEPT);
        json::list(&newest)
    }
}

// === impl Recorder ===

impl Recorder {
    /// Takes note of a decision that `live` made.
    pub(crate) fn record(&self, live: &Live, asked: &Asked<'_>, decision: &Decision) {
        let record = Record::of(live, asked, decision, self.common.clock.now());
        let ring = lock(&self.book).note(&self.common.metrics, &record);
        if ring != Ring::No {
            self.common.bell.ring(ring);
        }
        if !decision.is_allowed() || record.audit.is_some() {
            log::told(
                &self.common.throttle,
                self.common.clock.monotonic(),
                &record,
            );
            self.common.tally.record(&live.policy, decision);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic left half-written is one entry of a diagnosis.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
