//! The two tables of cli-and-clients 2.10, row by row.

use http_body_util::BodyExt as _;

use super::*;

async fn ask(method: Method, path: &str, body: &str) -> (u16, String) {
    let call = find(&method, path).unwrap_or_else(|| panic!("{path} is no route"));
    let (head, answer) = call.answer(&method, body.as_bytes()).into_parts();
    let bytes = answer.collect().await.unwrap().to_bytes();
    (
        head.status.as_u16(),
        String::from_utf8(bytes.to_vec()).unwrap(),
    )
}

/// Fact: cli-and-clients 2.10, the HTTP column.
#[tokio::test]
async fn http_answers_as_the_table_says() {
    let rows = [
        (
            Method::GET,
            "/v1.0/state/s/k",
            500,
            "ERR_STATE_STORE_NOT_CONFIGURED",
            "state store s is not configured",
        ),
        (
            Method::POST,
            "/v1.0/state/s",
            500,
            "ERR_STATE_STORE_NOT_CONFIGURED",
            "state store s is not configured",
        ),
        (
            Method::PUT,
            "/v1.0-alpha1/state/s/query",
            500,
            "ERR_STATE_STORE_NOT_CONFIGURED",
            "state store s",
        ),
        (
            Method::POST,
            "/v1.0/publish/p/t",
            404,
            "ERR_PUBSUB_NOT_FOUND",
            "pubsub p is not found",
        ),
        (
            Method::POST,
            "/v1.0-alpha1/publish/bulk/p/t/u",
            404,
            "ERR_PUBSUB_NOT_FOUND",
            "pubsub p is not found",
        ),
        (
            Method::GET,
            "/v1.0/secrets/s/k",
            500,
            "ERR_SECRET_STORES_NOT_CONFIGURED",
            "secret store is not configured",
        ),
        (
            Method::GET,
            "/v1.0/configuration/s",
            500,
            "ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
            "configuration stores",
        ),
        (
            Method::POST,
            "/v1.0-alpha1/lock/s",
            500,
            "ERR_LOCK_STORE_NOT_CONFIGURED",
            "lock store is not configured",
        ),
        (
            Method::PUT,
            "/v1.0-alpha1/crypto/c/encrypt",
            500,
            "ERR_CRYPTO_PROVIDERS_NOT_CONFIGURED",
            "crypto",
        ),
        (
            Method::PUT,
            "/v1.0/actors/t/i/method/m",
            400,
            "ERR_ACTOR_NO_PLACEMENT",
            "placement service is not configured",
        ),
        (
            Method::POST,
            "/v1.0/workflows/dapr/w/start",
            400,
            "ERR_ACTOR_NO_PLACEMENT",
            "placement",
        ),
        (
            Method::POST,
            "/v1.0-alpha1/jobs/j",
            500,
            "DAPR_SCHEDULER_SCHEDULE_JOB",
            "failed to schedule job due to: ",
        ),
        (
            Method::POST,
            "/v1.0-alpha1/conversation/c/converse",
            400,
            "ERR_CONVERSATION_NOT_FOUND",
            "component c",
        ),
    ];
    for (method, path, status, code, message) in rows {
        let (got, text) = ask(method, path, "").await;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (got, json["errorCode"].as_str().unwrap()),
            (status, code),
            "{path}"
        );
        assert!(
            json["message"].as_str().unwrap().contains(message),
            "{path}: {text}"
        );
    }
}

#[tokio::test]
async fn state_errors_carry_their_detail() {
    let (_, text) = ask(Method::GET, "/v1.0/state/s/k", "").await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["details"][0]["reason"], "DAPR_STATE_NOT_CONFIGURED");
    assert_eq!(json["details"][0]["domain"], "dapr.io");
}

#[tokio::test]
async fn a_malformed_binding_body_is_refused_first() {
    let (status, text) = ask(Method::POST, "/v1.0/bindings/b", "nonsense").await;
    assert_eq!(status, 400);
    assert!(text.contains("ERR_MALFORMED_REQUEST"), "{text}");
    let (status, text) = ask(
        Method::POST,
        "/v1.0/bindings/b",
        r#"{"operation":"create"}"#,
    )
    .await;
    assert_eq!(status, 500);
    assert!(text.contains("couldn't find output binding b"), "{text}");
}

#[test]
fn everything_else_is_no_block() {
    for (method, path) in [
        (Method::GET, "/v1.0/state/s"),
        (Method::PATCH, "/v1.0/state/s"),
        (Method::GET, "/v1.0/publish/p/t"),
        (Method::POST, "/v1.0/publish/p"),
        (Method::GET, "/v1.0/invoke/state/method/x"),
        (Method::GET, "/orders"),
        (Method::GET, "/"),
        (Method::GET, "/v2.0/state/s/k"),
    ] {
        assert_eq!(find(&method, path), None, "{method} {path}");
    }
}

/// Fact: cli-and-clients 2.10, the gRPC column.
#[test]
fn rpcs_answer_as_the_table_says() {
    for (method, code) in [
        ("GetState", Code::FailedPrecondition),
        ("PublishEvent", Code::InvalidArgument),
        ("SubscribeTopicEventsAlpha1", Code::InvalidArgument),
        ("InvokeBinding", Code::Internal),
        ("GetSecret", Code::FailedPrecondition),
        ("SubscribeConfiguration", Code::FailedPrecondition),
        ("TryLockAlpha1", Code::FailedPrecondition),
        ("EncryptAlpha1", Code::Internal),
        ("SubtleSignAlpha1", Code::Internal),
        ("InvokeActor", Code::Unavailable),
        ("StartWorkflowBeta1", Code::Unavailable),
        ("ScheduleJobAlpha1", Code::Internal),
        ("ConverseAlpha2", Code::InvalidArgument),
    ] {
        let block = Block::of_rpc(method).unwrap_or_else(|| panic!("{method} is unknown"));
        assert_eq!(block.status(method, "n").code(), code, "{method}");
    }
    for method in ["NoSuchMethod", "InvokeService", ""] {
        assert_eq!(Block::of_rpc(method), None);
    }
}
