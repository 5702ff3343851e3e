//! Lines about refusals, and about what objects under audit would change.
//!
//! Owns the fields of security 4.9 and their bounds. Nothing that a caller wrote goes into a line unescaped, and a
//! caller cannot cause more lines than `throttle.rs` lets through. The debug line is the reference's.

use std::{sync::Arc, time::Duration};

use ironside_chassis::{Clock, Tick};
use ironside_telemetry::{escaped, metrics::Outcome};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Decisions,
    record::{MAX_POLICY, MAX_RAW, Record, Said, relative},
    throttle::{About, Event, Summary, Throttle},
};

/// Scope of the lines.
const AUDIT: &str = "dapr.acl.audit";
/// Scope of the reference's line.
const LOG: &str = "dapr.acl";
/// How often it is looked for counts that nothing else brings up.
const LOOK: Duration = Duration::from_secs(5);

/// Writes a line: a refusal at level warn, what objects under audit would change at level info (L-16).
macro_rules! audited {
    ($outcome:expr, $fields:tt, $message:expr) => {
        match $outcome {
            Outcome::Allow | Outcome::Deny => warn!(target: AUDIT, $fields, "{}", $message),
            Outcome::WouldDeny | Outcome::WouldAllow => info!(target: AUDIT, $fields, "{}", $message),
        }
    };
}

/// Writes what is to be said of a decision that refused, or that objects under audit would change.
pub(super) fn told(throttle: &Throttle, now: Tick, record: &Record<'_>) {
    if record.said.outcome == Outcome::Deny {
        refused(record);
        line(throttle, now, record, &record.said);
    }
    if let Some(audit) = &record.audit {
        line(throttle, now, record, audit);
    }
}

/// The reference's line, which is also what the caller is told.
fn refused(record: &Record<'_>) {
    debug!(
        target: LOG,
        "access control policy has denied access to id: {} operation: {} verb: {}",
        record.caller.map(|caller| caller.to_string()).unwrap_or_default(),
        escaped(relative(record.operation), MAX_RAW),
        record.verb
    );
}

fn line(throttle: &Throttle, now: Tick, record: &Record<'_>, said: &Said<'_>) {
    let caller = record.caller.map(|caller| caller.to_string());
    let operation = format!("/{}", escaped(relative(record.operation), MAX_RAW - 1));
    let event = Event {
        outcome: said.outcome,
        caller: caller.as_deref().unwrap_or_default(),
        operation: &operation,
        verb: record.verb,
    };
    let (is_written, left_out) = throttle.admit(now, &event);
    if let Some(left_out) = left_out {
        summed(&left_out);
    }
    if !is_written {
        return;
    }
    let message = match said.outcome {
        Outcome::Allow | Outcome::Deny => "access denied",
        Outcome::WouldDeny => "access would be denied",
        Outcome::WouldAllow => "access would be allowed",
    };
    let policy = Some(said.policy).filter(|name| !name.is_empty());
    audited!(
        said.outcome,
        {
            decision = said.outcome.as_str(),
            reason = said.reason.as_str(),
            policy.object = policy.map(|name| display(escaped(name, MAX_POLICY))),
            policy.rule = said.rule.map(display),
            policy.snapshot = record.snapshot,
            peer.id = caller.as_deref().unwrap_or_default(),
            operation,
            operation.raw = record.raw.map(|raw| display(escaped(raw, MAX_RAW))),
            verb = record.verb,
            protocol = record.protocol.as_str(),
            trace.id = record.trace.map(display),
        },
        message
    );
}

/// What lines were left out of a window that is over.
fn summed(summary: &Summary) {
    let Summary {
        caller,
        about,
        count,
    } = summary;
    let Some(About {
        outcome,
        operation,
        verb,
    }) = about
    else {
        return warn!(
            target: AUDIT,
            { suppressed = count, peer.id = caller.as_deref() },
            "more refusals of other operations were counted, not written"
        );
    };
    audited!(
        *outcome,
        {
            suppressed = count,
            decision = outcome.as_str(),
            peer.id = caller.as_deref(),
            operation = &**operation,
            verb,
        },
        "more of the same was counted, not written"
    );
}

/// Writes counts that are due, until `stop` is cancelled, then all that are left.
pub(crate) async fn report(decisions: Arc<Decisions>, clock: Clock, stop: CancellationToken) {
    let throttle = &decisions.common.throttle;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
        throttle.ended(clock.monotonic()).iter().for_each(summed);
    }
    throttle.all().iter().for_each(summed);
}
