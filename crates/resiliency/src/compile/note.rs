//! What a compiled table should be remarked on: accepted, and probably not meant.

use std::fmt;

use ironside_resources::resiliency;
use thiserror::Error;

/// Something that was accepted and probably not meant.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Note {
    /// A remark on a resource by itself.
    #[error("Resiliency {resource}: {note}")]
    Resource {
        /// The resource.
        resource: Box<str>,
        /// The remark.
        note: resiliency::Note,
    },
    /// A target names a policy that nobody defines.
    #[error(
        "Resiliency {resource}: {pointer}: no resource defines a {kind} {name:?}, so there is none here{}",
        offer(known)
    )]
    Unknown {
        /// The resource of the target.
        resource: Box<str>,
        /// JSON pointer into it.
        pointer: Box<str>,
        /// What is named.
        kind: Kind,
        /// The name.
        name: Box<str>,
        /// The names that there are.
        known: Vec<Box<str>>,
    },
    /// A later resource says something else under the same name.
    #[error("{kind} {name:?} of Resiliency {earlier} is replaced by that of {later}")]
    Replaced {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: Box<str>,
        /// Whose it was.
        earlier: Box<str>,
        /// Whose it is now.
        later: Box<str>,
    },
    /// An override of the built-in retries asks for fewer than there must be; the words are the reference's.
    #[error(
        "Attempted override of {} did not meet minimum retry count, resetting to {}.",
        super::BUILT_IN_SERVICE_RETRIES,
        super::BUILT_IN_MINIMUM
    )]
    BuiltInMinimum,
    /// A built-in policy that cannot be overridden.
    #[error("{0} cannot be overridden: the retry of this name has no effect")]
    Protected(&'static str),
}

/// What can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A timeout.
    Timeout,
    /// A retry.
    Retry,
    /// A breaker.
    CircuitBreaker,
    /// A budget.
    RetryBudget,
    /// A target.
    App,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "timeout",
            Self::Retry => "retry",
            Self::CircuitBreaker => "circuitBreaker",
            Self::RetryBudget => "retryBudget",
            Self::App => "target",
        })
    }
}

/// Most names that a remark offers.
const MAX_OFFERED: usize = 10;

fn offer(names: &[Box<str>]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let offered: Vec<&str> = names.iter().take(MAX_OFFERED).map(|name| &**name).collect();
    let more = if names.len() > MAX_OFFERED {
        ", …"
    } else {
        ""
    };
    format!("; there are {}{more}", offered.join(", "))
}
