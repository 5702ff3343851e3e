//! Tokens as their readers see them: claims, signatures, IDs.

use super::*;
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(86_400);

fn terms(algorithm: &str) -> Terms {
    Terms {
        algorithm: algorithm.parse().unwrap(),
        key_id: None,
        issuer: None,
        ttl: DAY,
        skew: DAY / 96,
    }
}

fn issuer(terms: Terms) -> JwtIssuer {
    let key = JwtIssuer::generate(&terms).unwrap();
    let set = JwtIssuer::set_of(&terms, key.as_bytes()).unwrap();
    JwtIssuer::new(terms, key.as_bytes(), set.as_bytes()).unwrap()
}

fn app() -> SpiffeId {
    SpiffeId::parse("spiffe://public/ns/default/appa").unwrap()
}

fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_800_000_000_500)
}

/// The parts of a token that are JSON.
fn open(token: &str) -> (Value, Value) {
    let mut parts = token
        .split('.')
        .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let (header, claims) = (parts.next().unwrap(), parts.next().unwrap());
    assert_eq!(parts.count(), 1);
    let json = |bytes: Vec<u8>| serde_json::from_slice(&bytes).unwrap();
    (json(header), json(claims))
}

async fn issue(issuer: &JwtIssuer, audiences: &[&str]) -> Issued {
    let audiences: Vec<String> = audiences.iter().map(ToString::to_string).collect();
    issuer.issue(&app(), &audiences, at()).await.unwrap()
}

/// Fact: security.md 1.10.
#[tokio::test]
async fn the_claims_are_the_references() {
    let named = Terms {
        issuer: Some("https://issuer".into()),
        key_id: Some("k".into()),
        ..terms("EdDSA")
    };
    let issued = issue(&issuer(named), &["a", "b", "a"]).await;
    let (header, mut claims) = open(&issued.token);
    assert_eq!(header, json!({"alg": "EdDSA", "kid": "k", "typ": "JWT"}));
    let jti = claims.as_object_mut().unwrap().remove("jti").unwrap();
    let jti = jti.as_str().unwrap();
    assert!(
        jti.len() == 32 && jti.bytes().all(|b| b.is_ascii_hexdigit()),
        "{jti}"
    );
    let expected = |aud: Value| {
        json!({
            "aud": aud,
            "exp": 1_800_086_400, "iat": 1_800_000_000, "nbf": 1_799_999_100,
            "iss": "https://issuer",
            "sub": "spiffe://public/ns/default/appa",
            "use": "sig",
        })
    };
    assert_eq!(claims, expected(json!(["public", "a", "b", "a"])));
    assert_eq!(issued.by_audience.keys().collect::<Vec<_>>(), ["a", "b"]);
    for (audience, token) in &issued.by_audience {
        let (_, mut claims) = open(token);
        let own = claims.as_object_mut().unwrap().remove("jti").unwrap();
        assert_ne!(own, jti, "each token has its own");
        assert_eq!(claims, expected(json!([audience])));
    }
    let (_, claims) = open(&issue(&issuer(terms("EdDSA")), &[]).await.token);
    assert_eq!(claims["aud"], json!(["public"]));
    assert!(claims.get("iss").is_none());
}

/// Fact: security.md 1.10: the pairs of algorithms and keys, each believed by an independent reader of the set.
#[tokio::test]
async fn every_pair_is_believed_by_whoever_has_the_set() {
    for name in [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
    ] {
        let issuer = issuer(terms(name));
        let token = issue(&issuer, &["aud"]).await.token;
        let set: Value = serde_json::from_str(&issuer.set().to_json()).unwrap();
        let key: Jwk = serde_json::from_value(set["keys"][0].clone()).unwrap();
        let header = decode_header(&token).unwrap();
        assert_eq!(header.kid, key.common.key_id);
        assert_eq!(header.kid.as_deref(), Some(issuer.key_id()));
        let mut rules = Validation::new(header.alg);
        (rules.validate_exp, rules.validate_nbf) = (false, false);
        rules.set_audience(&["aud"]);
        let believed = decode::<Value>(&token, &DecodingKey::from_jwk(&key).unwrap(), &rules);
        assert!(believed.is_ok(), "{name}: {believed:?}");
        let forged = token.replacen('.', ".A", 1);
        assert!(decode::<Value>(&forged, &DecodingKey::from_jwk(&key).unwrap(), &rules).is_err());
    }
}

/// The library that reads the other tokens does not know this curve.
#[tokio::test]
async fn es512_signs_with_its_curve() {
    let issuer = issuer(terms("ES512"));
    let token = issue(&issuer, &[]).await.token;
    assert_eq!(open(&token).0["alg"], "ES512");
    let set: Value = serde_json::from_str(&issuer.set().to_json()).unwrap();
    let member = |name: &str| {
        URL_SAFE_NO_PAD
            .decode(set["keys"][0][name].as_str().unwrap())
            .unwrap()
    };
    assert_eq!(set["keys"][0]["crv"], "P-521");
    let point = [vec![4], member("x"), member("y")].concat();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point);
    assert!(key.verify(signed.as_bytes(), &signature).is_ok());
}

/// Fact: security.md 1.2, step JWT.
#[tokio::test]
async fn failures_have_the_references_texts() {
    let endless = Terms {
        ttl: Duration::MAX,
        ..terms("EdDSA")
    };
    let error = issuer(endless).issue(&app(), &[], at()).await.unwrap_err();
    let text = "failed to generate JWT: its end is beyond the calendar";
    assert_eq!(error.to_string(), text);
    let error = JwtError::Audience {
        audience: "a".into(),
        cause: Cause::Calendar,
    };
    let text = "failed to generate JWT for audience a: its end is beyond the calendar";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_key_outside_of_its_set_is_no_issuer() {
    let terms = terms("ES256");
    let key = JwtIssuer::generate(&terms).unwrap();
    let other = JwtIssuer::generate(&terms).unwrap();
    let set = JwtIssuer::set_of(&terms, other.as_bytes()).unwrap();
    let made = JwtIssuer::new(terms.clone(), key.as_bytes(), set.as_bytes());
    let text = made.unwrap_err().to_string();
    assert!(
        text.starts_with("JWT key set: the signing key is not in the set"),
        "{text}"
    );
    let made = JwtIssuer::new(terms, b"nonsense", set.as_bytes());
    assert!(
        made.unwrap_err()
            .to_string()
            .starts_with("JWT signing key: ")
    );
}
