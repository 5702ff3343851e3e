//! The private key that signs tokens, and its public half as a JWK.
//!
//! Owns reading the key (PKCS#8, SEC1 or PKCS#1 in PEM), making one, and the thumbprint of RFC 7638. The key is never
//! printed; what is public of it is in [`Public`].

use super::algorithm::{Algorithm, Kind};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ironside_identity::pem::{self, PemError};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A private key, fit for one algorithm.
pub(crate) struct SigningKey {
    pair: Pair,
    public: Public,
}

enum Pair {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ec(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// What a key set says of a key: the members that make the key, as RFC 7638 lists them for each kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kty")]
pub(crate) enum Public {
    #[serde(rename = "RSA")]
    Rsa { e: String, n: String },
    #[serde(rename = "EC")]
    Ec { crv: String, x: String, y: String },
    #[serde(rename = "OKP")]
    Okp { crv: String, x: String },
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("{algorithm} needs a key of the kind {needed}, and this is none: {cause}")]
    Kind {
        algorithm: Algorithm,
        needed: Kind,
        cause: KeyRejected,
    },
    #[error("failed to generate a key: {0}")]
    Generate(#[from] Unspecified),
}

// === impl SigningKey ===

impl SigningKey {
    /// Reads a key that is to sign by `algorithm`.
    pub(crate) fn from_pem(text: &[u8], algorithm: Algorithm) -> Result<Self, KeyError> {
        let key = pem::private_key(text)?;
        Self::from_der(&key, algorithm).map_err(|cause| KeyError::Kind {
            algorithm,
            needed: algorithm.kind(),
            cause,
        })
    }

    /// Makes a key for `algorithm`, in PEM.
    pub(crate) fn generate(algorithm: Algorithm) -> Result<String, KeyError> {
        let random = SystemRandom::new();
        let der = match algorithm.kind() {
            Kind::Rsa => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
                AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?.as_ref().to_vec()
            }
            Kind::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&random)?.as_ref().to_vec(),
            Kind::P256 | Kind::P384 | Kind::P521 => {
                let curve = curve(algorithm).0;
                EcdsaKeyPair::generate_pkcs8(curve, &random)?
                    .as_ref()
                    .to_vec()
            }
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der));
        Ok(pem::encode_private_key(&key))
    }

    fn from_der(key: &PrivateKeyDer<'_>, algorithm: Algorithm) -> Result<Self, KeyRejected> {
        let der = key.secret_der();
        let is_pkcs8 = matches!(key, PrivateKeyDer::Pkcs8(_));
        let (pair, public) = match algorithm.kind() {
            Kind::Rsa => {
                let pair = match is_pkcs8 {
                    true => RsaKeyPair::from_pkcs8(der),
                    false => RsaKeyPair::from_der(der),
                }?;
                let public = pair.public_key();
                let public = Public::Rsa {
                    e: encode(public.exponent().big_endian_without_leading_zero()),
                    n: encode(public.modulus().big_endian_without_leading_zero()),
                };
                (Pair::Rsa(Box::new(pair), rsa_encoding(algorithm)), public)
            }
            Kind::P256 | Kind::P384 | Kind::P521 => {
                let (curve, crv) = curve(algorithm);
                let pair = match is_pkcs8 {
                    true => EcdsaKeyPair::from_pkcs8(curve, der),
                    false => EcdsaKeyPair::from_private_key_der(curve, der),
                }?;
                let public = ec_public(crv, pair.public_key().as_ref());
                (Pair::Ec(Box::new(pair)), public)
            }
            Kind::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)?;
                let public = Public::Okp {
                    crv: "Ed25519".to_owned(),
                    x: encode(pair.public_key().as_ref()),
                };
                (Pair::Ed25519(Box::new(pair)), public)
            }
        };
        Ok(Self { pair, public })
    }

    /// Returns what others verify by.
    pub(crate) fn public(&self) -> &Public {
        &self.public
    }

    /// Signs as RFC 7518 wants it.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature)?;
                Ok(signature)
            }
            Pair::Ec(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

// === impl Public ===

impl Public {
    /// The ID of a key that was given none: base64 of the SHA-256 of its members in order (RFC 7638, security 1.8).
    pub(crate) fn thumbprint(&self) -> String {
        // Written by hand because the order of the members is the standard's, `kty` in their midst.
        let text = match self {
            Self::Rsa { e, n } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
            Self::Ec { crv, x, y } => {
                format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Self::Okp { crv, x } => format!(r#"{{"crv":"{crv}","kty":"OKP","x":"{x}"}}"#),
        };
        STANDARD.encode(Sha256::digest(text))
    }
}

/// The uncompressed point of RFC 5480: a 4, then both coordinates.
fn ec_public(crv: &str, point: &[u8]) -> Public {
    let (_form, coordinates) = point.split_at(point.len().min(1));
    let (x, y) = coordinates.split_at(coordinates.len() / 2);
    Public::Ec {
        crv: crv.to_owned(),
        x: encode(x),
        y: encode(y),
    }
}

fn curve(algorithm: Algorithm) -> (&'static EcdsaSigningAlgorithm, &'static str) {
    match algorithm.kind() {
        Kind::P384 => (&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
        Kind::P521 => (&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521"),
        Kind::P256 | Kind::Rsa | Kind::Ed25519 => (&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
    }
}

fn rsa_encoding(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::Rs384 => &RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_SHA512,
        Algorithm::Ps256 => &RSA_PSS_SHA256,
        Algorithm::Ps384 => &RSA_PSS_SHA384,
        Algorithm::Ps512 => &RSA_PSS_SHA512,
        Algorithm::Rs256
        | Algorithm::Es256
        | Algorithm::Es384
        | Algorithm::Es512
        | Algorithm::EdDsa => &RSA_PKCS1_SHA256,
    }
}

/// base64 as JOSE has it.
pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7638, section 3.1; its text is base64url, ours base64 of the same bytes.
    #[test]
    fn the_thumbprint_is_the_standards() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let public = Public::Rsa {
            e: "AQAB".into(),
            n: n.into(),
        };
        assert_eq!(
            public.thumbprint(),
            "NzbLsXh8uDCcd+6MNwXF4W/7noWXFZAfHkxZsRGC9Xs="
        );
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        let rsa = SigningKey::generate(Algorithm::Rs256).unwrap();
        assert!(rsa.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert!(SigningKey::from_pem(rsa.as_bytes(), Algorithm::Ps512).is_ok());
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
            let error = SigningKey::from_pem(rsa.as_bytes(), algorithm).unwrap_err();
            assert!(
                error.to_string().contains("needs a key of the kind"),
                "{error}"
            );
        }
        let p256 = SigningKey::generate(Algorithm::Es256).unwrap();
        for algorithm in [Algorithm::Es384, Algorithm::Es512, Algorithm::Rs256] {
            assert!(
                SigningKey::from_pem(p256.as_bytes(), algorithm).is_err(),
                "{algorithm}"
            );
        }
        assert!(matches!(
            SigningKey::from_pem(b"no PEM", Algorithm::Rs256),
            Err(KeyError::Pem(_))
        ));
    }

    #[test]
    fn the_private_half_is_not_printed() {
        let text = SigningKey::generate(Algorithm::EdDsa).unwrap();
        let key = SigningKey::from_pem(text.as_bytes(), Algorithm::EdDsa).unwrap();
        let printed = format!("{key:?}");
        assert!(
            printed.contains("Okp") && !printed.contains("pair"),
            "{printed}"
        );
    }
}
