//! W3C trace state: what vendors add to a trace.
//!
//! Only checked and carried on, never interpreted. A text that is not in the
//! standard's form counts as empty; one that is too long is read, but not sent.
//! Source: resiliency-observability 2.2.

use std::collections::HashSet;
use std::fmt;

/// Longest text that is sent on, in bytes: resiliency-observability 2.2.
const MAX_SENT: usize = 512;
/// Most members a list may have: W3C trace context 3.3.1.
const MAX_MEMBERS: usize = 32;
/// Longest key or value: W3C trace context 3.3.1.3.
const MAX_PART: usize = 256;
/// Longest text that is looked at, in bytes: the longest list there can be, and room for blanks.
const MAX_READ: usize = MAX_MEMBERS * (2 * MAX_PART + 16);

/// A checked, non-empty list of members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceState(Box<str>);

impl TraceState {
    /// Reads the header, several lines joined by commas; `None` when it counts as empty.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        if header.len() > MAX_READ {
            return None;
        }
        let mut keys = HashSet::new();
        let mut members = Vec::new();
        for member in header
            .split(',')
            .map(|member| member.trim_matches([' ', '\t']))
        {
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            if !is_key(key) || !is_value(value) || !keys.insert(key) {
                return None;
            }
            members.push(member);
        }
        if members.is_empty() || members.len() > MAX_MEMBERS {
            return None;
        }
        Some(Self(members.join(",").into()))
    }

    /// Returns the list.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the list if it is short enough to be sent on.
    #[must_use]
    pub fn sendable(&self) -> Option<&str> {
        (self.0.len() <= MAX_SENT).then_some(&self.0)
    }
}

impl fmt::Display for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `name` or `tenant@system`, lower-case.
fn is_key(key: &str) -> bool {
    let mut parts = key.split('@');
    let named = parts.next().is_some_and(is_key_part);
    let tenant = parts.next().is_none_or(is_key_part);
    key.len() <= MAX_PART && named && tenant && parts.next().is_none()
}

fn is_key_part(part: &str) -> bool {
    let starts = part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte);
    starts && part.bytes().all(rest)
}

fn is_value(value: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    !value.is_empty() && value.len() <= MAX_PART && value.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_checked() {
        let long = "x".repeat(257);
        let table = [
            ("a=b", Some("a=b")),
            ("a=b,c=d", Some("a=b,c=d")),
            ("a=b , c=d", Some("a=b,c=d")),
            (",a=b,,", Some("a=b")),
            ("t61rcwkgmze@vendor=1", Some("t61rcwkgmze@vendor=1")),
            ("0a_-*/=!~ x", Some("0a_-*/=!~ x")),
            ("", None),
            (" , ", None),
            ("a", None),
            ("a=", None),
            ("=b", None),
            ("A=b", None),
            ("a b=c", None),
            ("a@b@c=d", None),
            ("@a=b", None),
            ("a=b=c", None),
            ("a=\u{7f}", None),
            ("a=é", None),
            ("a=1,a=2", None),
        ];
        for (text, want) in table {
            let state = TraceState::parse(text);
            assert_eq!(state.as_ref().map(TraceState::as_str), want, "{text}");
        }
        assert_eq!(TraceState::parse(&format!("a={long}")), None);
        assert_eq!(TraceState::parse(&format!("{long}=a")), None);
    }

    #[test]
    fn at_most_32_members_and_512_bytes_are_sent() {
        let list = |count: usize| {
            let members: Vec<String> = (0..count).map(|n| format!("k{n}=v")).collect();
            TraceState::parse(&members.join(","))
        };
        assert!(list(32).unwrap().sendable().is_some());
        assert_eq!(list(33), None);
        let value = "v".repeat(200);
        let long = TraceState::parse(&format!("a={value},b={value},c={value}")).unwrap();
        assert_eq!(long.sendable(), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|[a-z=,@ ]{0,60}") {
            if let Some(state) = TraceState::parse(&text) {
                prop_assert_eq!(TraceState::parse(state.as_str()), Some(state));
            }
        }
    }
}
