//! An operation as policy sees it: a cleaned method and a verb.
//!
//! Cleaning follows the lexical rules of a POSIX path: `//` collapses, `.` vanishes, `..` takes a segment with
//! it, a trailing slash goes. Bytes that a later parser could read as the end of a path are refused before
//! that. No percent-decoding happens here: whoever holds an encoded path decodes it once, before.

use std::fmt;

/// A method of an app: a path without `.`, `..`, empty segments, trailing slash or control bytes.
///
/// A leading slash is kept if the caller wrote one (gRPC methods have it, HTTP methods do not).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Method(Box<str>);

/// Why a text is no method. The texts are the ones that callers of the reference see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// `#`, `?` or NUL: a URL parser would cut the path there.
    #[error("method contains forbidden character: {}", quote(method))]
    Forbidden {
        /// The whole method.
        method: Box<str>,
    },
    /// 0x01-0x1f or 0x7f.
    #[error(
        "method contains control character at position {position}: {}",
        quote(method)
    )]
    Control {
        /// Byte offset of the first one.
        position: usize,
        /// The whole method.
        method: Box<str>,
    },
}

impl Method {
    /// Refuses forbidden bytes, then cleans.
    ///
    /// `..`, `.` and the empty text give the empty method, which is the root of the app.
    ///
    /// # Errors
    /// [`MethodError`] names the first byte that a method may not hold.
    ///
    /// # Source
    /// service-invocation 1.5, security 3.6.
    pub fn parse(raw: &str) -> Result<Self, MethodError> {
        if raw.bytes().any(|byte| matches!(byte, b'#' | b'?' | 0)) {
            return Err(MethodError::Forbidden { method: raw.into() });
        }
        if let Some(position) = raw
            .bytes()
            .position(|byte| matches!(byte, 0x01..=0x1f | 0x7f))
        {
            return Err(MethodError::Control {
                position,
                method: raw.into(),
            });
        }
        Ok(Self(clean(raw).into()))
    }

    /// The cleaned path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Cleans a path lexically; never climbs out of its root.
///
/// A relative path that climbs loses its leading `..`; `.` and the empty path give the empty text; `/` stays.
#[must_use]
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let joined = kept.join("/");
    if rooted { format!("/{joined}") } else { joined }
}

/// Quotes a text the way the reference's error texts do.
fn quote(text: &str) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// HTTP verb of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// A proxied gRPC call, or none was given.
    None,
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

impl Verb {
    /// The verb of an HTTP request line; every unknown one becomes POST, for the wire has no other value.
    ///
    /// # Source
    /// service-invocation 1.5 (H13).
    #[must_use]
    pub fn from_http(text: &str) -> Self {
        match text.to_ascii_uppercase().as_str() {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "CONNECT" => Self::Connect,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "PATCH" => Self::Patch,
            _ => Self::Post,
        }
    }

    /// Upper-case text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
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

    /// True if a second delivery of the same request does no more than the first (RFC 9110 9.2.2).
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace
        )
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn methods_are_cleaned() {
        for (raw, expected) in [
            ("a//b/../c/", "a/c"),
            ("admin/../public", "public"),
            ("admin/../../public", "public"),
            ("../public", "public"),
            ("../../..", ""),
            ("..", ""),
            (".", ""),
            ("", ""),
            ("/", "/"),
            ("/..", "/"),
            ("/a/", "/a"),
            ("api///v1//x", "api/v1/x"),
            ("a\\..\\b", "a\\..\\b"),
            ("admin%2F..%2Fpublic", "admin%2F..%2Fpublic"),
            ("//greet.G/A/../Hi", "/greet.G/Hi"),
        ] {
            assert_eq!(Method::parse(raw).unwrap().as_str(), expected, "{raw:?}");
        }
    }

    #[test]
    fn bytes_that_end_a_path_are_refused() {
        for (raw, text) in [
            ("test#x", r#"method contains forbidden character: "test#x""#),
            ("test?x", r#"method contains forbidden character: "test?x""#),
            (
                "test\0x",
                r#"method contains forbidden character: "test\x00x""#,
            ),
            (
                "test\rx",
                r#"method contains control character at position 4: "test\rx""#,
            ),
            (
                "\u{7f}",
                r#"method contains control character at position 0: "\x7f""#,
            ),
            (
                "public#/../admin",
                r##"method contains forbidden character: "public#/../admin""##,
            ),
        ] {
            assert_eq!(Method::parse(raw).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn unknown_verbs_become_post() {
        assert_eq!(Verb::from_http("PROPFIND"), Verb::Post);
        assert_eq!(Verb::from_http("get"), Verb::Get);
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_idempotent(raw in "\\PC{0,64}|[/.a#?%\\\\]{0,32}") {
            if let Ok(method) = Method::parse(&raw) {
                prop_assert_eq!(&Method::parse(method.as_str()).unwrap(), &method);
                prop_assert!(!method.as_str().contains("//"));
                prop_assert!(method.as_str().split('/').all(|s| s != "." && s != ".."));
            }
        }
    }
}
