//! The real program: tokens beside certificates, and their discovery.

use crate::support::{self, SOON, Sentry, command, request};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const ALGORITHM: &str = "--jwt-signing-algorithm=ES256";
const DISCOVERY: &str = "/.well-known/openid-configuration";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The address that the log names for discovery.
fn oidc(sentry: &Sentry) -> SocketAddr {
    let line = sentry.line("OIDC HTTP server is listening on ");
    let (_, rest) = line.split_once("listening on ").unwrap();
    let end = rest.find(['"', ' ']).unwrap_or(rest.len());
    rest.split_at(end).0.parse().unwrap()
}

async fn exchange(mut io: impl AsyncRead + AsyncWrite + Unpin, head: &str) -> String {
    let exchange = async {
        io.write_all(head.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        // A server that closes without a word of TLS has said all that it had to say.
        drop(io.read_to_end(&mut text).await);
        String::from_utf8(text).unwrap()
    };
    tokio::time::timeout(SOON, exchange).await.unwrap()
}

fn head(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n")
}

async fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let tcp = TcpStream::connect(address).await.unwrap();
    exchange(tcp, &head(path, headers)).await
}

/// Asks over TLS, believing one certificate.
async fn get_tls(
    address: SocketAddr,
    believed: &CertificateDer<'static>,
    path: &str,
) -> std::io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(believed.clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(ironside_transport::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await?;
    Ok(exchange(tls, &head(path, "host: localhost\r\n")).await)
}

fn body(response: &str) -> Value {
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

fn subject(token: &str, set: &Value, audience: &str) -> String {
    let set: JwkSet = serde_json::from_value(set.clone()).unwrap();
    let header = decode_header(token).unwrap();
    let key = set.find(&header.kid.unwrap()).unwrap();
    let mut rules = Validation::new(header.alg);
    rules.set_audience(&[audience]);
    rules.set_issuer(&["https://issuer"]);
    let key = DecodingKey::from_jwk(key).unwrap();
    let claims = decode::<Value>(token, &key, &rules).unwrap().claims;
    claims.get("sub").unwrap().as_str().unwrap().to_owned()
}

fn read(folder: &Path, file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join(file)).unwrap()).unwrap()
}

/// Fact: security.md 1.1 fields 4 and 5, 1.8, 1.10.
#[tokio::test]
async fn tokens_come_with_certificates_and_are_believed_by_the_published_set() {
    let folder = folder();
    let flags = [
        "--jwt-enabled",
        ALGORITHM,
        "--jwt-issuer=https://issuer",
        "--oidc-enabled",
        "--oidc-server-tls-enabled=false",
        "--oidc-server-listen-address=127.0.0.1",
        "--oidc-server-listen-port=0",
    ];
    let sentry = Sentry::start(folder.path(), &flags);
    for file in ["jwt.key", "jwks.json"] {
        let mode = fs::metadata(folder.path().join(file)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let mut asked = request("appa");
    asked.jwt_audiences = vec!["one".into(), "two".into()];
    let answer = sentry.connect().await.sign(asked).await.unwrap();
    let set = body(&get(oidc(&sentry), "/jwks.json", "host: x\r\n").await);
    assert_eq!(set, read(folder.path(), "jwks.json"));
    let token = answer.jwt.unwrap().value;
    let named = "spiffe://public/ns/default/appa";
    for audience in ["public", "one", "two"] {
        assert_eq!(subject(&token, &set, audience), named);
    }
    let by_audience = answer.per_audience_jwts;
    assert_eq!(by_audience.len(), 2);
    for (audience, token) in &by_audience {
        assert_eq!(subject(&token.value, &set, audience), named);
    }
    let document = body(&get(oidc(&sentry), DISCOVERY, "host: sentry:1\r\n").await);
    assert_eq!(document["issuer"], "https://issuer");
    assert_eq!(document["jwks_uri"], "http://sentry:1/jwks.json");
    let line = sentry.line("msg=\"Certificate issued\"");
    assert!(!line.contains(&token), "a token is never logged");
}

/// Fact: security.md K021: no token where none is wanted; process-interface 3.
#[tokio::test]
async fn without_the_flag_there_are_neither_tokens_nor_discovery() {
    let folder = folder();
    let sentry = Sentry::start(folder.path(), &["--oidc-enabled"]);
    sentry.line("OIDC HTTP server is disabled");
    let mut asked = request("appa");
    asked.jwt_audiences = vec!["one".into()];
    let answer = sentry.connect().await.sign(asked).await.unwrap();
    assert!(answer.jwt.is_none() && answer.per_audience_jwts.is_empty());
    assert!(!folder.path().join("jwt.key").exists());
}

/// Fact: security.md K063, TM32.
#[tokio::test]
async fn a_forged_host_gets_into_no_document() {
    let folder = folder();
    let flags = |hosts: &'static str| {
        [
            "--jwt-enabled",
            ALGORITHM,
            "--oidc-enabled",
            "--oidc-server-tls-enabled=false",
            "--oidc-server-listen-port=0",
            hosts,
        ]
    };
    let forged = "host: localhost\r\nx-forwarded-host: evil\r\n";
    let sentry = Sentry::start(folder.path(), &flags("--oidc-allowed-hosts="));
    let answer = get(oidc(&sentry), DISCOVERY, forged).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && !answer.contains("evil"),
        "{answer}"
    );
    assert_eq!(body(&answer)["issuer"], "http://localhost");
    drop(sentry);
    let sentry = Sentry::start(folder.path(), &flags("--oidc-allowed-hosts=localhost"));
    let answer = get(oidc(&sentry), DISCOVERY, forged).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(
        answer.ends_with("Forbidden: unauthorized domain"),
        "{answer}"
    );
}

/// Fact: security.md 1.10: TLS by default, its files are awaited, and followed.
#[tokio::test]
async fn discovery_waits_for_its_certificate_and_follows_it() {
    let (folder, files) = (folder(), folder());
    let (certificate, key) = (files.path().join("tls.crt"), files.path().join("tls.key"));
    let put = || {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&key, signing_key.serialize_pem()).unwrap();
        fs::write(&certificate, cert.pem()).unwrap();
        cert.der().clone()
    };
    let named =
        |flag: &str, path: &Path| format!("--oidc-server-tls-{flag}-file={}", path.display());
    let (cert_flag, key_flag) = (named("cert", &certificate), named("key", &key));
    let flags = [
        "--jwt-enabled",
        ALGORITHM,
        "--oidc-enabled",
        "--oidc-server-listen-port=0",
        "--oidc-path-prefix=/id/",
        &cert_flag,
        &key_flag,
    ];
    let sentry = Sentry::start(folder.path(), &flags);
    sentry.line("Waiting for the TLS certificate of the OIDC HTTP server");
    let health = async || get(sentry.healthz(), "/healthz", "host: x\r\n").await;
    assert!(health().await.starts_with("HTTP/1.1 503 "));
    assert_eq!(get(oidc(&sentry), "/id/jwks.json", "host: x\r\n").await, "");

    let first = put();
    sentry.line("TLS certificate of the OIDC HTTP server loaded");
    assert!(health().await.starts_with("HTTP/1.1 200 "));
    let path = format!("/id{DISCOVERY}");
    let answer = get_tls(oidc(&sentry), &first, &path).await.unwrap();
    assert_eq!(body(&answer)["jwks_uri"], "https://localhost/id/jwks.json");
    let plain = get(oidc(&sentry), &path, "host: localhost\r\n").await;
    assert!(!plain.contains("jwks_uri"), "{plain}");

    let second = put();
    sentry.line("TLS certificate of the OIDC HTTP server changed; reloading");
    assert!(get_tls(oidc(&sentry), &second, &path).await.is_ok());
    assert!(get_tls(oidc(&sentry), &first, &path).await.is_err());

    fs::write(&key, "garbage").unwrap();
    sentry.line("TLS certificate cannot be used, the old one stays in effect");
    assert!(get_tls(oidc(&sentry), &second, &path).await.is_ok());
    assert!(health().await.starts_with("HTTP/1.1 200 "));
}

/// Fact: security.md 1.9, O-S8: the key changes in place, tokens of the old one are still believed by the new set.
#[tokio::test]
async fn another_key_is_taken_without_a_restart() {
    let (folder, other) = (folder(), folder());
    let flags = ["--jwt-enabled", ALGORITHM];
    drop(Sentry::start(other.path(), &flags));
    let sentry = Sentry::start(folder.path(), &flags);
    let mut open = sentry.connect().await;
    let key_id = async |open: &mut support::Client| {
        let token = open.sign(request("appa")).await.unwrap().jwt.unwrap().value;
        decode_header(&token).unwrap().kid.unwrap()
    };
    let first = key_id(&mut open).await;
    let mut set = read(other.path(), "jwks.json");
    let old = read(folder.path(), "jwks.json")["keys"][0].clone();
    set["keys"].as_array_mut().unwrap().push(old);
    fs::write(folder.path().join("jwks.json"), set.to_string()).unwrap();
    fs::copy(other.path().join("jwt.key"), folder.path().join("jwt.key")).unwrap();
    sentry.line("JWT credentials changed; reloading");
    sentry.line("JWT key in use: ");
    let second = key_id(&mut open).await;
    assert_ne!(first, second);
    assert_eq!(set["keys"][0]["kid"], second);
    fs::write(folder.path().join("jwt.key"), "garbage").unwrap();
    let line = sentry.line("JWT credentials cannot be used, the old ones stay in effect");
    assert!(line.contains("level=error"), "{line}");
    assert_eq!(key_id(&mut open).await, second);
}

/// Fact: security.md O-S9: a start that cannot read its key ends, and overwrites nothing.
#[test]
fn bad_starts_end_with_the_reason() {
    let check = |folder: &Path, more: &[&str], text: &str| {
        let flags = [&["--jwt-enabled"], more].concat();
        let output = command(folder, &flags).output().unwrap();
        let log = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains(text), "{text} in\n{log}");
    };
    let folder = folder();
    fs::write(folder.path().join("jwt.key"), "garbage").unwrap();
    check(folder.path(), &[], "JWT signing key: no PEM block of type");
    fs::rename(
        folder.path().join("jwt.key"),
        folder.path().join("jwks.json"),
    )
    .unwrap();
    check(folder.path(), &[], "restore the key, or move the set away");
    let kept = fs::read_to_string(folder.path().join("jwks.json")).unwrap();
    assert_eq!(kept, "garbage");
    check(
        folder.path(),
        &["--jwt-ttl=1s"],
        "invalid value for --jwt-ttl",
    );
    check(
        folder.path(),
        &["--oidc-enabled"],
        "are needed when oidc-server-tls-enabled is true",
    );
}
