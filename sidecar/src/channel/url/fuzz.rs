//! Any bytes as the path of a request: from the client's request line to the app's.
//!
//! What the caller's sidecar made of the path is a method for the callee's as well, the same one; the request line that
//! leaves for the app decodes to the method that policy saw, segment by segment; and a path that a closed set lets
//! through cannot be read as another by any app. Driven by `ironside_testkit::fuzz`.

use std::sync::LazyLock;

use http::uri::PathAndQuery;
use ironside_identity::{AppId, Namespace, SpiffeId, TrustDomain};
use ironside_policy::{
    AppKind, Callee, Caller, Input, Method, Namespaces, Operation, PolicySet, Verb,
};
use ironside_resolution::form::{self, Request};
use ironside_resources::access_control;
use ironside_testkit::fuzz::Fuzz;
use percent_encoding::percent_decode_str;

use super::path_and_query;

/// Whoever may call `/public/**` may call nothing else.
const RULES: &str = "
apiVersion: dapr.io/v1alpha1
kind: AccessControl
metadata: {name: closed}
spec:
  policies:
  - {appId: web, namespace: default, operations: [{name: /public/**, action: allow}]}
";

static CLOSED: LazyLock<PolicySet> = LazyLock::new(|| {
    let callee = Callee {
        app_id: AppId::parse("shop").unwrap(),
        namespace: Namespace::default(),
        trust_domain: TrustDomain::default(),
        app: AppKind::Http,
    };
    let input = Input {
        callee: &callee,
        block: None,
        objects: &[access_control::decode(RULES).unwrap()],
        refused: &[],
        namespaces: Namespaces::Any,
        deny_by_default: true,
    };
    PolicySet::compile(&input).unwrap()
});

fn path(data: &[u8]) {
    let Ok(line) = PathAndQuery::try_from(data) else {
        return;
    };
    let Ok(decoded) = form::decode_path(line.path()) else {
        return;
    };
    let by_path = form::find(Request {
        path: &decoded,
        app_id: None,
        authorization: None,
    });
    let by_header = form::find(Request {
        path: &decoded,
        app_id: Some(b"shop"),
        authorization: None,
    });
    for found in by_path.into_iter().chain(by_header) {
        if let Ok(method) = Method::parse(found.method) {
            sent(&method);
        }
    }
}

/// The callee's half: from the method on the wire to the app's request line.
fn sent(method: &Method) {
    let text = method.as_str();
    assert_eq!(
        Method::parse(text).as_ref(),
        Ok(method),
        "two sidecars, one method"
    );
    // A `%` in a method is refused rather than escaped, if it is no escape.
    let Ok(line) = path_and_query("", text, "") else {
        assert!(text.contains('%'));
        return;
    };
    let uri = crate::channel::http::uri("http", "127.0.0.1:1", &line).unwrap();
    assert_eq!(uri.path(), line, "nothing of it is a query");
    let rooted = match text.starts_with('/') {
        true => text.to_owned(),
        false => format!("/{text}"),
    };
    let decode = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let (out, seen): (Vec<_>, Vec<_>) = (line.split('/').collect(), rooted.split('/').collect());
    assert_eq!(out.len(), seen.len(), "{line:?} for {text:?}");
    for (out, seen) in out.iter().zip(seen) {
        assert_eq!(decode(out), decode(seen), "{line:?} for {text:?}");
        assert!(*out != "." && *out != "..");
    }
    let web = SpiffeId::parse("spiffe://public/ns/default/web").unwrap();
    let asked = Operation::invoke(text, Verb::Get);
    if CLOSED.decide(Caller::Peer(&web), &asked).is_allowed() {
        check_readings(&line);
    }
}

/// As an app could read the line: decoded again and again, with backslashes, without parameters.
fn check_readings(line: &str) {
    let mut reading = line.to_owned();
    for _round in 0..4 {
        let without_parameters: Vec<_> = reading
            .split('/')
            .map(|segment| segment.split(';').next().unwrap_or_default())
            .collect();
        for read in [reading.clone(), without_parameters.join("/")] {
            let seen = ironside_policy::clean(&read.replace('\\', "/")).to_ascii_lowercase();
            let is_public = seen == "/public" || seen.starts_with("/public/");
            assert!(is_public, "{line:?} can be read as {seen:?}");
        }
        reading = percent_decode_str(&reading)
            .decode_utf8_lossy()
            .into_owned();
    }
}

#[test]
fn what_policy_saw_is_what_the_app_gets() {
    Fuzz {
        name: "path",
        corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/path"),
        dictionary: &[
            b"/v1.0/invoke/shop/method/",
            b"/v1.0//invoke/shop/method/",
            b"/method/",
            b"/public",
            b"/admin",
            b"/",
            b"//",
            b"/../",
            b"/./",
            b"..",
            b"%2e%2e",
            b"%2E",
            b"%2f",
            b"%2F..%2F",
            b"%252e%252e",
            b"%252f",
            b"%25",
            b"%5c",
            b"%5C..%5C",
            b";",
            b";a=b",
            b"..;/",
            b"%3b",
            b"?",
            b"%3f",
            b"#",
            b"%23",
            b"%00",
            b"%0a",
            b"%7f",
            b"%",
            b"%zz",
            b"%c3%a9",
            b"%ff",
            b"%c0%ae",
            b"\xc3\xa9",
            b"!*'()",
            b"[]",
            b"\"<>",
            b"|",
            b"^`{}",
        ],
        count: 60_000,
        longest: 2048,
        target: path,
    }
    .run();
}
