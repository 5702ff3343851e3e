//! The algorithms that tokens may be signed with, and the kind of key that each needs.
//!
//! Owns the pairs of security 1.10. Shared secrets and `none` are no algorithms here.

use std::fmt;
use std::str::FromStr;

/// How tokens are signed, by the names of RFC 7518 and RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// The kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

/// Not the name of an algorithm that is offered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsupported signing algorithm {name:?}; supported are {}", names())]
pub(crate) struct AlgorithmError {
    name: Box<str>,
}

const ALL: [(Algorithm, &str, Kind); 10] = [
    (Algorithm::Rs256, "RS256", Kind::Rsa),
    (Algorithm::Rs384, "RS384", Kind::Rsa),
    (Algorithm::Rs512, "RS512", Kind::Rsa),
    (Algorithm::Ps256, "PS256", Kind::Rsa),
    (Algorithm::Ps384, "PS384", Kind::Rsa),
    (Algorithm::Ps512, "PS512", Kind::Rsa),
    (Algorithm::Es256, "ES256", Kind::P256),
    (Algorithm::Es384, "ES384", Kind::P384),
    (Algorithm::Es512, "ES512", Kind::P521),
    (Algorithm::EdDsa, "EdDSA", Kind::Ed25519),
];

// === impl Algorithm ===

impl Algorithm {
    /// The kind of key that signs like this.
    pub(crate) fn kind(self) -> Kind {
        let entry = ALL.iter().find(|(algorithm, ..)| *algorithm == self);
        entry.map_or(Kind::Rsa, |(_, _, kind)| *kind)
    }

    /// The name, as headers and key sets have it.
    pub(crate) fn as_str(self) -> &'static str {
        let entry = ALL.iter().find(|(algorithm, ..)| *algorithm == self);
        entry.map_or("", |(_, name, _)| name)
    }
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    fn from_str(text: &str) -> Result<Self, AlgorithmError> {
        let entry = ALL.iter().find(|(_, name, _)| *name == text);
        entry
            .map(|(algorithm, ..)| *algorithm)
            .ok_or_else(|| AlgorithmError { name: text.into() })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Kind ===

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "RSA",
            Self::P256 => "ECDSA P-256",
            Self::P384 => "ECDSA P-384",
            Self::P521 => "ECDSA P-521",
            Self::Ed25519 => "Ed25519",
        })
    }
}

fn names() -> String {
    ALL.map(|(_, name, _)| name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_standard() {
        for (algorithm, name, kind) in ALL {
            assert_eq!(name.parse(), Ok(algorithm));
            assert_eq!((algorithm.as_str(), algorithm.kind()), (name, kind));
        }
        for bad in ["none", "HS256", "rs256", "", "ES256K"] {
            let error = bad.parse::<Algorithm>().unwrap_err().to_string();
            assert!(error.contains("supported are RS256, RS384"), "{error}");
        }
    }
}
