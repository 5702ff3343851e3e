//! Tables and properties of the names.

use super::*;
use proptest::prelude::*;

fn check(text: &str, expected: Result<(&str, &str, &str), SpiffeIdError>) {
    let got = SpiffeId::parse(text);
    let got = got.as_ref().map(|id| {
        (
            id.trust_domain().as_str(),
            id.namespace().as_str(),
            id.app_id().as_str(),
        )
    });
    assert_eq!(got, expected.as_ref().copied(), "{text}");
}

fn shape(id: &str) -> Result<(&'static str, &'static str, &'static str), SpiffeIdError> {
    Err(SpiffeIdError::Shape { id: id.into() })
}

fn segment(text: &str) -> Result<(&'static str, &'static str, &'static str), SpiffeIdError> {
    Err(SpiffeIdError::Segment {
        segment: text.into(),
    })
}

#[test]
fn spiffe_ids_of_workloads_are_read() {
    check(
        "spiffe://public/ns/default/appa",
        Ok(("public", "default", "appa")),
    );
    check(
        "spiffe://cluster.local/ns/dapr-system/dapr-sentry",
        Ok(("cluster.local", "dapr-system", "dapr-sentry")),
    );
    check(
        "spiffe://a_b-1.c/ns/Team_A/App_1-x",
        Ok(("a_b-1.c", "Team_A", "App_1-x")),
    );
}

/// Fact: security.md O-C7, K083.
#[test]
fn other_shapes_are_refused() {
    for text in [
        "spiffe://public",
        "spiffe://public/",
        "spiffe://public/foo",
        "spiffe://public/ns/default",
        "spiffe://public/ns/default/",
        "spiffe://public/ns//appa",
        "spiffe://public/ns/default/appa/extra",
        "spiffe://public/ns/default/appa/",
        "spiffe://public//ns/default/appa",
        "spiffe://public/NS/default/appa",
        "spiffe://public/sa/default/appa",
    ] {
        check(text, shape(text));
    }
    check(
        "spiffe:///ns/default/appa",
        Err(SpiffeIdError::TrustDomain(TrustDomainError::Empty)),
    );
    check(
        "spiffe://Public/ns/default/appa",
        Err(SpiffeIdError::TrustDomain(TrustDomainError::Character)),
    );
    check(
        "spiffe://public:1/ns/default/appa",
        Err(SpiffeIdError::TrustDomain(TrustDomainError::Character)),
    );
    check(
        "spiffe://u@public/ns/default/appa",
        Err(SpiffeIdError::TrustDomain(TrustDomainError::Character)),
    );
    check(
        "SPIFFE://public/ns/default/appa",
        Err(SpiffeIdError::Scheme),
    );
    check("https://public/ns/default/appa", Err(SpiffeIdError::Scheme));
    check("", Err(SpiffeIdError::Scheme));
    check(
        "spiffe://public/ns/default/a.b",
        Err(SpiffeIdError::AppId(AppIdError::Dot)),
    );
    check("spiffe://public/ns/../appa", segment(".."));
    check("spiffe://public/ns/./appa", segment("."));
    check("spiffe://public/ns/default/a%2fb", segment("a%2fb"));
    check("spiffe://public/ns/default/a b", segment("a b"));
    check("spiffe://public/ns/default/appa?x=1", segment("appa?x=1"));
    check("spiffe://public/ns/default/appa#f", segment("appa#f"));
    check("spiffe://public/ns/default/app\0", segment("app\0"));
    check("spiffe://public/ns/default/äpp", segment("äpp"));
}

#[test]
fn overlong_names_are_refused() {
    let long = "a".repeat(256);
    assert_eq!(
        TrustDomain::parse(&long),
        Err(TrustDomainError::TooLong { length: 256 })
    );
    assert!(TrustDomain::parse(long.get(1..).unwrap()).is_ok());
    let app = AppId::parse(&"a".repeat(2048)).unwrap();
    let refused = SpiffeId::new(TrustDomain::default(), Namespace::default(), app);
    assert!(
        matches!(refused, Err(SpiffeIdError::TooLong { .. })),
        "{refused:?}"
    );
    let text = format!("spiffe://public/ns/default/{}", "a".repeat(2048));
    assert!(matches!(
        SpiffeId::parse(&text),
        Err(SpiffeIdError::TooLong { .. })
    ));
}

/// Fact: process-interface 2.1, flag `app-id`.
#[test]
fn app_ids_are_lenient_but_for_dots() {
    assert_eq!(
        AppId::parse("").unwrap_err().to_string(),
        "parameter app-id cannot be empty"
    );
    assert_eq!(
        AppId::parse("a.b").unwrap_err().to_string(),
        "parameter app-id cannot contain dots"
    );
    for text in ["a", "A_b-1", "order processor", "a/b", "äpp"] {
        assert_eq!(AppId::parse(text).unwrap().as_str(), text);
    }
}

#[test]
fn namespaces_may_be_empty_but_not_paths() {
    assert_eq!(Namespace::parse("").unwrap().as_str(), "");
    for text in ["a/b", "a b", "a\n", "\0"] {
        assert!(Namespace::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn lenient_names_do_not_reach_a_spiffe_id() {
    let app = |text| AppId::parse(text).unwrap();
    let id =
        |ns: &str, app| SpiffeId::new(TrustDomain::default(), Namespace::parse(ns).unwrap(), app);
    assert!(id("default", app("a")).is_ok());
    assert!(id("", app("a")).is_err());
    assert!(id("default", app("a/b")).is_err());
    assert!(id("default", app("a b")).is_err());
    assert!(id("..", app("a")).is_err());
}

#[test]
fn control_plane_names_are_known() {
    assert!(AppId::parse("dapr-sentry").unwrap().is_control_plane());
    assert!(!AppId::parse("dapr-sentry2").unwrap().is_control_plane());
}

proptest! {
    #[test]
    fn printing_and_parsing_agree(td in "[a-z0-9._-]{1,40}", ns in "[A-Za-z0-9_-]{1,40}", app in "[A-Za-z0-9_-]{1,40}") {
        let text = format!("spiffe://{td}/ns/{ns}/{app}");
        let id = SpiffeId::parse(&text).unwrap();
        prop_assert_eq!(id.to_string(), text);
        prop_assert_eq!(id.path(), format!("/ns/{ns}/{app}"));
        prop_assert_eq!(SpiffeId::parse(&id.to_string()).unwrap(), id);
    }

    #[test]
    fn whatever_parses_prints_itself(text in "(spiffe://)?[a-zA-Z0-9./ns_%-]{0,60}") {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        drop(SpiffeId::parse(&text));
        drop(SpiffeId::parse(&format!("spiffe://public/ns/{text}")));
    }
}
