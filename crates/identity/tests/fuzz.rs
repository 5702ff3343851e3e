//! Any bytes as a SPIFFE ID, and as the names it is made of.
//!
//! A text that is accepted is the identity's own spelling, to the byte; its parts are names that may stand in it again.
//! Driven by `ironside_testkit::fuzz`.

#![cfg(test)]

use ironside_identity::{AppId, Namespace, SpiffeId, TrustDomain};
use ironside_testkit::fuzz::Fuzz;

fn spiffe_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(id.to_string(), text, "one identity has one spelling");
        assert_eq!(text, format!("spiffe://{}{}", id.trust_domain(), id.path()));
        assert!(text.is_ascii() && text.len() <= 2048);
        assert_eq!(
            text.split('/').count(),
            6,
            "exactly /ns/<namespace>/<app ID>"
        );
        let segments = text.split('/').skip(2);
        assert!(
            segments
                .clone()
                .all(|s| !s.is_empty() && s != "." && s != "..")
        );
        let joined = SpiffeId::new(
            id.trust_domain().clone(),
            id.namespace().clone(),
            id.app_id().clone(),
        );
        assert_eq!(joined.as_ref(), Ok(&id));
        assert!(AppId::parse(id.app_id().as_str()).is_ok());
    }
    // The names by themselves, at the places where `/` parts them.
    let mut parts = text.splitn(3, '/');
    let trust_domain = TrustDomain::parse(parts.next().unwrap_or_default());
    let namespace = Namespace::parse(parts.next().unwrap_or_default());
    let app_id = AppId::parse(parts.next().unwrap_or_default());
    if let (Ok(trust_domain), Ok(namespace), Ok(app_id)) = (trust_domain, namespace, app_id)
        && let Ok(id) = SpiffeId::new(trust_domain, namespace, app_id)
    {
        assert_eq!(
            SpiffeId::parse(&id.to_string()),
            Ok(id),
            "what can be said can be read"
        );
    }
}

#[test]
fn spiffe_ids_have_one_spelling() {
    Fuzz {
        name: "spiffe-id",
        corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/spiffe-id"),
        dictionary: &[
            b"spiffe://",
            b"/ns/",
            b"ns",
            b"public",
            b"default",
            b"/",
            b"//",
            b".",
            b"..",
            b"%2f",
            b"%2e",
            b"@",
            b":443",
            b"?",
            b"#",
            b"\0",
            b"\xc3\xa9",
            b"SPIFFE://",
            b"dapr-sentry",
            b"_",
            b"-",
            b" ",
        ],
        count: 100_000,
        longest: 4096,
        target: spiffe_id,
    }
    .run();
}
