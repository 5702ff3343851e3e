//! Is this token good for this workload, at this instant?
//!
//! Owns the judgement of a token, purely: what may sign (never a shared secret, never nothing, and only what fits the
//! key), whom it must be for and about, and when it is valid. Reading and verifying the signature is the library's.

use ironside_transport::Utc;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far clocks may be apart (security 1.7).
const SKEW: Duration = Duration::from_secs(5 * 60);

/// What a token says of its signature.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) key_id: String,
    algorithm: Algorithm,
}

/// What a token must say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) audience: &'a str,
    pub(super) subject: &'a str,
}

/// Why a token is refused. Nothing of the token itself is in the texts but its claims.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("failed to parse token: {0}")]
    Malformed(jsonwebtoken::errors::Error),
    #[error("the token names no key")]
    NoKeyId,
    #[error("the token demands what is not understood")]
    Critical,
    #[error("no key of the set fits the token")]
    UnknownKey,
    #[error("a key of this kind does not sign with {0:?}")]
    Algorithm(Algorithm),
    #[error("could not verify the token: {0}")]
    Signature(jsonwebtoken::errors::Error),
    #[error("\"aud\" not satisfied")]
    Audience,
    #[error("\"sub\" not satisfied")]
    Subject,
    #[error("\"exp\" not satisfied: expired on: {0}")]
    Expired(Utc),
    #[error("\"nbf\" not satisfied: valid from: {0}")]
    NotYet(Utc),
    #[error("\"iat\" not satisfied: issued on: {0}")]
    NotIssuedYet(Utc),
    #[error("an instant in the token is beyond the calendar")]
    Calendar,
}

/// The claims that count. One that is missing is not checked, but for `aud` and `sub`, as in the reference.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    aud: Audience,
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
}

/// One audience or several.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Audience {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

/// Reads what a token says of its signature.
///
/// # Errors
/// [`TokenError`] if it is no token, names no key, or demands extensions.
pub(super) fn read_header(token: &str) -> Result<Header, TokenError> {
    let header = decode_header(token).map_err(TokenError::Malformed)?;
    if header.crit.is_some() {
        return Err(TokenError::Critical);
    }
    let key_id = header.kid.ok_or(TokenError::NoKeyId)?;
    Ok(Header {
        key_id,
        algorithm: header.alg,
    })
}

/// Judges a token by the key that it names.
///
/// # Errors
/// [`TokenError`] for the first rule that is broken.
/// # Source
/// security 1.7, K043 to K045.
pub(super) fn judge(
    token: &str,
    header: &Header,
    key: &Jwk,
    expected: Expected<'_>,
    now: SystemTime,
) -> Result<(), TokenError> {
    if !may_sign(key, header.algorithm) {
        return Err(TokenError::Algorithm(header.algorithm));
    }
    let mut rules = Validation::new(header.algorithm);
    // Claims are judged here, by an instant that is an argument.
    rules.required_spec_claims.clear();
    (rules.validate_exp, rules.validate_nbf, rules.validate_aud) = (false, false, false);
    let verifier = DecodingKey::from_jwk(key).map_err(TokenError::Signature)?;
    let claims = decode::<Claims>(token, &verifier, &rules)
        .map_err(TokenError::Signature)?
        .claims;
    check_claims(&claims, expected, now)
}

fn check_claims(
    claims: &Claims,
    expected: Expected<'_>,
    now: SystemTime,
) -> Result<(), TokenError> {
    if !claims.aud.contains(expected.audience) {
        return Err(TokenError::Audience);
    }
    if claims.sub.as_deref() != Some(expected.subject) {
        return Err(TokenError::Subject);
    }
    if let Some(at) = instant(claims.exp)?
        && at + SKEW <= now
    {
        return Err(TokenError::Expired(Utc(at)));
    }
    if let Some(at) = instant(claims.nbf)?
        && at > now + SKEW
    {
        return Err(TokenError::NotYet(Utc(at)));
    }
    if let Some(at) = instant(claims.iat)?
        && at > now + SKEW
    {
        return Err(TokenError::NotIssuedYet(Utc(at)));
    }
    Ok(())
}

/// Says whether a key is of a kind that signs like this; a key that names its algorithm signs with no other.
fn may_sign(key: &Jwk, algorithm: Algorithm) -> bool {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let fits = match &key.algorithm {
        AlgorithmParameters::RSA(_) => {
            [RS256, RS384, RS512, PS256, PS384, PS512].contains(&algorithm)
        }
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => algorithm == ES256,
            EllipticCurve::P384 => algorithm == ES384,
            EllipticCurve::P521 | EllipticCurve::Ed25519 | _ => false,
        },
        AlgorithmParameters::OctetKeyPair(_) => algorithm == EdDSA,
        // A shared secret has no place in a set of public keys.
        AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_) | _ => false,
    };
    let named = key.common.key_algorithm;
    fits && named.is_none_or(|named| named == algorithm.into())
}

fn instant(seconds: Option<f64>) -> Result<Option<SystemTime>, TokenError> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    // Before 1970 is as good as 1970: long ago.
    let since = Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    let instant = since.and_then(|since| UNIX_EPOCH.checked_add(since));
    // Far enough from the end of time for a skew to be added.
    let bounded = instant.filter(|at| at.checked_add(SKEW).is_some());
    bounded.map(Some).ok_or(TokenError::Calendar)
}

// === impl Audience ===

impl Audience {
    fn contains(&self, wanted: &str) -> bool {
        match self {
            Self::None => false,
            Self::One(audience) => audience == wanted,
            Self::Several(audiences) => audiences.iter().any(|audience| audience == wanted),
        }
    }
}
