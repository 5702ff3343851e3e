//! The fixed words that labels hold.
//!
//! Verbs beyond the nine known ones are `UNKNOWN`; gRPC codes have Go's names.

use std::fmt;

/// A verb as a label value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct VerbLabel(&'static str);

const VERBS: [&str; 9] = [
    "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE",
];

impl VerbLabel {
    /// The label of no verb.
    pub(super) const NONE: Self = Self("");

    pub(super) fn of(verb: &str) -> Self {
        let known = VERBS.into_iter().find(|known| *known == verb);
        Self(known.unwrap_or("UNKNOWN"))
    }

    pub(super) const fn as_str(self) -> &'static str {
        self.0
    }
}

const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// A status as a label value: an HTTP status or a gRPC code, at most three digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StatusLabel(u16);

/// Stands for a status that is neither; a peer may send any number.
const UNKNOWN_STATUS: u16 = 2;

impl StatusLabel {
    /// The label of many statuses that share a series.
    pub(super) const NONE: Self = Self(u16::MAX);

    pub(super) fn of(status: i32) -> Self {
        let known = u16::try_from(status).ok().filter(|status| *status < 1000);
        Self(known.unwrap_or(UNKNOWN_STATUS))
    }
}

impl fmt::Display for StatusLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => Ok(()),
            Self(status) => status.fmt(f),
        }
    }
}

/// Returns the name of a gRPC status code; codes beyond the known ones are `Unknown`.
#[must_use]
pub fn grpc_code_name(code: i32) -> &'static str {
    let known = usize::try_from(code).ok().and_then(|code| CODES.get(code));
    known.copied().unwrap_or("Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_ten_words() {
        for verb in VERBS {
            assert_eq!(VerbLabel::of(verb).as_str(), verb);
        }
        for verb in ["FOO", "get", ""] {
            assert_eq!(VerbLabel::of(verb).as_str(), "UNKNOWN");
        }
    }

    #[test]
    fn statuses_have_at_most_three_digits() {
        let table = [
            (0, "0"),
            (13, "13"),
            (200, "200"),
            (999, "999"),
            (1000, "2"),
            (-1, "2"),
        ];
        for (status, want) in table {
            assert_eq!(StatusLabel::of(status).to_string(), want);
        }
    }

    #[test]
    fn codes_have_names() {
        let table = [
            (0, "OK"),
            (1, "Canceled"),
            (5, "NotFound"),
            (16, "Unauthenticated"),
            (17, "Unknown"),
            (-1, "Unknown"),
        ];
        for (code, want) in table {
            assert_eq!(grpc_code_name(code), want);
        }
    }
}
