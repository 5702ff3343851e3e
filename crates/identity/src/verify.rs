//! Who is the peer that shows these certificates?
//!
//! Owns the whole check of a peer's chain: one workload name in the leaf, a leaf that can sign nothing, and a path
//! to a root, everything valid now, the root included. Whether that workload is the one that was wanted, or may do
//! what it asks for, is decided elsewhere: any trust domain under the roots is accepted (security 2.4).

use crate::bundle::TrustBundle;
use crate::id::{SpiffeId, SpiffeIdError};
use crate::x509::{self, Malformed};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

/// A peer whose certificate was checked: the proof that [`verify`] said yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    /// Who it is.
    pub id: SpiffeId,
    /// The end of the leaf's validity.
    pub not_after: SystemTime,
    /// What it showed, so that it can be judged again when roots change.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// Why a peer's chain is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No certificate was shown.
    #[error("peer presented no certificate")]
    NoCertificate,
    /// The leaf can't be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The leaf has no URI name, or several.
    #[error("peer certificate has {count} URI names, exactly one is needed")]
    NotOneUri {
        /// How many there are.
        count: usize,
    },
    /// The leaf's URI name is no workload's.
    #[error(transparent)]
    Id(#[from] SpiffeIdError),
    /// The leaf could sign certificates or revocation lists.
    #[error("peer certificate of {id} is a certificate authority")]
    SigningLeaf {
        /// Whom it names.
        id: SpiffeId,
    },
    /// The leaf is not valid yet.
    #[error("certificate of {id} is not valid before {}", seconds(*.not_before))]
    NotYetValid {
        /// Whom it names.
        id: SpiffeId,
        /// When it will be.
        not_before: SystemTime,
    },
    /// The leaf is not valid any more.
    #[error("certificate of {id} expired at {}", seconds(*.not_after))]
    Expired {
        /// Whom it names.
        id: SpiffeId,
        /// When it was last.
        not_after: SystemTime,
    },
    /// The path ends in a root that is expired or not valid yet.
    #[error("the trust anchor behind {id} is expired or not yet valid")]
    AnchorNotValid {
        /// Whom the leaf names.
        id: SpiffeId,
    },
    /// There is no path from the leaf to a root.
    #[error("certificate of {id} is signed by an unknown authority ({cause:?})")]
    Untrusted {
        /// Whom the leaf names.
        id: SpiffeId,
        /// What webpki says.
        cause: webpki::Error,
    },
}

/// Any purpose will do (security 2.4): what a leaf may be used for is told by its name.
struct AnyPurpose;

/// Checks the chain that a peer showed, leaf first, and returns who the peer is.
///
/// # Errors
/// [`VerifyError`] says which rule is broken.
/// # Source
/// security 2.4 (peer verification), 2.10, facts O-C7, K082, K083, K087.
pub fn verify(
    chain: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    now: SystemTime,
) -> Result<VerifiedPeer, VerifyError> {
    let leaf = chain.first().ok_or(VerifyError::NoCertificate)?;
    let facts = x509::read(leaf)?;
    let [uri] = facts.uris.as_slice() else {
        return Err(VerifyError::NotOneUri {
            count: facts.uris.len(),
        });
    };
    let id = SpiffeId::parse(uri)?;
    if facts.is_ca || facts.signs_certificates || facts.signs_revocations {
        return Err(VerifyError::SigningLeaf { id });
    }
    let x509::Facts {
        not_before,
        not_after,
        ..
    } = facts;
    if now < not_before {
        return Err(VerifyError::NotYetValid { id, not_before });
    }
    if now > not_after {
        return Err(VerifyError::Expired { id, not_after });
    }
    let id = check_path(chain, bundle, now, id)?;
    let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
    Ok(VerifiedPeer {
        id,
        not_after,
        chain,
    })
}

// === impl VerifiedPeer ===

impl VerifiedPeer {
    /// Judges the same chain once more, by other roots or at another instant.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn verify_again(&self, bundle: &TrustBundle, now: SystemTime) -> Result<(), VerifyError> {
        verify(&self.chain, bundle, now).map(drop)
    }
}

// === impl AnyPurpose ===

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

fn check_path(
    chain: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    now: SystemTime,
    id: SpiffeId,
) -> Result<SpiffeId, VerifyError> {
    let valid: Vec<TrustAnchor<'_>> = bundle.valid_at(now).map(|a| a.anchor().clone()).collect();
    let Err(cause) = path_to(chain, &valid, now) else {
        return Ok(id);
    };
    // A path to a root that is out of its time is refused all the same, but the reader should learn why.
    let all: Vec<TrustAnchor<'_>> = bundle
        .anchors()
        .iter()
        .map(|a| a.anchor().clone())
        .collect();
    if valid.len() < all.len() && path_to(chain, &all, now).is_ok() {
        return Err(VerifyError::AnchorNotValid { id });
    }
    Err(VerifyError::Untrusted { id, cause })
}

fn path_to(
    chain: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    now: SystemTime,
) -> Result<(), webpki::Error> {
    let (leaf, intermediates) = chain.split_first().ok_or(webpki::Error::BadDer)?;
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let leaf = EndEntityCert::try_from(leaf)?;
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    leaf.verify_for_usage(
        algorithms,
        anchors,
        intermediates,
        now,
        AnyPurpose,
        None,
        None,
    )
    .map(drop)
}

/// Seconds since 1970: this crate prints no calendar.
fn seconds(instant: SystemTime) -> String {
    format!(
        "unix second {}",
        instant
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    )
}
