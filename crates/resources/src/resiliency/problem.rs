//! What a Resiliency can be refused for, and what is only remarked on.
//!
//! Each says where, as a JSON pointer into the object, and the text gives a way out.

use std::time::Duration;

use thiserror::Error;

use super::{CodesError, PatternFlaw, TripError, TypeFlaw};
use crate::{DurationError, GoDuration};

/// Something that makes the resource unusable, and where.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{pointer}: {flaw}")]
pub struct Problem {
    /// JSON pointer into the object.
    pub pointer: Box<str>,
    /// What is wrong.
    #[source]
    pub flaw: Flaw,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Flaw {
    /// Another shape than the key has.
    #[error("must be {want}, is {found}")]
    Type {
        /// What it has to be.
        want: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// No duration.
    #[error("{0}: write 500ms, 5s or 1m30s, or a whole number of milliseconds")]
    Duration(DurationError),
    /// A timeout without a value.
    #[error("is empty: write a duration like 5s, or remove the key")]
    EmptyDuration,
    /// Neither of the two kinds of retry.
    #[error("{0:?} is no kind of retry: write constant or exponential")]
    RetryKind(Box<str>),
    /// No list of codes.
    #[error(transparent)]
    Codes(CodesError),
    /// No expression.
    #[error(transparent)]
    Trip(TripError),
    /// No HTTP verb.
    #[error("{0:?} is no HTTP verb: write one like GET or POST")]
    Verb(Box<str>),
    /// No pattern of paths.
    #[error(transparent)]
    Pattern(PatternFlaw),
    /// No name of a header.
    #[error("{0:?} cannot be the name of a header")]
    Header(Box<str>),
    /// A number that makes no sense.
    #[error("must be between {low} and {high}")]
    Number {
        /// The lowest that does.
        low: f64,
        /// The highest that does.
        high: f64,
    },
    /// A span that makes no sense.
    #[error("must be between {} and {}", GoDuration::from(*low), GoDuration::from(*high))]
    Span {
        /// The shortest that does.
        low: Duration,
        /// The longest that does.
        high: Duration,
    },
    /// A bound below another one.
    #[error("must not be below {0}")]
    Below(&'static str),
    /// A key that has to be there.
    #[error("is missing")]
    Missing,
    /// A breaker of actors without scope.
    #[error("must be type, id or both where a circuitBreaker is named")]
    ActorScope,
    /// Two entries for one request.
    #[error("a request can match this entry and {0} equally well: change path or verbs of one")]
    SameMethod(Box<str>),
    /// More entries than make sense.
    #[error("too many entries: at most {0}")]
    TooMany(usize),
}

/// Something that was accepted and probably not meant, and where.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{pointer}: {remark}")]
pub struct Note {
    /// JSON pointer into the object.
    pub pointer: Box<str>,
    /// What is remarkable.
    #[source]
    pub remark: Remark,
}

/// What can be remarkable.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Remark {
    /// A key that nothing reads.
    #[error("this key is not known and has no effect")]
    UnknownKey,
    /// A timeout that limits nothing.
    #[error("zero or less limits nothing: remove the timeout to say so")]
    NoLimit,
    /// A pause that cannot be.
    #[error("a pause below zero is none")]
    NegativePause,
    /// Retries that would go on at full speed.
    #[error(
        "retries without limit and without pause: they are kept a millisecond apart. Set maxRetries or a duration"
    )]
    Busy,
    /// A cache that would not fit.
    #[error("only {0} breakers are remembered")]
    CacheSize(u32),
    /// An expression over something that does not exist.
    #[error(
        "{0} is no variable: what depends on it never trips. There are requests, totalSuccesses, totalFailures, consecutiveSuccesses, consecutiveFailures"
    )]
    UnknownVariable(Box<str>),
    /// An expression that cannot be evaluated.
    #[error("it never trips: {0}")]
    NeverTrips(TypeFlaw),
    /// Numbers and no condition.
    #[error("it never trips: its result is a number, write a comparison")]
    NoCondition,
    /// A quotient of whole numbers.
    #[error("a quotient of whole numbers is cut to a whole number: write double(…) around both")]
    Truncated,
    /// A budget that no default names.
    #[error(
        "has no effect: only DefaultAppRetryBudgetPolicy and DefaultRetryBudgetPolicy apply by name, and targets write retryBudget themselves"
    )]
    UnusedBudget,
}
