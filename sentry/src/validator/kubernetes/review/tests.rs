//! Answers of the API server, good, bad and strange.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const SENTRY: &str = "spiffe://cluster.local/ns/dapr-system/dapr-sentry";

fn judged(status: Value, token: &str) -> Result<Owner, String> {
    let status = serde_json::from_value(status).unwrap();
    owner(status, &[SENTRY.to_owned()], token).map_err(|why| why.to_string())
}

fn refused(status: Value, text: &str) {
    assert_eq!(judged(status, "opaque"), Err(text.to_owned()));
}

fn good() -> Value {
    json!({
        "authenticated": true, "audiences": [SENTRY],
        "user": {"username": "system:serviceaccount:ns:sa", "extra": {
            "authentication.kubernetes.io/pod-name": ["p"],
            "authentication.kubernetes.io/pod-uid": ["u"],
        }},
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut status = good();
    *status.pointer_mut(pointer).unwrap() = value;
    status
}

fn expected() -> Owner {
    Owner {
        namespace: "ns".into(),
        account: "sa".into(),
        pod_name: "p".into(),
        pod_uid: "u".into(),
    }
}

fn jwt(claims: &Value) -> String {
    format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[test]
fn a_good_answer_names_account_and_pod() {
    assert_eq!(judged(good(), "opaque"), Ok(expected()));
}

/// Fact: security.md 1.7, K034, K035.
#[test]
fn what_is_not_for_sentry_is_refused() {
    refused(json!({}), "authentication failed");
    refused(
        with("/authenticated", json!(false)),
        "authentication failed",
    );
    refused(json!({"error": "expired"}), "invalid token: expired");
    let mut both = good();
    both["error"] = json!("odd");
    refused(both, "invalid token: odd");
    for audiences in [
        json!(null),
        json!([]),
        json!(["https://kubernetes.default.svc"]),
    ] {
        refused(with("/audiences", audiences), OTHER_AUDIENCE);
    }
    assert!(judged(with("/audiences", json!(["x", SENTRY])), "opaque").is_ok());
}

/// Fact: security.md K039.
#[test]
fn only_service_accounts_have_workloads() {
    for username in [
        "system:node:x:y",
        "system:serviceaccount:ns",
        "system:serviceaccount:ns:sa:more",
        "system:serviceaccount::sa",
        "system:serviceaccount:ns:",
        "other:serviceaccount:ns:sa",
        "admin",
        "",
    ] {
        refused(with("/user/username", json!(username)), NO_ACCOUNT);
    }
}

/// Fact: security.md O-S4, K033, K037.
#[test]
fn the_pod_that_the_server_names_counts_and_the_tokens_only_without_it() {
    let claims = json!({"kubernetes.io": {"pod": {"name": "forged", "uid": "f"}}});
    assert_eq!(judged(good(), &jwt(&claims)), Ok(expected()));
    let silent = with("/user/extra", json!({}));
    let of_token = judged(silent.clone(), &jwt(&claims)).unwrap();
    assert_eq!(
        (of_token.pod_name, of_token.pod_uid),
        ("forged".into(), "f".into())
    );
    let refused = |status: &Value, token: &str, text: &str| {
        assert_eq!(judged(status.clone(), token), Err(text.to_owned()));
    };
    refused(&silent, &jwt(&json!({"sub": "x"})), NO_POD);
    refused(
        &silent,
        &jwt(&json!({"kubernetes.io": {"pod": {"name": "p"}}})),
        NO_UID,
    );
    let text = "failed to parse Kubernetes token: it is no JWT of three parts";
    refused(&silent, "opaque", text);
    // Half an answer is not made whole by the token.
    let mut half = good();
    half["user"]["extra"] = json!({"authentication.kubernetes.io/pod-name": ["p"]});
    refused(&half, &jwt(&claims), NO_UID);
    let two = json!({"authentication.kubernetes.io/pod-name": ["p", "q"],
        "authentication.kubernetes.io/pod-uid": ["u"]});
    refused(&with("/user/extra", two), &jwt(&claims), NO_POD);
}
