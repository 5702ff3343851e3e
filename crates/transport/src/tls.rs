//! What both sides of a handshake share: the crypto provider, the verifier, and the reading of rustls' errors.
//!
//! The one place that names rustls' verifier traits. Each connection gets a verifier of its own that asks
//! `identity::verify` and keeps the answer, so that the peer is judged once and never parsed again.

use crate::{Identity, Now};
use ironside_identity::{SpiffeId, TrustBundle, VerifiedPeer, VerifyError, verify};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, InvalidMessage, SignatureScheme,
    SupportedProtocolVersion,
};
use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::UNIX_EPOCH;

/// The application protocol of every connection between sidecars and with Sentry (security 2.4).
pub(crate) const ALPN: &[u8] = b"h2";

/// What the reference's callers report of a callee that speaks plaintext (security 2.8).
pub const NOT_TLS: &str = "tls: first record does not look like a TLS handshake";

/// The oldest TLS version that is spoken (fact O-C1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MinTls {
    /// TLS 1.2, for exceptions.
    V1_2,
    /// TLS 1.3 only.
    #[default]
    V1_3,
}

/// Which verified peer is the right one.
#[derive(Debug, Clone)]
pub(crate) enum Expectation {
    /// Anyone under the roots.
    Any,
    /// The workload at this path, in any trust domain (security 2.5).
    Path(Box<str>),
    /// Exactly this one.
    Exact(SpiffeId),
}

/// Why a peer's certificate was turned down.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("unexpected SPIFFE ID: \"{0}\"")]
    Unexpected(SpiffeId),
}

/// Judges one peer and keeps the judgement.
pub(crate) struct PeerCheck {
    bundle: Arc<TrustBundle>,
    expectation: Expectation,
    now: Now,
    answer: OnceLock<Result<VerifiedPeer, Refusal>>,
}

/// The identity as rustls wants it, made once per generation.
pub(crate) struct Credentials {
    pub(crate) generation: u64,
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) identity: Arc<Identity>,
}

/// Holds the [`Credentials`] of the newest generation that was asked for.
#[derive(Default)]
pub(crate) struct CredentialsCache(Mutex<Option<Arc<Credentials>>>);

/// Feeds our clock to rustls.
#[derive(Clone)]
pub(crate) struct Clock(pub(crate) Now);

/// Returns the one crypto provider of the program, handed to every TLS configuration explicitly.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Makes the same provider the process' default, for libraries that ask for one; the first call of a program.
pub fn install_provider() {
    // An earlier installation is ours as well: deny.toml knows no other provider.
    let _already = CryptoProvider::install_default(aws_lc_rs::default_provider()).is_err();
}

/// Finds the TLS error inside the I/O error that tokio-rustls makes of it.
pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
}

/// Says whether the peer's first bytes were no TLS record at all.
pub(crate) fn is_plaintext(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion
        )
    )
}

// === impl MinTls ===

impl MinTls {
    pub(crate) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static ONLY_1_3: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        match self {
            Self::V1_2 => rustls::ALL_VERSIONS,
            Self::V1_3 => &ONLY_1_3,
        }
    }
}

// === impl Expectation ===

impl Expectation {
    fn is_met_by(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Any => true,
            Self::Path(path) => id.path() == **path,
            Self::Exact(wanted) => id == wanted,
        }
    }
}

// === impl PeerCheck ===

impl PeerCheck {
    pub(crate) fn new(bundle: Arc<TrustBundle>, expectation: Expectation, now: Now) -> Arc<Self> {
        Arc::new(Self {
            bundle,
            expectation,
            now,
            answer: OnceLock::new(),
        })
    }

    /// The judgement, if a certificate came to be judged.
    pub(crate) fn answer(&self) -> Option<Result<VerifiedPeer, Refusal>> {
        self.answer.get().cloned()
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let chain: Vec<_> = std::iter::once(leaf).chain(rest).cloned().collect();
        let peer = verify(&chain, &self.bundle, (self.now)()).map_err(Refusal::from);
        let answer = peer.and_then(|peer| match self.expectation.is_met_by(&peer.id) {
            true => Ok(peer),
            false => Err(Refusal::Unexpected(peer.id)),
        });
        match self.answer.get_or_init(|| answer) {
            Ok(_peer) => Ok(()),
            Err(refusal) => Err(alert_for(refusal).into()),
        }
    }
}

impl fmt::Debug for PeerCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCheck")
            .field("expectation", &self.expectation)
            .finish_non_exhaustive()
    }
}

impl ClientCertVerifier for PeerCheck {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ServerCertVerifier for PeerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ClientCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ClientCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ClientCertVerifier::supported_verify_schemes(self)
    }
}

/// The alert that tells the peer what is wrong with its certificate.
fn alert_for(refusal: &Refusal) -> CertificateError {
    match refusal {
        Refusal::Unexpected(_) => CertificateError::ApplicationVerificationFailure,
        Refusal::Verify(error) => match error {
            VerifyError::NoCertificate | VerifyError::Malformed(_) => CertificateError::BadEncoding,
            VerifyError::NotOneUri { .. }
            | VerifyError::Id(_)
            | VerifyError::SigningLeaf { .. } => CertificateError::ApplicationVerificationFailure,
            VerifyError::NotYetValid { .. } => CertificateError::NotValidYet,
            VerifyError::Expired { .. } => CertificateError::Expired,
            VerifyError::AnchorNotValid { .. } | VerifyError::Untrusted { .. } => {
                CertificateError::UnknownIssuer
            }
        },
    }
}

// === impl CredentialsCache ===

impl CredentialsCache {
    /// Returns the credentials of this identity.
    pub(crate) fn of(&self, identity: &Arc<Identity>) -> Result<Arc<Credentials>, rustls::Error> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(credentials) = held
            .as_ref()
            .filter(|c| c.generation == identity.generation)
        {
            return Ok(Arc::clone(credentials));
        }
        let credentials = Arc::new(Credentials::new(identity)?);
        *held = Some(Arc::clone(&credentials));
        Ok(credentials)
    }
}

// === impl Credentials ===

impl Credentials {
    fn new(identity: &Arc<Identity>) -> Result<Self, rustls::Error> {
        let key = provider()
            .key_provider
            .load_private_key(identity.svid.key().clone_key())?;
        let key = Arc::new(CertifiedKey::new(identity.svid.chain().to_vec(), key));
        Ok(Self {
            generation: identity.generation,
            key,
            identity: Arc::clone(identity),
        })
    }
}

// === impl Clock ===

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        (self.0)()
            .duration_since(UNIX_EPOCH)
            .ok()
            .map(UnixTime::since_unix_epoch)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
