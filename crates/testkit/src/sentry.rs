//! A fake Sentry: real gRPC over TLS on loopback, which gives whoever asks the certificate that they ask for.
//!
//! It judges no tokens; a program of the control plane gets the DNS name of its Service as well. What it was asked is
//! kept, and it can be told to refuse, or to give short lives. It runs on a thread of its own, so that a test may
//! block.

#![expect(
    clippy::expect_used,
    reason = "a server that cannot start is a failed test"
)]

use crate::certs::{Ca, now};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use ironside_identity::pem;
use ironside_proto::google::protobuf::Timestamp;
use ironside_proto::sentry::ca_server::{Ca as Service, CaServer};
use ironside_proto::sentry::{SignCertificateRequest, SignCertificateResponse};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls_pki_types::CertificateSigningRequestDer;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status};

const DAY: Duration = Duration::from_secs(86_400);
const SKEW: Duration = Duration::from_secs(900);

/// A running Sentry; it ends with the value.
pub struct FakeSentry {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    root_pem: String,
    issuer_pem: String,
    issuer_key_pem: String,
    inner: Mutex<Inner>,
}

struct Inner {
    life: Duration,
    refusal: Option<String>,
    seen: Vec<SignCertificateRequest>,
}

/// What is served.
struct Signer(Arc<Shared>);

// === impl FakeSentry ===

impl FakeSentry {
    /// Starts one below `ca` that is `id`.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn start(ca: &Ca, id: &str) -> Self {
        let shared = Arc::new(Shared {
            root_pem: ca.root_pem(),
            issuer_pem: ca.issuer_pem(),
            issuer_key_pem: ca.issuer_key_pem(),
            inner: Mutex::new(Inner {
                life: DAY,
                refusal: None,
                seen: Vec::new(),
            }),
        });
        let own = ca.svid(id).issue();
        let config = ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ));
        let config = config
            .with_safe_default_protocol_versions()
            .expect("versions");
        let config = config
            .with_no_client_auth()
            .with_single_cert(own.chain, own.key);
        let mut config = config.expect("a certificate");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(config));
        let (started, address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime can be built").block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
                let listener = listener.expect("loopback has a free port");
                let address = listener.local_addr().expect("it is bound");
                started.send(address).expect("the test waits for it");
                tokio::select! {
                    () = accept(listener, tls, serving) => {}
                    _ended = stopped => {}
                }
            });
        });
        Self {
            shared,
            address: address.recv().expect("the server has started"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives certificates that live for so long from now on.
    pub fn give_lives_of(&self, life: Duration) {
        self.shared.lock().life = life;
    }

    /// Refuses with this text, or with none any more.
    pub fn refuse(&self, text: Option<&str>) {
        self.shared.lock().refusal = text.map(str::to_owned);
    }

    /// Returns what was asked so far.
    #[must_use]
    pub fn seen(&self) -> Vec<SignCertificateRequest> {
        self.shared.lock().seen.clone()
    }
}

impl Drop for FakeSentry {
    fn drop(&mut self) {
        // An error means that the thread has ended already.
        let _ended = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    let service = CaServer::new(Signer(shared));
    let mut connections = JoinSet::new();
    while let Ok((tcp, _peer)) = listener.accept().await {
        let (tls, service) = (tls.clone(), TowerToHyperService::new(service.clone()));
        connections.spawn(async move {
            if let Ok(stream) = tls.accept(tcp).await {
                let http = http2::Builder::new(TokioExecutor::new());
                // The end of a connection is the client's matter.
                let _ended = http.serve_connection(TokioIo::new(stream), service).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, request: &SignCertificateRequest, life: Duration) -> SignCertificateResponse {
        let csr = pem::only_block(
            &request.certificate_signing_request,
            &["CERTIFICATE REQUEST"],
        );
        let csr = CertificateSigningRequestDer::from(csr.expect("a request"));
        let csr = CertificateSigningRequestParams::from_der(&csr).expect("a request");
        let (namespace, id) = (&request.namespace, &request.id);
        let domain = match request.trust_domain.as_str() {
            "" => "public",
            domain => domain,
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let uri = format!("spiffe://{domain}/ns/{namespace}/{id}");
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().expect("ASCII"))];
        let service = match id.as_str() {
            "dapr-injector" => Some("dapr-sidecar-injector"),
            "dapr-operator" => Some("dapr-webhook"),
            _ => None,
        };
        if let Some(service) = service {
            let name = format!("{service}.{namespace}.svc");
            let name = name.as_str().try_into().expect("ASCII");
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.not_before = (now() - SKEW).into();
        params.not_after = (now() + life).into();
        let key = KeyPair::from_pem(&self.issuer_key_pem).expect("a key");
        let issuer = Issuer::from_ca_cert_pem(&self.issuer_pem, key).expect("an issuer");
        let leaf = params.signed_by(&csr.public_key, &issuer).expect("a leaf");
        let end = (now() + life)
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        SignCertificateResponse {
            workload_certificate: format!("{}{}", leaf.pem(), self.issuer_pem)
                .into_bytes()
                .into(),
            trust_chain_certificates: vec![self.root_pem.clone().into_bytes().into()],
            valid_until: Some(Timestamp {
                seconds: i64::try_from(end.as_secs()).unwrap_or(i64::MAX),
                nanos: 0,
            }),
            ..SignCertificateResponse::default()
        }
    }
}

// === impl Signer ===

#[tonic::async_trait]
impl Service for Signer {
    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        let request = request.into_inner();
        let (life, refusal) = {
            let mut inner = self.0.lock();
            inner.seen.push(request.clone());
            (inner.life, inner.refusal.clone())
        };
        match refusal {
            Some(text) => Err(Status::permission_denied(text)),
            None => Ok(Response::new(self.0.sign(&request, life))),
        }
    }
}
