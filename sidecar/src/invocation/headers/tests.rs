//! Rows of service-invocation 1.7 to 1.9.

use super::*;

fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

/// Fact: SI-027, SI-028, SI-031.
#[test]
fn hop_by_hop_nominated_and_binary_names_do_not_reach_an_http_app() {
    let mut headers = map(&[
        ("connection", "X-Foo, keep-alive"),
        ("x-foo", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "x"),
        ("upgrade", "foo"),
        ("http2-settings", "AAA"),
        ("te", "trailers"),
        ("trailer", "X-T"),
        ("proxy-authorization", "p"),
        ("proxy-authenticate", "q"),
        ("transfer-encoding", "chunked"),
        ("x-data-bin", "abc"),
        ("destination-app-id", "evil"),
        ("authorization", "Bearer t"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ]);
    strip_for_http(&mut headers);
    assert_eq!(names(&headers), ["authorization", "cookie"]);
    assert_eq!(headers.get_all("cookie").iter().count(), 2);
}

/// Fact: H1, SI-034, SI-035.
#[test]
fn identity_headers_of_a_client_do_not_survive() {
    let mut headers = map(&[
        ("dapr-caller-app-id", "evil"),
        ("dapr-caller-app-id", "evil2"),
        ("dapr-callee-app-id", "evil"),
        ("dapr-caller-namespace", "evil"),
        ("dapr-api-token", "zz"),
        ("x-forwarded-for", "1.2.3.4"),
    ]);
    take_client_headers(&mut headers);
    let stamp = Stamp::new("appa", "default", [10, 9, 0, 1].into(), "rig").unwrap();
    let callee = HeaderValue::from_static("appb");
    stamp.identity(&mut headers, &callee);
    stamp.forwarded(&mut headers, &callee);
    let all = |name: &str| {
        headers
            .get_all(name)
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(all("dapr-caller-app-id"), ["appa"]);
    assert_eq!(all("dapr-callee-app-id"), ["appb"]);
    assert_eq!(all("dapr-caller-namespace"), ["default"]);
    assert_eq!(all("dapr-api-token"), [""; 0]);
    assert_eq!(all("x-forwarded-for"), ["1.2.3.4", "10.9.0.1"]);
    assert_eq!(all("forwarded"), ["for=10.9.0.1;by=10.9.0.1;host=rig"]);
}

/// Fact: SI-038.
#[test]
fn an_ipv6_address_is_quoted_and_bracketed_in_forwarded() {
    let stamp = Stamp::new("a", "n", "2001:db8::1".parse().unwrap(), "h").unwrap();
    let mut headers = HeaderMap::new();
    stamp.forwarded(&mut headers, &HeaderValue::from_static("b"));
    assert_eq!(
        headers["forwarded"],
        "for=\"[2001:db8::1]\";by=\"[2001:db8::1]\";host=h"
    );
    assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
}

#[test]
fn reserved_names_are_prefixed_for_a_grpc_app() {
    let headers = prefix_reserved(map(&[
        ("content-type", "a"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("cookie", "c"),
    ]));
    assert_eq!(names(&headers), ["dapr-content-type", "dapr-cookie", "x-a"]);
    assert_eq!(headers.get_all("x-a").iter().count(), 2);
}

#[test]
fn names_are_spelled_canonically() {
    assert_eq!(canonical("x-forwarded-for"), "X-Forwarded-For");
    assert_eq!(canonical("ETAG"), "Etag");
}

/// `Connection` may not name what a sidecar stamps, and no spelling of an identity header survives.
#[test]
fn stamped_headers_cannot_be_taken_away_or_imitated() {
    let mut headers = map(&[
        ("connection", "dapr-caller-app-id, x-forwarded-for, x-mine"),
        ("x-mine", "1"),
        ("dapr_caller_app_id", "admin"),
        ("dapr-caller_app-id", "admin"),
    ]);
    let stamp = Stamp::new("appa", "default", [10, 9, 0, 1].into(), "rig").unwrap();
    let callee = HeaderValue::from_static("appb");
    stamp.identity(&mut headers, &callee);
    stamp.forwarded(&mut headers, &callee);
    strip_for_http(&mut headers);
    assert_eq!(
        names(&headers),
        [
            "dapr-callee-app-id",
            "dapr-caller-app-id",
            "dapr-caller-namespace",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host"
        ]
    );
}

/// resiliency-observability 6.2, row "Deadline propagation".
#[test]
fn a_client_says_how_long_it_waits_and_an_app_hears_what_is_left() {
    for (value, millis) in [
        ("1", 1),
        ("1500", 1500),
        ("99999999", 99_999_999),
        ("0020", 20),
    ] {
        let mut headers = map(&[("dapr-timeout", value)]);
        let taken = take_timeout(&mut headers);
        assert_eq!(taken, Some(Duration::from_millis(millis)), "{value}");
        assert!(headers.is_empty(), "{value}");
    }
    for value in [
        "",
        "0",
        "-1",
        "+1",
        "1.5",
        "2s",
        " 5",
        "100000000",
        "99999999999999999999999",
    ] {
        let mut headers = map(&[("dapr-timeout", value)]);
        assert_eq!(take_timeout(&mut headers), None, "{value}");
        assert_eq!(headers["dapr-timeout"], value, "a header like any other");
    }
    let mut twice = map(&[("dapr-timeout", "5"), ("dapr-timeout", "6")]);
    assert_eq!(take_timeout(&mut twice), None);
    for (left, told) in [
        (Some(Duration::from_micros(1_999_900)), Some("1999")),
        (Some(Duration::ZERO), Some("1")),
        (Some(Duration::MAX), Some("18446744073709551615")),
        (None, None),
    ] {
        let mut headers = map(&[("dapr-timeout", "7"), ("dapr-timeout", "8")]);
        tell_timeout(&mut headers, left);
        let values: Vec<_> = headers.get_all("dapr-timeout").iter().collect();
        assert_eq!(values, Vec::from_iter(told), "{left:?}");
    }
}
