//! The compiled form of rules and the two ways to search it.
//!
//! One [`forest::Forest`] holds the patterns of all callers of all objects, one tree per caller entry.
//! [`compatible`] walks a tree as the reference does, order and shadows included; [`specific`] finds the most
//! specific rule, whatever the order. Both cost the length of the path plus the patterns beside it, never the
//! number of rules, and allocate nothing.

pub(crate) mod compatible;
pub(crate) mod forest;
pub(crate) mod glob;
pub(crate) mod reading;
pub(crate) mod specific;

/// How letters of a request compare with those of rules, which were folded when they were compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    /// As they are.
    Exact,
    /// ASCII capitals equal small letters (fact B7).
    Ascii,
}

impl Fold {
    pub(crate) fn apply(self, byte: u8) -> u8 {
        match self {
            Self::Exact => byte,
            Self::Ascii => byte.to_ascii_lowercase(),
        }
    }
}

/// Takes the first segment off a path; the rest is `None` after the last one.
pub(crate) fn split_segment(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    let slash = path.iter().position(|byte| *byte == b'/');
    match slash.and_then(|at| path.split_at_checked(at)) {
        Some((segment, rest)) => (segment, rest.get(1..)),
        None => (path, None),
    }
}

/// The path without its leading slash.
pub(crate) fn relative(path: &str) -> &[u8] {
    path.strip_prefix('/').unwrap_or(path).as_bytes()
}
