//! The calling side: is the callee the one that was meant?
//!
//! Owns stage 13's proof: a stream that comes out of [`TlsClient::connect`] ends at the wanted app, verified before
//! a byte of the call or of our own certificate was sent. Never falls back to plaintext, never resumes. Dialling
//! and pooling are the caller's.

use crate::tls::{
    self, ALPN, Clock, CredentialsCache, Expectation, MinTls, NOT_TLS, PeerCheck, Refusal,
};
use crate::{HANDSHAKE_LIMIT, IdentityRx, Now};
use ironside_identity::{AppId, Namespace, SpiffeId, TrustBundle, VerifiedPeer, VerifyError};
use rustls::ClientConfig;
use rustls::client::{Resumption, danger::ServerCertVerifier};
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Connects to peers that prove to be the wanted app.
pub struct TlsClient {
    identity: IdentityRx,
    credentials: CredentialsCache,
    now: Now,
    min_tls: MinTls,
}

/// The app at the other end, in any trust domain under the roots (security 2.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExpectedPeer {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub app_id: AppId,
}

/// Why a connection could not be made. The texts stand in the reference's error bodies where it has one.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No identity has been obtained yet.
    #[error("no identity to show yet")]
    NoIdentity,
    /// Our own certificate is past its end: no peer would accept it (fact O-C5).
    #[error("own certificate expired, and no new one could be obtained from sentry")]
    OwnExpired {
        /// When it did.
        not_after: SystemTime,
    },
    /// The target is a part of the control plane (fact O-C7).
    #[error("{app_id:?} is a name of the control plane, not of an app")]
    ControlPlane {
        /// The name.
        app_id: AppId,
    },
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
    Peer(VerifyError),
    /// The peer is another one.
    #[error("unexpected SPIFFE ID: \"{id}\"")]
    UnexpectedId {
        /// Who it is.
        id: SpiffeId,
    },
    /// Any other failure of the handshake.
    #[error("{0}")]
    Handshake(rustls::Error),
    /// The connection broke.
    #[error("connection lost during the handshake: {0}")]
    Io(io::Error),
}

/// One handshake: what to show, what to accept.
struct Handshake {
    bundle: Arc<TrustBundle>,
    expectation: Expectation,
    own: Option<Arc<CertifiedKey>>,
    now: Now,
    min_tls: MinTls,
}

/// Shakes hands with a server of the control plane that must be exactly `server`, showing no certificate.
///
/// # Errors
/// [`ConnectError`]; nothing but the handshake has been sent.
/// # Source
/// security 2.5, sidecar to Sentry.
pub async fn connect_one_sided<S>(
    io: S,
    server: &SpiffeId,
    bundle: Arc<TrustBundle>,
    now: Now,
    min_tls: MinTls,
) -> Result<TlsStream<S>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let expectation = Expectation::Exact(server.clone());
    Handshake {
        bundle,
        expectation,
        own: None,
        now,
        min_tls,
    }
    .shake(io)
    .await
    .map(|(stream, _server)| stream)
}

// === impl TlsClient ===

impl TlsClient {
    /// Makes a client that shows the newest identity and judges peers by its roots at `now`.
    #[must_use]
    pub fn new(identity: IdentityRx, now: Now) -> Self {
        Self {
            identity,
            credentials: CredentialsCache::default(),
            now,
            min_tls: MinTls::default(),
        }
    }

    /// Sets the oldest TLS version that is spoken.
    #[must_use]
    pub fn min_tls(mut self, min_tls: MinTls) -> Self {
        self.min_tls = min_tls;
        self
    }

    /// Shakes hands, within [`HANDSHAKE_LIMIT`], and returns the stream, who the peer is, and the generation of
    /// the identity that was used.
    ///
    /// # Errors
    /// [`ConnectError`]; whatever it is, nothing of the call has been sent.
    pub async fn connect<S>(
        &self,
        io: S,
        expect: &ExpectedPeer,
    ) -> Result<(TlsStream<S>, VerifiedPeer, u64), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if expect.app_id.is_control_plane() {
            return Err(ConnectError::ControlPlane {
                app_id: expect.app_id.clone(),
            });
        }
        self.shake(io, Expectation::Path(expect.path())).await
    }

    /// Shakes hands with a server of the control plane that must be exactly `server`, showing the newest
    /// identity.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing but the handshake has been sent.
    /// # Source
    /// security 2.5, sidecar to operator.
    pub async fn connect_control_plane<S>(
        &self,
        io: S,
        server: &SpiffeId,
    ) -> Result<TlsStream<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shaken = self.shake(io, Expectation::Exact(server.clone())).await;
        shaken.map(|(stream, _server, _generation)| stream)
    }

    async fn shake<S>(
        &self,
        io: S,
        expectation: Expectation,
    ) -> Result<(TlsStream<S>, VerifiedPeer, u64), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let identity = self
            .identity
            .borrow()
            .clone()
            .ok_or(ConnectError::NoIdentity)?;
        let not_after = identity.svid.not_after();
        if (self.now)() > not_after {
            return Err(ConnectError::OwnExpired { not_after });
        }
        let credentials = self
            .credentials
            .of(&identity)
            .map_err(ConnectError::Handshake)?;
        let handshake = Handshake {
            bundle: Arc::clone(&credentials.identity.bundle),
            expectation,
            own: Some(Arc::clone(&credentials.key)),
            now: Arc::clone(&self.now),
            min_tls: self.min_tls,
        };
        let (stream, peer) = handshake.shake(io).await?;
        Ok((stream, peer, credentials.generation))
    }
}

// === impl ExpectedPeer ===

impl ExpectedPeer {
    fn path(&self) -> Box<str> {
        format!("/ns/{}/{}", self.namespace, self.app_id).into()
    }
}

// === impl Handshake ===

impl Handshake {
    async fn shake<S>(self, io: S) -> Result<(TlsStream<S>, VerifiedPeer), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            bundle,
            expectation,
            own,
            now,
            min_tls,
        } = self;
        let check = PeerCheck::new(bundle, expectation, Arc::clone(&now));
        let verifier = Arc::clone(&check) as Arc<dyn ServerCertVerifier>;
        let config = config(verifier, own, now, min_tls).map_err(ConnectError::Handshake)?;
        // No server name is sent: an SVID bears no host name, and its path is what is checked.
        let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let connect = TlsConnector::from(Arc::new(config)).connect(name, io);
        let shaken = tokio::time::timeout(HANDSHAKE_LIMIT, connect).await;
        let shaken = shaken.map_err(|_elapsed| ConnectError::Timeout {
            limit: HANDSHAKE_LIMIT,
        })?;
        match (shaken, check.answer()) {
            (_, Some(Err(Refusal::Verify(refusal)))) => Err(ConnectError::Peer(refusal)),
            (_, Some(Err(Refusal::Unexpected(id)))) => Err(ConnectError::UnexpectedId { id }),
            (Err(error), _) => Err(ConnectError::from_io(error)),
            (Ok(_), None) => Err(ConnectError::Peer(VerifyError::NoCertificate)),
            (Ok(stream), Some(Ok(peer))) => match stream.get_ref().1.alpn_protocol() {
                Some(ALPN) => Ok((stream, peer)),
                _ => Err(ConnectError::NoAlpn),
            },
        }
    }
}

fn config(
    verifier: Arc<dyn ServerCertVerifier>,
    own: Option<Arc<CertifiedKey>>,
    now: Now,
    min_tls: MinTls,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_details(tls::provider(), Arc::new(Clock(now)))
        .with_protocol_versions(min_tls.versions())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match own {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

// === impl ConnectError ===

impl ConnectError {
    fn from_io(error: io::Error) -> Self {
        match tls::tls_error(&error) {
            None => Self::Io(error),
            Some(inner) if tls::is_plaintext(inner) => Self::Plaintext,
            Some(inner) => Self::Handshake(inner.clone()),
        }
    }
}
