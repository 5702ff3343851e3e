//! The choice of requests: nothing missing, nothing twice.

use super::{segment::*, *};

fn chosen(patterns: &[(&str, PatternKind, bool)]) -> Vec<String> {
    let patterns = patterns.iter().map(|(text, kind, written)| Pattern {
        text,
        kind: *kind,
        written: *written,
        folds: false,
    });
    segments(&patterns.collect::<Vec<_>>()).unwrap()
}

#[test]
fn each_literal_and_one_unknown_text_are_chosen() {
    use PatternKind::{Literal, Star};
    assert_eq!(chosen(&[]), ["x"]);
    let two = [("x", Literal, false), ("b", Literal, false)];
    assert_eq!(chosen(&two), ["b", "x", "xy"]);
    // No request has such a segment.
    assert_eq!(chosen(&[("..", Literal, true), ("", Literal, true)]), ["x"]);
    assert_eq!(chosen(&[("*", Star, false)]), ["x"]);
    assert_eq!(chosen(&[("*", Star, true)]), ["*", "x"]);
}

#[test]
fn globs_are_met_alone_and_together() {
    use PatternKind::{Glob, Literal};
    let globs = [("a*", Glob, false), ("*b", Glob, false)];
    assert_eq!(chosen(&globs), ["a", "b", "x", "ab"]);
    let taken = [
        ("a*", Glob, false),
        ("a", Literal, false),
        ("x", Literal, false),
    ];
    assert_eq!(chosen(&taken), ["a", "x", "y", "aa"]);
}

#[test]
fn many_stars_are_too_much_and_end() {
    let globs: Vec<String> = (0..40u8)
        .map(|n| {
            let c = char::from(b'a' + n % 26);
            format!("*{c}*{n}*{c}*")
        })
        .collect();
    let patterns = globs.iter().map(|text| Pattern {
        text,
        kind: PatternKind::Glob,
        written: false,
        folds: false,
    });
    assert_eq!(segments(&patterns.collect::<Vec<_>>()), Err(TooMuch));
}
