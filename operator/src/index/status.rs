//! The status of an AccessControl, and when it is written.
//!
//! Pure. Owns the words of the four conditions (security 4.2, and who is expected: every running injected pod), the
//! instant of a transition, and the pace of writes: the result of a new generation at once when everybody answered,
//! otherwise after a moment; everything else at most every five seconds for an object; what only counts, at most once
//! a minute; what has not changed, never.

use super::access::Object;
use super::sidecars::Standing;
use ironside_discovery::Counts;
use ironside_resources::AccessControl;
use ironside_resources::access_control::{
    AccessControlStatus, Condition, Denials, LintEntry, Mode, SidecarCounts, WouldDeny,
};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Least time between two writes for one object (security 4.8).
const PACE: Duration = Duration::from_secs(5);
/// Least time between two writes that only count.
const COUNT_PACE: Duration = Duration::from_secs(60);
/// So long may sidecars take to answer before the first status of a generation says that they have not.
const ANSWERS: Duration = Duration::from_secs(1);
/// A new leader does not know all sidecars yet: for so long it takes back nothing that was said of a generation.
const SETTLE: Duration = Duration::from_secs(30);

pub(crate) const ACCEPTED: &str = "Accepted";
pub(crate) const PROGRAMMED: &str = "Programmed";
pub(crate) const LEGACY_EQUIVALENT: &str = "LegacyEquivalent";
pub(crate) const CONFLICTED: &str = "Conflicted";

/// `status` of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    Unknown,
}

/// A condition without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aspect {
    pub(crate) truth: Truth,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Whether sidecars prove to each other who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mtls {
    On,
    Off,
}

/// What a status is made of.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) object: &'a Object,
    /// What its status says at present.
    pub(crate) held: Option<&'a AccessControlStatus>,
    /// The rules that are in force: those of the object, or its last good ones.
    pub(crate) rules: Option<&'a AccessControl>,
    pub(crate) standing: &'a Standing,
    pub(crate) lint: &'a [LintEntry],
    pub(crate) equivalent: Option<&'a Aspect>,
    pub(crate) conflicted: Option<&'a Aspect>,
    pub(crate) last_hour: Counts,
    pub(crate) mtls: Mtls,
}

/// When a status is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// It is as it should be.
    Never,
    Now,
    /// Not before this instant, and only if it is still to be written then.
    At(Duration),
}

/// What the pace of an object depends on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// When its status was last written.
    pub(crate) written: Option<Duration>,
    /// When its present generation was first seen.
    pub(crate) since: Duration,
    /// When this replica began to lead.
    pub(crate) leads_since: Duration,
}

// === impl Truth ===

impl Truth {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

// === impl Aspect ===

impl Aspect {
    pub(crate) fn new(truth: Truth, reason: &'static str, message: String) -> Self {
        Self {
            truth,
            reason,
            message,
        }
    }

    fn condition(&self, kind: &str, generation: i64, before: &[Condition], now: &str) -> Condition {
        let status = self.truth.as_str();
        let held = before
            .iter()
            .find(|one| one.kind == kind && one.status == status);
        let since = held.map_or(now, |held| held.last_transition_time.as_str());
        Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            observed_generation: Some(generation),
            last_transition_time: since.to_owned(),
            reason: self.reason.to_owned(),
            message: self.message.clone(),
        }
    }
}

// === impl Facts ===

impl Facts<'_> {
    /// Returns the status; `now` is when conditions begin that were not so before, in RFC 3339.
    pub(crate) fn status(&self, now: &str) -> AccessControlStatus {
        let Self {
            object,
            held,
            rules,
            standing,
            lint,
            equivalent,
            conflicted,
            last_hour,
            mtls: _,
        } = self;
        let generation = object.stored.generation;
        let before = held.map(|status| status.conditions.as_slice());
        let before = before.unwrap_or_default();
        let not_yet = Aspect::new(
            Truth::Unknown,
            "NotComputed",
            "not looked at yet".to_owned(),
        );
        let aspects = [
            (ACCEPTED, &self.accepted()),
            (PROGRAMMED, &self.programmed()),
            (LEGACY_EQUIVALENT, equivalent.unwrap_or(&not_yet)),
            (CONFLICTED, conflicted.unwrap_or(&not_yet)),
        ];
        let conditions =
            aspects.map(|(kind, aspect)| aspect.condition(kind, generation, before, now));
        let policies = rules
            .map(|rules| rules.spec.policies.as_slice())
            .unwrap_or_default();
        let operations: usize = policies.iter().map(|policy| policy.operations.len()).sum();
        let is_audit = rules.is_some_and(|rules| rules.spec.mode == Mode::Audit);
        let denied = (last_hour.denied > 0 || (rules.is_some() && !is_audit)).then(|| Denials {
            last_hour: i64::try_from(last_hour.denied).unwrap_or(i64::MAX),
        });
        let would_deny = (last_hour.would_deny > 0 || is_audit).then(|| WouldDeny {
            would_deny_last_hour: i64::try_from(last_hour.would_deny).unwrap_or(i64::MAX),
        });
        AccessControlStatus {
            observed_generation: generation,
            conditions: conditions.into(),
            policy_count: small(policies.len()),
            operation_count: small(operations),
            apps: standing.apps.clone(),
            apps_truncated: standing.apps_truncated,
            sidecars: SidecarCounts {
                connected: small(standing.connected),
                applied: small(standing.applied),
                rejected: small(standing.rejected),
                outdated: small(standing.outdated),
                summary: format!("{}/{}", standing.applied, standing.connected),
            },
            lint: lint.to_vec(),
            denials: denied,
            audit: would_deny,
        }
    }

    fn accepted(&self) -> Aspect {
        match &self.object.rules {
            Ok(_) => Aspect::new(Truth::True, "Accepted", "the rules can be used".to_owned()),
            Err(refused) => {
                let rest = match self.rules {
                    Some(_) => "the last good generation stays in force",
                    None => "everything in its scope is denied",
                };
                Aspect::new(
                    Truth::False,
                    refused.reason,
                    format!("{}; {rest}", refused.message),
                )
            }
        }
    }

    fn programmed(&self) -> Aspect {
        let standing = self.standing;
        let Standing {
            expected, applied, ..
        } = standing;
        let missing = || {
            let text = standing.told_laggards();
            format!("{applied} of {expected} sidecars run this generation; not: {text}")
        };
        if self.mtls == Mtls::Off {
            let text = "mutual TLS is off: callers have no identity that rules could name";
            return Aspect::new(Truth::False, "MTLSDisabled", text.to_owned());
        }
        if *expected == 0 {
            let text = "no running pod with a sidecar is in its scope";
            return Aspect::new(Truth::False, "NoSidecars", text.to_owned());
        }
        if standing.is_complete() {
            let text = format!("in force on {applied} sidecars");
            return Aspect::new(Truth::True, "Programmed", text);
        }
        let reason = if standing.rejected > 0 {
            "SidecarRejected"
        } else if standing.outdated > 0 {
            "OutdatedSidecars"
        } else {
            "Pending"
        };
        Aspect::new(Truth::False, reason, missing())
    }
}

/// Returns when `next` is to be written in the place of `held`.
pub(crate) fn due(
    held: Option<&AccessControlStatus>,
    next: &AccessControlStatus,
    standing: &Standing,
    pace: Pace,
    now: Duration,
) -> Due {
    let Some(held) = held.filter(|held| held.observed_generation == next.observed_generation)
    else {
        // Nobody has spoken of this generation yet.
        let is_settled = standing.pending == 0 && standing.outdated == 0;
        let is_refused = is_true(next, ACCEPTED) == Some(false);
        return if is_settled || is_refused {
            Due::Now
        } else {
            at(pace.since + ANSWERS, now)
        };
    };
    if held == next {
        return Due::Never;
    }
    let since = |pause: Duration| {
        pace.written
            .map_or(Duration::ZERO, |written| written + pause)
    };
    if is_same_but_counts(held, next) {
        return at(since(COUNT_PACE), now);
    }
    let is_taken_back =
        is_true(held, PROGRAMMED) == Some(true) && is_true(next, PROGRAMMED) == Some(false);
    if is_taken_back && standing.rejected == 0 && standing.outdated == standing.starting {
        // Pods that have just begun, and sidecars that have just come: they are given their time.
        return Due::At(now + ANSWERS);
    }
    let is_less = is_taken_back || next.sidecars.connected < held.sidecars.connected;
    let settled = if is_less {
        pace.leads_since + SETTLE
    } else {
        Duration::ZERO
    };
    at(since(PACE).max(settled), now)
}

fn at(instant: Duration, now: Duration) -> Due {
    if instant <= now {
        Due::Now
    } else {
        Due::At(instant)
    }
}

fn is_same_but_counts(held: &AccessControlStatus, next: &AccessControlStatus) -> bool {
    let without = |status: &AccessControlStatus| AccessControlStatus {
        denials: None,
        audit: None,
        ..status.clone()
    };
    without(held) == without(next)
}

/// What a status says of a condition; none if it says that it is not known, or nothing.
pub(crate) fn is_true(status: &AccessControlStatus, kind: &str) -> Option<bool> {
    let condition = status.conditions.iter().find(|one| one.kind == kind)?;
    match condition.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

fn small(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
