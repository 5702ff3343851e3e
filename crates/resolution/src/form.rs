//! Finds the target and the method in a request, by the three forms clients use.
//!
//! Owns the order of the forms and their spelling (service-invocation 1.4): the header
//! `dapr-app-id`, then `Authorization: Basic` with the user `dapr-app-id`, then the path
//! `/v1.0/invoke/<target>/method/<method>`. Works on the path after one percent-decoding and knows
//! no HTTP library. Refuses to clean the method (policy's `Method` does) and to judge the target
//! ([`crate::target`] does). Stage 8, `target`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

#[cfg(test)]
mod tests;

/// The header that names the target; it is removed before the request goes on.
pub const APP_ID_HEADER: &str = "dapr-app-id";

const PREFIX: [&str; 2] = ["v1.0", "invoke"];
const SEPARATOR: &str = "/method/";

/// The parts of a request that can name a target.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The URL path after one percent-decoding: see [`decode_path`].
    pub path: &'a str,
    /// The first value of the header [`APP_ID_HEADER`].
    pub app_id: Option<&'a [u8]>,
    /// The first value of the header `Authorization`.
    pub authorization: Option<&'a [u8]>,
}

/// Which form named the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The header `dapr-app-id`: remove it before the request goes on.
    Header,
    /// Basic authentication: the header stays, the app receives it.
    BasicAuth,
    /// The path `/v1.0/invoke/<target>/method/<method>`.
    Path,
}

/// A target and a method, as the client wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<'a> {
    /// The target, never empty; input of [`crate::Target::parse`].
    pub target: Cow<'a, str>,
    /// The method before cleaning: the whole path, or the text after `/method/`.
    pub method: &'a str,
    /// Where the target stood.
    pub form: Form,
}

/// Why a request path cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A `%` that two hex digits do not follow; holds the `%` and up to two bytes after it.
    #[error("invalid URL escape {0:?}")]
    Escape(Box<str>),
    /// The decoded bytes are no UTF-8, and a method is text on the wire.
    #[error("the decoded path is not UTF-8")]
    NotUtf8,
}

/// Finds the target and the method; `None` means that the request names no target (error E1).
#[must_use]
pub fn find(request: Request<'_>) -> Option<Found<'_>> {
    let Request {
        path,
        app_id,
        authorization,
    } = request;
    if let Some(value) = app_id.filter(|value| !value.is_empty()) {
        let target = String::from_utf8_lossy(value);
        return Some(Found {
            target,
            method: path,
            form: Form::Header,
        });
    }
    if let Some(target) = authorization.and_then(basic_target) {
        // An empty password still counts as this form: the path is not looked at any more.
        let target = Some(target).filter(|target| !target.is_empty())?;
        return Some(Found {
            target: Cow::Owned(target),
            method: path,
            form: Form::BasicAuth,
        });
    }
    let (target, method) = after_prefix(path)?.split_once(SEPARATOR)?;
    Some(Found {
        target: decode_target(target),
        method,
        form: Form::Path,
    })
}

/// Decodes the percent escapes of a URL path once; borrows when there are none.
///
/// # Errors
/// [`PathError`] for a broken escape and for bytes that are no UTF-8.
pub fn decode_path(raw: &str) -> Result<Cow<'_, str>, PathError> {
    check_escapes(raw)?;
    percent_decode_str(raw)
        .decode_utf8()
        .map_err(|_not_utf8| PathError::NotUtf8)
}

/// The text behind the prefix and any run of slashes; slashes may be doubled anywhere in it.
fn after_prefix(path: &str) -> Option<&str> {
    let mut rest = path;
    for part in PREFIX {
        rest = rest.trim_start_matches('/').strip_prefix(part)?;
        if !rest.starts_with('/') {
            return None;
        }
    }
    Some(rest.trim_start_matches('/'))
}

/// Decodes a target of the path form a second time, as a query value: `+` is a space.
///
/// A text that cannot be decoded, or decodes to nothing, stays as it is.
fn decode_target(target: &str) -> Cow<'_, str> {
    if !target.contains(['+', '%']) || check_escapes(target).is_err() {
        return Cow::Borrowed(target);
    }
    let spaced = target.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) if !decoded.is_empty() => Cow::Owned(decoded.into_owned()),
        Ok(_) | Err(_) => Cow::Borrowed(target),
    }
}

fn check_escapes(text: &str) -> Result<(), PathError> {
    for (at, _) in text.match_indices('%') {
        let mut escape = text.get(at..).unwrap_or_default().chars().take(3);
        if escape
            .clone()
            .skip(1)
            .filter(char::is_ascii_hexdigit)
            .count()
            != 2
        {
            return Err(PathError::Escape(escape.by_ref().collect()));
        }
    }
    Ok(())
}

/// The second part of `dapr-app-id:<target>`; `None` if the credentials are somebody else's.
fn basic_target(authorization: &[u8]) -> Option<String> {
    let encoded = authorization.strip_prefix(b"Basic ")?;
    let decoded = STANDARD.decode(encoded).ok()?;
    let text = String::from_utf8_lossy(&decoded);
    let (user, target) = text.split_once(':')?;
    let ours = user.eq_ignore_ascii_case(APP_ID_HEADER) && !target.contains(':');
    ours.then(|| target.to_owned())
}
