//! Documents as their readers get them, one table of hosts.

use super::*;
use crate::config::OidcTls;
use crate::jwt::Terms;
use http::Request;
use http_body_util::BodyExt as _;
use ironside_chassis::program::Address;
use serde_json::{Value, json};
use std::time::Duration;

fn config() -> OidcConfig {
    OidcConfig {
        address: Address {
            host: "localhost".into(),
            port: 9080,
        },
        tls: Some(OidcTls {
            certificate: "c".into(),
            key: "k".into(),
        }),
        issuer: None,
        jwks_uri: None,
        prefix: String::new(),
        allowed_hosts: Vec::new(),
    }
}

fn jwt() -> JwtIssuer {
    let terms = Terms {
        algorithm: "EdDSA".parse().unwrap(),
        key_id: Some("k1".into()),
        issuer: None,
        ttl: Duration::from_secs(60),
        skew: Duration::ZERO,
    };
    let key = JwtIssuer::generate(&terms).unwrap();
    let set = JwtIssuer::set_of(&terms, key.as_bytes()).unwrap();
    let set = set.replace(
        "\"keys\": [",
        "\"keys\": [{\"kty\": \"RSA\", \"alg\": \"RS256\", \"kid\": \"old\"},",
    );
    JwtIssuer::new(terms, key.as_bytes(), set.as_bytes()).unwrap()
}

fn allowing(hosts: &[&str]) -> OidcConfig {
    OidcConfig {
        allowed_hosts: hosts.iter().map(ToString::to_string).collect(),
        ..config()
    }
}

fn get(path: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

async fn ask(config: &OidcConfig, head: &request::Parts) -> (StatusCode, HeaderMap, String) {
    let response = Documents::new(config).answer(head, &jwt());
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    (head.status, head.headers, String::from_utf8(body).unwrap())
}

/// The host that the document names, or the status of a refusal.
async fn named(config: &OidcConfig, headers: &[(&str, &str)]) -> Result<String, u16> {
    let (status, _, body) = ask(config, &get(DISCOVERY, headers)).await;
    if status != StatusCode::OK {
        return Err(status.as_u16());
    }
    let document: Value = serde_json::from_str(&body).unwrap();
    let issuer = document["issuer"].as_str().unwrap().to_owned();
    assert_eq!(document["jwks_uri"], format!("{issuer}/jwks.json"));
    Ok(issuer.strip_prefix("https://").unwrap().to_owned())
}

/// Fact: security.md 1.10.
#[tokio::test]
async fn the_documents_are_the_references() {
    let (status, headers, body) = ask(&config(), &get(DISCOVERY, &[("host", "sentry:9080")])).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=3600");
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    let expected = json!({
        "issuer": "https://sentry:9080",
        "jwks_uri": "https://sentry:9080/jwks.json",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA", "RS256"],
        "scopes_supported": ["openid"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nbf", "use"],
    });
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    let (status, headers, body) = ask(&config(), &get(KEYS, &[("host", "sentry:9080")])).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=3600");
    let set: Value = serde_json::from_str(&body).unwrap();
    let ids: Vec<_> = set["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["kid"])
        .collect();
    assert_eq!(ids, ["old", "k1"]);
}

#[tokio::test]
async fn what_is_configured_stands_in_the_document() {
    let config = OidcConfig {
        issuer: Some("https://issuer".into()),
        jwks_uri: Some("https://keys/set".into()),
        prefix: "/id/sentry".into(),
        tls: None,
        ..config()
    };
    let path = "/id/sentry/.well-known/openid-configuration";
    let (_, _, body) = ask(&config, &get(path, &[("host", "h")])).await;
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(document["issuer"], "https://issuer");
    assert_eq!(document["jwks_uri"], "https://keys/set");
    let config = OidcConfig {
        issuer: None,
        jwks_uri: None,
        ..config
    };
    let (_, _, body) = ask(&config, &get(path, &[("host", "h")])).await;
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(document["issuer"], "http://h/id/sentry");
    assert_eq!(document["jwks_uri"], "http://h/id/sentry/jwks.json");
    assert_eq!(
        ask(&config, &get(DISCOVERY, &[("host", "h")])).await.0,
        StatusCode::NOT_FOUND
    );
}

/// Fact: security.md 1.10: GET only.
#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    for method in [Method::POST, Method::HEAD, Method::PUT, Method::OPTIONS] {
        let mut head = get(DISCOVERY, &[("host", "h")]);
        head.method = method;
        let (status, headers, _) = ask(&config(), &head).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(headers[header::ALLOW], "GET");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    }
    for path in [
        "/",
        "/jwks",
        "/jwks.json/",
        "/.well-known/jwks.json",
        "//jwks.json",
    ] {
        let (status, ..) = ask(&config(), &get(path, &[("host", "h")])).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// Fact: security.md K063, TM32: without a list of hosts the header counts for nothing.
#[tokio::test]
async fn a_forwarded_host_that_no_list_admits_is_ignored() {
    let evil = [("host", "sentry:9080"), ("x-forwarded-host", "evil")];
    for open in [allowing(&[]), allowing(&["*"]), allowing(&["sentry", "*"])] {
        assert_eq!(named(&open, &evil).await.unwrap(), "sentry:9080");
    }
    assert_eq!(named(&allowing(&["sentry"]), &evil).await, Err(403));
    let (_, _, body) = ask(&allowing(&["sentry"]), &get(KEYS, &evil)).await;
    assert_eq!(body, "Forbidden: unauthorized domain");
}

/// Headers, and the host that the document names or the status of a refusal.
type Row<'a> = (&'a [(&'a str, &'a str)], Result<&'a str, u16>);

/// Fact: security.md 1.10, host rules.
#[tokio::test]
async fn a_list_admits_the_forwarded_host_or_the_host() {
    let listed = allowing(&["Sentry.example", "id.example:8443"]);
    let rows: [Row<'_>; 12] = [
        (&[("host", "sentry.example")], Ok("sentry.example")),
        (&[("host", "SENTRY.example:1")], Ok("SENTRY.example:1")),
        (&[("host", "id.example:8443")], Ok("id.example:8443")),
        (&[("host", "id.example")], Err(403)),
        (&[("host", "other")], Err(403)),
        (&[("host", "sentry.example.evil")], Err(403)),
        (
            &[("host", "10.0.0.1"), ("x-forwarded-host", "sentry.example")],
            Ok("sentry.example"),
        ),
        (
            &[("host", "sentry.example"), ("x-forwarded-host", "evil")],
            Err(403),
        ),
        (
            &[
                ("host", "sentry.example"),
                ("x-forwarded-host", "sentry.example, evil"),
            ],
            Err(403),
        ),
        (
            &[
                ("host", "sentry.example"),
                ("x-forwarded-host", "a@sentry.example"),
            ],
            Err(403),
        ),
        (
            &[("host", "sentry.example"), ("x-forwarded-host", "")],
            Err(403),
        ),
        (
            &[
                ("x-forwarded-host", "sentry.example"),
                ("x-forwarded-host", "evil"),
                ("host", "x"),
            ],
            Err(403),
        ),
    ];
    for (headers, expected) in rows {
        let named = named(&listed, headers).await;
        assert_eq!(
            named.as_deref().map_err(|status| *status),
            expected,
            "{headers:?}"
        );
    }
}

#[tokio::test]
async fn a_request_without_one_good_host_is_refused() {
    for headers in [
        &[][..],
        &[("host", "a"), ("host", "b")],
        &[("host", "a b")],
        &[("host", "")],
    ] {
        assert_eq!(named(&config(), headers).await, Err(400), "{headers:?}");
    }
}

/// A cache in between must not give one caller's document to another.
#[tokio::test]
async fn answers_that_depend_on_a_header_say_so() {
    let head = get(DISCOVERY, &[("host", "sentry")]);
    let (_, headers, _) = ask(&allowing(&["sentry"]), &head).await;
    assert_eq!(headers[header::VARY], "x-forwarded-host");
    let (_, headers, _) = ask(&config(), &head).await;
    assert!(!headers.contains_key(header::VARY));
}

/// Facts K063, TM32: a target in absolute form is held to what a header is held to, with a list of hosts and without.
#[tokio::test]
async fn a_target_that_names_a_user_or_no_host_is_refused() {
    for config in [
        config(),
        allowing(&["listed.host", "*"]),
        allowing(&["listed.host"]),
    ] {
        for target in [
            "https://x@listed.host/jwks.json",
            "https://listed.host@x/jwks.json",
            "https://@listed.host/jwks.json",
            "https://:443/jwks.json",
        ] {
            let mut head = get("/jwks.json", &[("host", "listed.host")]);
            // What no reader of targets takes need not be refused here.
            let Ok(uri) = target.parse() else { continue };
            head.uri = uri;
            let (status, headers, body) = ask(&config, &head).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{target}: {body}");
            assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        }
        let whole = get("https://listed.host:1/jwks.json", &[("host", "other")]);
        assert_eq!(ask(&config, &whole).await.0, StatusCode::OK);
    }
}
