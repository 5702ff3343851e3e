//! Handlers one by one, and in a row.

use http::Request;
use http_body_util::BodyExt as _;
use ironside_chassis::{Clock, Tasks};

use super::*;
use crate::body;

fn build(kind: &str, settings: &[(&str, &str)]) -> Result<Handler, HandlerError> {
    let clock = Clock::system();
    let keys = KeySource::new(&Tasks::new(), &clock);
    let settings: Settings = settings.iter().copied().collect();
    Handler::build(
        &format!("{PREFIX}{kind}"),
        &settings,
        &Tools {
            clock: &clock,
            keys: &keys,
        },
    )
}

fn pipeline(handlers: &[(&str, &[(&str, &str)])]) -> Pipeline {
    Pipeline::new(
        handlers
            .iter()
            .map(|(kind, settings)| Arc::new(build(kind, settings).unwrap()))
            .collect(),
    )
}

fn head(uri: &str) -> Parts {
    Request::get(uri).body(()).unwrap().into_parts().0
}

async fn rewritten(routes: &str, uri: &str) -> String {
    let mut head = head(uri);
    pipeline(&[("routeralias", &[("routes", routes)])])
        .request(&mut head)
        .await
        .unwrap();
    head.uri.to_string()
}

#[tokio::test]
async fn aliases_rewrite_path_and_query() {
    let routes = r#"{"/mall/activity/info": "/v1.0/invoke/srv/method/info",
        "/hello/{id}/info": "/v1.0/invoke/srv/method/hello?fixed=1"}"#;
    for (uri, expected) in [
        ("/mall/activity/info", "/v1.0/invoke/srv/method/info"),
        (
            "/mall/activity/info?a=b",
            "/v1.0/invoke/srv/method/info?a=b",
        ),
        (
            "/hello/7%20x/info?a=b",
            "/v1.0/invoke/srv/method/hello?a=b&fixed=1&id=7%20x",
        ),
        ("/hello//info", "/hello//info"),
        ("/hello/7/other", "/hello/7/other"),
        ("/", "/"),
    ] {
        assert_eq!(rewritten(routes, uri).await, expected, "{uri}");
    }
    assert_eq!(rewritten("/a: /b", "/a").await, "/b", "YAML will do");
}

/// Fact: service-invocation SI-137.
#[tokio::test]
async fn handlers_run_in_list_order() {
    let two = pipeline(&[
        ("routeralias", &[("routes", r#"{"/a": "/b"}"#)]),
        ("routeralias", &[("routes", r#"{"/b": "/c"}"#)]),
    ]);
    let mut head = head("/a");
    two.request(&mut head).await.unwrap();
    assert_eq!(head.uri, "/c");
}

#[tokio::test]
async fn a_checker_refuses_what_its_rule_does_not_know() {
    let checker = pipeline(&[("routerchecker", &[("rule", "^/v1.0/invoke/[a-z]+/method/")])]);
    assert!(
        checker
            .request(&mut head("/v1.0/invoke/appb/method/x"))
            .await
            .is_ok()
    );
    let refused = checker
        .request(&mut head("/v1.0/metadata"))
        .await
        .unwrap_err();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_limiter_answers_429_once_the_burst_is_gone() {
    let limiter = pipeline(&[("ratelimit", &[("maxRequestsPerSecond", "1")])]);
    assert!(limiter.request(&mut head("/x")).await.is_ok());
    let refused = limiter.request(&mut head("/x")).await.unwrap_err();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
}

/// Fact: service-invocation SI-138.
#[tokio::test]
async fn uppercase_maps_bodies_both_ways() {
    let upper = pipeline(&[("uppercase", &[])]);
    let request = upper
        .request_body(body::full("hello"))
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(request, "HELLO");
    let answer = upper.response(Response::new(body::full("straße")));
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "STRAßE"
    );
}

#[test]
fn what_cannot_be_built_says_why() {
    for (kind, settings, text) in [
        (
            "oauth2",
            &[][..],
            "middleware.http.oauth2 is not offered; offered are bearer",
        ),
        ("routeralias", &[], "'routes' is required"),
        ("routeralias", &[("routes", "{")], "'routes' is invalid"),
        (
            "routeralias",
            &[("routes", r#"{"/a": "b"}"#)],
            "path does not start with slash",
        ),
        ("routerchecker", &[], "'rule' is required"),
        ("routerchecker", &[("rule", "(")], "'rule' is invalid"),
        (
            "ratelimit",
            &[("maxRequestsPerSecond", "x")],
            "'maxRequestsPerSecond' is invalid",
        ),
        ("bearer", &[("audience", "a")], "'issuer' is required"),
        (
            "bearer",
            &[("issuer", "https://i")],
            "'audience' is required",
        ),
        (
            "bearer",
            &[("issuer", "i"), ("audience", "a")],
            "'issuer' is invalid",
        ),
        (
            "bearer",
            &[
                ("issuer", "https://i"),
                ("audience", "a"),
                ("jwksURL", "ftp://x"),
            ],
            "'jwksURL' is invalid",
        ),
    ] {
        let err = build(kind, settings).map(|_| ()).unwrap_err().to_string();
        assert!(err.contains(text), "{kind}: {err}");
    }
    assert!(
        build("Uppercase", &[]).is_ok(),
        "types are read in any letter case"
    );
}

#[tokio::test]
async fn a_rule_judges_the_cleaned_path() {
    let checker = pipeline(&[("routerchecker", &[("rule", "method/public")])]);
    for (uri, passes) in [
        ("/v1.0/invoke/b/method/public", true),
        ("/v1.0/invoke/b/method//public", true),
        ("/v1.0/invoke/b/method/public/../admin", false),
        ("/v1.0/invoke/b/method/public/%2e%2e/admin", false),
        ("/v1.0/invoke/b/method/public%2f..%2fadmin", false),
    ] {
        let passed = checker.request(&mut head(uri)).await.is_ok();
        assert_eq!(passed, passes, "{uri}");
    }
}
