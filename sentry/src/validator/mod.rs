//! Who may have which name?
//!
//! Owns the choice of a validator (security 1.2), the checks that all have in common (1.3, fact O-S2) and, one file a
//! kind, the validators themselves. What comes out is a [`SpiffeId`], the proof that the names may stand in a
//! certificate; keys and signatures are not looked at.

mod common;
mod insecure;
pub(crate) mod jwks;
pub(crate) mod kubernetes;

pub(crate) use insecure::Insecure;
pub(crate) use jwks::Jwks;
pub(crate) use kubernetes::Kubernetes;

use crate::serve::limit::Source;
use ironside_identity::SpiffeId;

/// What a workload says of itself.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) id: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) trust_domain: &'a str,
    pub(crate) token: &'a str,
    pub(crate) has_csr: bool,
    /// Where it comes from, if that is known.
    pub(crate) source: Option<Source>,
}

/// What a workload may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) id: SpiffeId,
    /// What its pod runs, as JSON for the certificate; none where nobody knows.
    pub(crate) images: Option<Box<[u8]>>,
}

/// The kinds of validators, as the wire and the log name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Insecure,
    Kubernetes,
    Jwks,
}

/// The validators of this Sentry.
#[derive(Debug)]
pub(crate) struct Validators {
    /// Taken when a request names none.
    default: Option<Kind>,
    insecure: Option<Insecure>,
    kubernetes: Option<Kubernetes>,
    jwks: Option<Jwks>,
}

/// The validator of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Chosen<'a> {
    Insecure(&'a Insecure),
    Kubernetes(&'a Kubernetes),
    Jwks(&'a Jwks),
}

/// No validator for this request. The texts are the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChoiceError {
    #[error("a validator name must be specified in this environment")]
    Unnamed,
    #[error("the requested validator is not enabled")]
    NotEnabled,
}

/// The workload gets no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// It may not have that one.
    #[error("{0}")]
    Denied(Box<str>),
    /// Nobody can tell now; it may ask again.
    #[error("too many token reviews under way, try again later")]
    Busy,
    /// Nobody can tell now, for this reason; it may ask again.
    #[error("{0}")]
    Away(Box<str>),
}

// === impl Kind ===

impl Kind {
    /// The word that the log uses.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Insecure => "insecure",
            Self::Kubernetes => "kubernetes",
            Self::Jwks => "jwks",
        }
    }

    /// Reads the enumeration of the wire; 0 is none, other numbers are nothing.
    fn from_wire(number: i32) -> Result<Option<Self>, ChoiceError> {
        match number {
            0 => Ok(None),
            1 => Ok(Some(Self::Insecure)),
            2 => Ok(Some(Self::Kubernetes)),
            3 => Ok(Some(Self::Jwks)),
            _ => Err(ChoiceError::NotEnabled),
        }
    }
}

// === impl Validators ===

impl Validators {
    /// The self-hosted set: with tokens only those count, and a request must name that it has one; without, anyone
    /// who reaches the port may have any app's name.
    pub(crate) fn self_hosted(insecure: Insecure, jwks: Option<Jwks>) -> Self {
        match jwks {
            Some(jwks) => Self {
                default: None,
                insecure: None,
                kubernetes: None,
                jwks: Some(jwks),
            },
            None => Self {
                default: Some(Kind::Insecure),
                insecure: Some(insecure),
                kubernetes: None,
                jwks: None,
            },
        }
    }

    /// The set of a cluster: the cluster's own tokens, and others where the configuration names their keys.
    pub(crate) fn cluster(kubernetes: Kubernetes, jwks: Option<Jwks>) -> Self {
        Self {
            default: Some(Kind::Kubernetes),
            insecure: None,
            kubernetes: Some(kubernetes),
            jwks,
        }
    }

    /// Takes the validator that the request names, else the default.
    pub(crate) fn choose(&self, number: i32) -> Result<Chosen<'_>, ChoiceError> {
        let kind = Kind::from_wire(number)?
            .or(self.default)
            .ok_or(ChoiceError::Unnamed)?;
        let chosen = match kind {
            Kind::Insecure => self.insecure.as_ref().map(Chosen::Insecure),
            Kind::Jwks => self.jwks.as_ref().map(Chosen::Jwks),
            Kind::Kubernetes => self.kubernetes.as_ref().map(Chosen::Kubernetes),
        };
        chosen.ok_or(ChoiceError::NotEnabled)
    }
}

// === impl Chosen ===

impl Chosen<'_> {
    /// Returns the kind, as wire and log name it.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Insecure(_) => Kind::Insecure,
            Self::Kubernetes(_) => Kind::Kubernetes,
            Self::Jwks(_) => Kind::Jwks,
        }
    }

    /// Judges a claim.
    pub(crate) async fn validate(self, claim: &Claim<'_>) -> Result<Granted, Refused> {
        match self {
            Self::Insecure(insecure) => insecure.validate(claim).map(Granted::from),
            Self::Kubernetes(kubernetes) => kubernetes.validate(claim).await,
            Self::Jwks(jwks) => jwks.validate(claim).await.map(Granted::from),
        }
    }
}

// === impl Granted ===

impl From<SpiffeId> for Granted {
    fn from(id: SpiffeId) -> Self {
        Self { id, images: None }
    }
}

// === impl Insecure ===

impl Insecure {
    /// Judges a claim by the checks that all validators have in common, and by the reserved names.
    pub(crate) fn validate(&self, claim: &Claim<'_>) -> Result<SpiffeId, Refused> {
        self.check_reserved(common::check(claim)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fact: security.md 1.2, K002, K003, K004.
    #[test]
    fn a_validator_is_named_or_the_default() {
        let insecure = || Insecure::new(false);
        let self_hosted = Validators::self_hosted(insecure(), None);
        let choose = |validators: &Validators, number| validators.choose(number).map(Chosen::kind);
        assert_eq!(choose(&self_hosted, 0), Ok(Kind::Insecure));
        assert_eq!(choose(&self_hosted, 1), Ok(Kind::Insecure));
        for number in [2, 3, 4, 99, -1, i32::MIN] {
            assert_eq!(
                choose(&self_hosted, number),
                Err(ChoiceError::NotEnabled),
                "{number}"
            );
        }
        let no_default = Validators {
            default: None,
            insecure: None,
            kubernetes: None,
            jwks: None,
        };
        assert_eq!(choose(&no_default, 0), Err(ChoiceError::Unnamed));
        assert_eq!(choose(&no_default, 1), Err(ChoiceError::NotEnabled));
    }
}
