//! A pattern within one segment: `*` stands for any run of characters, also for none.
//!
//! Bytes suffice, because UTF-8 cannot be matched out of step. Time is bounded by the product of the two
//! lengths: only the last star is ever tried again.

use super::Fold;

/// Returns whether `text` matches `pattern`, whose letters are folded already.
pub(crate) fn matches(pattern: &[u8], text: &[u8], fold: Fold) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, t));
            }
            Some(wanted) if *wanted == fold.apply(*byte) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = retry else {
                    return false;
                };
                p = after;
                t = from + 1;
                retry = Some((after, t));
            }
        }
    }
    let rest = pattern.get(p..).unwrap_or_default();
    rest.iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stand_for_any_run() {
        for (pattern, text, want) in [
            ("b*", "b", true),
            ("b*", "bc", true),
            ("b*", "ab", false),
            ("*b", "ab", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acb", false),
            ("a*b*c", "aXbYbZc", true),
            ("***", "", true),
            ("a**b", "ab", true),
            ("b*", "B1", true),
            ("é*", "éa", true),
            ("*a*a*a*b", "aaaaaaa", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes(), Fold::Ascii),
                want,
                "{pattern} {text}"
            );
        }
        assert!(!matches(b"b*", b"B1", Fold::Exact));
    }

    fn naive(pattern: &str, text: &str) -> bool {
        let mut chars = pattern.chars();
        match chars.next() {
            None => text.is_empty(),
            Some('*') => {
                let mut ends = text.char_indices().map(|(at, _)| at).collect::<Vec<_>>();
                ends.push(text.len());
                ends.iter().any(|at| naive(chars.as_str(), &text[*at..]))
            }
            Some(c) => text
                .strip_prefix(c)
                .is_some_and(|rest| naive(chars.as_str(), rest)),
        }
    }

    proptest! {
        #[test]
        fn equals_the_naive_matcher(pattern in "[ab*é]{0,8}", text in "[abé]{0,10}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), Fold::Exact), naive(&pattern, &text));
        }
    }
}
