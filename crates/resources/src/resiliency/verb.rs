//! HTTP verbs as policies name them, and sets of them.

use std::fmt;

/// An HTTP verb that a policy can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// CONNECT
    Connect,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// PATCH
    Patch,
}

/// A set of verbs; the empty one stands for all, as an absent list does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Verbs(u16);

const ALL: [Verb; 9] = [
    Verb::Get,
    Verb::Head,
    Verb::Post,
    Verb::Put,
    Verb::Delete,
    Verb::Connect,
    Verb::Options,
    Verb::Trace,
    Verb::Patch,
];

// === impl Verb ===

impl Verb {
    /// Reads a verb, in any letter case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let known = |verb: &Self| verb.as_str().eq_ignore_ascii_case(text);
        ALL.into_iter().find(known)
    }

    /// Returns the verb as requests write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }

    /// Returns whether a second delivery does no more than the first (RFC 9110, 9.2.2).
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        match self {
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace => true,
            Self::Post | Self::Connect | Self::Patch => false,
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

// === impl Verbs ===

impl Verbs {
    /// Returns whether nothing is named, which means everything.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the verb is named.
    #[must_use]
    pub const fn names(self, verb: Verb) -> bool {
        self.0 & verb.bit() != 0
    }

    /// Returns whether the verb is meant: named, or nothing is named.
    #[must_use]
    pub const fn covers(self, verb: Verb) -> bool {
        self.is_empty() || self.names(verb)
    }

    /// Returns whether some verb is meant by both.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.is_empty() || other.is_empty() || self.0 & other.0 != 0
    }
}

impl FromIterator<Verb> for Verbs {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        Self(verbs.into_iter().fold(0, |set, verb| set | verb.bit()))
    }
}

impl fmt::Display for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = ALL.into_iter().filter(|verb| self.names(*verb));
        let names: Vec<&str> = named.map(Verb::as_str).collect();
        f.write_str(&names.join(","))
    }
}
