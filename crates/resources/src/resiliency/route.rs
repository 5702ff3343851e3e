//! Patterns of the paths of an app, for policies of a part of it.
//!
//! Segments are literal, `*` for one of them, or a last `**` for whatever is left. Patterns of one path have an
//! order: segment by segment from the left, a literal is more specific than `*`, and that than `**`. The words
//! are those of AccessControl. Source: resiliency-observability 6.2, per-method targets.

use std::cmp::Ordering;
use std::fmt;

use thiserror::Error;

/// Longest pattern in bytes; longer paths are no methods that a person writes down.
const MAX_LENGTH: usize = 256;

/// A pattern of paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MethodPattern {
    text: Box<str>,
    segments: Box<[Segment]>,
}

/// One part of a pattern, between slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Exactly this text.
    Literal(Box<str>),
    /// Any one segment.
    One,
    /// All that is left, which may be nothing.
    Rest,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PatternFlaw {
    /// Nothing there.
    #[error("is empty: write a path like /orders/*, or /** for all")]
    Empty,
    /// Too long.
    #[error("is longer than {MAX_LENGTH} bytes")]
    Length,
    /// `#`, `?`, `%` or a control character.
    #[error("holds a character that no path has: write the decoded path without query")]
    Character,
    /// `//` or a slash at the end.
    #[error(
        "has an empty segment, which no request has: write each slash once and none at the end"
    )]
    EmptySegment,
    /// `.` or `..`.
    #[error("has a dot segment, which no request has")]
    DotSegment,
    /// A star inside a segment.
    #[error(
        "has a star inside a segment: `*` stands for one whole segment, `**` at the end for all that is left"
    )]
    Star,
}

// === impl MethodPattern ===

impl MethodPattern {
    /// Reads a pattern; a leading slash means nothing.
    ///
    /// # Errors
    /// [`PatternFlaw`] for a text that could match no request, or not as it looks.
    pub fn parse(text: &str) -> Result<Self, PatternFlaw> {
        let path = text.strip_prefix('/').unwrap_or(text);
        if text.is_empty() {
            return Err(PatternFlaw::Empty);
        }
        if text.len() > MAX_LENGTH {
            return Err(PatternFlaw::Length);
        }
        if path.contains(|c: char| matches!(c, '#' | '?' | '%') || c.is_control()) {
            return Err(PatternFlaw::Character);
        }
        let mut segments = Vec::new();
        let mut parts = path.split('/').peekable();
        // The root of the app has no segment.
        while let Some(part) = parts.next().filter(|_| !path.is_empty()) {
            segments.push(Segment::parse(part, parts.peek().is_none())?);
        }
        Ok(Self {
            text: text.into(),
            segments: segments.into(),
        })
    }

    /// Returns the pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns its parts.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Orders patterns so that of all that match a path, the most specific one is first.
    #[must_use]
    pub fn specificity(&self, other: &Self) -> Ordering {
        let ours = self.segments.iter().map(Segment::rank);
        let theirs = other.segments.iter().map(Segment::rank);
        // A pattern that ends earlier matches fewer paths than one that goes on with `**`.
        ours.cmp(theirs)
    }
}

impl fmt::Display for MethodPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// === impl Segment ===

impl Segment {
    fn parse(part: &str, is_last: bool) -> Result<Self, PatternFlaw> {
        match part {
            "" => Err(PatternFlaw::EmptySegment),
            "." | ".." => Err(PatternFlaw::DotSegment),
            "*" => Ok(Self::One),
            "**" if is_last => Ok(Self::Rest),
            _ if part.contains('*') => Err(PatternFlaw::Star),
            _ => Ok(Self::Literal(part.into())),
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Literal(_) => 0,
            Self::One => 1,
            Self::Rest => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_read_segment_by_segment() {
        let literal = |text: &str| Segment::Literal(text.into());
        for (text, want) in [
            ("/", vec![]),
            ("orders", vec![literal("orders")]),
            ("/orders/*", vec![literal("orders"), Segment::One]),
            ("/**", vec![Segment::Rest]),
            (
                "/pkg.Service/Method",
                vec![literal("pkg.Service"), literal("Method")],
            ),
        ] {
            assert_eq!(*MethodPattern::parse(text).unwrap().segments, *want);
        }
    }

    #[test]
    fn patterns_that_match_nothing_are_refused() {
        let long = "x".repeat(300);
        for (text, want) in [
            ("", PatternFlaw::Empty),
            ("//a", PatternFlaw::EmptySegment),
            ("/a/", PatternFlaw::EmptySegment),
            ("/a/../b", PatternFlaw::DotSegment),
            ("/a?x=1", PatternFlaw::Character),
            ("/a%20b", PatternFlaw::Character),
            ("/**/a", PatternFlaw::Star),
            ("/a*", PatternFlaw::Star),
            (&long, PatternFlaw::Length),
        ] {
            assert_eq!(MethodPattern::parse(text), Err(want), "{text}");
        }
    }

    #[test]
    fn the_more_specific_one_is_first() {
        let order = ["/a/b", "/a/*", "/a/**", "/*", "/*/b", "/**"];
        for pair in order.windows(2) {
            let [one, other] = pair else { panic!() };
            let (one, other) = (MethodPattern::parse(one), MethodPattern::parse(other));
            assert_eq!(one.unwrap().specificity(&other.unwrap()), Ordering::Less);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|[/*.a]{0,12}") {
            let _no_panic = MethodPattern::parse(&text);
        }
    }
}
