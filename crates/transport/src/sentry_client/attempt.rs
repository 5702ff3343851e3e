//! One request for a certificate, from the key to the checked answer.
//!
//! Owns the call of security 2.2 and what an answer must look like to be believed (fact O-C2). Everything happens
//! within one future and one deadline; when and how often to ask is the loop's matter.

use super::jwt::Jwts;
use super::token::TokenError;
use super::{KeyKind, SCOPE, SentryClientConfig};
use crate::Now;
use crate::client::{ConnectError, connect_one_sided};
use crate::inline::Inline;
use hyper::client::conn::http2;
use hyper::rt::Executor as _;
use hyper_util::rt::TokioIo;
use ironside_identity::{BundleError, SpiffeId, Svid, SvidError, TrustBundle, VerifyError, verify};
use ironside_proto::sentry::ca_client::CaClient;
use ironside_proto::sentry::{SignCertificateRequest, SignCertificateResponse};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use rustls::pki_types::PrivateKeyDer;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::Code;
use tracing::warn;

/// One attempt, dialling included, takes no longer (fact O-C3, K079).
pub(crate) const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// Why no certificate was obtained.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// There is no token to send.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The file of trust anchors can't be read, or holds something else.
    #[error("failed to read trust anchors file {}: {cause}", path.display())]
    AnchorsFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        cause: AnchorsFileError,
    },
    /// Sentry can't be reached.
    #[error("error establishing connection to sentry: dial {address}: {cause}")]
    Dial {
        /// Where.
        address: String,
        /// What the system says.
        cause: io::Error,
    },
    /// Something answers at the address, but it is not Sentry.
    #[error(
        "error establishing connection to sentry at {address}: {cause} (expected {expected:?})"
    )]
    Handshake {
        /// Where.
        address: String,
        /// Who was expected.
        expected: SpiffeId,
        /// What is wrong.
        cause: Box<ConnectError>,
    },
    /// The connection was lost before it could be used.
    #[error("error establishing connection to sentry at {address}: {cause}")]
    Http {
        /// Where.
        address: String,
        /// What is wrong.
        cause: hyper::Error,
    },
    /// Sentry took too long.
    #[error("sentry at {address} did not answer within {limit:?}")]
    Timeout {
        /// Where.
        address: String,
        /// How long it had.
        limit: Duration,
    },
    /// The request could not be made.
    #[error("failed to make a certificate request: {0}")]
    Request(rcgen::Error),
    /// Sentry answered with an error.
    #[error("error from sentry SignCertificate: rpc error: code = {code:?} desc = {message}")]
    Sign {
        /// The gRPC code.
        code: Code,
        /// Sentry's text.
        message: String,
    },
    /// The answer has no usable end of validity.
    #[error("sentry answered with an invalid valid_until")]
    ValidUntil,
    /// The certificate is no identity.
    #[error("sentry answered with an unusable certificate: {0}")]
    Svid(#[from] SvidError),
    /// The certificate is not to be believed.
    #[error("sentry answered with an untrusted certificate: {0}")]
    Untrusted(#[from] VerifyError),
    /// The certificate is somebody else's.
    #[error("sentry answered with the certificate of {got:?}, asked for /ns/{namespace}/{app_id}")]
    WrongIdentity {
        /// Whose it is.
        got: SpiffeId,
        /// The namespace that was asked for.
        namespace: String,
        /// The app ID that was asked for.
        app_id: String,
    },
}

/// Why a file gives no trust anchors.
#[derive(Debug, thiserror::Error)]
pub enum AnchorsFileError {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The content is no bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// What an answer gave.
#[derive(Debug)]
pub(crate) struct Obtained {
    pub(crate) svid: Svid,
    /// The roots that the answer brought with it, if they could be read.
    pub(crate) delivered: TrustBundle,
    /// None without JWTs.
    pub(crate) jwts: Option<Jwts>,
}

/// Asks once. `base` are the roots from environment and file, `known` those of the last answer.
pub(crate) async fn obtain(
    config: &SentryClientConfig,
    kind: KeyKind,
    base: &TrustBundle,
    known: &TrustBundle,
    now: &Now,
) -> Result<Obtained, ObtainError> {
    let attempt = async {
        let (request, key) = request(config, kind)?;
        let response = sign(config, Arc::new(base.merge(known)), now, request).await?;
        read_answer(config, base, response, key, now)
    };
    let late = |_elapsed| ObtainError::Timeout {
        address: config.address.clone(),
        limit: ATTEMPT_LIMIT,
    };
    tokio::time::timeout(ATTEMPT_LIMIT, Box::pin(attempt))
        .await
        .map_err(late)?
}

// === impl ObtainError ===

impl ObtainError {
    /// Says whether asking again cannot help (fact O-C4).
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Sign { code, .. } => {
                matches!(code, Code::PermissionDenied | Code::InvalidArgument)
            }
            Self::Token(_) => true,
            Self::AnchorsFile { .. }
            | Self::Dial { .. }
            | Self::Handshake { .. }
            | Self::Http { .. }
            | Self::Timeout { .. }
            | Self::Request(_)
            | Self::ValidUntil
            | Self::Svid(_)
            | Self::Untrusted(_)
            | Self::WrongIdentity { .. } => false,
        }
    }

    /// The value of the label `reason` of the failure metrics (security 2.9).
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Token(_) => "sentry_token",
            Self::AnchorsFile { .. }
            | Self::Dial { .. }
            | Self::Handshake { .. }
            | Self::Http { .. }
            | Self::Timeout { .. } => "sentry_conn",
            Self::ValidUntil => "invalid_ts",
            Self::Request(_)
            | Self::Sign { .. }
            | Self::Svid(_)
            | Self::Untrusted(_)
            | Self::WrongIdentity { .. } => "sign",
        }
    }
}

/// A request with a fresh key: the CSR holds the key and nothing else (security 1.4).
fn request(
    config: &SentryClientConfig,
    kind: KeyKind,
) -> Result<(SignCertificateRequest, KeyPair), ObtainError> {
    let token = config.token.read()?;
    let algorithm = match kind {
        KeyKind::Ed25519 => &PKCS_ED25519,
        KeyKind::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
    };
    let key = KeyPair::generate_for(algorithm).map_err(ObtainError::Request)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params
        .serialize_request(&key)
        .and_then(|csr| csr.pem())
        .map_err(ObtainError::Request)?;
    let request = SignCertificateRequest {
        id: config.app_id.to_string(),
        token: token.text,
        trust_domain: config
            .trust_domain
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        namespace: config.namespace.to_string(),
        certificate_signing_request: csr.into_bytes().into(),
        token_validator: token.validator.into(),
        jwt_audiences: config.jwt_audiences.clone(),
    };
    Ok((request, key))
}

/// Connects, asks, and closes the connection again. The token leaves only after Sentry has proved itself.
async fn sign(
    config: &SentryClientConfig,
    bundle: Arc<TrustBundle>,
    now: &Now,
    request: SignCertificateRequest,
) -> Result<SignCertificateResponse, ObtainError> {
    let address = || config.address.clone();
    let tcp = dial(&config.address).await;
    let tcp = tcp.map_err(|cause| ObtainError::Dial {
        address: address(),
        cause,
    })?;
    let tls = connect_one_sided(
        tcp,
        &config.sentry_id,
        bundle,
        Arc::clone(now),
        config.min_tls,
    )
    .await;
    let tls = tls.map_err(|cause| ObtainError::Handshake {
        address: address(),
        expected: config.sentry_id.clone(),
        cause: Box::new(cause),
    })?;
    let tasks = Inline::default();
    let call = async {
        let http = http2::handshake(tasks.clone(), TokioIo::new(tls)).await;
        let (sender, connection) = http.map_err(|cause| ObtainError::Http {
            address: address(),
            cause,
        })?;
        tasks.execute(async { drop(connection.await) });
        let origin = http::Uri::builder()
            .scheme("https")
            .authority(config.address.as_str())
            .path_and_query("/");
        let origin = origin.build().unwrap_or_default();
        let mut client = CaClient::with_origin(Service(sender), origin);
        let answer = client.sign_certificate(request).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| ObtainError::Sign {
                code: status.code(),
                message: status.message().to_owned(),
            })
    };
    tasks.drive(call).await
}

async fn dial(address: &str) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    // A request is several small frames; none of them should wait for the acknowledgement of another.
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Checks an answer: our key, our name, signed under the roots, valid now (fact O-C2, K074).
fn read_answer(
    config: &SentryClientConfig,
    base: &TrustBundle,
    mut response: SignCertificateResponse,
    key: KeyPair,
    now: &Now,
) -> Result<Obtained, ObtainError> {
    let valid_until = response.valid_until.ok_or(ObtainError::ValidUntil)?;
    if valid_until.seconds <= 0 || !(0..1_000_000_000).contains(&valid_until.nanos) {
        return Err(ObtainError::ValidUntil);
    }
    let delivered = delivered(&response);
    let svid = Svid::from_pem(&response.workload_certificate, PrivateKeyDer::from(key))?;
    let peer = verify(svid.chain(), &base.merge(&delivered), now())?;
    if *peer.id.namespace() != config.namespace || *peer.id.app_id() != config.app_id {
        return Err(ObtainError::WrongIdentity {
            got: peer.id,
            namespace: config.namespace.to_string(),
            app_id: config.app_id.to_string(),
        });
    }
    let jwts = Jwts::take(&mut response);
    Ok(Obtained {
        svid,
        delivered,
        jwts,
    })
}

/// The roots in the answer. The reference's sidecars ignore the field, so an odd one is no reason to fail.
fn delivered(response: &SignCertificateResponse) -> TrustBundle {
    let text: Vec<u8> = response.trust_chain_certificates.concat();
    if text.is_empty() {
        return TrustBundle::default();
    }
    TrustBundle::from_pem(&text).unwrap_or_else(|cause| {
        warn!(target: SCOPE, err = %cause, "Sentry delivered trust anchors that cannot be read; they are ignored");
        TrustBundle::default()
    })
}

/// hyper's sender as the service that tonic's client wants.
struct Service(http2::SendRequest<tonic::body::Body>);

impl tower_service::Service<http::Request<tonic::body::Body>> for Service {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
