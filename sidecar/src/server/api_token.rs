//! Stage 5, `authenticate`: `dapr-api-token` of the HTTP and the gRPC API.
//!
//! Owns the comparison (constant time), the routes that need no token, and the refusals. The
//! header is removed on success, so that neither peer nor app ever sees it. Refuses to own the app's token,
//! which is stamped at the app channel.

use http::{HeaderMap, Method};
use ironside_chassis::secret::Secret;
use subtle::ConstantTimeEq as _;

/// Name of the header and of the metadata key.
pub(crate) const NAME: &str = "dapr-api-token";

/// Why a call was not let in; the texts are those of the reference (service-invocation 1.15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The call carries no token.
    #[error("missing api token in request metadata")]
    Missing,
    /// The call carries another token.
    #[error("authentication error: api token mismatch")]
    Mismatch,
}

/// Checks the token and removes it from `headers`. Without a configured token everything passes; what a
/// client sent is then dropped by the invocation, which lets none through (O-C9).
///
/// # Errors
/// [`Refused`] if the token is absent or another one.
pub(crate) fn authenticate(
    expected: Option<&Secret<Box<str>>>,
    headers: &mut HeaderMap,
) -> Result<(), Refused> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let Some(given) = headers.get(NAME) else {
        return Err(Refused::Missing);
    };
    if !bool::from(expected.expose().as_bytes().ct_eq(given.as_bytes())) {
        return Err(Refused::Mismatch);
    }
    headers.remove(NAME);
    Ok(())
}

/// True for the health routes, which never need a token: GET only, slashes at both ends ignored.
pub(crate) fn is_exempt(method: &Method, path: &str) -> bool {
    method == Method::GET
        && matches!(
            path.trim_matches('/'),
            "v1.0/healthz" | "v1.0/healthz/outbound"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        values
            .iter()
            .map(|v| (NAME.parse().unwrap(), v.parse().unwrap()))
            .collect()
    }

    fn token() -> Secret<Box<str>> {
        Secret::new("s3cret".into())
    }

    /// Fact: service-invocation 1.15, SI-119, SI-121.
    #[test]
    fn only_the_token_passes_and_it_is_taken_off() {
        let mut right = headers(&["s3cret"]);
        assert_eq!(authenticate(Some(&token()), &mut right), Ok(()));
        assert!(right.is_empty());
        assert_eq!(
            authenticate(Some(&token()), &mut headers(&[])),
            Err(Refused::Missing)
        );
        for wrong in ["", "S3CRET", "s3cre", "s3cret2"] {
            assert_eq!(
                authenticate(Some(&token()), &mut headers(&[wrong])),
                Err(Refused::Mismatch),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_second_copy_neither_helps_nor_survives() {
        assert_eq!(
            authenticate(Some(&token()), &mut headers(&["x", "s3cret"])),
            Err(Refused::Mismatch)
        );
        let mut both = headers(&["s3cret", "x"]);
        assert_eq!(authenticate(Some(&token()), &mut both), Ok(()));
        assert!(both.is_empty());
    }

    #[test]
    fn without_a_token_nothing_is_checked() {
        let mut other = headers(&["anything"]);
        assert_eq!(authenticate(None, &mut other), Ok(()));
        assert_eq!(other.len(), 1);
    }

    /// Fact: service-invocation SI-120.
    #[test]
    fn health_is_exempt_for_get_only() {
        for (method, path, exempt) in [
            (Method::GET, "/v1.0/healthz", true),
            (Method::GET, "//v1.0/healthz/outbound/", true),
            (Method::PUT, "/v1.0/healthz", false),
            (Method::GET, "/v1.0/healthz/other", false),
            (Method::GET, "/v1.0/metadata", false),
        ] {
            assert_eq!(is_exempt(&method, path), exempt, "{method} {path}");
        }
    }
}
