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
    let decoded = unescape(&raw)?;
    let mut out = if raw.bytes().all(is_valid_encoded) {
        raw
    } else {
        escape(&decoded)
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

fn unescape(raw: &str) -> Result<Vec<u8>, Box<str>> {
    let bytes = raw.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            out.push(byte);
            at += 1;
            continue;
        }
        let hex = bytes
            .get(at + 1)
            .zip(bytes.get(at + 2))
            .and_then(|(high, low)| Some(digit(*high)? << 4 | digit(*low)?));
        let Some(value) = hex else {
            let shown = bytes.get(at..bytes.len().min(at + 3)).unwrap_or_default();
            return Err(format!("invalid URL escape {:?}", String::from_utf8_lossy(shown)).into());
        };
        out.push(value);
        at += 3;
    }
    Ok(out)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
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
