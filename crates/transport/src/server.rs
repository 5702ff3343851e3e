//! The accepting side: who is calling, and is the connection fit to be served?
//!
//! Owns stage 16's proof: a stream that comes out of [`TlsServer::accept`] belongs to a verified peer that speaks
//! HTTP/2 over TLS. No resumption: a ticket would carry a peer past the check (security 2.10). Doesn't know what
//! the peer may do.

use crate::tls::{
    self, ALPN, Clock, CredentialsCache, Expectation, MinTls, NOT_TLS, PeerCheck, Refusal,
};
use crate::{HANDSHAKE_LIMIT, Identity, IdentityRx, Now};
use ironside_identity::{VerifiedPeer, VerifyError};
use rustls::ServerConfig;
use rustls::server::{NoClientAuth, NoServerSessionStorage, danger::ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Accepts peers that prove who they are.
pub struct TlsServer {
    core: Core,
}

/// Accepts clients that show no certificate, as Sentry does: they prove themselves in the message.
pub struct OneSidedTlsServer {
    core: Core,
}

/// Why a connection was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// No identity has been obtained yet.
    #[error("no identity to show yet")]
    NoIdentity,
    /// The peer took too long.
    #[error("handshake took longer than {limit:?}")]
    Timeout {
        /// How long it had.
        limit: Duration,
    },
    /// The peer doesn't speak TLS.
    #[error("{NOT_TLS}")]
    Plaintext,
    /// The peer doesn't speak HTTP/2.
    #[error("peer did not negotiate ALPN protocol h2")]
    NoAlpn,
    /// The peer's certificate is refused.
    #[error(transparent)]
    Peer(#[from] VerifyError),
    /// Any other failure of the handshake: no common version, no certificate, a bad signature.
    #[error("handshake failed: {0}")]
    Handshake(rustls::Error),
    /// The connection broke.
    #[error("connection lost during the handshake: {0}")]
    Io(io::Error),
}

struct Core {
    identity: IdentityRx,
    credentials: CredentialsCache,
    now: Now,
    min_tls: MinTls,
    speech: Speech,
}

/// Which application protocols are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    /// HTTP/2, said in the handshake.
    Peers,
    /// HTTP/2 or HTTP/1.1; who says nothing speaks the latter.
    Web,
}

// === impl TlsServer ===

impl TlsServer {
    /// Makes a server that shows the newest identity and judges peers by its roots at `now`.
    #[must_use]
    pub fn new(identity: IdentityRx, now: Now) -> Self {
        Self {
            core: Core::new(identity, now),
        }
    }

    /// Sets the oldest TLS version that is spoken.
    #[must_use]
    pub fn min_tls(mut self, min_tls: MinTls) -> Self {
        self.core.min_tls = min_tls;
        self
    }

    /// Shakes hands, within [`HANDSHAKE_LIMIT`], and returns the peer's stream and who it is.
    ///
    /// # Errors
    /// [`AcceptError`]; the peer is sent the alert that fits, then the connection is closed.
    pub async fn accept<S>(&self, io: S) -> Result<(TlsStream<S>, VerifiedPeer), AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let identity = self.core.newest()?;
        let check = PeerCheck::new(
            Arc::clone(&identity.bundle),
            Expectation::Any,
            Arc::clone(&self.core.now),
        );
        let verifier = Arc::clone(&check) as Arc<dyn ClientCertVerifier>;
        let shaken = self.core.shake(io, &identity, verifier).await;
        match (shaken, check.answer()) {
            (Ok(stream), Some(Ok(peer))) => Ok((stream, peer)),
            (_, Some(Err(Refusal::Verify(refusal)))) => Err(AcceptError::Peer(refusal)),
            (Err(error), _) => Err(error),
            (Ok(_), _) => Err(AcceptError::Peer(VerifyError::NoCertificate)),
        }
    }
}

// === impl OneSidedTlsServer ===

impl OneSidedTlsServer {
    /// Makes a server that shows the newest identity.
    #[must_use]
    pub fn new(identity: IdentityRx, now: Now) -> Self {
        Self {
            core: Core::new(identity, now),
        }
    }

    /// Makes a server of plain HTTPS, as an API server calls a webhook: TLS 1.2 and HTTP/1.1 are good as well.
    #[must_use]
    pub fn web(identity: IdentityRx, now: Now) -> Self {
        let mut core = Core::new(identity, now);
        (core.min_tls, core.speech) = (MinTls::V1_2, Speech::Web);
        Self { core }
    }

    /// Sets the oldest TLS version that is spoken.
    #[must_use]
    pub fn min_tls(mut self, min_tls: MinTls) -> Self {
        self.core.min_tls = min_tls;
        self
    }

    /// Shakes hands, within [`HANDSHAKE_LIMIT`], and returns the client's stream.
    ///
    /// # Errors
    /// [`AcceptError`], as [`TlsServer::accept`].
    pub async fn accept<S>(&self, io: S) -> Result<TlsStream<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let identity = self.core.newest()?;
        self.core.shake(io, &identity, Arc::new(NoClientAuth)).await
    }
}

// === impl Core ===

impl Core {
    fn new(identity: IdentityRx, now: Now) -> Self {
        Self {
            identity,
            credentials: CredentialsCache::default(),
            now,
            min_tls: MinTls::default(),
            speech: Speech::Peers,
        }
    }

    fn newest(&self) -> Result<Arc<Identity>, AcceptError> {
        self.identity
            .borrow()
            .clone()
            .ok_or(AcceptError::NoIdentity)
    }

    async fn shake<S>(
        &self,
        io: S,
        identity: &Arc<Identity>,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<TlsStream<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self
            .config(identity, verifier)
            .map_err(AcceptError::Handshake)?;
        let accept = TlsAcceptor::from(Arc::new(config)).accept(io);
        let stream = tokio::time::timeout(HANDSHAKE_LIMIT, accept)
            .await
            .map_err(|_elapsed| AcceptError::Timeout {
                limit: HANDSHAKE_LIMIT,
            })?
            .map_err(AcceptError::from_io)?;
        match (self.speech, stream.get_ref().1.alpn_protocol()) {
            (Speech::Peers, Some(ALPN)) | (Speech::Web, _) => Ok(stream),
            (Speech::Peers, _) => Err(AcceptError::NoAlpn),
        }
    }

    /// A configuration for one connection: the verifier holds that peer's judgement, the rest is shared.
    fn config(
        &self,
        identity: &Arc<Identity>,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<ServerConfig, rustls::Error> {
        let credentials = self.credentials.of(identity)?;
        let clock = Arc::new(Clock(Arc::clone(&self.now)));
        let mut config = ServerConfig::builder_with_details(tls::provider(), clock)
            .with_protocol_versions(self.min_tls.versions())?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(
                &credentials.key,
            ))));
        config.alpn_protocols = match self.speech {
            Speech::Peers => vec![ALPN.to_vec()],
            Speech::Web => vec![ALPN.to_vec(), b"http/1.1".to_vec()],
        };
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

// === impl AcceptError ===

impl AcceptError {
    fn from_io(error: io::Error) -> Self {
        match tls::tls_error(&error) {
            None => Self::Io(error),
            Some(inner) if tls::is_plaintext(inner) => Self::Plaintext,
            Some(rustls::Error::NoApplicationProtocol) => Self::NoAlpn,
            Some(inner) => Self::Handshake(inner.clone()),
        }
    }
}
