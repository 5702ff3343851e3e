//! The client against a Sentry that says what the test wants it to say.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ironside_identity::{AppId, Namespace, SpiffeId};
use ironside_proto::google::protobuf::{StringValue, Timestamp};
use ironside_proto::sentry::ca_server::{Ca as CaService, CaServer};
use ironside_proto::sentry::{SignCertificateRequest, SignCertificateResponse};
use ironside_testkit::certs::{Ca, now};
use ironside_transport::sentry_client::{Event, StartError, TokenSource, Validator};
use ironside_transport::{
    ControlPlane, Identity, IdentityRx, MinTls, Now, OneSidedTlsServer, SentryClient,
    SentryClientConfig,
};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, Issuer, KeyPair,
};
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

const SENTRY: &str = "spiffe://localhost/ns/default/dapr-sentry";
const APP: &str = "spiffe://public/ns/default/appa";
const SOON: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(86_400);

type Answer = Result<SignCertificateResponse, Status>;
type Script = Box<dyn FnMut(SignCertificateRequest) -> Answer + Send>;

/// Answers every request by the script.
struct Scripted(Mutex<Script>);

#[tonic::async_trait]
impl CaService for Scripted {
    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        let mut script = self.0.lock().unwrap();
        script(request.into_inner()).map(Response::new)
    }
}

/// A Sentry on loopback; it ends with the value.
struct Sentry {
    address: String,
    _tasks: JoinSet<()>,
}

impl Sentry {
    async fn start(
        ca: &Ca,
        id: &str,
        script: impl FnMut(SignCertificateRequest) -> Answer + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, ca, id, script)
    }

    fn start_on(
        listener: TcpListener,
        ca: &Ca,
        id: &str,
        script: impl FnMut(SignCertificateRequest) -> Answer + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let identity = Identity {
            svid: Arc::new(ca.svid(id).svid()),
            bundle: Arc::new(ca.bundle()),
            generation: 1,
        };
        let tls = OneSidedTlsServer::new(watch::channel(Some(Arc::new(identity))).1, clock());
        let service = CaServer::new(Scripted(Mutex::new(Box::new(script))));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(stream) = tls.accept(tcp).await else {
                    continue;
                };
                let service = hyper_util::service::TowerToHyperService::new(service.clone());
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                drop(http.serve_connection(TokioIo::new(stream), service).await);
            }
        });
        Self {
            address,
            _tasks: tasks,
        }
    }
}

fn clock() -> Now {
    Arc::new(now)
}

fn config(address: &str, ca: &Ca) -> SentryClientConfig {
    SentryClientConfig {
        address: address.to_owned(),
        sentry_id: SpiffeId::parse(SENTRY).unwrap(),
        trust_anchors_pem: Some(ca.root_pem()),
        trust_anchors_file: None,
        trust_anchors_cache: None,
        app_id: AppId::parse("appa").unwrap(),
        namespace: Namespace::default(),
        trust_domain: None,
        token: TokenSource::Absent,
        jwt_audiences: Vec::new(),
        min_tls: MinTls::default(),
    }
}

/// What a good Sentry would answer, for any name and life.
fn sign(
    ca: &Ca,
    request: &SignCertificateRequest,
    id: &str,
    life: Duration,
) -> SignCertificateResponse {
    let csr =
        CertificateSigningRequestDer::from_pem_slice(&request.certificate_signing_request).unwrap();
    let csr = CertificateSigningRequestParams::from_der(&csr).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![rcgen::SanType::URI(id.try_into().unwrap())];
    params.not_before = (now() - Duration::from_secs(900)).into();
    params.not_after = (now() + life).into();
    let key = KeyPair::from_pem(&ca.issuer_key_pem()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca.issuer_pem(), key).unwrap();
    let leaf = params.signed_by(&csr.public_key, &issuer).unwrap();
    SignCertificateResponse {
        workload_certificate: format!("{}{}", leaf.pem(), ca.issuer_pem())
            .into_bytes()
            .into(),
        trust_chain_certificates: vec![ca.root_pem().into_bytes().into()],
        valid_until: Some(timestamp(now() + life)),
        ..SignCertificateResponse::default()
    }
}

fn timestamp(instant: SystemTime) -> Timestamp {
    let seconds = instant.duration_since(UNIX_EPOCH).unwrap().as_secs();
    Timestamp {
        seconds: seconds.try_into().unwrap(),
        nanos: 0,
    }
}

/// Runs a client until the condition holds for what it published; returns that and the events so far.
async fn run_until(
    client: SentryClient,
    wanted: impl Fn(&Identity) -> bool,
) -> (Arc<Identity>, Vec<Event>) {
    let (tx, rx) = watch::channel(None);
    let (client, mut events) = with_events(client);
    let seen = tokio::select! {
        ended = client.run(tx) => panic!("{ended:?}"),
        seen = published(rx, wanted) => seen,
    };
    let mut all = Vec::new();
    while let Ok(event) = events.try_recv() {
        all.push(event);
    }
    (seen, all)
}

async fn published(mut rx: IdentityRx, wanted: impl Fn(&Identity) -> bool) -> Arc<Identity> {
    let seen = rx.wait_for(|held| held.as_ref().is_some_and(|identity| wanted(identity)));
    let seen = tokio::time::timeout(SOON, seen).await.unwrap().unwrap();
    seen.clone().unwrap()
}

fn with_events(client: SentryClient) -> (SentryClient, mpsc::Receiver<Event>) {
    let (tx, rx) = mpsc::channel(64);
    (
        client.on_event(move |event| tx.try_send(event).unwrap()),
        rx,
    )
}

async fn first(client: SentryClient) -> (Arc<Identity>, Vec<Event>) {
    run_until(client, |_any| true).await
}

/// Fact: security.md 2.2, 1.4.
#[tokio::test]
async fn an_identity_is_obtained_with_an_empty_request() {
    let ca = Ca::new();
    let (seen, mut requests) = mpsc::channel(1);
    let bundle = ca.bundle();
    let config_of = |address: &str| config(address, &ca);
    let signer = Ca::new();
    let both = bundle.merge(&signer.bundle());
    let script_ca = signer;
    let sentry = Sentry::start(&ca, SENTRY, move |request| {
        let answer = sign(&script_ca, &request, APP, DAY);
        seen.try_send(request).unwrap();
        Ok(answer)
    })
    .await;
    let (identity, events) = first(SentryClient::new(config_of(&sentry.address), clock())).await;
    assert_eq!(identity.svid.id().to_string(), APP);
    assert_eq!(identity.generation, 1);
    // Fact O-C6: the answer's roots are added to our own, and vouch for the answer's own leaf.
    assert_eq!(*identity.bundle, both);
    assert_eq!(events, [Event::Initialized]);

    let request = requests.recv().await.unwrap();
    assert_eq!(
        (request.id.as_str(), request.namespace.as_str()),
        ("appa", "default")
    );
    assert_eq!(
        (
            request.token.as_str(),
            request.token_validator,
            request.trust_domain.as_str()
        ),
        ("", 0, "")
    );
    assert!(
        request
            .certificate_signing_request
            .starts_with(b"-----BEGIN CERTIFICATE REQUEST-----")
    );
    let csr =
        CertificateSigningRequestDer::from_pem_slice(&request.certificate_signing_request).unwrap();
    let csr = CertificateSigningRequestParams::from_der(&csr).unwrap();
    assert!(csr.params.subject_alt_names.is_empty());
    assert_eq!(csr.params.distinguished_name, DistinguishedName::new());
}

/// Fact: security.md K071.
#[tokio::test]
async fn a_named_token_is_sent_with_its_validator() {
    let ca = Ca::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "secret").unwrap();
    let (seen, mut requests) = mpsc::channel(1);
    let (config_ca, script_ca) = (config("", &ca), ca.new_issuer());
    let sentry = Sentry::start(&ca, SENTRY, move |request| {
        let answer = sign(&script_ca, &request, APP, DAY);
        seen.try_send(request).unwrap();
        Ok(answer)
    })
    .await;
    let token = TokenSource::File {
        path,
        validator: Validator::Jwks,
    };
    let config = SentryClientConfig {
        address: sentry.address.clone(),
        token,
        ..config_ca
    };
    drop(first(SentryClient::new(config, clock())).await);
    let request = requests.recv().await.unwrap();
    assert_eq!(
        (request.token.as_str(), request.token_validator),
        ("secret", 3)
    );
}

/// Fact: security.md 2.1, 2.3: the audiences are asked for, the tokens kept, and renewed before they end.
#[tokio::test]
async fn tokens_are_kept_and_renewed_with_the_certificate() {
    let ca = Ca::new();
    let (seen, mut requests) = mpsc::channel(8);
    let config_ca = config("", &ca);
    let script_ca = ca.new_issuer();
    let mut asked = 0;
    let sentry = Sentry::start(&ca, SENTRY, move |request| {
        let mut answer = sign(&script_ca, &request, APP, DAY);
        seen.try_send(request).unwrap();
        asked += 1;
        // A token of 6 s beside a certificate of a day; later none at all, as of a Sentry without them.
        let token = (asked == 1).then(|| token_until(now() + Duration::from_secs(6)));
        answer.jwt = token.map(|value| StringValue { value });
        Ok(answer)
    })
    .await;
    let config = SentryClientConfig {
        address: sentry.address.clone(),
        jwt_audiences: vec!["one".into(), "two".into()],
        ..config_ca
    };
    let client = SentryClient::new(config, clock());
    let mut jwts = client.jwts();
    let (tx, rx) = watch::channel(None);
    let watching = async {
        let held = jwts.wait_for(Option::is_some).await.unwrap().clone();
        assert!(held.unwrap().token().is_some());
        published(rx, |identity| identity.generation == 2).await;
        assert!(jwts.borrow().is_none());
    };
    tokio::select! {
        ended = client.run(tx) => panic!("{ended:?}"),
        () = watching => {}
    }
    let request = requests.recv().await.unwrap();
    assert_eq!(request.jwt_audiences, ["one", "two"]);
}

fn token_until(end: SystemTime) -> String {
    let claims = format!(r#"{{"exp":{}}}"#, timestamp(end).seconds);
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

/// Fact: security.md K072: no token leaves before Sentry has proved itself.
#[tokio::test]
async fn another_server_is_not_asked() {
    let ca = Ca::new();
    for id in [
        "spiffe://localhost/ns/x/dapr-sentry",
        "spiffe://other/ns/default/dapr-sentry",
    ] {
        let sentry = Sentry::start(&ca, id, |_request| panic!("must not be asked")).await;
        let (client, mut events) =
            with_events(SentryClient::new(config(&sentry.address, &ca), clock()));
        tokio::select! {
            ended = client.run(watch::channel(None).0) => panic!("{ended:?}"),
            event = events.recv() => assert_eq!(event, Some(Event::InitFailed { reason: "sentry_conn" })),
        }
    }
}

/// Fact: security.md K075.
#[tokio::test]
async fn a_late_sentry_is_waited_for() {
    let ca = Ca::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (client, mut events) = with_events(SentryClient::new(
        config(&address.to_string(), &ca),
        clock(),
    ));
    let (tx, rx) = watch::channel(None);
    let script_ca = ca.new_issuer();
    let late = async {
        assert_eq!(
            events.recv().await,
            Some(Event::InitFailed {
                reason: "sentry_conn"
            })
        );
        assert_eq!(
            events.recv().await,
            Some(Event::InitFailed {
                reason: "sentry_conn"
            })
        );
        let listener = TcpListener::bind(address).await.unwrap();
        let sentry = Sentry::start_on(listener, &ca, SENTRY, move |r| {
            Ok(sign(&script_ca, &r, APP, DAY))
        });
        let identity = published(rx, |_any| true).await;
        drop(sentry);
        identity
    };
    tokio::select! {
        ended = client.run(tx) => panic!("{ended:?}"),
        identity = late => assert_eq!(identity.svid.id().to_string(), APP),
    }
}

/// Fact: security.md K076; text of golden 33.
#[tokio::test]
async fn a_refusal_ends_the_start_after_five_attempts() {
    let ca = Ca::new();
    let text = "invalid request: app ID must be 64 characters or less";
    let sentry = Sentry::start(&ca, SENTRY, move |_request| {
        Err(Status::permission_denied(text))
    })
    .await;
    let (client, mut events) =
        with_events(SentryClient::new(config(&sentry.address, &ca), clock()));
    let ended = tokio::time::timeout(SOON, client.run(watch::channel(None).0))
        .await
        .unwrap();
    let Err(error) = ended;
    assert_eq!(
        error.to_string(),
        format!(
            "failed to retrieve the initial identity: error from sentry SignCertificate: \
             rpc error: code = PermissionDenied desc = {text}\nno X509 SVID available"
        )
    );
    for _attempt in 0..5 {
        assert_eq!(events.try_recv(), Ok(Event::InitFailed { reason: "sign" }));
    }
    assert!(events.try_recv().is_err());
}

/// Fact: security.md K074, O-C2.
#[tokio::test]
async fn wrong_answers_are_refused_until_a_right_one_comes() {
    let ca = Ca::new();
    let (signer, stranger) = (ca.new_issuer(), Ca::new());
    let mut number = 0;
    let sentry = Sentry::start(&ca, SENTRY, move |request| {
        number += 1;
        let good = sign(&signer, &request, APP, DAY);
        Ok(match number {
            1 => sign(&signer, &request, "spiffe://public/ns/default/appb", DAY),
            2 => sign(&signer, &request, "spiffe://public/ns/other/appa", DAY),
            3 => SignCertificateResponse {
                valid_until: None,
                ..good
            },
            4 => {
                let foreign =
                    ironside_identity::pem::encode_certificates(&signer.svid(APP).issue().chain);
                SignCertificateResponse {
                    workload_certificate: foreign.into_bytes().into(),
                    ..good
                }
            }
            5 => {
                let untrusted = sign(&stranger, &request, APP, DAY);
                SignCertificateResponse {
                    trust_chain_certificates: good.trust_chain_certificates,
                    ..untrusted
                }
            }
            // Roots that can't be read are ignored, as the reference ignores the whole field.
            _ => SignCertificateResponse {
                trust_chain_certificates: vec![b"garbage".as_slice().into()],
                ..good
            },
        })
    })
    .await;
    let (identity, events) = first(SentryClient::new(config(&sentry.address, &ca), clock())).await;
    assert_eq!(*identity.bundle, ca.bundle());
    let failed = |reason| Event::InitFailed { reason };
    let reasons = ["sign", "sign", "invalid_ts", "sign", "sign"].map(failed);
    assert_eq!(events, [&reasons[..], &[Event::Initialized]].concat());
}

/// Fact: security.md K079, K080, K077: a short life, a Sentry that is down at the renewal, one that is up again.
#[tokio::test]
async fn a_renewal_outlives_a_failure() {
    let ca = Ca::new();
    let signer = ca.new_issuer();
    let mut number = 0;
    let sentry = Sentry::start(&ca, SENTRY, move |request| {
        number += 1;
        match number {
            2 => Err(Status::unavailable("try later")),
            _ => Ok(sign(&signer, &request, APP, Duration::from_secs(10))),
        }
    })
    .await;
    let client = SentryClient::new(config(&sentry.address, &ca), clock());
    let (identity, events) = run_until(client, |identity| identity.generation == 2).await;
    assert!(identity.svid.is_valid_at(now()));
    assert_eq!(
        events,
        [
            Event::Initialized,
            Event::RenewalFailed { reason: "sign" },
            Event::Renewed
        ]
    );
}

/// Fact: security.md O-C6: the file adds to the environment, and a change needs no renewal.
#[tokio::test]
async fn roots_are_followed_in_their_file() {
    let (ca, later) = (Ca::new(), Ca::new());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.crt");
    std::fs::write(&path, ca.root_pem()).unwrap();
    let signer = ca.new_issuer();
    let sentry = Sentry::start(&ca, SENTRY, move |r| Ok(sign(&signer, &r, APP, DAY))).await;
    let config = SentryClientConfig {
        trust_anchors_pem: None,
        trust_anchors_file: Some(path.clone()),
        trust_anchors_cache: None,
        ..config(&sentry.address, &ca)
    };
    let (tx, rx) = watch::channel(None);
    let edit = async {
        let first = published(rx.clone(), |_any| true).await;
        assert_eq!(*first.bundle, ca.bundle());
        std::fs::write(&path, "no PEM at all").unwrap();
        std::fs::write(&path, format!("{}{}", ca.root_pem(), later.root_pem())).unwrap();
        let second = published(rx, |identity| identity.bundle.anchors().len() == 2).await;
        assert!(second.generation > first.generation);
        assert_eq!(second.svid.chain(), first.svid.chain());
    };
    tokio::select! {
        ended = SentryClient::new(config, clock()).run(tx) => panic!("{ended:?}"),
        () = edit => {}
    }
}

/// Fact: security.md K079. A stop must not wait for a silent Sentry.
#[tokio::test]
async fn a_dropped_client_lets_go_of_sentry() {
    let ca = Ca::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = SentryClient::new(
        config(&listener.local_addr().unwrap().to_string(), &ca),
        clock(),
    );
    let mut run = Box::pin(client.run(watch::channel(None).0));
    let mut tcp = tokio::select! {
        ended = &mut run => panic!("{ended:?}"),
        accepted = listener.accept() => accepted.unwrap().0,
    };
    drop(run);
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, tcp.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
}

/// Fact: security.md K091.
#[tokio::test]
async fn roots_are_required() {
    let ca = Ca::new();
    let run = async |pem: Option<&str>| {
        let config = SentryClientConfig {
            trust_anchors_pem: pem.map(str::to_owned),
            ..config("127.0.0.1:1", &ca)
        };
        let Err(error) = SentryClient::new(config, clock())
            .run(watch::channel(None).0)
            .await;
        error
    };
    assert_eq!(run(None).await.to_string(), "trust anchors are required");
    assert!(matches!(run(Some("no PEM")).await, StartError::Anchors(_)));
}

/// Fact: kubernetes.md 1, 2.2. It asks for ever, and not before it knows whom to believe.
#[tokio::test]
async fn a_program_of_the_control_plane_waits_for_its_roots_and_has_an_ecdsa_key() {
    const INJECTOR: &str = "spiffe://localhost/ns/default/dapr-injector";
    let (ca, next) = (Ca::new(), Ca::new());
    let (script_ca, mut refusals) = (ca.new_issuer(), 6);
    let (seen, mut requests) = mpsc::channel(16);
    let sentry = Sentry::start(&ca, SENTRY, move |request| {
        let mut answer = sign(&script_ca, &request, INJECTOR, DAY);
        answer.trust_chain_certificates.clear();
        seen.try_send(request).unwrap();
        if refusals > 0 {
            refusals -= 1;
            return Err(Status::permission_denied("not yet"));
        }
        Ok(answer)
    })
    .await;
    let (roots, anchors) = watch::channel(None);
    let program = ControlPlane {
        sentry_address: sentry.address.clone(),
        trust_domain: "localhost".parse().unwrap(),
        namespace: Namespace::default(),
        app_id: AppId::parse("dapr-injector").unwrap(),
        token: TokenSource::Absent,
        anchors,
    };
    let (publish, identity) = watch::channel(None);
    let follow = program.follow(clock(), |_event| {}, publish);
    let test = async {
        assert!(requests.try_recv().is_err(), "no roots, no question");
        roots.send_replace(Some(Arc::new(ca.bundle())));
        let first = published(identity.clone(), |_any| true).await;
        assert_eq!(first.svid.id().to_string(), INJECTOR);
        let key = KeyPair::try_from(first.svid.key()).unwrap();
        assert!(key.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256));
        assert_eq!(*first.bundle, ca.bundle());
        let both = ca.bundle().merge(&next.bundle());
        roots.send_replace(Some(Arc::new(both.clone())));
        published(identity, |held| *held.bundle == both).await;
        requests.recv().await.unwrap()
    };
    let request = tokio::select! {
        ended = follow => panic!("{ended:?}"),
        request = test => request,
    };
    assert_eq!(
        (request.id.as_str(), request.trust_domain.as_str()),
        ("dapr-injector", "localhost")
    );
}
