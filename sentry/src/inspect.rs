//! What the command line may see of an authority, and ask of it: for `ironside mtls`.
//!
//! Owns the public face of a credentials folder: whose authority it is, in which phase, which certificates there are
//! and when they end, and the wish for a rotation. Private keys leave by [`Overview::texts`] only, for an export.
//! Changes nothing but the wish; the running Sentry answers it.

use crate::authority;
use crate::rotation::state::Phase;
use crate::rotation::{State, StateError};
use crate::store::{FileStore, Found, Store as _, StoreError, Stored, Texts};
use ironside_identity::pem::{self, PemError};
use rustls_pki_types::CertificateDer;
use std::path::Path;
use std::time::SystemTime;

/// An authority as it lies in its folder.
pub struct Overview {
    /// Whether Sentry made it, and so replaces it before its end.
    pub own: bool,
    /// Where its rotation is; none for a supplied one.
    pub phase: Option<PhaseView>,
    /// Roots first, then what stands behind a leaf.
    pub certificates: Vec<CertificateView>,
    texts: Texts,
}

/// A phase of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseView {
    /// `steady`, `distribute` or `sign`.
    pub name: &'static str,
    /// When it began; none for `steady`.
    pub since: Option<SystemTime>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateView {
    /// `root`, `next root`, `old root`, `issuer`, or `cross` for what leads to older roots.
    pub role: &'static str,
    /// Its subject.
    pub subject: String,
    /// When it ends.
    pub not_after: SystemTime,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Why a folder can't be looked into.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct InspectError(#[from] Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no certificate authority in {0}")]
    Nothing(String),
    #[error(
        "the certificate authority in {0} was supplied: Sentry does not replace it, put another in its place"
    )]
    Supplied(String),
    #[error("a certificate cannot be read: {0}")]
    Pem(#[from] PemError),
    #[error("a certificate cannot be read: {0}")]
    State(#[from] StateError),
}

/// Looks at the authority in a folder, whose files have the names of the reference.
///
/// # Errors
/// [`InspectError`] if there is none, or none that can be read.
pub async fn inspect(folder: &Path) -> Result<Overview, InspectError> {
    Ok(look(folder).await?)
}

/// Asks the Sentry over a folder for a rotation; it begins at once, or when it is started.
///
/// # Errors
/// [`InspectError`] for a supplied authority, or if the folder can't be written.
pub async fn request_rotation(folder: &Path) -> Result<(), InspectError> {
    if !look(folder).await?.own {
        return Err(Cause::Supplied(folder.display().to_string()).into());
    }
    Ok(store(folder).wish().map_err(Cause::from)?)
}

/// Says whether a wish is not answered yet.
///
/// # Errors
/// [`InspectError`] if the folder can't be read.
pub async fn is_rotation_requested(folder: &Path) -> Result<bool, InspectError> {
    let found = store(folder).read().await.map_err(Cause::from)?;
    Ok(found.requested)
}

async fn look(folder: &Path) -> Result<Overview, Cause> {
    let Found { stored, .. } = store(folder).read().await?;
    match stored {
        Stored::Nothing => Err(Cause::Nothing(folder.display().to_string())),
        Stored::Supplied(texts) => Ok(Overview {
            own: false,
            phase: None,
            certificates: certificates(&texts, "root")?,
            texts,
        }),
        Stored::Own(state) => own(&state),
    }
}

fn own(state: &State) -> Result<Overview, Cause> {
    let (since, other) = match &state.phase {
        Phase::Steady => (None, "root"),
        Phase::Distribute { since, .. } => (Some(*since), "next root"),
        Phase::Sign { since, .. } => (Some(*since), "old root"),
    };
    let (texts, name) = (state.texts(), state.phase_name());
    Ok(Overview {
        own: true,
        phase: Some(PhaseView { name, since }),
        certificates: certificates(&texts, other)?,
        texts,
    })
}

fn store(folder: &Path) -> FileStore {
    FileStore::new(folder, "ca.crt", "issuer.crt", "issuer.key")
}

/// The certificates of the files; `other` is what roots behind the first one are.
fn certificates(texts: &Texts, other: &'static str) -> Result<Vec<CertificateView>, Cause> {
    let roles = |first: &'static str, rest: &'static str| {
        std::iter::once(first).chain(std::iter::repeat(rest))
    };
    let roots = pem::certificates(&texts.root)?;
    let chain = pem::certificates(&texts.issuer)?;
    let roots = roots.iter().zip(roles("root", other));
    let chain = chain.iter().zip(roles("issuer", "cross"));
    let views = roots.chain(chain).map(|(der, role)| view(der, role));
    Ok(views.collect::<Result<_, _>>()?)
}

fn view(der: &CertificateDer<'_>, role: &'static str) -> Result<CertificateView, StateError> {
    let (subject, not_after) = authority::subject_and_end(der).map_err(StateError::Certificate)?;
    Ok(CertificateView {
        role,
        subject,
        not_after,
        sha256: crate::store::mark(der),
    })
}

// === impl Overview ===

impl Overview {
    /// Returns the files `ca.crt`, `issuer.crt` and `issuer.key`, the private key among them.
    #[must_use]
    pub fn texts(&self) -> [(&'static str, &[u8]); 3] {
        let Texts { root, issuer, key } = &self.texts;
        [
            ("ca.crt", root),
            ("issuer.crt", issuer),
            ("issuer.key", key),
        ]
    }

    /// Returns when the last of the roots ends.
    #[must_use]
    pub fn roots_end(&self) -> Option<SystemTime> {
        let roots = self
            .certificates
            .iter()
            .filter(|one| one.role.ends_with("root"));
        roots.map(|root| root.not_after).max()
    }
}
