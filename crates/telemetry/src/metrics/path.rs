//! What stands for a path in a label.
//!
//! Patterns are those of Go's `ServeMux` without method and host: literal
//! segments, `{name}`, a last `{name...}` or `{$}`, a trailing slash for a
//! subtree; the most specific one wins. Patterns that contradict each other
//! are refused when they are compiled. Source: resiliency-observability 3.1.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;

use thiserror::Error;

use super::Settings;

mod learned;

use learned::Learned;

/// Paths that are told apart even in low cardinality.
const STATIC_PATHS: [&str; 4] = [
    "/dapr/config",
    "/dapr/metrics",
    "/dapr/subscribe",
    "/healthz",
];
/// Beginning of the paths of the invocation API.
const INVOKE: &str = "/v1.0/invoke/";
/// Under which each other pattern is registered a second time.
const INVOKE_METHOD: &str = "/v1.0/invoke/{app_id}/method";
/// What stands for a path that is not to be told apart.
const NO_PATH: &str = "";

/// Compiled patterns of `pathMatching`.
#[derive(Clone, Debug, Default)]
pub struct PathPatterns(Vec<Pattern>);

/// Why patterns cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// A pattern that does not parse.
    #[error("path pattern {pattern:?}: {flaw}")]
    Malformed {
        /// The pattern.
        pattern: Box<str>,
        /// What is wrong with it.
        flaw: &'static str,
    },
    /// Two patterns match some path, and neither is the more specific one.
    #[error("path patterns {one:?} and {other:?} conflict")]
    Conflict {
        /// The earlier pattern.
        one: Box<str>,
        /// The later pattern.
        other: Box<str>,
    },
}

#[derive(Clone, Debug)]
struct Pattern {
    text: Box<str>,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// Exactly this text.
    Literal(Box<str>),
    /// One segment that is not empty.
    One,
    /// The empty segment after a trailing slash, and nothing more.
    End,
    /// All that is left, at least the trailing slash.
    Rest,
}

/// How the paths of two patterns, or of two segments, relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Same,
    MoreSpecific,
    MoreGeneral,
    /// Some paths in common, and some of its own on each side.
    Overlap,
    Disjoint,
}

// === impl PathPatterns ===

impl PathPatterns {
    /// Compiles patterns, each also below the invocation API.
    ///
    /// # Errors
    /// All patterns that do not parse, or else all pairs that conflict.
    pub fn compile<T: AsRef<str>>(patterns: &[T]) -> Result<Self, Vec<PatternError>> {
        let mut texts: Vec<String> = Vec::new();
        let mut known = HashSet::new();
        for pattern in patterns {
            let text = normalise(pattern.as_ref()).into_owned();
            let below = (!text.starts_with(INVOKE)).then(|| format!("{INVOKE_METHOD}{text}"));
            let fresh = [Some(text), below].into_iter().flatten();
            texts.extend(fresh.filter(|text| known.insert(text.clone())));
        }
        let (mut compiled, mut errors) = (Vec::new(), Vec::new());
        for text in texts {
            match Pattern::parse(&text) {
                Ok(pattern) => compiled.push(pattern),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            errors = conflicts(&compiled);
        }
        if errors.is_empty() {
            Ok(Self(compiled))
        } else {
            Err(errors)
        }
    }

    /// Returns the text of the most specific pattern that matches.
    fn matched(&self, path: &str) -> Option<&str> {
        if self.0.is_empty() {
            return None;
        }
        let matching = self.0.iter().filter(|pattern| pattern.matches(path));
        let best = matching.max_by(|one, other| match one.relation(other) {
            Relation::MoreSpecific => Ordering::Greater,
            Relation::MoreGeneral => Ordering::Less,
            // Without conflicts, two patterns that match one path are ordered.
            Relation::Same | Relation::Overlap | Relation::Disjoint => Ordering::Equal,
        });
        best.map(|pattern| &*pattern.text)
    }
}

fn conflicts(patterns: &[Pattern]) -> Vec<PatternError> {
    let mut errors = Vec::new();
    for (at, other) in patterns.iter().enumerate() {
        for one in patterns.iter().take(at) {
            if matches!(one.relation(other), Relation::Same | Relation::Overlap) {
                errors.push(PatternError::Conflict {
                    one: one.text.clone(),
                    other: other.text.clone(),
                });
            }
        }
    }
    errors
}

// === impl Pattern ===

impl Pattern {
    fn parse(text: &str) -> Result<Self, PatternError> {
        let malformed = |flaw| PatternError::Malformed {
            pattern: text.into(),
            flaw,
        };
        if text.contains(char::is_whitespace) {
            return Err(malformed("methods and hosts are not matched"));
        }
        let mut names = HashSet::new();
        let mut segments = Vec::new();
        let mut rest = text.strip_prefix('/').unwrap_or(text).split('/').peekable();
        while let Some(part) = rest.next() {
            let last = rest.peek().is_none();
            let segment = Segment::parse(part, last, &mut names).map_err(malformed)?;
            segments.push(segment);
        }
        Ok(Self {
            text: text.into(),
            segments,
        })
    }

    fn matches(&self, path: &str) -> bool {
        let mut parts = path.strip_prefix('/').unwrap_or(path).split('/');
        for segment in &self.segments {
            let Some(part) = parts.next() else {
                return false;
            };
            let fits = match segment {
                Segment::Literal(text) => **text == *part,
                Segment::One => !part.is_empty(),
                Segment::End => part.is_empty(),
                Segment::Rest => return true,
            };
            if !fits {
                return false;
            }
        }
        parts.next().is_none()
    }

    fn relation(&self, other: &Self) -> Relation {
        let (mut ours, mut theirs) = (self.segments.iter(), other.segments.iter());
        let mut whole = Relation::Same;
        loop {
            let step = match (ours.next(), theirs.next()) {
                (None, None) => return whole,
                // One demands a segment that the other does not have.
                (None, Some(_)) | (Some(_), None) => return Relation::Disjoint,
                (Some(Segment::Rest), Some(Segment::Rest)) => return whole,
                (Some(Segment::Rest), Some(_)) => return whole.and(Relation::MoreGeneral),
                (Some(_), Some(Segment::Rest)) => return whole.and(Relation::MoreSpecific),
                (Some(one), Some(other)) => one.relation(other),
            };
            whole = whole.and(step);
            if whole == Relation::Disjoint {
                return whole;
            }
        }
    }
}

// === impl Segment ===

impl Segment {
    fn parse<'a>(
        part: &'a str,
        last: bool,
        names: &mut HashSet<&'a str>,
    ) -> Result<Self, &'static str> {
        if part.is_empty() && last {
            return Ok(Self::Rest);
        }
        let inner = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'));
        let Some(inner) = inner else {
            if part.contains(['{', '}']) {
                return Err("a wildcard must be a whole segment");
            }
            return Ok(Self::Literal(part.into()));
        };
        if inner == "$" {
            return if last {
                Ok(Self::End)
            } else {
                Err("{$} must be the last segment")
            };
        }
        let (name, segment) = match inner.strip_suffix("...") {
            Some(name) => (name, Self::Rest),
            None => (inner, Self::One),
        };
        if segment == Self::Rest && !last {
            return Err("{...} must be the last segment");
        }
        if !is_identifier(name) {
            return Err("a wildcard's name must be an identifier");
        }
        if !names.insert(name) {
            return Err("a wildcard's name is used twice");
        }
        Ok(segment)
    }

    /// Neither side is [`Segment::Rest`].
    fn relation(&self, other: &Self) -> Relation {
        match (self, other) {
            (Self::Literal(one), Self::Literal(other)) if one == other => Relation::Same,
            (Self::One, Self::One) | (Self::End, Self::End) => Relation::Same,
            (Self::Literal(_), Self::One) => Relation::MoreSpecific,
            (Self::One, Self::Literal(_)) => Relation::MoreGeneral,
            (Self::Literal(_) | Self::One | Self::End | Self::Rest, _) => Relation::Disjoint,
        }
    }
}

impl Relation {
    /// The relation of two patterns from those of two of their parts.
    const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Disjoint, _) | (_, Self::Disjoint) => Self::Disjoint,
            (Self::Same, other) => other,
            (one, Self::Same) => one,
            (Self::MoreSpecific, Self::MoreSpecific) => Self::MoreSpecific,
            (Self::MoreGeneral, Self::MoreGeneral) => Self::MoreGeneral,
            (Self::MoreSpecific | Self::MoreGeneral | Self::Overlap, _) => Self::Overlap,
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c == '_' || c.is_alphabetic());
    starts && chars.all(|c| c == '_' || c.is_alphanumeric())
}

/// Adds a leading slash and merges double ones; users of URLs are left out.
fn normalise(path: &str) -> Cow<'_, str> {
    match crate::without_user(path) {
        Cow::Borrowed(path) => slashed(path),
        Cow::Owned(path) => Cow::Owned(slashed(&path).into_owned()),
    }
}

fn slashed(path: &str) -> Cow<'_, str> {
    if path.starts_with('/') && !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut text = String::with_capacity(path.len() + 1);
    text.push('/');
    for c in path.chars() {
        if c != '/' || !text.ends_with('/') {
            text.push(c);
        }
    }
    Cow::Owned(text)
}

/// Patterns, cardinality and what was learned together.
#[derive(Debug)]
pub(super) struct PathLabels {
    patterns: PathPatterns,
    increased_cardinality: bool,
    learned: Option<Learned>,
}

// === impl PathLabels ===

impl PathLabels {
    pub(super) fn new(settings: &Settings) -> Self {
        let patterns = settings.path_matching.clone();
        // Whoever writes patterns says which paths are one of many.
        let learns = settings.increased_cardinality && patterns.0.is_empty();
        Self {
            patterns,
            increased_cardinality: settings.increased_cardinality,
            learned: learns.then(Learned::default),
        }
    }

    /// Gives `use_label` the label value for a path.
    pub(super) fn with<R>(&self, path: &str, use_label: impl FnOnce(&str) -> R) -> R {
        let path = normalise(path);
        if let Some(text) = self.patterns.matched(&path) {
            return use_label(text);
        }
        if let Some(learned) = &self.learned {
            return learned.with(&path, use_label);
        }
        let kept = self.increased_cardinality || STATIC_PATHS.contains(&&*path);
        use_label(if kept { &path } else { NO_PATH })
    }
}

#[cfg(test)]
mod tests;
