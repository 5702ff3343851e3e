//! Segments that stand for all others at one place of a path.
//!
//! Literals stand for themselves. Of the other texts there is one for each set of globs that some text matches
//! together: the globs are followed in step, character by character, beside the tree of texts that are taken.

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::{MOST_STEPS, TooMuch};
use crate::engine::{Fold, forest::Kind, glob, reading};

/// A pattern that stands at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Pattern<'a> {
    pub(super) text: &'a str,
    pub(super) kind: PatternKind,
    /// Of a tree that is matched as the reference does.
    pub(super) written: bool,
    /// Letters beyond ASCII are folded.
    pub(super) folds: bool,
}

/// [`Kind`], in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum PatternKind {
    Literal,
    Glob,
    Star,
    DoubleStar,
}

/// Characters for texts that no rule names, the nicer ones first.
const FRESH: &str = "xyzwvuq0123456789abcdefghijklmnoprst-_~XYZ";

// === impl PatternKind ===

impl From<Kind> for PatternKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Literal => Self::Literal,
            Kind::Glob => Self::Glob,
            Kind::Star => Self::Star,
            Kind::DoubleStar => Self::DoubleStar,
        }
    }
}

// === impl Pattern ===

impl Pattern<'_> {
    /// Whether a segment of a request matches; a trailing wildcard as well as one before the end.
    pub(super) fn matches(&self, segment: &str) -> bool {
        let mut lowered = String::new();
        let segment = if self.folds {
            reading::lower(segment, &mut lowered);
            &lowered
        } else {
            segment
        };
        match self.kind {
            PatternKind::Literal => self.text == segment,
            PatternKind::Glob => {
                glob::matches(self.text.as_bytes(), segment.as_bytes(), Fold::Exact)
            }
            PatternKind::Star | PatternKind::DoubleStar => true,
        }
    }

    /// One character further, from these places in the pattern.
    fn step(&self, places: &[u16], c: char) -> Vec<u16> {
        let mut next = BTreeSet::new();
        let mut lowered = String::new();
        let c = if self.folds {
            reading::lower(c.encode_utf8(&mut [0; 4]), &mut lowered);
            lowered.chars().next().unwrap_or(c)
        } else {
            c
        };
        for place in places {
            match self.text.chars().nth(usize::from(*place)) {
                Some('*') => {
                    next.insert(*place);
                }
                Some(wanted) if wanted == c => {
                    next.insert(*place + 1);
                }
                _ => {}
            }
        }
        self.close(next)
    }

    /// With the places behind stars, which may stand for nothing.
    fn close(&self, mut places: BTreeSet<u16>) -> Vec<u16> {
        let mut open: Vec<u16> = places.iter().copied().collect();
        while let Some(place) = open.pop() {
            if self.text.chars().nth(usize::from(place)) == Some('*') && places.insert(place + 1) {
                open.push(place + 1);
            }
        }
        places.into_iter().collect()
    }

    fn is_end(&self, places: &[u16]) -> bool {
        let end = self.text.chars().count();
        places.iter().any(|place| usize::from(*place) == end)
    }
}

/// Whether a cleaned path can have such a segment.
pub(crate) fn is_legal(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..") && !segment.chars().any(is_forbidden)
}

/// Whether no cleaned path holds the character, or no segment.
fn is_forbidden(c: char) -> bool {
    matches!(c, '/' | '#' | '?' | '\0'..='\u{1f}' | '\u{7f}')
}

/// Returns segments for every way to match these patterns.
pub(super) fn segments(patterns: &[Pattern<'_>]) -> Result<Vec<String>, TooMuch> {
    let of_kind = |kind| patterns.iter().filter(move |one| one.kind == kind);
    let mut literals: BTreeSet<String> = of_kind(PatternKind::Literal)
        .filter(|one| is_legal(one.text))
        .map(|one| one.text.to_owned())
        .collect();
    // Before the end of a path the reference takes a lone star for the character.
    let has_written_star = of_kind(PatternKind::Star).any(|one| one.written);
    literals.extend(has_written_star.then(|| "*".to_owned()));
    let globs: BTreeSet<Pattern<'_>> = of_kind(PatternKind::Glob).copied().collect();
    let mut found: Vec<String> = literals.iter().cloned().collect();
    let mut taken = literals;
    taken.extend([".".to_owned(), "..".to_owned()]);
    if globs.is_empty() {
        found.push(fresh(&taken));
    } else {
        found.extend(classes(&globs.into_iter().collect::<Vec<_>>(), &taken)?);
    }
    Ok(found)
}

/// A text that is not taken.
fn fresh(taken: &BTreeSet<String>) -> String {
    let mut text = String::new();
    for c in FRESH.chars().cycle() {
        text.push(c);
        if !taken.contains(&text) {
            break;
        }
    }
    text
}

/// A character that stands in none of the texts.
fn fresh_char(texts: &[&str]) -> char {
    let is_free = |c: &char| texts.iter().all(|text| !text.contains(*c));
    let beyond = '\u{4e00}'..='\u{9fff}';
    FRESH.chars().chain(beyond).find(is_free).unwrap_or('x')
}

/// One text for each set of globs that match together, none of them taken.
fn classes(globs: &[Pattern<'_>], taken: &BTreeSet<String>) -> Result<Vec<String>, TooMuch> {
    let texts: Vec<&str> = globs
        .iter()
        .map(|glob| glob.text)
        .chain(taken.iter().map(String::as_str))
        .collect();
    let mut letters: BTreeSet<char> = globs.iter().flat_map(|glob| glob.text.chars()).collect();
    letters.retain(|c| *c != '*' && !is_forbidden(*c));
    letters.insert(fresh_char(&texts));
    let start: Vec<Vec<u16>> = globs
        .iter()
        .map(|glob| glob.close(BTreeSet::from([0])))
        .collect();
    let mut open = VecDeque::from([(String::new(), start)]);
    let mut seen = HashSet::new();
    let mut kinds = HashSet::new();
    let mut found = Vec::new();
    let mut steps = 0;
    while let Some((text, places)) = open.pop_front() {
        if !text.is_empty() && !taken.contains(&text) {
            let ends = globs.iter().zip(&places);
            let kind: Vec<bool> = ends.map(|(glob, places)| glob.is_end(places)).collect();
            if kinds.insert(kind) {
                found.push(text.clone());
            }
        }
        let beside: BTreeSet<char> = following(taken, &text).collect();
        for c in letters.union(&beside) {
            steps += globs.len();
            if steps > MOST_STEPS {
                return Err(TooMuch);
            }
            let mut next = text.clone();
            next.push(*c);
            let places: Vec<Vec<u16>> = globs
                .iter()
                .zip(&places)
                .map(|(glob, places)| glob.step(places, *c))
                .collect();
            let on_the_way = following(taken, &next).next().is_some() || taken.contains(&next);
            if seen.insert((places.clone(), on_the_way.then(|| next.clone()))) {
                open.push_back((next, places));
            }
        }
    }
    Ok(found)
}

/// The characters by which taken texts go on from this start.
fn following<'a>(taken: &'a BTreeSet<String>, start: &'a str) -> impl Iterator<Item = char> + 'a {
    let rest = taken.range(start.to_owned()..);
    let rest = rest.map_while(move |text| text.strip_prefix(start));
    rest.filter_map(|rest| rest.chars().next())
}
