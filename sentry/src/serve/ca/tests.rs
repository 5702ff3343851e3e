//! The RPC without a network: order, codes, texts, and what a certificate holds.

use super::*;
use crate::validator::Insecure;
use ironside_chassis::clock::ManualClock;
use ironside_identity::verify;
use ironside_testkit::certs::{self, Ca as TestCa};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, SanType,
};
use std::net::IpAddr;
use std::time::Duration;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const MINUTE: Duration = Duration::from_secs(60);

struct Rig {
    ca: CertificateAuthority,
    test_ca: TestCa,
    hand: ManualClock,
}

impl Rig {
    fn new() -> Self {
        Self::of(TestCa::new(), false)
    }

    fn of(test_ca: TestCa, control_plane_allowed: bool) -> Self {
        let texts = [
            test_ca.root_pem(),
            test_ca.issuer_pem(),
            test_ca.issuer_key_pem(),
        ];
        let [root, issuer, key] = texts.each_ref().map(String::as_bytes);
        let authority = Authority::from_pem(root, issuer, key, certs::now()).unwrap();
        let (clock, hand) = Clock::manual(certs::now());
        let ca = CertificateAuthority {
            authority: watch::channel(Arc::new(authority)).1,
            jwt: None,
            validators: Validators::self_hosted(Insecure::new(control_plane_allowed), None),
            settings: Settings {
                workload_cert_ttl: 60 * MINUTE,
                allowed_clock_skew: 15 * MINUTE,
            },
            own: SpiffeId::parse("spiffe://localhost/ns/default/dapr-sentry").unwrap(),
            dns_domain: "localhost".to_owned(),
            limiter: Mutex::default(),
            metrics: Metrics::default(),
            clock,
        };
        Self { ca, test_ca, hand }
    }

    async fn ask(
        &self,
        request: SignCertificateRequest,
    ) -> Result<SignCertificateResponse, Status> {
        self.ca
            .sign_certificate(Request::new(request))
            .await
            .map(Response::into_inner)
    }

    async fn refused(&self, request: SignCertificateRequest, code: Code, text: &str) {
        let status = self.ask(request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, text));
    }
}

fn request() -> SignCertificateRequest {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .unwrap()
        .pem()
        .unwrap();
    SignCertificateRequest {
        id: "appa".into(),
        namespace: "default".into(),
        certificate_signing_request: csr.into_bytes().into(),
        ..SignCertificateRequest::default()
    }
}

/// Fact: security.md K020, K021, K023.
#[tokio::test]
async fn a_good_request_gets_a_chain_and_the_roots() {
    let rig = Rig::new();
    let answer = rig.ask(request()).await.unwrap();
    let chain = pem::certificates(&answer.workload_certificate).unwrap();
    assert_eq!(chain.len(), 2);
    let peer = verify(&chain, &rig.test_ca.bundle(), rig.ca.clock.now()).unwrap();
    assert_eq!(peer.id.to_string(), "spiffe://public/ns/default/appa");
    assert_eq!(answer.trust_chain_certificates, [rig.test_ca.root_pem()]);
    assert_eq!(answer.valid_until.unwrap(), timestamp(peer.not_after));
    assert!(answer.jwt.is_none() && answer.per_audience_jwts.is_empty());
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let seconds =
        |instant: SystemTime| instant.duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let now = seconds(rig.ca.clock.now());
    assert_eq!(leaf.validity().not_before.timestamp(), now - 900);
    assert_eq!(leaf.validity().not_after.timestamp(), now + 3600);
}

/// Fact: security.md K015: whatever a CSR asks for, only its key counts.
#[tokio::test]
async fn nothing_but_the_key_of_a_request_is_used() {
    let rig = Rig::new();
    let key = KeyPair::generate().unwrap();
    let mut params =
        CertificateParams::new(vec!["dapr-webhook.dapr-system.svc".to_owned()]).unwrap();
    let operator = "spiffe://localhost/ns/default/dapr-operator"
        .try_into()
        .unwrap();
    params.subject_alt_names.push(SanType::URI(operator));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let csr = csr.into_bytes().into();
    let answer = rig
        .ask(SignCertificateRequest {
            certificate_signing_request: csr,
            ..request()
        })
        .await;
    let chain = pem::certificates(&answer.unwrap().workload_certificate).unwrap();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
    assert!(!leaf.is_ca() && leaf.subject().iter().next().is_none());
    assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 1);
    assert!(
        !leaf
            .extended_key_usage()
            .unwrap()
            .unwrap()
            .value
            .code_signing
    );
    assert_eq!(
        leaf.subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names
            .len(),
        1
    );
}

/// Fact: security.md 1.2, 1.3, K002, K006, K007, K009–K012, K018.
#[tokio::test]
async fn refusals_have_the_references_codes_and_texts() {
    let rig = Rig::new();
    for number in [2, 3, 99, -1] {
        let other = SignCertificateRequest {
            token_validator: number,
            ..request()
        };
        rig.refused(
            other,
            Code::InvalidArgument,
            "the requested validator is not enabled",
        )
        .await;
    }
    let nothing = SignCertificateRequest::default();
    let all =
        "invalid request: parameter app-id cannot be empty\nCSR is required\nnamespace is required";
    rig.refused(nothing, Code::PermissionDenied, all).await;
    let dots = SignCertificateRequest {
        id: "a.b".into(),
        ..request()
    };
    let text = "invalid request: parameter app-id cannot contain dots";
    rig.refused(dots, Code::PermissionDenied, text).await;
    for id in ["a/../dapr-sentry", "a b", "\0", "😀"] {
        let bad = rig
            .ask(SignCertificateRequest {
                id: id.into(),
                ..request()
            })
            .await
            .unwrap_err();
        assert_eq!(bad.code(), Code::PermissionDenied);
        assert!(bad.message().starts_with("invalid request: "));
    }
    let with_csr = |csr: &[u8]| SignCertificateRequest {
        certificate_signing_request: csr.to_vec().into(),
        ..request()
    };
    let invalid = "invalid certificate signing request";
    rig.refused(with_csr(b"no PEM"), Code::InvalidArgument, invalid)
        .await;
    rig.refused(with_csr(&[b'x'; 64 * 1024]), Code::InvalidArgument, invalid)
        .await;
    // The name is judged first: who may not have it learns nothing about the CSR.
    let both = SignCertificateRequest {
        id: "a.b".into(),
        ..with_csr(b"no PEM")
    };
    rig.refused(both, Code::PermissionDenied, text).await;
}

/// Fact: security.md O-S12, K019.
#[tokio::test]
async fn oversized_fields_are_refused_at_once() {
    let rig = Rig::new();
    let audiences = vec!["a".to_owned(); 10_000];
    let many = SignCertificateRequest {
        jwt_audiences: audiences,
        ..request()
    };
    rig.refused(
        many,
        Code::InvalidArgument,
        "request is too large: more than 32 JWT audiences",
    )
    .await;
    let token = SignCertificateRequest {
        token: "t".repeat(8193),
        ..request()
    };
    rig.refused(
        token,
        Code::InvalidArgument,
        "request is too large: a token of more than 8 KiB",
    )
    .await;
    let long = SignCertificateRequest {
        jwt_audiences: vec!["a".repeat(4097); 2],
        ..request()
    };
    rig.refused(
        long,
        Code::InvalidArgument,
        "request is too large: JWT audiences of more than 8 KiB",
    )
    .await;
    let names = SignCertificateRequest {
        namespace: "n".repeat(8193),
        ..request()
    };
    rig.refused(
        names,
        Code::InvalidArgument,
        "request is too large: names of more than 8 KiB",
    )
    .await;
}

/// Fact: security.md 1.5, K042.
#[tokio::test]
async fn the_control_plane_needs_a_permission_and_gets_dns_names() {
    let operator = || SignCertificateRequest {
        id: "dapr-operator".into(),
        ..request()
    };
    let text = "invalid request: app ID \"dapr-operator\" is reserved for the control plane";
    Rig::new()
        .refused(operator(), Code::PermissionDenied, text)
        .await;
    let rig = Rig::of(TestCa::new(), true);
    let dns = |answer: SignCertificateResponse| {
        let chain = pem::certificates(&answer.workload_certificate).unwrap();
        let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
        leaf.subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names
            .len()
            - 1
    };
    assert_eq!(dns(rig.ask(operator()).await.unwrap()), 1);
    let elsewhere = SignCertificateRequest {
        namespace: "other".into(),
        ..operator()
    };
    assert_eq!(dns(rig.ask(elsewhere).await.unwrap()), 0);
    let scheduler = SignCertificateRequest {
        id: "dapr-scheduler".into(),
        ..request()
    };
    assert_eq!(dns(rig.ask(scheduler).await.unwrap()), 3);
}

/// Fact: security.md O-S7, K024, K056.
#[tokio::test]
async fn an_ending_issuer_shortens_leaves_and_then_stops() {
    let now = certs::now();
    let ending = TestCa::builder()
        .issuer_valid(now - MINUTE, now + 10 * MINUTE)
        .build();
    let rig = Rig::of(ending, false);
    let until = rig
        .ask(request())
        .await
        .unwrap()
        .valid_until
        .unwrap()
        .seconds;
    assert_eq!(
        until,
        timestamp(rig.ca.authority.borrow().issuer_not_after()).seconds
    );
    rig.hand.advance(11 * MINUTE);
    let text = "the issuer certificate is expired or not yet valid";
    rig.refused(request(), Code::Unavailable, text).await;
}

/// Fact: security.md O-S12, K060.
#[tokio::test]
async fn a_flood_is_cut_off_and_its_neighbours_are_not() {
    let rig = Rig::new();
    let from = |address: [u8; 4]| {
        let mut bogus = Request::new(SignCertificateRequest::default());
        bogus
            .extensions_mut()
            .insert(Source::from(IpAddr::from(address)));
        rig.ca.sign_certificate(bogus)
    };
    let mut exhausted = 0;
    for _ in 0..1000 {
        let status = from([10, 0, 0, 1]).await.unwrap_err();
        exhausted += usize::from(status.code() == Code::ResourceExhausted);
    }
    assert_eq!(exhausted, 750);
    assert_eq!(
        from([10, 0, 0, 2]).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

/// Fact: security.md K059, M-31.
#[tokio::test]
async fn decisions_are_counted() {
    let rig = Rig::new();
    rig.ask(request()).await.unwrap();
    rig.ask(SignCertificateRequest::default())
        .await
        .unwrap_err();
    let text = rig.ca.metrics.exposition()();
    for line in [
        "dapr_sentry_cert_sign_request_received_total 2",
        "dapr_sentry_cert_sign_success_total 1",
        "dapr_sentry_cert_sign_failure_total{reason=\"sign\"} 1",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
    }
}
