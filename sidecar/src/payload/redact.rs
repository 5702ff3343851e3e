//! What is left out of a logged payload: values of headers, JSON fields and form fields by their names.
//!
//! Works on text that may be cut anywhere, so it follows the syntax as far as it goes instead of parsing the whole:
//! what belongs to a named field is left out to its end, or to the end of the text. Pure.

use std::collections::HashSet;

use http::{HeaderMap, HeaderName};

/// Names whose values are never shown, of headers and of fields alike.
const ALWAYS: [&str; 22] = [
    "access_token",
    "accesstoken",
    "api_key",
    "apikey",
    "authorization",
    "client_secret",
    "clientsecret",
    "cookie",
    "credential",
    "credentials",
    "dapr-api-token",
    "id_token",
    "passwd",
    "password",
    "private_key",
    "privatekey",
    "proxy-authorization",
    "refresh_token",
    "secret",
    "set-cookie",
    "token",
    "x-api-key",
];
/// What stands in their place.
const REDACTED: &str = "<redacted>";

/// The names.
#[derive(Clone, Debug)]
pub(crate) struct Names(HashSet<Box<str>>);

// === impl Names ===

impl Names {
    /// Those that are always left out, and more.
    pub(crate) fn new<'a>(more: impl Iterator<Item = &'a str>) -> Self {
        let more = more.map(str::trim).filter(|name| !name.is_empty());
        let all = ALWAYS.into_iter().chain(more);
        Self(all.map(|name| name.to_ascii_lowercase().into()).collect())
    }

    fn holds(&self, name: &str) -> bool {
        self.0.contains(name.to_ascii_lowercase().as_str())
    }

    /// Headers as one text.
    pub(super) fn headers(&self, headers: &HeaderMap) -> String {
        let shown = |(name, value): (&HeaderName, &http::HeaderValue)| {
            let is_secret = value.is_sensitive() || self.holds(name.as_str());
            let value = match is_secret {
                true => REDACTED.into(),
                false => String::from_utf8_lossy(value.as_bytes()),
            };
            format!("{name}: {value}")
        };
        let all: Vec<String> = headers.iter().map(shown).collect();
        all.join("; ")
    }

    /// A body of form fields, `a=1&b=2`.
    pub(super) fn form(&self, text: &str) -> String {
        let shown = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if self.holds(&decoded(name)) => format!("{name}={REDACTED}"),
            Some(_) | None => pair.to_owned(),
        };
        let all: Vec<String> = text.split('&').map(shown).collect();
        all.join("&")
    }

    /// Text that is JSON, or the beginning of it.
    pub(super) fn json(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('"') {
            let (before, string) = rest.split_at(at);
            out.push_str(before);
            let end = string_end(string);
            let (string, after) = string.split_at(end);
            out.push_str(string);
            rest = after;
            let Some(value) = after.trim_start().strip_prefix(':') else {
                continue;
            };
            if !self.holds(&unquoted(string)) {
                continue;
            }
            let value = value.trim_start();
            out.push_str(":\"");
            out.push_str(REDACTED);
            out.push('"');
            rest = value.get(value_end(value)..).unwrap_or_default();
        }
        out.push_str(rest);
        out
    }
}

fn decoded(name: &str) -> String {
    let plain = name.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&plain);
    decoded.decode_utf8_lossy().into_owned()
}

/// The text of a string with its quotation marks; escapes may hide a name.
fn unquoted(string: &str) -> String {
    let read = serde_json::from_str::<String>(string);
    read.unwrap_or_else(|_cut| string.trim_matches('"').to_owned())
}

/// Where a string ends that begins with a quotation mark.
fn string_end(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Where a value ends: a string, an object, a list, or a word.
fn value_end(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b'"' => {
                at += string_end(text.get(at..).unwrap_or_default());
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        Names::new(["iban", " X-Tenant "].into_iter())
    }

    #[test]
    fn fields_are_left_out_wherever_they_are() {
        for (text, want) in [
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (
                r#"{"password":"x","a":"y"}"#,
                r#"{"password":"<redacted>","a":"y"}"#,
            ),
            (
                r#"{"a":{"Token" : [1,{"b":"]"}] ,"c":2}}"#,
                r#"{"a":{"Token":"<redacted>" ,"c":2}}"#,
            ),
            (r#"{"iban":12,"a":1}"#, r#"{"iban":"<redacted>","a":1}"#),
            (r#"{"iban":null}"#, r#"{"iban":"<redacted>"}"#),
            (
                r#"{"pass\u0077ord":"x"}"#,
                r#"{"pass\u0077ord":"<redacted>"}"#,
            ),
            (r#"["password","x"]"#, r#"["password","x"]"#),
            (r#"{"a":"\"token\":1"}"#, r#"{"a":"\"token\":1"}"#),
            (r#"{"secret":"cut of"#, r#"{"secret":"<redacted>""#),
            (r#"{"secret":{"a":"cut of"#, r#"{"secret":"<redacted>""#),
            (r#"{"secret":"#, r#"{"secret":"<redacted>""#),
            (r#"{"secr"#, r#"{"secr"#),
            (
                r#"{"secret":"a\"b","c":1}"#,
                r#"{"secret":"<redacted>","c":1}"#,
            ),
        ] {
            assert_eq!(names().json(text), want, "{text}");
        }
    }

    #[test]
    fn form_fields_and_headers_are_left_out() {
        let form = "a=1&password=x&p%61ssword=y&token";
        let want = "a=1&password=<redacted>&p%61ssword=<redacted>&token";
        assert_eq!(names().form(form), want);
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer x"));
        headers.insert("x-tenant", HeaderValue::from_static("t"));
        let mut sensitive = HeaderValue::from_static("s");
        sensitive.set_sensitive(true);
        headers.insert("x-other", sensitive);
        headers.insert("x-plain", HeaderValue::from_static("p"));
        let text = names().headers(&headers);
        for (part, is_there) in [
            ("authorization: <redacted>", true),
            ("x-tenant: <redacted>", true),
            ("x-other: <redacted>", true),
            ("x-plain: p", true),
            ("Bearer", false),
        ] {
            assert_eq!(text.contains(part), is_there, "{part} in {text}");
        }
    }

    proptest! {
        #[test]
        fn a_secret_is_never_shown_however_the_text_is_cut(
            cut in 0_usize..200,
            secret in "[a-z0-9]{12}",
            before in "[a-z]{0,8}",
        ) {
            let text = format!(
                r#"{{"{before}":[1,2],"x":{{"password": "{secret}"}},"token":["{secret}"],"y":"z"}}"#
            );
            let cut = cut.min(text.len());
            let shown = names().json(&text[..cut]);
            prop_assert!(!shown.contains(&secret[..6]), "{}", shown);
        }

        #[test]
        fn any_text_is_passed(text in "\\PC*") {
            names().json(&text);
            names().form(&text);
        }
    }
}
