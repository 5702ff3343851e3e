//! The one RPC: a claim and a key come in, a certificate goes out.
//!
//! Owns the order of security 1.2 (an unknown caller with a bad request learns only that it is unknown), the mapping
//! of each refusal to its gRPC code, and the one log line and counter of each decision (fact O-S13). The decisions
//! themselves are made in `validator` and `issue`.

use super::limit::{Limiter, Source};
use crate::authority::{Authority, NotReady};
use crate::issue::csr::{self, CsrError};
use crate::issue::leaf::{self, LeafError, Names, Validity};
use crate::jwt::{self, JwtError, JwtIssuer};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::validator::{ChoiceError, Claim, Granted, Kind, Refused, Validators};
use ironside_chassis::Clock;
use ironside_identity::{Namespace, SpiffeId, pem};
use ironside_proto::google::protobuf::{StringValue, Timestamp};
use ironside_proto::sentry::ca_server::Ca;
use ironside_proto::sentry::{SignCertificateRequest, SignCertificateResponse};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use tracing::{debug, info};

/// The logger of the reference for this part.
const SCOPE: &str = "dapr.sentry.server";
/// Longest token, in bytes (fact O-S12).
const MAX_TOKEN: usize = 8 * 1024;
/// Longest app ID, namespace and trust domain together, in bytes (fact O-S12).
const MAX_NAMES: usize = 8 * 1024;
/// Most JWT audiences (fact O-S12).
const MAX_AUDIENCES: usize = 32;
/// Longest JWT audiences together, in bytes: each stands in two tokens.
const MAX_AUDIENCE_BYTES: usize = 8 * 1024;

/// Issues certificates by the newest authority.
pub(crate) struct CertificateAuthority {
    pub(crate) authority: watch::Receiver<Arc<Authority>>,
    /// None when no JWTs are issued.
    pub(crate) jwt: Option<watch::Receiver<Arc<JwtIssuer>>>,
    pub(crate) validators: Validators,
    pub(crate) settings: Settings,
    pub(crate) own: SpiffeId,
    /// The domain of the cluster's names; outside of Kubernetes the trust domain stands in for it (security 1.5).
    pub(crate) dns_domain: String,
    pub(crate) limiter: Mutex<Limiter>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

/// A certificate as it was issued.
struct Issued {
    id: SpiffeId,
    leaf: CertificateDer<'static>,
    serial: [u8; 16],
    issued_at: SystemTime,
    not_after: SystemTime,
    authority: Arc<Authority>,
    jwts: Option<jwt::Issued>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum Denied {
    #[error("too many certificate requests from this address, try again later")]
    TooMany,
    #[error("request is too large: {0}")]
    TooLarge(&'static str),
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    #[error(transparent)]
    Claim(#[from] Refused),
    #[error(transparent)]
    Csr(#[from] CsrError),
    #[error(transparent)]
    NotReady(#[from] NotReady),
    #[error("failed to sign certificate")]
    Leaf(#[from] LeafError),
    #[error(transparent)]
    Jwt(#[from] JwtError),
}

// === impl Denied ===

impl Denied {
    /// The value of the label and of the log's field `reason`.
    fn reason(&self) -> &'static str {
        match self {
            Self::TooMany => "rate_limit",
            Self::TooLarge(_) => "size",
            Self::Choice(_) => "validator",
            Self::Claim(Refused::Denied(_)) => "claim",
            Self::Claim(Refused::Busy | Refused::Away(_)) => "busy",
            Self::Csr(_) => "csr",
            Self::NotReady(_) => "not_ready",
            Self::Leaf(_) => "sign",
            Self::Jwt(_) => "jwt",
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::TooMany | Self::Claim(Refused::Busy | Refused::Away(_)) => {
                Code::ResourceExhausted
            }
            Self::TooLarge(_) | Self::Choice(_) | Self::Csr(_) => Code::InvalidArgument,
            Self::Claim(Refused::Denied(_)) => Code::PermissionDenied,
            Self::NotReady(_) => Code::Unavailable,
            Self::Leaf(_) | Self::Jwt(_) => Code::Internal,
        }
    }
}

// === impl CertificateAuthority ===

#[tonic::async_trait]
impl Ca for CertificateAuthority {
    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        let source = request.extensions().get::<Source>().copied();
        let request = request.into_inner();
        self.metrics.received.inc();
        match self.decide(source, &request).await {
            Ok((kind, issued)) => {
                self.metrics.count_issued(kind.as_str());
                tell_issued(kind, &issued);
                Ok(Response::new(issued.into_response()))
            }
            Err((kind, denied)) => {
                self.metrics.count_refused(kind_text(kind), denied.reason());
                tell_denied(kind, &request, &denied);
                Err(Status::new(denied.code(), denied.to_string()))
            }
        }
    }
}

impl CertificateAuthority {
    /// Decides on one request, and by which validator.
    async fn decide(
        &self,
        source: Option<Source>,
        request: &SignCertificateRequest,
    ) -> Result<(Kind, Issued), (Option<Kind>, Denied)> {
        self.admit(source)
            .and_then(|()| check_size(request))
            .map_err(|denied| (None, denied))?;
        let chosen = self.validators.choose(request.token_validator);
        let chosen = chosen.map_err(|denied| (None, denied.into()))?;
        let issued = async {
            let granted = chosen.validate(&claim(request, source)).await?;
            let key = csr::read(&request.certificate_signing_request)?;
            let mut issued = self.issue(granted, &key.spki)?;
            issued.jwts = self.jwts(&issued, &request.jwt_audiences).await?;
            Ok(issued)
        };
        let kind = chosen.kind();
        issued
            .await
            .map(|issued| (kind, issued))
            .map_err(|denied| (Some(kind), denied))
    }

    fn admit(&self, source: Option<Source>) -> Result<(), Denied> {
        let Some(source) = source else { return Ok(()) };
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        match limiter.admit(source, self.clock.monotonic()) {
            true => Ok(()),
            false => Err(Denied::TooMany),
        }
    }

    fn issue(&self, granted: Granted, spki: &[u8]) -> Result<Issued, Denied> {
        let Granted { id, images } = granted;
        let authority = Arc::clone(&self.authority.borrow());
        let now = self.clock.now();
        authority.check_ready(now)?;
        let validity = self.settings.leaf_validity(now, &authority);
        let dns = dns_names(&id, self.own.namespace(), &self.dns_domain);
        let serial = rand::random();
        let names = Names { id, dns, images };
        let leaf = leaf::write(authority.signer(), spki, &names, validity, serial)?;
        let Validity { not_after, .. } = validity;
        Ok(Issued {
            id: names.id,
            leaf,
            serial,
            issued_at: now,
            not_after,
            authority,
            jwts: None,
        })
    }

    /// The tokens that go with a certificate, if any do.
    async fn jwts(
        &self,
        issued: &Issued,
        audiences: &[String],
    ) -> Result<Option<jwt::Issued>, JwtError> {
        let Some(jwt) = &self.jwt else {
            return Ok(None);
        };
        let jwt = Arc::clone(&jwt.borrow());
        let jwts = jwt.issue(&issued.id, audiences, issued.issued_at).await?;
        Ok(Some(jwts))
    }
}

// === impl Issued ===

impl Issued {
    fn into_response(self) -> SignCertificateResponse {
        let Self {
            leaf,
            issued_at,
            not_after,
            authority,
            jwts,
            ..
        } = self;
        let (jwt, per_audience) = match jwts {
            Some(jwts) => (Some(jwts.token), jwts.by_audience),
            None => (None, BTreeMap::new()),
        };
        let chain = [&leaf].into_iter().chain(authority.chain(issued_at));
        SignCertificateResponse {
            workload_certificate: pem::encode_certificates(chain).into_bytes().into(),
            trust_chain_certificates: vec![authority.bundle().to_pem().into_bytes().into()],
            valid_until: Some(timestamp(not_after)),
            jwt: jwt.map(string),
            per_audience_jwts: per_audience
                .into_iter()
                .map(|(audience, token)| (audience, string(token)))
                .collect(),
        }
    }
}

fn string(value: String) -> StringValue {
    StringValue { value }
}

fn claim(request: &SignCertificateRequest, source: Option<Source>) -> Claim<'_> {
    Claim {
        id: &request.id,
        namespace: &request.namespace,
        trust_domain: &request.trust_domain,
        token: &request.token,
        has_csr: !request.certificate_signing_request.is_empty(),
        source,
    }
}

/// Bounds that cost nothing to check (fact O-S12, K019).
fn check_size(request: &SignCertificateRequest) -> Result<(), Denied> {
    let names = request.id.len() + request.namespace.len() + request.trust_domain.len();
    if names > MAX_NAMES {
        return Err(Denied::TooLarge("names of more than 8 KiB"));
    }
    if request.token.len() > MAX_TOKEN {
        return Err(Denied::TooLarge("a token of more than 8 KiB"));
    }
    if request.jwt_audiences.len() > MAX_AUDIENCES {
        return Err(Denied::TooLarge("more than 32 JWT audiences"));
    }
    if request.jwt_audiences.iter().map(String::len).sum::<usize>() > MAX_AUDIENCE_BYTES {
        return Err(Denied::TooLarge("JWT audiences of more than 8 KiB"));
    }
    Ok(())
}

/// DNS names of three parts of the control plane, in Sentry's own namespace (security 1.5).
fn dns_names(id: &SpiffeId, own_namespace: &Namespace, dns_domain: &str) -> Vec<String> {
    let namespace = id.namespace();
    if namespace != own_namespace {
        return Vec::new();
    }
    match id.app_id().as_str() {
        "dapr-injector" => vec![format!("dapr-sidecar-injector.{namespace}.svc")],
        "dapr-operator" => vec![format!("dapr-webhook.{namespace}.svc")],
        "dapr-scheduler" => {
            let name = |n| {
                format!(
                    "dapr-scheduler-server-{n}.dapr-scheduler-server.{namespace}.svc.{dns_domain}"
                )
            };
            (0..3).map(name).collect()
        }
        _ => Vec::new(),
    }
}

fn timestamp(instant: SystemTime) -> Timestamp {
    let seconds = instant
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    Timestamp {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: 0,
    }
}

fn tell_issued(kind: Kind, issued: &Issued) {
    let serial = hex(&issued.serial);
    let sha256 = hex(&Sha256::digest(&issued.leaf));
    info!(
        target: SCOPE,
        validator = kind.as_str(),
        peer.id = %issued.id,
        app.id = %issued.id.app_id(),
        namespace = %issued.id.namespace(),
        decision = "issued",
        serial,
        sha256,
        "Certificate issued"
    );
}

fn tell_denied(kind: Option<Kind>, request: &SignCertificateRequest, denied: &Denied) {
    let validator = kind_text(kind);
    // A flood is told by its counter; the log must not become the second victim.
    if matches!(denied, Denied::TooMany | Denied::Claim(Refused::Busy)) {
        debug!(target: SCOPE, decision = "denied", err = %denied, "Certificate denied");
        return;
    }
    // What the caller is not told: why a signature failed.
    let cause = match denied.source() {
        Some(hidden) => format!("{denied}: {hidden}"),
        None => denied.to_string(),
    };
    info!(
        target: SCOPE,
        validator,
        app.id = %short(&request.id),
        namespace = %short(&request.namespace),
        decision = "denied",
        reason = denied.reason(),
        err = cause,
        "Certificate denied"
    );
}

fn kind_text(kind: Option<Kind>) -> &'static str {
    kind.map_or("none", Kind::as_str)
}

/// The beginning of a name that nobody has checked.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
