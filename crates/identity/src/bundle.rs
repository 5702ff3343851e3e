//! Trust anchors: the roots that a peer's chain must end in.
//!
//! Owns reading them from PEM, merging them, and their validity, which webpki does not look at: an expired root
//! still anchors a chain there (security 2.10). Where they come from, and when they are read again, is not known.

use crate::pem::{self, PemError};
use crate::x509::{self, Malformed};
use rustls_pki_types::CertificateDer;
use std::fmt;
use std::time::SystemTime;

/// One root certificate.
#[derive(Clone)]
pub struct TrustAnchor {
    der: CertificateDer<'static>,
    anchor: rustls_pki_types::TrustAnchor<'static>,
    not_before: SystemTime,
    not_after: SystemTime,
    self_signed: bool,
}

/// A set of roots, in the order in which they were given, without duplicates.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TrustBundle {
    anchors: Vec<TrustAnchor>,
}

/// Why a text is no bundle of trust anchors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not PEM of certificates only.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A certificate can't be read.
    #[error("trust anchor number {number}: {cause}")]
    Malformed {
        /// Which one, counted from 1.
        number: usize,
        /// What is wrong with it.
        cause: Malformed,
    },
    /// A certificate that webpki can't use as an anchor (version 1, for example).
    #[error("trust anchor number {number} cannot be used: {cause:?}")]
    Unusable {
        /// Which one, counted from 1.
        number: usize,
        /// What is wrong with it.
        cause: webpki::Error,
    },
    /// A certificate that may not sign others.
    #[error("trust anchor number {number} is not a certificate authority")]
    NotCa {
        /// Which one, counted from 1.
        number: usize,
    },
}

// === impl TrustAnchor ===

impl TrustAnchor {
    fn read(der: CertificateDer<'static>, number: usize) -> Result<Self, BundleError> {
        let facts = x509::read(&der).map_err(|cause| BundleError::Malformed { number, cause })?;
        if !facts.is_ca {
            return Err(BundleError::NotCa { number });
        }
        let anchor = webpki::anchor_from_trusted_cert(&der);
        let anchor = anchor
            .map_err(|cause| BundleError::Unusable { number, cause })?
            .to_owned();
        let x509::Facts {
            not_before,
            not_after,
            self_signed,
            ..
        } = facts;
        Ok(Self {
            der,
            anchor,
            not_before,
            not_after,
            self_signed,
        })
    }

    /// Returns the certificate.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Returns the end of the root's validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Says whether the root is valid at `now`.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Says whether the certificate is signed by its own key, as a root should be.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        self.self_signed
    }

    pub(crate) fn anchor(&self) -> &rustls_pki_types::TrustAnchor<'static> {
        &self.anchor
    }
}

impl PartialEq for TrustAnchor {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for TrustAnchor {}

impl fmt::Debug for TrustAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustAnchor")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

// === impl TrustBundle ===

impl TrustBundle {
    /// Reads a bundle from PEM: one or more roots, nothing but certificates, comments allowed.
    ///
    /// Expired roots are kept, so that a bundle can be looked at; they vouch for nobody.
    /// # Errors
    /// [`BundleError`] names the block that is wrong.
    pub fn from_pem(text: &[u8]) -> Result<Self, BundleError> {
        let mut anchors = Vec::new();
        for (index, der) in pem::certificates(text)?.into_iter().enumerate() {
            anchors.push(TrustAnchor::read(der, index + 1)?);
        }
        Ok(Self::default().with(anchors))
    }

    /// Returns this bundle with the roots of `other` added behind its own.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        self.clone().with(other.anchors.iter().cloned())
    }

    /// Returns the bundle as PEM, without comments.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode_certificates(self.anchors.iter().map(|anchor| &anchor.der))
    }

    /// Returns all roots.
    #[must_use]
    pub fn anchors(&self) -> &[TrustAnchor] {
        &self.anchors
    }

    /// Returns the roots that are valid at `now`.
    pub fn valid_at(&self, now: SystemTime) -> impl Iterator<Item = &TrustAnchor> {
        self.anchors
            .iter()
            .filter(move |anchor| anchor.is_valid_at(now))
    }

    /// Returns the first instant at which a root ceases to be valid; `None` if there is no root.
    #[must_use]
    pub fn earliest_expiry(&self) -> Option<SystemTime> {
        self.anchors.iter().map(TrustAnchor::not_after).min()
    }

    fn with(mut self, anchors: impl IntoIterator<Item = TrustAnchor>) -> Self {
        for anchor in anchors {
            if !self.anchors.contains(&anchor) {
                self.anchors.push(anchor);
            }
        }
        self
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.anchors).finish()
    }
}
