//! Tokens made on the spot, good and bad, against a key set on loopback.

use ironside_chassis::{Clock, Tasks};
use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

struct Issuer {
    key: KeyPair,
    url: String,
}

impl Issuer {
    /// Serves an OpenID configuration and a key set with one key named `k1`.
    async fn start() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (keys, discovery) = (jwks(&key), format!(r#"{{"jwks_uri":"{url}/keys"}}"#));
        Tasks::new().spawn("issuer", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 2048];
                let read = stream.read(&mut buffer).await.unwrap();
                let asked = String::from_utf8_lossy(&buffer[..read]);
                let text = if asked.starts_with("GET /keys ") {
                    &keys
                } else {
                    &discovery
                };
                let length = text.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { key, url }
    }

    fn token(&self, kid: &str, claims: &serde_json::Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(kid.to_owned());
        encode(
            &header,
            claims,
            &EncodingKey::from_ec_der(&self.key.serialize_der()),
        )
        .unwrap()
    }

    fn bearer(&self, extra: &[(&str, &str)]) -> Bearer {
        let clock = Clock::system();
        let keys = KeySource::new(&Tasks::new(), &clock);
        let own = [("issuer", self.url.as_str()), ("audience", "orders")];
        let settings: Settings = own.iter().chain(extra).copied().collect();
        Bearer::build(
            &settings,
            &Tools {
                clock: &clock,
                keys: &keys,
            },
        )
        .unwrap()
    }
}

fn jwks(key: &KeyPair) -> String {
    use base64::Engine as _;
    let raw = key.der_bytes();
    let part = |range: std::ops::Range<usize>| {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&raw[range])
    };
    let (x, y) = (part(1..33), part(33..65));
    format!(
        r#"{{"keys":[{{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"k1","x":"{x}","y":"{y}"}}]}}"#
    )
}

fn claims(issuer: &str, audience: &str, expires_in: i64) -> serde_json::Value {
    let now = Clock::system()
        .now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    serde_json::json!({ "iss": issuer, "aud": audience, "exp": i64::try_from(now).unwrap() + expires_in })
}

async fn judged(bearer: &Bearer, authorization: &str) -> bool {
    let mut headers = HeaderMap::new();
    if !authorization.is_empty() {
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
    }
    bearer.judge(&headers).await.is_ok()
}

#[tokio::test]
async fn only_a_good_token_passes() {
    let issuer = Issuer::start().await;
    let bearer = issuer.bearer(&[]);
    let good = issuer.token("k1", &claims(&issuer.url, "orders", 60));
    assert!(judged(&bearer, &format!("Bearer {good}")).await);
    assert!(judged(&bearer, &format!("bEARER {good}")).await);
    let at = good.len() - 9;
    let (before, after) = (&good[..at], &good[at + 1..]);
    let other = if good[at..].starts_with('A') {
        'B'
    } else {
        'A'
    };
    for (why, authorization) in [
        ("no header", String::new()),
        ("another scheme", format!("Basic {good}")),
        ("no token", "Bearer".to_owned()),
        ("nonsense", "Bearer x.y.z".to_owned()),
        ("tampered", format!("Bearer {before}{other}{after}")),
        (
            "another audience",
            format!(
                "Bearer {}",
                issuer.token("k1", &claims(&issuer.url, "other", 60))
            ),
        ),
        (
            "another issuer",
            format!(
                "Bearer {}",
                issuer.token("k1", &claims("https://evil", "orders", 60))
            ),
        ),
        (
            "expired",
            format!(
                "Bearer {}",
                issuer.token("k1", &claims(&issuer.url, "orders", -600))
            ),
        ),
        (
            "unknown key",
            format!(
                "Bearer {}",
                issuer.token("k2", &claims(&issuer.url, "orders", 60))
            ),
        ),
    ] {
        assert!(!judged(&bearer, &authorization).await, "{why}");
    }
    let leeway = issuer.token("k1", &claims(&issuer.url, "orders", -60));
    assert!(
        judged(&bearer, &format!("Bearer {leeway}")).await,
        "clocks may be five minutes apart"
    );
}

#[tokio::test]
async fn another_key_under_the_same_name_is_refused() {
    let (issuer, thief) = (Issuer::start().await, Issuer::start().await);
    let forged = thief.token("k1", &claims(&issuer.url, "orders", 60));
    assert!(!judged(&issuer.bearer(&[]), &format!("Bearer {forged}")).await);
}

#[tokio::test]
async fn a_shared_secret_is_no_signature() {
    let issuer = Issuer::start().await;
    let secret = EncodingKey::from_secret(jwks(&issuer.key).as_bytes());
    let forged = encode(
        &Header::new(Algorithm::HS256),
        &claims(&issuer.url, "orders", 60),
        &secret,
    )
    .unwrap();
    assert!(!judged(&issuer.bearer(&[]), &format!("Bearer {forged}")).await);
}

#[tokio::test]
async fn an_explicit_key_set_needs_no_discovery() {
    let issuer = Issuer::start().await;
    let bearer = issuer.bearer(&[("jwksURL", &format!("{}/keys", issuer.url))]);
    let good = issuer.token("k1", &claims(&issuer.url, "orders", 60));
    assert!(judged(&bearer, &format!("Bearer {good}")).await);
}

#[tokio::test]
async fn an_issuer_that_is_away_means_no() {
    let mut issuer = Issuer::start().await;
    let good = issuer.token("k1", &claims(&issuer.url, "orders", 60));
    issuer.url = "http://127.0.0.1:1".to_owned();
    assert!(!judged(&issuer.bearer(&[]), &format!("Bearer {good}")).await);
}
