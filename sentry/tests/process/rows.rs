//! Rows of security.md 6.1 over the wire, each by its number.
//!
//! Unit tests know the details; here a real Sentry answers a real connection, as a sidecar or somebody else would find
//! it.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ironside_identity::{pem, verify};
use ironside_proto::sentry::{SignCertificateRequest, SignCertificateResponse};
use ironside_testkit::certs::{Ca, now};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData as _, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{FILES, fill, folder, get, metric};
use crate::support::{Client, SOON, Sentry, command, request};

/// Every row that a request alone can show.
struct Rows {
    client: Client,
    refused: u32,
}

// === impl Rows ===

impl Rows {
    async fn refused(&mut self, row: &str, bad: SignCertificateRequest, code: Code, text: &str) {
        let status = self.client.sign(bad).await;
        let status = status.map(|_issued| ()).unwrap_err();
        assert_eq!(status.code(), code, "{row}: {}", status.message());
        assert!(
            status.message().contains(text),
            "{row}: {}",
            status.message()
        );
        self.refused += 1;
    }

    async fn denied(&mut self, row: &str, bad: SignCertificateRequest, text: &str) {
        self.refused(row, bad, Code::PermissionDenied, text).await;
    }

    async fn invalid(&mut self, row: &str, bad: SignCertificateRequest, text: &str) {
        self.refused(row, bad, Code::InvalidArgument, text).await;
    }
}

fn with_csr(csr: impl Into<Vec<u8>>) -> SignCertificateRequest {
    SignCertificateRequest {
        certificate_signing_request: csr.into().into(),
        ..request("appa")
    }
}

fn csr_of(key: &KeyPair) -> Vec<u8> {
    let params = CertificateParams::default();
    params.serialize_request(key).unwrap().der().to_vec()
}

fn leaf_of(answer: &SignCertificateResponse) -> CertificateDer<'static> {
    let chain = pem::certificates(&answer.workload_certificate).unwrap();
    chain.first().unwrap().clone()
}

/// Rows K002, K006 to K012, K014, K017 to K019, K042: what a request alone can get wrong.
#[tokio::test]
async fn bad_requests_are_refused_by_their_rows() {
    let folder = folder();
    let sentry = Sentry::start(folder.path(), &[]);
    let mut rows = Rows {
        client: sentry.connect().await,
        refused: 0,
    };
    for number in [99, -1] {
        let bad = SignCertificateRequest {
            token_validator: number,
            ..request("appa")
        };
        rows.invalid("K002", bad, "the requested validator is not enabled")
            .await;
    }
    let nothing = SignCertificateRequest::default();
    for text in [
        "CSR is required",
        "namespace is required",
        "parameter app-id cannot be empty",
    ] {
        rows.denied("K006", nothing.clone(), text).await;
    }
    rows.denied("K007", request("a.b"), "cannot contain dots")
        .await;
    rows.denied(
        "K008",
        request(&"a".repeat(65)),
        "app ID must be 64 characters or less",
    )
    .await;
    for id in [
        "a/../dapr-sentry",
        "..",
        "a b",
        "a%2fb",
        "a\0b",
        "\u{1f600}",
    ] {
        rows.denied("K009", request(id), "invalid request").await;
    }
    let long = "n".repeat(300);
    for namespace in ["x/y", "..", long.as_str(), "Upper"] {
        let bad = SignCertificateRequest {
            namespace: namespace.into(),
            ..request("appa")
        };
        rows.denied("K010", bad, "invalid request").await;
    }
    for trust_domain in ["Example", "a/b", "spiffe://evil/x", long.as_str()] {
        let bad = SignCertificateRequest {
            trust_domain: trust_domain.into(),
            ..request("appa")
        };
        rows.denied("K011", bad, "invalid request").await;
    }
    let der = csr_of(&KeyPair::generate().unwrap());
    let one = pem::encode("CERTIFICATE REQUEST", &der);
    for bad in [
        pem::encode("PRIVATE KEY", &der),
        "plain text".into(),
        format!("{one}{one}"),
    ] {
        rows.invalid("K012", with_csr(bad), "invalid certificate signing request")
            .await;
    }
    let mut flipped = der.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let flipped = pem::encode("CERTIFICATE REQUEST", &flipped);
    rows.invalid("K014", with_csr(flipped), "invalid signature")
        .await;
    let weak = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/csr/rsa1024.der")).unwrap();
    let weak = pem::encode("CERTIFICATE REQUEST", &weak);
    rows.invalid("K017", with_csr(weak), "RSA with 1024 bits")
        .await;
    rows.invalid(
        "K018",
        with_csr(vec![b'x'; 64 * 1024]),
        "invalid certificate",
    )
    .await;
    let many = SignCertificateRequest {
        jwt_audiences: vec!["a".into(); 10_000],
        ..request("appa")
    };
    rows.invalid("K019", many, "more than 32 JWT audiences")
        .await;
    rows.denied(
        "K042",
        request("dapr-sentry"),
        "is reserved for the control plane",
    )
    .await;
    let count = rows.refused;
    let line = format!("dapr_sentry_cert_sign_failure_total{{reason=\"sign\"}} {count}");
    assert!(metric(&sentry, &line).await, "each is counted once");
    assert_eq!(
        sentry
            .lines("msg=\"Certificate denied\"", count as usize)
            .len(),
        count as usize
    );
}

/// Rows K008, K013, K015, K016, K020 to K022, K059: what is issued, and how it is counted and told.
#[tokio::test]
async fn good_requests_get_the_profile_by_their_rows() {
    let folder = folder();
    let sentry = Sentry::start(folder.path(), &[]);
    let mut client = sentry.connect().await;
    let longest = "a".repeat(64);
    let answer = client.sign(request(&longest)).await.unwrap();
    assert_eq!(answer.trust_chain_certificates, [sentry.root_pem()], "K021");
    assert!(
        answer.jwt.is_none() && answer.per_audience_jwts.is_empty(),
        "K021"
    );
    let chain = pem::certificates(&answer.workload_certificate).unwrap();
    let peer = verify(&chain, &sentry.bundle(), now()).unwrap();
    assert_eq!(peer.id.app_id().as_str(), longest, "K008");
    let until = answer.valid_until.unwrap().seconds;
    let not_after = peer
        .not_after
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(until.unsigned_abs(), not_after.as_secs(), "K021");
    for certificate in &chain {
        let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
        assert!(
            parsed.verify_signature(None).is_err(),
            "K020: nothing self-signed"
        );
    }
    assert!(metric(&sentry, "dapr_sentry_cert_sign_request_received_total 1").await);

    client.sign(request("a.b")).await.unwrap_err();
    for line in [
        "dapr_sentry_cert_sign_request_received_total 2",
        "dapr_sentry_cert_sign_success_total 1",
        "dapr_sentry_cert_sign_failure_total{reason=\"sign\"} 1",
    ] {
        assert!(metric(&sentry, line).await, "K059: {line}");
    }

    let key = KeyPair::generate().unwrap();
    let old = pem::encode("CERTIFICATE", &csr_of(&key));
    let leaf = leaf_of(&client.sign(with_csr(old)).await.unwrap());
    let (_, parsed) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(
        parsed.public_key().raw,
        key.subject_public_key_info(),
        "K013"
    );

    let mut greedy = CertificateParams::new(vec!["dapr-webhook.default.svc".to_owned()]).unwrap();
    let operator = "spiffe://localhost/ns/default/dapr-operator"
        .try_into()
        .unwrap();
    greedy.subject_alt_names.push(SanType::URI(operator));
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let greedy = greedy.serialize_request(&key).unwrap().pem().unwrap();
    for kind in [
        &PKCS_ED25519,
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_RSA_SHA256,
    ] {
        let key = KeyPair::generate_for(kind).unwrap();
        let plain = pem::encode("CERTIFICATE REQUEST", &csr_of(&key));
        let leaf = leaf_of(&client.sign(with_csr(plain)).await.unwrap());
        let (_, parsed) = X509Certificate::from_der(&leaf).unwrap();
        assert_eq!(
            parsed.public_key().raw,
            key.subject_public_key_info(),
            "K016"
        );
    }
    let leaf = leaf_of(&client.sign(with_csr(greedy)).await.unwrap());
    let (_, parsed) = X509Certificate::from_der(&leaf).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    let names = format!("{:?}", names.value.general_names);
    assert_eq!(
        names, "[URI(\"spiffe://public/ns/default/appa\")]",
        "K015, K022"
    );
    assert!(
        !parsed.is_ca() && parsed.subject().iter().next().is_none(),
        "K015, K022"
    );
    assert_eq!(
        parsed.key_usage().unwrap().unwrap().value.flags,
        1,
        "K015, K022"
    );
    let uses = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(uses.server_auth && uses.client_auth, "K022");
}

/// Rows K024 and K056: a leaf never outlives its issuer, and nothing is signed after it; health says so.
#[tokio::test]
async fn an_issuer_that_ends_signs_no_more() {
    let folder = folder();
    let end = now() + Duration::from_secs(6);
    let ca = Ca::builder()
        .issuer_valid(now() - Duration::from_secs(60), end)
        .build();
    fill(folder.path(), &ca);
    let sentry = Sentry::start(folder.path(), &[]);
    let mut client = sentry.connect().await;
    let answer = client.sign(request("appa")).await.unwrap();
    let end = end
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(
        answer.valid_until.unwrap().seconds.unsigned_abs() <= end,
        "K024"
    );
    sentry.line("The certificate authority expires on: ");
    let health = get(sentry.healthz(), "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 503 "), "O-S11: the last day");
    let status = loop {
        match client.sign(request("appa")).await {
            Ok(_still_valid) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "K056");
    assert_eq!(
        status.message(),
        "the issuer certificate is expired or not yet valid"
    );
    assert!(
        now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            >= end
    );
    let health = get(sentry.healthz(), "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 503 "), "K056");
}

/// Row K051: files that do not belong together keep Sentry from starting, and stay as they are.
#[test]
fn files_that_do_not_belong_together_end_the_start() {
    let (ca, other) = (Ca::new(), Ca::new());
    let (root, issuer) = (ca.root_pem(), ca.issuer_pem());
    let rows = [
        (
            "issuer.key",
            other.issuer_key_pem(),
            "issuer key does not match issuer certificate",
        ),
        (
            "ca.crt",
            format!("{root}{issuer}"),
            "certificate in trust anchor is not self-signed",
        ),
        (
            "issuer.crt",
            format!("{issuer}{}", other.issuer_pem()),
            "certificate chain is not valid",
        ),
        (
            "ca.crt",
            other.root_pem(),
            "issuer chain does not belong to trust anchors",
        ),
    ];
    for (file, content, text) in rows {
        let folder = folder();
        fill(folder.path(), &ca);
        fs::write(folder.path().join(file), content).unwrap();
        let before = FILES.map(|file| fs::read(folder.path().join(file)).unwrap());
        let output = command(folder.path(), &[]).output().unwrap();
        let log = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains(text), "{text} in\n{log}");
        let after = FILES.map(|file| fs::read(folder.path().join(file)).unwrap());
        assert_eq!(after, before);
    }
}

/// Row K060: 10,000 bogus requests, many at once, leave memory as it was and a good client served.
#[tokio::test]
async fn a_flood_is_survived() {
    const CONNECTIONS: usize = 40;
    const EACH: usize = 250;
    let folder = folder();
    let sentry = Sentry::start(folder.path(), &["--log-level=info"]);
    let before = sentry.resident_kib();
    let mut floods = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut client = sentry.connect().await;
        floods.spawn(async move {
            let bogus = SignCertificateRequest {
                token: "t".repeat(8000),
                ..request("a.b")
            };
            for _ in 0..EACH {
                let refused = client.sign(bogus.clone()).await.map(|_| ()).unwrap_err();
                let expected = [Code::PermissionDenied, Code::ResourceExhausted];
                assert!(expected.contains(&refused.code()), "{refused:?}");
            }
        });
    }
    let mut good = sentry.connect_from("127.0.0.2").await;
    for _ in 0..20 {
        good.sign(request("appa")).await.unwrap();
    }
    while let Some(flood) = floods.join_next().await {
        flood.unwrap();
    }
    let total = CONNECTIONS * EACH + 20;
    assert!(
        metric(
            &sentry,
            &format!("dapr_sentry_cert_sign_request_received_total {total}")
        )
        .await
    );
    let grown = sentry.resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
}

/// Row K061: TLS without ALPN `h2` gets no further than the handshake.
#[tokio::test]
async fn tls_without_alpn_is_refused() {
    let folder = folder();
    let sentry = Sentry::start(folder.path(), &[]);
    for alpn in [None, Some(b"http/1.1".to_vec())] {
        let mut config =
            rustls::ClientConfig::builder_with_provider(ironside_transport::provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Believer))
                .with_no_client_auth();
        config.alpn_protocols = alpn.into_iter().collect();
        let tcp = TcpStream::connect(sentry.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let talk = async {
            let mut tls = TlsConnector::from(Arc::new(config))
                .connect(name, tcp)
                .await?;
            tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .await?;
            let mut answer = Vec::new();
            tls.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = tokio::time::timeout(SOON, talk).await.unwrap();
        assert!(answer.is_err() || answer.is_ok_and(|bytes| bytes.is_empty()));
    }
    sentry.lines("connection refused", 2);
}

/// Row K062: without `--config` the defaults hold, and a warning says so.
#[tokio::test]
async fn no_configuration_is_a_warning() {
    let folder = folder();
    let sentry = Sentry::start(folder.path(), &[]);
    let line = sentry.line("No configuration file given");
    assert!(line.contains("level=warning"), "{line}");
    sentry.identity("appa").await;
}

/// Believes every server: what it does next is looked at.
#[derive(Debug)]
struct Believer;

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ED25519,
            SignatureScheme::ECDSA_NISTP256_SHA256,
        ]
    }
}
