//! Tokens made on the spot, good and bad, and key sets from every kind of source.

use super::options::Source;
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ironside_chassis::Tasks;
use ironside_chassis::clock::ManualClock;
use ironside_chassis::health::Health;
use ironside_testkit::certs::now;
use ironside_testkit::http::{Answer, HttpApp, Setup};
use ironside_testkit::tls::SelfSigned;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData as _};
use serde_json::{Value, json};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

const SENTRY: &str = "spiffe://localhost/ns/default/dapr-sentry";
const APP: &str = "spiffe://public/ns/default/appa";
const MINUTE: Duration = Duration::from_secs(60);

/// A key that signs tokens.
struct Signer {
    pair: KeyPair,
    kid: &'static str,
}

impl Signer {
    fn p256(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { pair, kid }
    }

    /// The public key, as it stands in a set.
    fn public(&self) -> Value {
        let raw = self.pair.der_bytes();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = match self.pair.algorithm() {
            ec if *ec == PKCS_ECDSA_P256_SHA256 => {
                json!({"kty": "EC", "crv": "P-256", "x": part(&raw[1..33]), "y": part(&raw[33..])})
            }
            ed if *ed == PKCS_ED25519 => json!({"kty": "OKP", "crv": "Ed25519", "x": part(raw)}),
            _ => {
                let (modulus, exponent) = rsa_parts(raw);
                json!({"kty": "RSA", "n": part(&modulus), "e": part(&exponent)})
            }
        };
        key["kid"] = self.kid.into();
        key
    }

    fn token(&self, algorithm: Algorithm, claims: &Value) -> String {
        let der = self.pair.serialize_der();
        let key = match self.pair.algorithm() {
            ec if *ec == PKCS_ECDSA_P256_SHA256 => EncodingKey::from_ec_der(&der),
            ed if *ed == PKCS_ED25519 => EncodingKey::from_ed_der(&der),
            _ => EncodingKey::from_rsa_der(&pkcs1(&der)),
        };
        encode(&header(algorithm, self.kid), claims, &key).unwrap()
    }

    fn good(&self) -> String {
        self.token(Algorithm::ES256, &claims())
    }
}

/// The PKCS#1 key inside of a PKCS#8 one.
fn pkcs1(der: &[u8]) -> Vec<u8> {
    yasna::parse_der(der, |reader| {
        reader.read_sequence(|parts| {
            parts.next().read_u8()?;
            parts.next().read_der()?;
            parts.next().read_bytes()
        })
    })
    .unwrap()
}

/// Modulus and exponent of a PKCS#1 public key.
fn rsa_parts(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    yasna::parse_der(der, |reader| {
        reader.read_sequence(|parts| {
            let modulus = parts.next().read_bigint_bytes()?.0;
            let exponent = parts.next().read_bigint_bytes()?.0;
            let trimmed = modulus.iter().skip_while(|byte| **byte == 0);
            Ok((trimmed.copied().collect(), exponent))
        })
    })
    .unwrap()
}

fn header(algorithm: Algorithm, kid: &str) -> Header {
    let mut header = Header::new(algorithm);
    header.kid = Some(kid.to_owned());
    header
}

fn seconds(from_now: i64) -> i64 {
    let now = now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + from_now
}

fn claims() -> Value {
    json!({"sub": APP, "aud": ["other", SENTRY], "exp": seconds(60), "nbf": seconds(-60), "iat": seconds(-60)})
}

fn but(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn without(key: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(key);
    claims
}

fn set(signers: &[&Signer]) -> String {
    let keys: Vec<_> = signers.iter().map(|signer| signer.public()).collect();
    json!({ "keys": keys }).to_string()
}

fn options(source: &str) -> JwksOptions {
    JwksOptions::read(&json!({"source": source, "minRefreshInterval": "2m"})).unwrap()
}

fn validator(options: JwksOptions) -> (Jwks, ManualClock) {
    let (clock, hand) = Clock::manual(now());
    let tasks = Tasks::new().group("key-fetch");
    let jwks = Jwks {
        keys: KeySet::open(options, clock.clone(), tasks).unwrap(),
        audience: SpiffeId::parse(SENTRY).unwrap(),
        clock,
    };
    (jwks, hand)
}

fn inline(signers: &[&Signer]) -> Jwks {
    validator(options(&set(signers))).0
}

fn claim<'a>(id: &'a str, token: &'a str) -> Claim<'a> {
    Claim {
        id,
        namespace: "default",
        trust_domain: "",
        token,
        has_csr: true,
        source: None,
    }
}

async fn validate(jwks: &Jwks, token: &str) -> Result<String, String> {
    let validated = jwks.validate(&claim("appa", token)).await;
    validated
        .map(|id| id.to_string())
        .map_err(|why| why.to_string())
}

async fn refused(jwks: &Jwks, token: &str, why: &str) {
    let error = validate(jwks, token).await.unwrap_err();
    let expected = format!("token validation failed: {why}");
    assert!(error.starts_with(&expected), "{error:?}, not {expected:?}");
}

/// Fact: security.md K043.
#[tokio::test]
async fn tokens_of_every_kind_of_key_are_believed() {
    let (ec, ed) = (
        Signer::p256("ec"),
        KeyPair::generate_for(&PKCS_ED25519).unwrap(),
    );
    let ed = Signer {
        pair: ed,
        kid: "ed",
    };
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let rsa = Signer {
        pair: rsa,
        kid: "rsa",
    };
    let jwks = inline(&[&ec, &ed, &rsa]);
    for (signer, algorithm) in [
        (&ec, Algorithm::ES256),
        (&ed, Algorithm::EdDSA),
        (&rsa, Algorithm::RS256),
        (&rsa, Algorithm::PS512),
    ] {
        for claims in [
            claims(),
            but("aud", SENTRY.into()),
            without("exp"),
            without("nbf"),
            but("exp", seconds(-290).into()),
            but("nbf", seconds(290).into()),
            but("iat", json!(1.5)),
        ] {
            let token = signer.token(algorithm, &claims);
            assert_eq!(
                validate(&jwks, &token).await.as_deref(),
                Ok(APP),
                "{claims}"
            );
        }
    }
}

/// Fact: security.md 1.7, K044.
#[tokio::test]
async fn tokens_about_others_for_others_or_of_other_times_are_refused() {
    let signer = Signer::p256("k");
    let jwks = inline(&[&signer]);
    for (claims, why) in [
        (but("aud", "other".into()), "\"aud\" not satisfied"),
        (but("aud", json!([])), "\"aud\" not satisfied"),
        (without("aud"), "\"aud\" not satisfied"),
        (
            but("sub", format!("{APP}b").into()),
            "\"sub\" not satisfied",
        ),
        (but("sub", SENTRY.into()), "\"sub\" not satisfied"),
        (without("sub"), "\"sub\" not satisfied"),
        (but("exp", seconds(-301).into()), "\"exp\" not satisfied"),
        (but("exp", json!(-1)), "\"exp\" not satisfied"),
        (but("nbf", seconds(310).into()), "\"nbf\" not satisfied"),
        (but("iat", seconds(310).into()), "\"iat\" not satisfied"),
        (but("exp", json!(1e300)), "an instant in the token"),
        (but("exp", "soon".into()), "could not verify the token"),
    ] {
        refused(&jwks, &signer.token(Algorithm::ES256, &claims), why).await;
    }
}

/// Fact: security.md K044, K045.
#[tokio::test]
async fn signatures_of_others_or_of_nobody_are_refused() {
    let (signer, other) = (Signer::p256("k"), Signer::p256("k"));
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let rsa = Signer {
        pair: rsa,
        kid: "rsa",
    };
    let jwks = inline(&[&signer, &rsa]);
    refused(&jwks, &other.good(), "could not verify the token").await;
    let unknown = Signer::p256("unknown").good();
    refused(&jwks, &unknown, "no key of the set fits").await;
    // A secret made of what everybody knows.
    for secret in [rsa.pair.der_bytes(), set(&[&rsa]).as_bytes()] {
        let key = EncodingKey::from_secret(secret);
        let token = encode(&header(Algorithm::HS256, "rsa"), &claims(), &key).unwrap();
        refused(&jwks, &token, "a key of this kind does not sign with HS256").await;
    }
    let body = signer.good().split('.').nth(1).unwrap().to_owned();
    for head in [
        r#"{"alg":"none","kid":"k"}"#,
        r#"{"alg":"NONE","kid":"k"}"#,
        "{}",
        "",
    ] {
        let head = URL_SAFE_NO_PAD.encode(head);
        for token in [format!("{head}.{body}."), format!("{head}.{body}")] {
            refused(&jwks, &token, "failed to parse token").await;
        }
    }
    for token in ["x", "..", "a.b.c", "ä"] {
        refused(&jwks, token, "failed to parse token").await;
    }
    let key = EncodingKey::from_ec_der(&signer.pair.serialize_der());
    let without_kid = encode(&Header::new(Algorithm::ES256), &claims(), &key).unwrap();
    refused(&jwks, &without_kid, "the token names no key").await;
    let mut critical = header(Algorithm::ES256, "k");
    critical.crit = Some(vec!["b64".into()]);
    let critical = encode(&critical, &claims(), &key).unwrap();
    refused(&jwks, &critical, "the token demands what is not understood").await;
    // A key in the token is nobody's key.
    let mut own_key = header(Algorithm::ES256, "unknown");
    own_key.jwk = Some(serde_json::from_value(signer.public()).unwrap());
    let own_key = encode(&own_key, &claims(), &key).unwrap();
    refused(&jwks, &own_key, "no key of the set fits").await;
}

#[tokio::test]
async fn a_key_that_names_its_algorithm_signs_with_no_other() {
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let rsa = Signer {
        pair: rsa,
        kid: "rsa",
    };
    let mut key = rsa.public();
    key["alg"] = "RS256".into();
    let (jwks, _hand) = validator(options(&json!({ "keys": [key] }).to_string()));
    let good = rsa.token(Algorithm::RS256, &claims());
    assert!(validate(&jwks, &good).await.is_ok());
    let other = rsa.token(Algorithm::RS384, &claims());
    refused(&jwks, &other, "a key of this kind does not sign with RS384").await;
}

/// Fact: security.md 1.7, O-S5.
#[tokio::test]
async fn the_order_of_the_checks() {
    let signer = Signer::p256("k");
    let jwks = inline(&[&signer]);
    let text = |id: &'static str, token: String| {
        let jwks = &jwks;
        async move {
            let validated = jwks.validate(&claim(id, &token)).await;
            validated.unwrap_err().to_string()
        }
    };
    assert_eq!(text("", String::new()).await, NO_TOKEN);
    assert_eq!(
        text("a.b", signer.good()).await,
        "invalid request: parameter app-id cannot contain dots"
    );
    let reserved = but("sub", "spiffe://public/ns/default/dapr-operator".into());
    let reserved = signer.token(Algorithm::ES256, &reserved);
    assert_eq!(
        text("dapr-operator", reserved).await,
        "invalid request: app ID \"dapr-operator\" is reserved for the control plane"
    );
    let url = options("http://127.0.0.1:1/keys");
    let (unready, _hand) = validator(url);
    assert_eq!(
        validate(&unready, &signer.good()).await,
        Err(NOT_READY.to_owned())
    );
}

#[test]
fn the_options_are_the_references() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    fs::write(&file, "{}").unwrap();
    let text = r#" {"keys": []}"#;
    let base64 = STANDARD.encode(text);
    let read = |options: Value| JwksOptions::read(&options);
    let source = |source: &str| read(json!({ "source": source })).unwrap().source;
    assert_eq!(source(text), Source::Inline(text.into()));
    assert_eq!(source(&base64), Source::Inline(text.into()));
    assert_eq!(source(file.to_str().unwrap()), Source::File(file));
    assert!(matches!(
        source("https://a/b"),
        Source::Url { roots: None, .. }
    ));
    let times = |min: Value, limit: Value| {
        let options = json!({"source": text, "minRefreshInterval": min, "requestTimeout": limit});
        read(options).map(|options| (options.min_refresh, options.timeout))
    };
    let defaults = (10 * MINUTE, MINUTE / 2);
    assert_eq!(times(Value::Null, Value::Null).unwrap(), defaults);
    assert_eq!(times("1s".into(), "1ms".into()).unwrap(), defaults);
    assert_eq!(times("-5m".into(), (-1).into()).unwrap(), defaults);
    assert_eq!(
        times("2m".into(), 5.into()).unwrap(),
        (2 * MINUTE, MINUTE / 12)
    );
    assert_eq!(times("60".into(), "1m".into()).unwrap(), (MINUTE, MINUTE));
    for (options, why) in [
        (json!({}), "source is missing"),
        (json!({"source": ""}), "source is missing"),
        (json!({"source": 5}), "source and caCertificate are texts"),
        (json!({"source": "/no/such/file"}), "source is neither"),
        (json!({"source": "https://a b"}), "is no URL"),
        (
            json!({"source": text, "requestTimeout": "soon"}),
            "requestTimeout: \"soon\"",
        ),
        (
            json!({"source": text, "caCertificate": "/none"}),
            "cannot read caCertificate /none",
        ),
        (
            json!({"source": text, "caCertificate": "-----BEGIN X-----"}),
            "caCertificate: ",
        ),
    ] {
        let error = read(options).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let refused = |text: &str| {
        let (clock, _hand) = Clock::manual(now());
        let tasks = Tasks::new().group("key-fetch");
        KeySet::open(options(text), clock, tasks)
            .map(drop)
            .unwrap_err()
    };
    assert!(matches!(refused("{"), KeyError::Json(_)));
    assert!(matches!(
        refused(r#"{"keys":[{"kty":"x"}]}"#),
        KeyError::Empty
    ));
}

/// Follows a set in the background until the value is dropped.
fn follow(tasks: &Tasks, jwks: &Jwks) -> Health {
    let health = Health::new();
    let ready = health.register("sentry-jwks-validator");
    tasks.spawn("jwks", Arc::clone(&jwks.keys).follow(ready));
    health
}

async fn until(condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap();
}

/// Fact: security.md K046.
#[tokio::test]
async fn a_replaced_file_takes_effect_and_a_bad_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    fs::write(&file, set(&[&old])).unwrap();
    let (jwks, _hand) = validator(options(file.to_str().unwrap()));
    let tasks = Tasks::new();
    let health = follow(&tasks, &jwks);
    until(async || health.is_ready()).await;
    assert!(validate(&jwks, &old.good()).await.is_ok());
    fs::write(&file, set(&[&new])).unwrap();
    until(async || validate(&jwks, &new.good()).await.is_ok()).await;
    refused(&jwks, &old.good(), "no key of the set fits").await;
    fs::write(&file, "{").unwrap();
    assert!(validate(&jwks, &new.good()).await.is_ok());
    fs::write(&file, set(&[&old])).unwrap();
    until(async || validate(&jwks, &old.good()).await.is_ok()).await;
}

/// Serves the key set in the slot; counts how often.
async fn server(
    text: Arc<std::sync::Mutex<String>>,
    tls: Option<&SelfSigned>,
) -> (HttpApp, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let mut app = Setup::new(move |_seen| {
        counted.fetch_add(1, Ordering::SeqCst);
        match text.lock().unwrap().as_str() {
            "" => Answer::status(503),
            text => Answer::text(text),
        }
    });
    if let Some(tls) = tls {
        app = app.wrap(tls.wrap(&["http/1.1"], None));
    }
    (app.start().await.unwrap(), count)
}

#[tokio::test]
async fn a_url_is_asked_again_for_a_missing_key_but_not_often() {
    ironside_transport::install_provider();
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let text = Arc::new(std::sync::Mutex::new(set(&[&old])));
    let (app, count) = server(Arc::clone(&text), None).await;
    let url = format!("http://127.0.0.1:{}/keys", app.port());
    let (jwks, hand) = validator(options(&url));
    let tasks = Tasks::new();
    let health = follow(&tasks, &jwks);
    until(async || health.is_ready()).await;
    assert!(validate(&jwks, &old.good()).await.is_ok());
    // Invented keys cost nothing.
    for _ in 0..20 {
        refused(&jwks, &new.good(), "no key of the set fits").await;
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    *text.lock().unwrap() = set(&[&new]);
    hand.advance(2 * MINUTE + MINUTE / 60);
    let token = new.good();
    let both = tokio::join!(validate(&jwks, &token), validate(&jwks, &token));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    assert_eq!(count.load(Ordering::SeqCst), 2);
    // A server that fails keeps the keys that there are.
    text.lock().unwrap().clear();
    hand.advance(2 * MINUTE + MINUTE / 60);
    refused(&jwks, &old.good(), "no key of the set fits").await;
    assert!(validate(&jwks, &token).await.is_ok());
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_url_with_tls_is_believed_by_its_root_only() {
    ironside_transport::install_provider();
    let (tls, signer) = (SelfSigned::new(), Signer::p256("k"));
    let text = Arc::new(std::sync::Mutex::new(set(&[&signer])));
    let (app, count) = server(text, Some(&tls)).await;
    let url = format!("https://localhost:{}/keys", app.port());
    for (root, believed) in [
        (tls.certificate_pem(), true),
        (SelfSigned::new().certificate_pem(), false),
    ] {
        let options = json!({"source": url, "caCertificate": root});
        let (jwks, _hand) = validator(JwksOptions::read(&options).unwrap());
        let before = count.load(Ordering::SeqCst);
        assert_eq!(jwks.keys.find("k").await.is_some(), believed);
        assert_eq!(count.load(Ordering::SeqCst) > before, believed);
        assert_eq!(validate(&jwks, &signer.good()).await.is_ok(), believed);
    }
}
