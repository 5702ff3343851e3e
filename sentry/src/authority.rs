//! The certificate authority in effect: issuer, its key, and the roots, verified to belong together.
//!
//! Owns the checks of security 1.8 and fact O-S10. An [`Authority`] that exists can sign, and what it signs chains
//! to its roots at the instant at which it was made: a probe leaf was issued and believed. Where the bytes come from,
//! and when they come again, is the store's and the reload's matter.

use crate::issue::Serial;
use crate::issue::leaf::{self, LeafError, Names, Signer, Validity};
use crate::store::Texts;
use ironside_identity::pem::{self, PemError};
use ironside_identity::{BundleError, SpiffeId, TrustBundle, VerifyError, verify};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// An issuer and its roots.
#[derive(Debug)]
pub(crate) struct Authority {
    signer: Signer,
    /// What is sent behind a leaf: the issuer's chain without self-signed certificates.
    chain: Vec<Sent>,
    bundle: TrustBundle,
    /// From when to when the chain is valid, as far as the first root that it reaches.
    validity: Validity,
}

/// A certificate that is sent.
#[derive(Debug)]
struct Sent {
    certificate: CertificateDer<'static>,
    not_after: SystemTime,
}

/// Why three texts are no authority. The texts are the reference's where it has one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// The roots can't be read.
    #[error("trust anchors: {0}")]
    Anchors(#[from] BundleError),
    /// A root is signed by another key than its own.
    #[error("certificate in trust anchor is not self-signed: number {number}")]
    NotSelfSigned {
        /// Which one, counted from 1.
        number: usize,
    },
    /// The issuer's certificate can't be read.
    #[error("issuer certificate: {0}")]
    IssuerPem(PemError),
    /// The issuer's certificate is no certificate.
    #[error("issuer certificate: {0}")]
    IssuerMalformed(Box<str>),
    /// A certificate of the chain is not signed by the next one.
    #[error("certificate chain is not valid")]
    Order,
    /// The issuer may not sign certificates.
    #[error("intermediate certificate is not valid for signing")]
    NotSigning,
    /// The key can't be read.
    #[error("issuer key: {0}")]
    KeyPem(PemError),
    /// The key is of a kind that nothing here signs with.
    #[error("issuer key: {0}")]
    Key(Box<str>),
    /// The key is another certificate's.
    #[error("issuer key does not match issuer certificate")]
    KeyMismatch,
    /// The issuer's chain leads to none of the roots now.
    #[error("issuer chain does not belong to trust anchors: {0}")]
    Stranger(#[from] VerifyError),
    /// The probe could not be signed.
    #[error("issuer cannot sign: {0}")]
    Probe(#[from] LeafError),
    /// The probe's key could not be made.
    #[error("failed to generate a key: {0}")]
    Generate(#[from] rcgen::Error),
}

/// Why nothing is signed now (fact O-S7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReady {
    /// The issuer's time is over, or has not come.
    #[error("the issuer certificate is expired or not yet valid")]
    Issuer,
    /// No root is valid.
    #[error("the trust anchors are expired or not yet valid")]
    Anchors,
}

// === impl Authority ===

impl Authority {
    /// Reads roots, issuer chain and issuer key, and checks that they belong together at `now`.
    ///
    /// # Errors
    /// [`AuthorityError`] names the first rule that is broken.
    pub(crate) fn from_texts(texts: &Texts, now: SystemTime) -> Result<Self, AuthorityError> {
        Self::from_pem(&texts.root, &texts.issuer, &texts.key, now)
    }

    /// As [`Self::from_texts`], of the three texts.
    pub(crate) fn from_pem(
        roots: &[u8],
        issuer: &[u8],
        key: &[u8],
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let bundle = TrustBundle::from_pem(roots)?;
        if let Some(at) = bundle
            .anchors()
            .iter()
            .position(|anchor| !anchor.is_self_signed())
        {
            return Err(AuthorityError::NotSelfSigned { number: at + 1 });
        }
        let chain = pem::certificates(issuer).map_err(AuthorityError::IssuerPem)?;
        let key = pem::private_key(key).map_err(AuthorityError::KeyPem)?;
        let key = KeyPair::try_from(&key)
            .map_err(|cause| AuthorityError::Key(cause.to_string().into()))?;
        if !leaf::is_supported(&key) {
            return Err(AuthorityError::Key(
                "only Ed25519, ECDSA P-256 and P-384, and RSA".into(),
            ));
        }
        let authority = Self::assemble(bundle, &chain, key)?;
        authority.probe(now)?;
        Ok(authority)
    }

    fn assemble(
        bundle: TrustBundle,
        chain: &[CertificateDer<'static>],
        key: KeyPair,
    ) -> Result<Self, AuthorityError> {
        let parsed = chain.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let issuer = parsed.first().ok_or(AuthorityError::Order)?;
        for pair in parsed.windows(2) {
            let [lower, upper] = pair else { continue };
            check_signed(lower, upper)?;
        }
        if !may_sign(issuer)? {
            return Err(AuthorityError::NotSigning);
        }
        if key.der_bytes() != &*issuer.public_key().subject_public_key.data {
            return Err(AuthorityError::KeyMismatch);
        }
        let name = issuer.subject().as_raw().to_vec();
        let signer = Signer {
            key,
            name,
            key_id: key_id(issuer),
        };
        let sent = chain
            .iter()
            .zip(&parsed)
            .filter(|(_, parsed)| !is_self_signed(parsed));
        let sent = sent.map(|(der, parsed)| Sent {
            certificate: der.clone(),
            not_after: span(parsed).not_after,
        });
        Ok(Self {
            signer,
            chain: sent.collect(),
            validity: validity(to_a_root(&parsed, &bundle)),
            bundle,
        })
    }

    /// Issues a leaf for nobody and checks it as a peer would.
    fn probe(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let names = Names {
            id: probe_id(),
            dns: Vec::new(),
            images: None,
        };
        let life = Duration::from_secs(60);
        let validity = Validity {
            not_before: now - life,
            not_after: now + life,
        };
        let spki = KeyPair::generate()?.subject_public_key_info();
        let serial: Serial = [1; 16];
        let leaf = leaf::write(&self.signer, &spki, &names, validity, serial)?;
        let chain: Vec<_> = [&leaf]
            .into_iter()
            .chain(self.chain(now))
            .cloned()
            .collect();
        verify(&chain, &self.bundle, now)?;
        Ok(())
    }

    /// Returns what signs.
    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Returns what is sent behind a leaf at `now`: what lies behind a certificate that has ended leads nowhere.
    pub(crate) fn chain(&self, now: SystemTime) -> impl Iterator<Item = &CertificateDer<'static>> {
        let living = self
            .chain
            .iter()
            .take_while(move |sent| now <= sent.not_after);
        living.map(|sent| &sent.certificate)
    }

    /// Returns the roots.
    pub(crate) fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Returns the end of the issuer's validity.
    pub(crate) fn issuer_not_after(&self) -> SystemTime {
        self.validity.not_after
    }

    /// Returns the last instant at which some root is still valid.
    pub(crate) fn anchors_not_after(&self) -> SystemTime {
        let latest = self
            .bundle
            .anchors()
            .iter()
            .map(|anchor| anchor.not_after())
            .max();
        latest.unwrap_or(UNIX_EPOCH)
    }

    /// Checks that a leaf issued at `now` would be believed (fact O-S7).
    pub(crate) fn check_ready(&self, now: SystemTime) -> Result<(), NotReady> {
        if now < self.validity.not_before || now > self.validity.not_after {
            return Err(NotReady::Issuer);
        }
        match self.bundle.valid_at(now).next() {
            Some(_root) => Ok(()),
            None => Err(NotReady::Anchors),
        }
    }
}

#[expect(clippy::expect_used, reason = "a constant")]
fn probe_id() -> SpiffeId {
    SpiffeId::parse("spiffe://probe/ns/probe/probe").expect("invariant: the probe has a good name")
}

fn parse<'a>(der: &'a CertificateDer<'static>) -> Result<X509Certificate<'a>, AuthorityError> {
    let malformed = |what: String| AuthorityError::IssuerMalformed(what.into());
    let (rest, parsed) =
        X509Certificate::from_der(der).map_err(|cause| malformed(cause.to_string()))?;
    match rest.is_empty() {
        true => Ok(parsed),
        false => Err(malformed("trailing data".to_owned())),
    }
}

/// The subject of a certificate, and when it ends.
pub(crate) fn subject_and_end(der: &CertificateDer<'_>) -> Result<(String, SystemTime), Box<str>> {
    let (_rest, parsed) = X509Certificate::from_der(der).map_err(|cause| cause.to_string())?;
    Ok((parsed.subject().to_string(), span(&parsed).not_after))
}

fn check_signed(
    lower: &X509Certificate<'_>,
    upper: &X509Certificate<'_>,
) -> Result<(), AuthorityError> {
    let named = lower.issuer().as_raw() == upper.subject().as_raw();
    match named && lower.verify_signature(Some(upper.public_key())).is_ok() {
        true => Ok(()),
        false => Err(AuthorityError::Order),
    }
}

fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    check_signed(certificate, certificate).is_ok()
}

/// A CA that may sign certificates: both is demanded, where the reference demands one of three (fact O-S10).
fn may_sign(certificate: &X509Certificate<'_>) -> Result<bool, AuthorityError> {
    let malformed = |cause: x509_parser::error::X509Error| {
        AuthorityError::IssuerMalformed(cause.to_string().into())
    };
    let constraints = certificate.basic_constraints().map_err(malformed)?;
    let usage = certificate.key_usage().map_err(malformed)?;
    Ok(constraints.is_some_and(|c| c.value.ca) && usage.is_some_and(|u| u.value.key_cert_sign()))
}

fn key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.iter_extensions().find_map(|extension| {
        let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() else {
            return None;
        };
        Some(id.0.to_vec())
    })
}

/// The chain as far as the first certificate that a root has signed. What follows leads to older roots, for those who
/// know no other; its end is not the issuer's.
fn to_a_root<'a, 'b>(
    chain: &'b [X509Certificate<'a>],
    bundle: &TrustBundle,
) -> &'b [X509Certificate<'a>] {
    let is_root = |certificate: &X509Certificate<'_>| {
        let mut anchors = bundle.anchors().iter();
        anchors.any(|anchor| {
            parse(anchor.der()).is_ok_and(|root| check_signed(certificate, &root).is_ok())
        })
    };
    let last = chain.iter().position(is_root);
    last.and_then(|last| chain.get(..=last)).unwrap_or(chain)
}

/// The span in which every certificate of the chain is valid.
fn validity(chain: &[X509Certificate<'_>]) -> Validity {
    let spans = chain.iter().map(span);
    let not_before = spans.clone().map(|span| span.not_before).max();
    let not_after = spans.map(|span| span.not_after).min();
    Validity {
        not_before: not_before.unwrap_or(UNIX_EPOCH),
        not_after: not_after.unwrap_or(UNIX_EPOCH),
    }
}

fn span(certificate: &X509Certificate<'_>) -> Validity {
    let instant = |seconds: i64| match u64::try_from(seconds) {
        Ok(after) => UNIX_EPOCH + Duration::from_secs(after),
        Err(_before) => UNIX_EPOCH,
    };
    let validity = certificate.validity();
    Validity {
        not_before: instant(validity.not_before.timestamp()),
        not_after: instant(validity.not_after.timestamp()),
    }
}

#[cfg(test)]
mod tests;
