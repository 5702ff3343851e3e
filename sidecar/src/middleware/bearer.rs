//! `middleware.http.bearer`: only callers with a signed token of a known issuer.
//!
//! Settings `issuer` and `audience` (required; `issuerURL` and `clientID` are their older names) and `jwksURL`
//! (found through the issuer's OpenID configuration when absent). Owns the judgement of a token: asymmetric
//! algorithms only, signature, issuer, audience, validity with five minutes of leeway. Where keys come from
//! and how long they are kept is `keys.rs`.

mod keys;

use std::sync::Arc;

use http::{HeaderMap, header, request::Parts};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::Jwk};

pub(crate) use keys::KeySource;

use self::keys::{KeySet, Location};
use super::{HandlerError, Settings, Tools};

#[cfg(test)]
mod tests;

/// How far clocks may be apart, in seconds; the reference's value.
const LEEWAY: u64 = 5 * 60;
/// What tokens may be signed with. A shared secret has no place in a public key set.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Judges the bearer token of each request.
#[derive(Debug)]
pub(crate) struct Bearer {
    issuer: Box<str>,
    audience: Box<str>,
    keys: Arc<KeySet>,
}

/// Why a token is refused; the caller learns only that it is.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("no bearer token")]
    Missing,
    #[error("algorithm {0:?} is not accepted")]
    Algorithm(Algorithm),
    #[error("no key of the issuer fits the token")]
    UnknownKey,
    #[error(transparent)]
    Token(#[from] jsonwebtoken::errors::Error),
}

// === impl Bearer ===

impl Bearer {
    pub(super) fn build(settings: &Settings, tools: &Tools<'_>) -> Result<Self, HandlerError> {
        let issuer = settings
            .text(&["issuer", "issuerURL"])
            .ok_or(HandlerError::Missing("issuer"))?;
        let audience = settings
            .text(&["audience", "clientID"])
            .ok_or(HandlerError::Missing("audience"))?;
        let (name, location) = match settings.text(&["jwksURL"]) {
            Some(url) => ("jwksURL", Location::Jwks(url.parse())),
            None => ("issuer", Location::Issuer(issuer.parse())),
        };
        let keys = tools
            .keys
            .at(location)
            .map_err(|reason| HandlerError::Invalid {
                name,
                reason: reason.into(),
            })?;
        Ok(Self {
            issuer: issuer.into(),
            audience: audience.into(),
            keys,
        })
    }

    /// True if the request carries a token that is good here.
    pub(super) async fn admits(&self, head: &Parts) -> bool {
        let judged = self.judge(&head.headers).await;
        if let Err(cause) = &judged {
            tracing::debug!(target: "dapr.runtime.http", err = %cause, "bearer token refused");
        }
        judged.is_ok()
    }

    async fn judge(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let token = token(headers).ok_or(Refused::Missing)?;
        let claimed = decode_header(token)?;
        if !ALGORITHMS.contains(&claimed.alg) {
            return Err(Refused::Algorithm(claimed.alg));
        }
        let key = self
            .keys
            .find(claimed.kid.as_deref())
            .await
            .ok_or(Refused::UnknownKey)?;
        self.verify(token, claimed.alg, &key)
    }

    fn verify(&self, token: &str, algorithm: Algorithm, key: &Jwk) -> Result<(), Refused> {
        let mut rules = Validation::new(algorithm);
        rules.leeway = LEEWAY;
        rules.validate_nbf = true;
        rules.set_issuer(&[&*self.issuer]);
        rules.set_audience(&[&*self.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        decode::<serde_json::Value>(token, &DecodingKey::from_jwk(key)?, &rules)?;
        Ok(())
    }
}

/// The token of `Authorization: Bearer <token>`; the scheme in any letter case.
fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}
