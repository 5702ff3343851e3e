//! The proof of a workload identity: a certificate chain and its private key.
//!
//! Owns that an [`Svid`] is whole: the leaf names exactly one workload, and the key is the leaf's. Whether others
//! will believe it is a matter of `verify` and of the instant.

use crate::id::{SpiffeId, SpiffeIdError};
use crate::pem::{self, PemError};
use crate::x509::{self, Malformed};
use rcgen::PublicKeyData as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::time::SystemTime;

/// A SPIFFE identity with its certificate chain and private key, which never appears in `Debug` output.
pub struct Svid {
    id: SpiffeId,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Why a chain and a key are no [`Svid`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// The chain is not PEM of certificates.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The chain holds no certificate.
    #[error("certificate chain is empty")]
    Empty,
    /// The leaf can't be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The leaf has no URI name, or several.
    #[error("certificate has {count} URI names, exactly one is needed")]
    NotOneUri {
        /// How many there are.
        count: usize,
    },
    /// The leaf's URI name is no workload's.
    #[error(transparent)]
    Id(#[from] SpiffeIdError),
    /// The private key can't be read, or its kind is not supported.
    #[error("private key cannot be read: {0}")]
    Key(Box<str>),
    /// The private key is another certificate's.
    #[error("private key does not match the certificate")]
    KeyMismatch,
}

// === impl Svid ===

impl Svid {
    /// Makes an SVID of a chain in PEM, leaf first, and the leaf's private key.
    ///
    /// # Errors
    /// [`SvidError`] if the leaf does not name exactly one workload or does not belong to the key.
    pub fn from_pem(chain: &[u8], key: PrivateKeyDer<'static>) -> Result<Self, SvidError> {
        Self::new(pem::certificates(chain)?, key)
    }

    /// Makes an SVID of a chain, leaf first, and the leaf's private key.
    ///
    /// # Errors
    /// As [`Svid::from_pem`].
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, SvidError> {
        let facts = x509::read(chain.first().ok_or(SvidError::Empty)?)?;
        let [uri] = facts.uris.as_slice() else {
            return Err(SvidError::NotOneUri {
                count: facts.uris.len(),
            });
        };
        let pair = rcgen::KeyPair::try_from(&key)
            .map_err(|cause| SvidError::Key(cause.to_string().into()))?;
        if pair.der_bytes() != facts.public_key {
            return Err(SvidError::KeyMismatch);
        }
        let id = SpiffeId::parse(uri)?;
        Ok(Self {
            id,
            chain,
            key,
            not_before: facts.not_before,
            not_after: facts.not_after,
        })
    }

    /// Returns whose proof this is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Returns the chain as it is sent to peers: leaf, then issuers, without the root.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns the private key.
    #[must_use]
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// Returns the start of the leaf's validity.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Returns the end of the leaf's validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Says whether the leaf is valid at `now`.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            chain,
            key: _,
            not_before,
            not_after,
        } = self;
        f.debug_struct("Svid")
            .field("id", id)
            .field("certificates", &chain.len())
            .field("key", &"<redacted>")
            .field("not_before", not_before)
            .field("not_after", not_after)
            .finish()
    }
}
