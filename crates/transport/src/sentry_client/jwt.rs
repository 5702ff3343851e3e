//! The tokens that may come with a certificate.
//!
//! Owns reading when they end, without judging them (security 2.2: whoever is shown a token verifies it), and keeping
//! them out of every print. A token that cannot be read is left out: invocation needs none.

use super::SCOPE;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ironside_proto::sentry::SignCertificateResponse;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::warn;

/// The tokens of one answer of Sentry.
#[derive(Clone, PartialEq, Eq)]
pub struct Jwts {
    token: Option<String>,
    by_audience: BTreeMap<String, String>,
    expires: Option<SystemTime>,
}

/// Why a token cannot be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("it has not three parts")]
    Parts,
    #[error("its claims are no base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("its claims are no JSON: {0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
}

// === impl Jwts ===

impl Jwts {
    /// Takes the tokens out of an answer; `None` if there are none.
    pub(super) fn take(response: &mut SignCertificateResponse) -> Option<Self> {
        let mut jwts = Self {
            token: None,
            by_audience: BTreeMap::new(),
            expires: None,
        };
        if let Some(token) = response.jwt.take() {
            jwts.token = jwts.admit("", token.value);
        }
        for (audience, token) in response.per_audience_jwts.drain() {
            if let Some(token) = jwts.admit(&audience, token.value) {
                jwts.by_audience.insert(audience, token);
            }
        }
        let is_empty = jwts.token.is_none() && jwts.by_audience.is_empty();
        (!is_empty).then_some(jwts)
    }

    /// The token for the own trust domain and all audiences that were asked for.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The token for one audience alone.
    #[must_use]
    pub fn for_audience(&self, audience: &str) -> Option<&str> {
        self.by_audience.get(audience).map(String::as_str)
    }

    /// When the first of them ends, if any says so.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// Returns a token that can be read, and notes its end.
    fn admit(&mut self, audience: &str, token: String) -> Option<String> {
        match end(&token) {
            Ok(end) => {
                self.expires = match (self.expires, end) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                Some(token)
            }
            Err(cause) => {
                warn!(target: SCOPE, audience, err = %cause, "Sentry delivered a JWT that cannot be read; it is ignored");
                None
            }
        }
    }
}

impl fmt::Debug for Jwts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let audiences: Vec<_> = self.by_audience.keys().collect();
        f.debug_struct("Jwts")
            .field("tokens", &"<redacted>")
            .field("audiences", &audiences)
            .field("expires", &self.expires)
            .finish()
    }
}

/// The claim `exp`; an instant beyond the calendar is no end.
fn end(token: &str) -> Result<Option<SystemTime>, ReadError> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(ReadError::Parts);
    };
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    let since = claims
        .exp
        .and_then(|exp| Duration::try_from_secs_f64(exp.max(0.0)).ok());
    Ok(since.and_then(|since| UNIX_EPOCH.checked_add(since)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironside_proto::google::protobuf::StringValue;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn at(seconds: u64) -> Option<SystemTime> {
        Some(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn taken(jwt: Option<String>, others: &[(&str, String)]) -> Option<Jwts> {
        let string = |value: &String| StringValue {
            value: value.clone(),
        };
        let others = others.iter();
        Jwts::take(&mut SignCertificateResponse {
            jwt: jwt.as_ref().map(string),
            per_audience_jwts: others
                .map(|(aud, jwt)| ((*aud).to_owned(), string(jwt)))
                .collect(),
            ..SignCertificateResponse::default()
        })
    }

    /// Fact: security.md 2.2, 2.3.
    #[test]
    fn tokens_are_kept_and_the_first_end_counts() {
        let (all, one) = (token(r#"{"exp":2000}"#), token(r#"{"exp":1000.0}"#));
        let jwts = taken(Some(all.clone()), &[("a", one.clone()), ("b", token("{}"))]).unwrap();
        assert_eq!(jwts.token(), Some(all.as_str()));
        assert_eq!(jwts.for_audience("a"), Some(one.as_str()));
        assert_eq!(jwts.for_audience("c"), None);
        assert_eq!(jwts.expires(), at(1000));
        assert!(!format!("{jwts:?}").contains(&all));
    }

    #[test]
    fn none_and_unreadable_ones_are_nothing() {
        assert_eq!(taken(None, &[]), None);
        for bad in ["", "a.b", "a.b.c.d", "e30.?.c2ln", "e30.bm9KU09O.c2ln"] {
            assert_eq!(
                taken(Some(bad.to_owned()), &[("a", bad.to_owned())]),
                None,
                "{bad}"
            );
        }
        let jwts = taken(Some("bad".into()), &[("a", token(r#"{"exp":1}"#))]).unwrap();
        assert_eq!((jwts.token(), jwts.expires()), (None, at(1)));
    }

    #[test]
    fn odd_ends_are_none() {
        for (claims, end) in [
            ("{}", None),
            (r#"{"exp":1e300}"#, None),
            (r#"{"exp":-5}"#, at(0)),
        ] {
            assert_eq!(
                taken(Some(token(claims)), &[]).unwrap().expires(),
                end,
                "{claims}"
            );
        }
    }
}
