//! What a token of Kubernetes says of its pod, read without a key.
//!
//! Owns the fallback of fact O-S4, for API servers that do not name the pod. The token has been found genuine by the
//! API server before; here it is only read, and anything odd is an error.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The pod of a token; what it does not say is none.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct PodClaims {
    pub(super) name: Option<String>,
    pub(super) uid: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Private,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Private {
    pod: PodClaims,
}

/// Why a token can't be read. Nothing of it is in the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("it is no JWT of three parts")]
    Parts,
    #[error("its claims are not in base64")]
    Base64,
    #[error("its claims are not what they should be")]
    Claims,
}

/// Reads the pod.
///
/// # Errors
/// [`TokenError`] if this is no JWT.
pub(super) fn pod(token: &str) -> Result<PodClaims, TokenError> {
    let mut parts = token.split('.');
    let (Some(_header), Some(claims), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Parts);
    };
    let claims = URL_SAFE_NO_PAD
        .decode(claims)
        .map_err(|_alphabet| TokenError::Base64)?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_shape| TokenError::Claims)?;
    let PodClaims { name, uid } = claims.kubernetes.pod;
    let full = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(PodClaims {
        name: full(name),
        uid: full(uid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))
    }

    /// Fact: security.md 1.7, K033.
    #[test]
    fn the_pod_is_read_where_there_is_one() {
        let claims = r#"{"kubernetes.io": {"namespace": "ns", "pod": {"name": "p", "uid": "u"}}}"#;
        let expected = PodClaims {
            name: Some("p".into()),
            uid: Some("u".into()),
        };
        assert_eq!(pod(&token(claims)), Ok(expected));
        let none = PodClaims::default();
        assert_eq!(pod(&token(r#"{"sub": "x"}"#)), Ok(none));
    }

    #[test]
    fn what_is_no_token_is_an_error() {
        assert_eq!(pod(""), Err(TokenError::Parts));
        assert_eq!(pod("a.b.c.d"), Err(TokenError::Parts));
        assert_eq!(pod("a.!.c"), Err(TokenError::Base64));
        assert_eq!(pod(&token("[]x")), Err(TokenError::Claims));
        let wrong = r#"{"kubernetes.io": {"pod": {"name": 5}}}"#;
        assert_eq!(pod(&token(wrong)), Err(TokenError::Claims));
    }
}
