//! What a decision says: yes or no, the reason, and the rule.
//!
//! Owns the words of the reasons and how the answers to several readings of one request become one.

use super::RuleId;

/// An answer, and what it would be if objects under audit counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub verdict: Verdict,
    /// The other one; `None` when no object is under audit.
    pub audit: Option<Verdict>,
}

/// Yes or no, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The operation may go on.
    Allow(Matched),
    /// It may not.
    Deny(Matched),
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// Which kind of thing.
    pub reason: Reason,
    /// Which rule; see [`crate::PolicySet::place`].
    pub rule: Option<RuleId>,
    /// The label of the reference's metrics.
    pub source: Source,
}

/// Kind of thing that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A rule for the path.
    OperationRule,
    /// The default of a caller's entry.
    CallerDefault,
    /// The default of an object.
    GlobalDefault,
    /// There is no policy.
    NoPolicy,
    /// The caller has no identity.
    NoIdentity,
    /// The path can be read in two ways, and one of them is denied.
    AmbiguousPath,
    /// Services that no peer may call through the proxy.
    ReservedService,
    /// The call is for another app. Said by whoever finds out, never by a policy set.
    RelayRefused,
    /// Policy has not arrived, or is too old.
    PolicyUnavailable,
    /// An object cannot be used.
    PolicyInvalid,
    /// The evaluation failed.
    InternalError,
}

/// Whose default the reference counts a decision under (security 3.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The caller's entry.
    App,
    /// The whole list.
    Global,
}

// === impl Decision ===

impl Decision {
    /// Returns whether the operation may go on.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict.is_allowed()
    }

    /// A denial for a reason that lies outside of all rules.
    #[must_use]
    pub fn deny(reason: Reason) -> Self {
        Self {
            verdict: Verdict::Deny(Matched::of(reason)),
            audit: None,
        }
    }

    pub(super) fn allow(reason: Reason) -> Self {
        Self {
            verdict: Verdict::Allow(Matched::of(reason)),
            audit: None,
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Returns whether it is a yes.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Returns what decided.
    #[must_use]
    pub fn matched(&self) -> &Matched {
        match self {
            Self::Allow(matched) | Self::Deny(matched) => matched,
        }
    }

    /// The stricter of the two; of two denials the first.
    pub(crate) fn and(self, other: Self) -> Self {
        if self.is_allowed() && !other.is_allowed() {
            other
        } else {
            self
        }
    }

    /// What remains of an answer to another reading of the path.
    pub(super) fn ambiguous(self) -> Self {
        match self {
            Self::Allow(_) => self,
            Self::Deny(matched) => Self::Deny(Matched {
                reason: Reason::AmbiguousPath,
                ..matched
            }),
        }
    }
}

// === impl Matched ===

impl Matched {
    pub(super) fn of(reason: Reason) -> Self {
        Self {
            reason,
            rule: None,
            source: Source::Global,
        }
    }
}

// === impl Reason ===

impl Reason {
    /// Returns the value of the label `reason` (security 4.9).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OperationRule => "operation-rule",
            Self::CallerDefault => "caller-default",
            Self::GlobalDefault => "global-default",
            Self::NoPolicy => "no-policy",
            Self::NoIdentity => "no-identity",
            Self::AmbiguousPath => "ambiguous-path",
            Self::ReservedService => "reserved-service",
            Self::RelayRefused => "relay-refused",
            Self::PolicyUnavailable => "policy-unavailable",
            Self::PolicyInvalid => "policy-invalid",
            Self::InternalError => "internal-error",
        }
    }
}

impl Decision {
    /// Of each part the stricter.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            verdict: self.verdict.and(other.verdict),
            audit: match (self.audit, other.audit) {
                (Some(first), Some(second)) => Some(first.and(second)),
                (first, second) => first.or(second),
            },
        }
    }

    pub(super) fn ambiguous(self) -> Self {
        Self {
            verdict: self.verdict.ambiguous(),
            audit: self.audit.map(Verdict::ambiguous),
        }
    }

    pub(super) fn under_audit(self, is_audited: bool) -> Self {
        Self {
            audit: is_audited.then_some(self.verdict),
            ..self
        }
    }
}
