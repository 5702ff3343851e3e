//! The few shapes of answers that the API's own routes give.
//!
//! Owns the JSON of an error (keys in the reference's order, HTML-safe escapes) and plain text. Invocation
//! errors have their own table in `error.rs`.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::body::{self, Body};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// 204.
pub(crate) fn no_content() -> Response<Body> {
    let mut answer = Response::new(body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// 200 or another status with a JSON text.
pub(crate) fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(body::full(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
    answer
}

/// `{"errorCode":"…","message":"…"}`.
pub(crate) fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    json(status, error_text(code, message))
}

/// The text of an error.
pub(crate) fn error_text(code: &str, message: &str) -> String {
    format!(
        r#"{{"errorCode":{},"message":{}}}"#,
        quoted(code),
        quoted(message)
    )
}

/// Text with a final newline, as Go's `http.Error` writes it.
pub(crate) fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut answer = Response::new(body::full(format!("{text}\n")));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, TEXT);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    answer
}

/// 404 of a route that nobody registered (E21).
pub(crate) fn page_not_found() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "404 page not found")
}

/// `text` as a JSON string, safe inside HTML: `<`, `>`, `&` and the two line separators escaped.
pub(crate) fn quoted(text: &str) -> String {
    let plain = serde_json::Value::from(text).to_string();
    if !plain.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return plain;
    }
    let escape = |c: char| match c {
        '<' => "\\u003c".to_owned(),
        '>' => "\\u003e".to_owned(),
        '&' => "\\u0026".to_owned(),
        '\u{2028}' => "\\u2028".to_owned(),
        '\u{2029}' => "\\u2029".to_owned(),
        other => other.to_string(),
    };
    plain.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_spelled_as_the_reference_spells_them() {
        assert_eq!(
            error_text("ERR_DIRECT_INVOKE", "invalid app id a.b.c"),
            r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"invalid app id a.b.c"}"#
        );
        assert_eq!(
            quoted("a\"b\\c\n<&>\u{2028}"),
            r#""a\"b\\c\n\u003c\u0026\u003e\u2028""#
        );
        assert_eq!(quoted("é\u{1}"), "\"é\\u0001\"");
    }

    #[test]
    fn unknown_routes_get_text() {
        let answer = page_not_found();
        assert_eq!(answer.status(), 404);
        assert_eq!(
            answer.headers()["content-type"],
            "text/plain; charset=utf-8"
        );
    }
}
