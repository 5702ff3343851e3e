//! Issues tokens: the claims of security 1.10, to the letter.
//!
//! Owns what a token says, and the compact form of RFC 7515. A [`JwtIssuer`] that exists signs with a key that is in
//! its set, under the ID that the set has for it. The instant is an argument.

use super::algorithm::Algorithm;
use super::key::{KeyError, SigningKey, encode};
use super::set::{KeySet, KeySetError};
use ironside_identity::SpiffeId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is asked of tokens, whatever the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) algorithm: Algorithm,
    /// The ID that the key must have; its thumbprint otherwise.
    pub(crate) key_id: Option<String>,
    /// The claim `iss`, if there is one.
    pub(crate) issuer: Option<String>,
    pub(crate) ttl: Duration,
    /// How far `nbf` lies in the past.
    pub(crate) skew: Duration,
}

/// Signs tokens with the key in effect.
#[derive(Debug)]
pub(crate) struct JwtIssuer {
    terms: Terms,
    key: SigningKey,
    key_id: String,
    set: KeySet,
}

/// The tokens of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issued {
    /// For the trust domain and all audiences that were asked for.
    pub(crate) token: String,
    /// One for each audience that was asked for, for it alone.
    pub(crate) by_audience: BTreeMap<String, String>,
}

/// Why a key and a set are no issuer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuerError {
    #[error("JWT signing key: {0}")]
    Key(#[from] KeyError),
    #[error("JWT key set: {0}")]
    Set(#[from] KeySetError),
}

/// Why there is no token. The texts are the reference's (security 1.2).
#[derive(Debug, thiserror::Error)]
pub(crate) enum JwtError {
    #[error("failed to generate JWT: {0}")]
    Token(Cause),
    #[error("failed to generate JWT for audience {audience}: {cause}")]
    Audience { audience: String, cause: Cause },
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("its end is beyond the calendar")]
    Calendar,
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("signing failed: {0}")]
    Sign(#[from] aws_lc_rs::error::Unspecified),
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    kid: &'a str,
    typ: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a [&'a str],
    exp: u64,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    jti: String,
    nbf: u64,
    sub: &'a str,
    r#use: &'a str,
}

// === impl JwtIssuer ===

impl JwtIssuer {
    /// Takes a key in PEM and the set that it is in.
    ///
    /// # Errors
    /// [`IssuerError`] if the key does not fit the algorithm, or is not in the set.
    pub(crate) fn new(terms: Terms, key: &[u8], set: &[u8]) -> Result<Self, IssuerError> {
        let key = SigningKey::from_pem(key, terms.algorithm)?;
        let set = KeySet::from_json(set)?;
        let wanted = terms.key_id.as_deref();
        let key_id = set.key_id(key.public(), wanted, terms.algorithm)?;
        Ok(Self {
            terms,
            key,
            key_id,
            set,
        })
    }

    /// Makes the set of a key alone, as the file holds it.
    ///
    /// # Errors
    /// [`IssuerError`] if the key does not fit the algorithm.
    pub(crate) fn set_of(terms: &Terms, key: &[u8]) -> Result<String, IssuerError> {
        let key = SigningKey::from_pem(key, terms.algorithm)?;
        let public = key.public();
        let id = terms.key_id.clone().unwrap_or_else(|| public.thumbprint());
        Ok(KeySet::of(public, &id, terms.algorithm).to_json())
    }

    /// Makes a key for these terms, in PEM.
    ///
    /// # Errors
    /// [`IssuerError`] if the system has no randomness.
    pub(crate) fn generate(terms: &Terms) -> Result<String, IssuerError> {
        Ok(SigningKey::generate(terms.algorithm)?)
    }

    /// Returns the set that the key is in.
    pub(crate) fn set(&self) -> &KeySet {
        &self.set
    }

    /// Returns the ID of the key.
    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Returns how tokens are signed.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.terms.algorithm
    }

    /// Issues the tokens of one answer. Signing takes a moment each, so others get a turn in between.
    ///
    /// # Errors
    /// [`JwtError`] with the first that failed.
    pub(crate) async fn issue(
        &self,
        subject: &SpiffeId,
        audiences: &[String],
        now: SystemTime,
    ) -> Result<Issued, JwtError> {
        let own = subject.trust_domain().to_string();
        let subject = subject.to_string();
        let all = [own.as_str()].into_iter();
        let all: Vec<&str> = all.chain(audiences.iter().map(String::as_str)).collect();
        let token = self.sign(&subject, &all, now).map_err(JwtError::Token)?;
        let mut by_audience = BTreeMap::new();
        for audience in audiences {
            if by_audience.contains_key(audience) {
                continue;
            }
            tokio::task::yield_now().await;
            let signed = self.sign(&subject, &[audience], now);
            let signed = signed.map_err(|cause| JwtError::Audience {
                audience: audience.clone(),
                cause,
            })?;
            by_audience.insert(audience.clone(), signed);
        }
        Ok(Issued { token, by_audience })
    }

    fn sign(&self, subject: &str, audiences: &[&str], now: SystemTime) -> Result<String, Cause> {
        let header = Header {
            alg: self.terms.algorithm.as_str(),
            kid: &self.key_id,
            typ: "JWT",
        };
        let end = now.checked_add(self.terms.ttl).ok_or(Cause::Calendar)?;
        let start = now.checked_sub(self.terms.skew).unwrap_or(UNIX_EPOCH);
        let claims = Claims {
            aud: audiences,
            exp: seconds(end),
            iat: seconds(now),
            iss: self.terms.issuer.as_deref(),
            jti: format!("{:032x}", rand::random::<u128>()),
            nbf: seconds(start),
            sub: subject,
            r#use: "sig",
        };
        let (header, claims) = (serde_json::to_vec(&header)?, serde_json::to_vec(&claims)?);
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", encode(&signature)))
    }
}

fn seconds(instant: SystemTime) -> u64 {
    let since = instant.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
