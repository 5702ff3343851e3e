//! W3C baggage, checked and passed on.
//!
//! All header lines are joined and must be one list in the standard's form;
//! error texts are those of the reference's library. Members are never
//! interpreted, and the percent-encoding stays as it was written. Source:
//! resiliency-observability 2.2, 2.5, golden 10, 11.

use std::collections::HashSet;
use std::fmt;

use thiserror::Error;

use crate::quoted;

/// Longest list in bytes: W3C baggage 3.3.2.
const MAX_LIST: usize = 8192;
/// Longest member in bytes, properties included.
const MAX_MEMBER: usize = 4096;
/// Most members.
const MAX_MEMBERS: usize = 180;

/// All lines of a valid baggage header as one; echoed to the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined(Box<str>);

/// Why a baggage header is refused; follows `invalid baggage header: `.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BaggageError {
    /// A member without `=`.
    #[error("invalid baggage list-member: {}", quoted(.0))]
    Member(Box<[u8]>),
    /// A key that is no token.
    #[error("invalid key: {}", quoted(.0))]
    Key(Box<[u8]>),
    /// A value with a byte that must be percent-encoded.
    #[error("invalid value: {}", quoted(.0))]
    Value(Box<[u8]>),
    /// A percent sign without two hexadecimal digits.
    #[error("invalid value: invalid URL escape {}", quoted(.0))]
    Escape(Box<[u8]>),
    /// A property that is neither a key nor a pair.
    #[error("invalid baggage list-member property: {}", quoted(.0))]
    Property(Box<[u8]>),
    /// Too many members.
    #[error("too many list-members in baggage-string")]
    Members,
    /// A member that is too long, with its length.
    #[error("list-member too large: {0}")]
    MemberLength(usize),
    /// A list that is too long, with its length.
    #[error("baggage-string too large: {0}")]
    ListLength(usize),
}

// === impl Joined ===

impl Joined {
    /// Returns the list; empty when there was no baggage.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether there was no baggage.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Joins the values of all `baggage` lines by commas and checks the whole.
///
/// # Errors
/// [`BaggageError`] for the first thing that is wrong.
pub fn validate<'a, I>(lines: I) -> Result<Joined, BaggageError>
where
    I: IntoIterator<Item = &'a [u8]>,
{
    let lines: Vec<&[u8]> = lines.into_iter().collect();
    let list = lines.join(&b',');
    if list.is_empty() {
        return Ok(Joined::default());
    }
    if list.len() > MAX_LIST {
        return Err(BaggageError::ListLength(list.len()));
    }
    let mut keys = HashSet::new();
    for member in list.split(|byte| *byte == b',') {
        keys.insert(check_member(member)?);
    }
    if keys.len() > MAX_MEMBERS {
        return Err(BaggageError::Members);
    }
    // Every byte passed a check for ASCII, so nothing is replaced here.
    Ok(Joined(String::from_utf8_lossy(&list).into()))
}

/// Checks one member and returns its key.
fn check_member(member: &[u8]) -> Result<&[u8], BaggageError> {
    if member.len() > MAX_MEMBER {
        return Err(BaggageError::MemberLength(member.len()));
    }
    let mut parts = member.split(|byte| *byte == b';');
    let pair = parts.next().unwrap_or_default();
    for property in parts {
        check_property(property)?;
    }
    let (key, value) = cut(pair).ok_or_else(|| BaggageError::Member(member.into()))?;
    let key = key.trim_ascii();
    if !is_token(key) {
        return Err(BaggageError::Key(key.into()));
    }
    let trimmed = value.trim_ascii();
    if !is_value(trimmed) {
        return Err(BaggageError::Value(value.into()));
    }
    match bad_escape(trimmed) {
        Some(escape) => Err(BaggageError::Escape(escape.into())),
        None => Ok(key),
    }
}

/// A property is empty, a key, or a pair.
fn check_property(property: &[u8]) -> Result<(), BaggageError> {
    let good = match cut(property) {
        None => property.is_empty() || is_token(property.trim_ascii()),
        Some((key, value)) => {
            let value = value.trim_ascii();
            is_token(key.trim_ascii()) && is_value(value) && bad_escape(value).is_none()
        }
    };
    if good {
        Ok(())
    } else {
        Err(BaggageError::Property(property.into()))
    }
}

/// Splits at the first `=`; a value may hold more of them.
fn cut(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    let (key, rest) = pair.split_at_checked(at)?;
    Some((key, rest.get(1..)?))
}

/// A token of HTTP.
fn is_token(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(allowed)
}

/// Printable ASCII without space, quote, comma, semicolon and backslash.
fn is_value(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e))
}

/// Returns the first percent sign that is not followed by two digits, with what follows it.
fn bad_escape(value: &[u8]) -> Option<&[u8]> {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        rest = rest.get(at..)?;
        match rest {
            [b'%', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest = after;
            }
            _ => return rest.get(..3.min(rest.len())),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(lines: &[&str]) -> Result<String, String> {
        let lines = lines.iter().map(|line| line.as_bytes());
        let joined = validate(lines).map_err(|error| error.to_string())?;
        Ok(joined.to_string())
    }

    #[test]
    fn valid_lists_stay_as_written() {
        for text in [
            "",
            "k=v",
            "k1=v1,k2=v2",
            " k = v , l = w ",
            "k=a=b=c",
            "k=",
            "k=%20%C3%A9",
            "k=v;p;q=1; r = 2 ;",
            "k=v,k=w",
            "!#$%&'*+-.^_`|~09=x",
        ] {
            assert_eq!(check(&[text]).as_deref(), Ok(text));
        }
        assert_eq!(check(&[]).as_deref(), Ok(""));
    }

    /// Fact: golden 10, two lines come back as one.
    #[test]
    fn lines_are_joined() {
        assert_eq!(check(&["k=v", "k2=v2"]).as_deref(), Ok("k=v,k2=v2"));
        assert!(validate([]).unwrap().is_empty());
    }

    /// Fact: golden 11 (the first row); the others are the library's words.
    #[test]
    fn invalid_lists_are_refused_in_the_reference_words() {
        let table: &[(&[&str], &str)] = &[
            (
                &["invalid-baggage"],
                "invalid baggage list-member: \"invalid-baggage\"",
            ),
            (&["k=v,"], "invalid baggage list-member: \"\""),
            (&["k=v", ""], "invalid baggage list-member: \"\""),
            (&["k=v,x;p=1"], "invalid baggage list-member: \"x;p=1\""),
            (&["=v"], "invalid key: \"\""),
            (&["a b=v"], "invalid key: \"a b\""),
            (&["é=v"], "invalid key: \"é\""),
            (&["k=a b"], "invalid value: \"a b\""),
            (&["k= \"v\" "], "invalid value: \" \\\"v\\\" \""),
            (&["k=a\\b"], "invalid value: \"a\\\\b\""),
            (&["k=%zz"], "invalid value: invalid URL escape \"%zz\""),
            (&["k=%20%4"], "invalid value: invalid URL escape \"%4\""),
            (&["k=%"], "invalid value: invalid URL escape \"%\""),
            (
                &["k=v;a b"],
                "invalid baggage list-member property: \"a b\"",
            ),
            (
                &["k=v;p=\"q\""],
                "invalid baggage list-member property: \"p=\\\"q\\\"\"",
            ),
        ];
        for (lines, want) in table {
            assert_eq!(check(lines).unwrap_err(), *want, "{lines:?}");
        }
        let latin = validate([&b"k\xe9=v"[..]]).unwrap_err();
        assert_eq!(latin.to_string(), "invalid key: \"k\\xe9\"");
    }

    #[test]
    fn lengths_are_bounded() {
        let list = |count: usize| {
            let members: Vec<String> = (0..count).map(|n| format!("k{n}=v")).collect();
            check(&[&members.join(",")])
        };
        assert!(list(180).is_ok());
        assert_eq!(
            list(181).unwrap_err(),
            "too many list-members in baggage-string"
        );
        // Members of one key count once.
        assert!(check(&[&vec!["k=v"; 500].join(",")]).is_ok());
        let member = |length: usize| format!("k={}", "v".repeat(length - 2));
        assert!(check(&[&member(4096)]).is_ok());
        assert_eq!(
            check(&[&member(4097)]).unwrap_err(),
            "list-member too large: 4097"
        );
        let two = format!("{},{}", member(4096), member(4096));
        assert_eq!(
            check(&[&two]).unwrap_err(),
            "baggage-string too large: 8193"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_accepted_or_refused(bytes: Vec<u8>) {
            if let Ok(joined) = validate([bytes.as_slice()]) {
                prop_assert_eq!(joined.as_str().as_bytes(), bytes.as_slice());
            }
        }

        #[test]
        fn near_lists_are_accepted_or_refused(text in "[ak=,;%0-9 \"]{0,40}") {
            if let Ok(joined) = check(&[&text]) {
                prop_assert_eq!(check(&[&joined]), Ok(text));
            }
        }

        #[test]
        fn lists_in_the_standard_form_are_accepted(
            members in prop::collection::vec("[a-z]{1,5}=([a-z0-9=:/]|%[0-9A-F]{2}){0,8}(;[a-z]{1,3}(=[a-z]{0,3})?){0,2}", 1..8)
        ) {
            prop_assert!(check(&[&members.join(",")]).is_ok());
        }
    }
}
