//! What a finding is: where, which kind, what to say, and the request that proves it.

use std::fmt;

use crate::survey::Sample;

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `namespace/name`, or `Configuration/name`.
    pub object: Box<str>,
    /// JSON pointer within it.
    pub pointer: String,
    /// Which kind of thing.
    pub code: Code,
    /// What it is, in one sentence.
    pub message: String,
    /// The proof: a request that the rule matches, and that is decided otherwise.
    ///
    /// Without one no request can match, and the message says why.
    pub example: Option<Sample>,
    /// The other object, of an [`Code::Overlap`].
    pub other: Option<Box<str>>,
}

/// Kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// No request can match the rule.
    Dead,
    /// The entry does not count, because a later one is for the same caller.
    Replaced,
    /// Another rule of the entry decides every request that it matches.
    Shadowed,
    /// Another rule of the entry says the same.
    Duplicate,
    /// Another rule of the entry says the opposite of the same requests.
    Contradiction,
    /// Another entry or object decides every request that it answers.
    Unreachable,
    /// It matches only paths that have the character `*` in them.
    LiteralStar,
    /// Two objects say the opposite of one request; the denial wins.
    Overlap,
    /// Routes of the app that are meant for its sidecar are open to callers (fact B25).
    AppRoutes,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Nothing need be wrong.
    Note,
    /// The rule does not do what it looks like.
    Warning,
}

// === impl Code ===

impl Code {
    /// Returns the word for it in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Replaced => "replaced",
            Self::Shadowed => "shadowed",
            Self::Duplicate => "duplicate",
            Self::Contradiction => "contradiction",
            Self::Unreachable => "unreachable",
            Self::LiteralStar => "literal-star",
            Self::Overlap => "overlap",
            Self::AppRoutes => "app-routes",
        }
    }

    /// Returns how much it matters.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::Overlap | Self::AppRoutes => Level::Note,
            Self::Dead
            | Self::Replaced
            | Self::Shadowed
            | Self::Duplicate
            | Self::Contradiction
            | Self::Unreachable
            | Self::LiteralStar => Level::Warning,
        }
    }
}

// === impl Level ===

impl Level {
    /// Returns the word for it in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
        }
    }
}

/// One line, without the level.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            pointer,
            code,
            message,
            example,
            other: _,
        } = self;
        write!(f, "{object} {pointer}: {}: {message}", code.as_str())?;
        match example {
            Some(example) => write!(f, " (for example {example})"),
            None => Ok(()),
        }
    }
}
