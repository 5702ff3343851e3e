//! One decision, as series, log lines, the list of the API and the access log file tell it.
//!
//! Owns the bounds of what is kept of a call and the words of the fields. A [`Record`] borrows: from the call when
//! it is made, from the ring when it is read. Refuses to own any spelling beyond single words.

use std::{fmt, num::NonZeroU128, time::SystemTime};

use ironside_identity::SpiffeId;
use ironside_policy::{Caller, Decision, Form, Pointer, Reason, VerbSet, Verdict};
use ironside_telemetry::metrics::{AclOutcome, AclScope, Outcome};

use super::Asked;
use crate::live::Live;

/// Bytes that are kept of a canonical operation.
pub(super) const MAX_OPERATION: usize = 1024;
/// Bytes that are kept of a raw operation, and that a log line has of any (security 4.9).
pub(super) const MAX_RAW: usize = 256;
/// Bytes that are kept of the name of an object: the longest namespace and name.
pub(super) const MAX_POLICY: usize = 320;

/// One decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// When.
    pub(crate) time: SystemTime,
    /// What was decided.
    pub(crate) said: Said<'a>,
    /// What objects under audit would change about it.
    pub(crate) audit: Option<Said<'a>>,
    /// Who called; `None` without identity, and for the own app.
    pub(crate) caller: Option<CallerName<'a>>,
    /// The cleaned path, perhaps cut.
    pub(crate) operation: &'a str,
    /// The path as it came, if that is another one, perhaps cut.
    pub(crate) raw: Option<&'a str>,
    /// The operation is longer than it is here.
    pub(crate) is_cut: bool,
    /// The verb.
    pub(crate) verb: &'static str,
    /// Verbs that the app may take it for.
    pub(crate) overrides: VerbSet,
    /// How the app is spoken to.
    pub(crate) protocol: Protocol,
    /// The number of the state of the rules.
    pub(crate) snapshot: u64,
    /// The trace that the call belongs to.
    pub(crate) trace: Option<TraceNumber>,
}

/// Yes or no, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said<'a> {
    /// Yes or no.
    pub(crate) outcome: Outcome,
    /// Why.
    pub(crate) reason: Reason,
    /// Which of the reference's counters it is counted by, if any.
    pub(super) scope: Option<(AclScope, AclOutcome)>,
    /// The object; empty if none decided.
    pub(crate) policy: &'a str,
    /// The rule within the object.
    pub(crate) rule: Option<Pointer>,
}

/// The names of a caller's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallerName<'a> {
    /// Trust domain.
    pub(crate) trust_domain: &'a str,
    /// Namespace.
    pub(crate) namespace: &'a str,
    /// App ID.
    pub(crate) app_id: &'a str,
}

/// How the app is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP.
    Http,
    /// The callback of a gRPC app.
    Grpc,
    /// A gRPC call that is passed on unparsed.
    Proxy,
}

/// The ID of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceNumber(NonZeroU128);

// === impl Record ===

impl<'a> Record<'a> {
    /// What is told of a decision that `live` made.
    pub(super) fn of(
        live: &'a Live,
        asked: &Asked<'a>,
        decision: &Decision,
        time: SystemTime,
    ) -> Self {
        let Asked {
            caller,
            operation,
            raw,
            protocol,
            trace,
        } = *asked;
        let method = operation.method;
        let is_other = raw.strip_prefix('/').unwrap_or(raw) != relative(method);
        Self {
            time,
            said: Said::of(live, decision.verdict),
            audit: Said::changed(live, decision),
            caller: match caller {
                Caller::Peer(id) => Some(CallerName::of(id)),
                Caller::Anonymous | Caller::Own => None,
            },
            operation: cut(method, MAX_OPERATION),
            raw: is_other.then(|| cut(raw, MAX_RAW)),
            is_cut: method.len() > MAX_OPERATION,
            verb: operation.verb.as_str(),
            overrides: operation.overrides,
            protocol: match operation.form {
                Form::Invoke => protocol,
                Form::Proxied => Protocol::Proxy,
            },
            snapshot: live.snapshot.number,
            trace,
        }
    }
}

/// The longest start of `text` that has at most `limit` bytes.
fn cut(text: &str, limit: usize) -> &str {
    let end = text.floor_char_boundary(limit);
    text.get(..end).unwrap_or(text)
}

/// A path without its leading slash.
pub(super) fn relative(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

// === impl Said ===

impl<'a> Said<'a> {
    fn of(live: &'a Live, verdict: Verdict) -> Self {
        let outcome = match verdict {
            Verdict::Allow(_) => Outcome::Allow,
            Verdict::Deny(_) => Outcome::Deny,
        };
        let matched = verdict.matched();
        let place = matched.rule.and_then(|rule| live.policy.place(rule));
        Self {
            outcome,
            reason: matched.reason,
            scope: scope(&verdict),
            policy: cut(place.map_or("", |place| place.object()), MAX_POLICY),
            rule: place.map(|place| place.pointer()),
        }
    }

    /// What would be said if objects under audit counted, where that is something else.
    fn changed(live: &'a Live, decision: &Decision) -> Option<Self> {
        let other = decision.audit?;
        if other.is_allowed() == decision.is_allowed() {
            return None;
        }
        let outcome = if other.is_allowed() {
            Outcome::WouldAllow
        } else {
            Outcome::WouldDeny
        };
        Some(Self {
            outcome,
            scope: None,
            ..Self::of(live, other)
        })
    }
}

/// The reference counts what its list said; it has no such list for the other reasons (security 3.11).
fn scope(verdict: &Verdict) -> Option<(AclScope, AclOutcome)> {
    let matched = verdict.matched();
    match matched.reason {
        Reason::OperationRule
        | Reason::CallerDefault
        | Reason::GlobalDefault
        | Reason::NoPolicy
        | Reason::NoIdentity
        | Reason::AmbiguousPath
        | Reason::PolicyInvalid => {}
        Reason::ReservedService
        | Reason::RelayRefused
        | Reason::PolicyUnavailable
        | Reason::InternalError => return None,
    }
    let scope = match matched.source {
        ironside_policy::Source::App => AclScope::App,
        ironside_policy::Source::Global => AclScope::Global,
    };
    let outcome = if verdict.is_allowed() {
        AclOutcome::Allowed
    } else {
        AclOutcome::Blocked
    };
    Some((scope, outcome))
}

// === impl CallerName ===

impl<'a> CallerName<'a> {
    /// Without certificate.
    pub(super) const NOBODY: Self = Self {
        trust_domain: "",
        namespace: "",
        app_id: "",
    };

    fn of(id: &'a SpiffeId) -> Self {
        Self {
            trust_domain: id.trust_domain().as_str(),
            namespace: id.namespace().as_str(),
            app_id: id.app_id().as_str(),
        }
    }
}

/// The SPIFFE ID.
impl fmt::Display for CallerName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trust_domain,
            namespace,
            app_id,
        } = self;
        write!(f, "spiffe://{trust_domain}/ns/{namespace}/{app_id}")
    }
}

// === impl Protocol ===

impl Protocol {
    /// The word of the field.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Proxy => "proxy",
        }
    }
}

// === impl TraceNumber ===

impl TraceNumber {
    /// The trace of a `traceparent`; the all-zero one is none.
    pub(crate) fn of_parent(parent: &[u8]) -> Option<Self> {
        let digits = str::from_utf8(parent.get(3..35)?).ok()?;
        let number = u128::from_str_radix(digits, 16).ok()?;
        NonZeroU128::new(number).map(Self)
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for TraceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
