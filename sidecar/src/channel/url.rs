//! From a cleaned method to the request line of an HTTP app.
//!
//! Owns the encoding rules of service-invocation 1.5: a method may hold percent-escapes (they reach the app as
//! they are) and characters that a request line may not (they are escaped). Pure.

use std::fmt::Write as _;

/// Builds path and query of an app request.
///
/// # Errors
/// The text of the reference for a `%` that two hex digits do not follow.
pub(crate) fn path_and_query(
    base_path: &str,
    method: &str,
    query: &str,
) -> Result<String, Box<str>> {
    let slash = if method.is_empty() || method.starts_with('/') {
        ""
    } else {
        "/"
    };
    let raw = format!("{base_path}{slash}{method}");
    check_escapes(&raw)?;
    // What is escaped stays so: decoding here would make segments that policy never saw.
    let mut out = if raw.bytes().all(is_valid_encoded) {
        raw
    } else {
        escape(raw.as_bytes())
    };
    if out.is_empty() {
        out.push('/');
    }
    if !query.is_empty() {
        out.push('?');
        escape_query(query, &mut out);
    }
    Ok(out)
}

/// Refuses a percent sign that two hex digits do not follow.
fn check_escapes(raw: &str) -> Result<(), Box<str>> {
    let bytes = raw.as_bytes();
    for (at, _) in raw.match_indices('%') {
        let escape = bytes.get(at + 1..at + 3).unwrap_or_default();
        if escape.len() != 2 || !escape.iter().all(u8::is_ascii_hexdigit) {
            let shown = bytes.get(at..bytes.len().min(at + 3)).unwrap_or_default();
            return Err(format!("invalid URL escape {:?}", String::from_utf8_lossy(shown)).into());
        }
    }
    Ok(())
}

/// Bytes that a path may hold as they are.
fn is_valid_encoded(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'_'
                | b'.'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'['
                | b']'
                | b'%'
                | b'/'
        )
}

/// Bytes that stay when a path has to be escaped anew.
fn stays(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'_'
                | b'.'
                | b'~'
                | b'$'
                | b'&'
                | b'+'
                | b','
                | b'/'
                | b':'
                | b';'
                | b'='
                | b'@'
                | b'%'
        )
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    for &byte in bytes {
        if stays(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A query passes byte for byte, but for what would end the request line.
fn escape_query(query: &str, out: &mut String) {
    for byte in query.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fact: the table of service-invocation 1.5.
    #[test]
    fn methods_become_request_lines() {
        for (method, query, expected) in [
            ("a/c", "", "/a/c"),
            ("", "", "/"),
            ("/x", "", "/x"),
            ("test\"stream", "", "/test%22stream"),
            ("test*stream", "", "/test*stream"),
            ("test\\stream", "", "/test%5Cstream"),
            ("test%41", "", "/test%41"),
            ("public", "x=1&y=%20", "/public?x=1&y=%20"),
            ("ä", "", "/%C3%A4"),
            ("a%2E%2E/b\"", "", "/a%2E%2E/b%22"),
            ("a b", "q=a b#c", "/a%20b?q=a%20b%23c"),
        ] {
            assert_eq!(
                path_and_query("", method, query).unwrap(),
                expected,
                "{method}"
            );
        }
        assert_eq!(
            path_and_query("", "test%x", "").unwrap_err().as_ref(),
            r#"invalid URL escape "%x""#
        );
        assert_eq!(
            path_and_query("", "test%stream", "").unwrap_err().as_ref(),
            r#"invalid URL escape "%st""#
        );
    }

    proptest! {
        #[test]
        fn every_line_is_a_uri_or_refused(method in "\\PC{0,40}", query in "\\PC{0,40}") {
            if let Ok(line) = path_and_query("", &method, &query)
                && line.starts_with('/')
            {
                prop_assert!(line.parse::<http::uri::PathAndQuery>().is_ok(), "{}", line);
            }
        }
    }
}
