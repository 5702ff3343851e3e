//! The decision: a policy set, an operation, an answer with its reason.

use crate::Verb;

/// What a peer wants to do, as policy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation<'a> {
    /// The cleaned method: take it from a [`crate::Method`].
    pub method: &'a str,
    /// The verb; [`Verb::None`] for proxied gRPC.
    pub verb: Verb,
}

/// Everything that is known of who may call what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicySet {
    /// No policy is configured: the reference's default is to allow.
    #[default]
    Unconfigured,
}

/// An answer and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The operation may go on.
    Allow(Reason),
    /// It may not.
    Deny(Reason),
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no policy.
    NoPolicy,
}

impl PolicySet {
    /// Decides.
    #[must_use]
    pub fn decide(&self, _operation: &Operation<'_>) -> Decision {
        match self {
            Self::Unconfigured => Decision::Allow(Reason::NoPolicy),
        }
    }
}
