//! The real program: start, certificates, stop, restart, bad input, a changed issuer.
#![cfg(test)]

#[path = "process/jwt.rs"]
mod jwt;
#[path = "process/rows.rs"]
mod rows;
mod support;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ironside_identity::{TrustBundle, pem, verify};
use ironside_testkit::certs::{Ca, now};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;
use support::{SOON, Sentry, command, request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

const FILES: [&str; 3] = ["ca.crt", "issuer.crt", "issuer.key"];

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn contents(folder: &Path) -> [String; 3] {
    FILES.map(|file| fs::read_to_string(folder.join(file)).unwrap())
}

fn fill(folder: &Path, ca: &Ca) {
    let texts = [ca.root_pem(), ca.issuer_pem(), ca.issuer_key_pem()];
    for (file, text) in FILES.into_iter().zip(texts) {
        fs::write(folder.join(file), text).unwrap();
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let ask = async {
        let mut io = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        io.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        io.read_to_string(&mut text).await.unwrap();
        text
    };
    tokio::time::timeout(SOON, ask).await.unwrap()
}

async fn metric(sentry: &Sentry, line: &str) -> bool {
    let text = get(sentry.metrics(), "/metrics").await;
    text.lines().any(|have| have == line)
}

/// Fact: process-interface 3, 10 row 19; security.md 1.8, 1.12.
#[tokio::test]
async fn an_empty_folder_becomes_a_ca_that_issues() {
    let folder = folder();
    let mut sentry = Sentry::start(folder.path(), &[]);
    for file in FILES {
        assert_eq!(
            fs::metadata(folder.path().join(file)).unwrap().mode() & 0o777,
            0o600
        );
    }
    assert!(
        get(sentry.healthz(), "/healthz")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    assert!(
        get(sentry.healthz(), "/other")
            .await
            .starts_with("HTTP/1.1 404 ")
    );
    let identity = sentry.identity("appa").await;
    assert_eq!(
        identity.svid.id().to_string(),
        "spiffe://public/ns/default/appa"
    );
    assert_eq!(*identity.bundle, sentry.bundle());
    assert!(verify(identity.svid.chain(), &sentry.bundle(), now()).is_ok());
    assert!(metric(&sentry, "dapr_sentry_cert_sign_success_total 1").await);
    let line = sentry.line("msg=\"Certificate issued\"");
    for part in [
        "level=info",
        "decision=issued",
        "validator=insecure",
        "sha256=",
        "serial=",
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(sentry.stop(), Some(0));
    for text in [
        "Received signal 'terminated'; beginning shutdown",
        "Sentry shut down gracefully",
    ] {
        sentry.line(text);
    }
}

#[tokio::test]
async fn a_restart_keeps_the_ca() {
    let folder = folder();
    let mut first = Sentry::start(folder.path(), &[]);
    let identity = first.identity("appa").await;
    let before = contents(folder.path());
    assert_eq!(first.stop(), Some(0));
    let second = Sentry::start(folder.path(), &[]);
    second.line("Root and issuer certs found: using credentials from store");
    assert_eq!(contents(folder.path()), before);
    assert!(verify(identity.svid.chain(), &second.bundle(), now()).is_ok());
    assert!(
        verify(
            second.identity("appb").await.svid.chain(),
            &identity.bundle,
            now()
        )
        .is_ok()
    );
}

/// Fact: security.md K050: an issuer of another maker and kind.
#[tokio::test]
async fn an_issuer_of_ones_own_is_used() {
    let folder = folder();
    let ca = Ca::builder().algorithm(&PKCS_ECDSA_P256_SHA256).build();
    fill(folder.path(), &ca);
    let sentry = Sentry::start(folder.path(), &[]);
    let identity = sentry.identity("appa").await;
    assert_eq!(*identity.bundle, ca.bundle());
}

/// Fact: security.md 1.2, K012, K014, K018.
#[tokio::test]
async fn bad_requests_get_their_codes_over_the_wire() {
    let folder = folder();
    let sentry = Sentry::start(folder.path(), &[]);
    let mut client = sentry.connect().await;
    let with_csr = |csr: Vec<u8>| {
        let mut bad = request("appa");
        bad.certificate_signing_request = csr.into();
        bad
    };
    let mut refused = async |bad, code, text| {
        let status = client.sign(bad).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, text));
    };
    let text = "invalid certificate signing request";
    refused(with_csr(b"no PEM".to_vec()), Code::InvalidArgument, text).await;
    refused(with_csr(vec![b'x'; 64 * 1024]), Code::InvalidArgument, text).await;
    let text = "invalid request: app ID must be 64 characters or less";
    refused(request(&"y".repeat(65)), Code::PermissionDenied, text).await;
    let text = "invalid request: app ID \"dapr-operator\" is reserved for the control plane";
    refused(request("dapr-operator"), Code::PermissionDenied, text).await;
    let huge = client
        .sign(with_csr(vec![b'x'; 5 * 1024 * 1024]))
        .await
        .unwrap_err();
    assert_eq!(huge.code(), Code::ResourceExhausted);
    assert!(
        sentry.connect().await.sign(request("appa")).await.is_ok(),
        "the process lives on"
    );
    assert!(
        metric(
            &sentry,
            "dapr_sentry_cert_sign_failure_total{reason=\"sign\"} 4"
        )
        .await
    );
}

/// Fact: security.md K061.
#[tokio::test]
async fn plaintext_is_refused() {
    let folder = folder();
    let sentry = Sentry::start(folder.path(), &[]);
    let mut tcp = TcpStream::connect(sentry.address()).await.unwrap();
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, tcp.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    sentry.line("connection refused");
}

/// Fact: security.md K052, K053, O-S8; process-interface 10 row 20; M-32.
#[tokio::test]
async fn a_changed_issuer_is_swapped_and_a_bad_one_is_not() {
    let folder = folder();
    let ca = Ca::new();
    fill(folder.path(), &ca);
    let sentry = Sentry::start(folder.path(), &[]);
    let mut open = sentry.connect().await;
    let issuer_of = |answer: ironside_proto::sentry::SignCertificateResponse| {
        pem::certificates(&answer.workload_certificate)
            .unwrap()
            .remove(1)
    };
    let old = issuer_of(open.sign(request("appa")).await.unwrap());
    let text = get(sentry.metrics(), "/metrics").await;
    let ends = TrustBundle::from_pem(ca.issuer_pem().as_bytes())
        .unwrap()
        .earliest_expiry()
        .unwrap()
        .duration_since(UNIX_EPOCH)
        .unwrap();
    let expiry = format!(
        "\ndapr_sentry_issuercert_expiry_timestamp {}\n",
        ends.as_secs()
    );
    assert!(text.contains(&expiry), "{text}");
    assert!(
        !text.contains("dapr_sentry_issuercert_changed_total"),
        "{text}"
    );

    let next = ca.new_issuer();
    fill(folder.path(), &next);
    sentry.line("Issuer credentials changed; reloading");
    sentry.lines("CA certificate key pair ready", 2);
    let new = issuer_of(open.sign(request("appa")).await.unwrap());
    assert_ne!(
        new, old,
        "the open connection gets leaves of the new issuer"
    );
    let identity = sentry.identity("appa").await;
    assert_eq!(identity.svid.chain()[1], new);

    let stranger = KeyPair::generate().unwrap();
    fs::write(folder.path().join("issuer.key"), stranger.serialize_pem()).unwrap();
    let line = sentry.line("Issuer credentials cannot be used, the old ones stay in effect");
    assert!(line.contains("level=error"), "{line}");
    assert!(
        line.contains("issuer key does not match issuer certificate"),
        "{line}"
    );
    assert_eq!(issuer_of(open.sign(request("appa")).await.unwrap()), new);
    assert!(
        get(sentry.healthz(), "/healthz")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    assert!(metric(&sentry, "dapr_sentry_issuercert_reload_failed_total 1").await);
    assert!(metric(&sentry, "dapr_sentry_issuercert_changed_total 2").await);
}

/// Fact: process-interface 10 row 20, on files that Sentry has made itself.
#[tokio::test]
async fn a_touched_certificate_is_loaded_again() {
    let folder = folder();
    let sentry = Sentry::start(folder.path(), &[]);
    let before = contents(folder.path());
    fs::write(folder.path().join("issuer.crt"), &before[1]).unwrap();
    sentry.line("Issuer credentials changed; reloading");
    sentry.lines("CA certificate key pair ready", 2);
    assert_eq!(contents(folder.path()), before);
    sentry.identity("appa").await;
    assert!(metric(&sentry, "dapr_sentry_issuercert_changed_total 2").await);
}

/// Fact: security.md K060, with the sources of one machine.
#[tokio::test]
async fn a_flood_does_not_shut_out_others() {
    let folder = folder();
    let sentry = Sentry::start(folder.path(), &[]);
    let flood = async {
        let mut client = sentry.connect().await;
        let mut exhausted = 0;
        for _ in 0..600 {
            let status = client.sign(request("a.b")).await.unwrap_err();
            exhausted += usize::from(status.code() == Code::ResourceExhausted);
        }
        exhausted
    };
    let good = async {
        let mut client = sentry.connect_from("127.0.0.2").await;
        let mut served = 0;
        for _ in 0..20 {
            served += usize::from(client.sign(request("appa")).await.is_ok());
        }
        served
    };
    let (exhausted, served) = tokio::join!(flood, good);
    assert!(exhausted > 0, "the flood is cut off");
    assert_eq!(served, 20);
}

/// An open connection that does nothing, and one that never speaks, don't hold up the end.
#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let folder = folder();
    let mut sentry = Sentry::start(folder.path(), &[]);
    let mut open = sentry.connect().await;
    open.sign(request("appa")).await.unwrap();
    let _silent = TcpStream::connect(sentry.address()).await.unwrap();
    let stopped = tokio::task::spawn_blocking(move || sentry.stop());
    assert_eq!(stopped.await.unwrap(), Some(0));
}

/// Fact: security.md K005, K051, K055, O-S9, O-S14; process-interface 1, 3.
#[test]
fn bad_starts_end_with_the_reason() {
    let check = |folder: &Path, more: &[&str], code: i32, text: &str| {
        let output = command(folder, more).output().unwrap();
        let log = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{log}");
        let said = log + &String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(text), "{text} in\n{said}");
    };
    let empty = folder();
    check(
        empty.path(),
        &["--no-such-flag"],
        2,
        "unknown flag: --no-such-flag",
    );
    check(
        empty.path(),
        &["--port", "x"],
        2,
        "invalid argument \"x\" for \"--port\" flag",
    );
    check(
        empty.path(),
        &["-mode", "other"],
        1,
        "Invalid options: invalid mode: other",
    );
    check(
        empty.path(),
        &["--mode=kubernetes"],
        1,
        "Invalid options: mode kubernetes ",
    );
    check(
        empty.path(),
        &["--log-level=loud"],
        1,
        "invalid value for --log-level: loud",
    );
    check(
        empty.path(),
        &["--config=none.yaml"],
        1,
        "loading default config. couldn't find config name",
    );
    assert_eq!(
        fs::read_dir(empty.path()).unwrap().count(),
        0,
        "nothing is made by a bad start"
    );
    check(
        &empty.path().join("."),
        &["--issuer-credentials=/none"],
        1,
        "issuer credentials folder /none",
    );

    let partial = folder();
    fill(partial.path(), &Ca::new());
    let before = contents(partial.path());
    fs::remove_file(partial.path().join("issuer.key")).unwrap();
    check(
        partial.path(),
        &[],
        1,
        "issuer credentials are incomplete: missing: ",
    );
    assert_eq!(
        fs::read_to_string(partial.path().join("ca.crt")).unwrap(),
        before[0]
    );
    assert!(!partial.path().join("issuer.key").exists());
    fs::write(
        partial.path().join("issuer.key"),
        Ca::new().issuer_key_pem(),
    )
    .unwrap();
    check(
        partial.path(),
        &[],
        1,
        "issuer key does not match issuer certificate",
    );
}

/// Fact: security.md 1.13, O-S15, K023.
#[tokio::test]
async fn settings_come_from_the_file() {
    let folder = folder();
    let config = folder.path().join("config.yaml");
    let mtls = "spec:\n  mtls:\n    workloadCertTTL: 2m\n    allowedClockSkew: 10m\n";
    fs::write(&config, mtls).unwrap();
    let more = ["--config", config.to_str().unwrap(), "--log-as-json"];
    let sentry = Sentry::start(folder.path(), &more);
    let line = sentry.line("not longer than allowedClockSkew");
    assert!(
        line.starts_with('{') && line.contains("\"level\":\"error\""),
        "{line}"
    );
    let identity = sentry.identity("appa").await;
    let left = identity.svid.not_after().duration_since(now()).unwrap();
    assert!(left.as_secs() <= 120, "{left:?}");
    let age = now().duration_since(identity.svid.not_before()).unwrap();
    assert!(age.as_secs() >= 599, "{age:?}");
}

/// Fact: security.md K003, K004, K043, K046; process-interface 3.
#[tokio::test]
async fn tokens_are_asked_for_where_a_key_set_is_configured() {
    let folder = folder();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let keys = folder.path().join("keys.json");
    fs::write(&keys, key_set(&key)).unwrap();
    let config = folder.path().join("config.yaml");
    let options = format!("options:\n        source: {}\n", keys.display());
    let text = format!("spec:\n  mtls:\n    tokenValidators:\n    - name: jwks\n      {options}");
    fs::write(&config, text).unwrap();
    let credentials = folder.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let flags = ["--log-level=debug", "--config", config.to_str().unwrap()];
    let sentry = Sentry::start(&credentials, &flags);
    sentry.line("Using validator 'jwks'");
    let health = get(sentry.healthz(), "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
    let mut client = sentry.connect().await;
    let mut ask = async |validator, token: &str| {
        let mut asked = request("appa");
        asked.token_validator = validator;
        asked.token = token.into();
        let answer = client.sign(asked).await;
        answer.map_err(|status| (status.code(), status.message().to_owned()))
    };
    let (unnamed, insecure, jwks) = (0, 1, 3);
    let good = token(&key, "spiffe://public/ns/default/appa");
    let denied = |text: &str| (Code::PermissionDenied, text.to_owned());
    let invalid = |text: &str| (Code::InvalidArgument, text.to_owned());
    assert!(ask(jwks, &good).await.is_ok());
    assert_eq!(
        ask(unnamed, &good).await.unwrap_err(),
        invalid("a validator name must be specified in this environment")
    );
    assert_eq!(
        ask(insecure, &good).await.unwrap_err(),
        invalid("the requested validator is not enabled")
    );
    assert_eq!(
        ask(jwks, "").await.unwrap_err(),
        denied("the request does not contain a token")
    );
    let other = token(&key, "spiffe://public/ns/default/appb");
    assert_eq!(
        ask(jwks, &other).await.unwrap_err(),
        denied("token validation failed: \"sub\" not satisfied")
    );
    // K224: each decision has been written down, and no token, key or request with it.
    sentry.lines("decision=", 5);
    sentry.line("validator=jwks");
    let all = sentry.lines("", 1).join("\n");
    for secret in [good.as_str(), &other, "CERTIFICATE REQUEST", "PRIVATE KEY"] {
        assert!(!all.contains(secret), "{all}");
    }
}

/// A set with one key, called `k`.
fn key_set(key: &KeyPair) -> String {
    let raw = key.der_bytes();
    let (x, y) = (
        URL_SAFE_NO_PAD.encode(raw.get(1..33).unwrap()),
        URL_SAFE_NO_PAD.encode(raw.get(33..).unwrap()),
    );
    format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}]}}"#)
}

/// A token about a workload, for the Sentry of these tests, without an end.
fn token(key: &KeyPair, subject: &str) -> String {
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.kid = Some("k".into());
    let claims = serde_json::json!({"sub": subject, "aud": support::sentry_id().to_string()});
    let key = jsonwebtoken::EncodingKey::from_ec_der(&key.serialize_der());
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}
