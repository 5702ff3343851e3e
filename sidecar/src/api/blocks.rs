//! Building blocks that are not offered: their routes exist, and answer what the reference answers when
//! nothing is configured.
//!
//! Owns the two tables of cli-and-clients 2.10, so that a program with one unsupported call gets a typed
//! error and never a hang or an accidental invocation. Refuses to own anything that such a block would do.

use http::{Method, Response, StatusCode};
use tonic::{Code, Status};

use super::{access::Group, reply};
use crate::{body::Body, invocation::status};

/// A building block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    /// State management.
    State,
    /// Publish and subscribe.
    Publish,
    /// Output bindings.
    Bindings,
    /// Secret stores.
    Secrets,
    /// Configuration stores.
    Configuration,
    /// Distributed lock.
    Lock,
    /// Cryptography.
    Crypto,
    /// Actors.
    Actors,
    /// Workflows.
    Workflows,
    /// Jobs.
    Jobs,
    /// Conversation.
    Conversation,
}

/// A request to one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockCall<'a> {
    /// Which one.
    pub(crate) block: Block,
    /// Name of the store, component or job, still percent-encoded; empty where the route has none.
    pub(crate) name: &'a str,
    /// Group key of the API access lists.
    pub(crate) group: &'static str,
}

/// How one route of a block looks: methods, version, path with `*` for one segment and `**` for the rest,
/// position of the name, group.
struct Row {
    block: Block,
    methods: &'static [Method],
    versions: &'static [&'static str],
    path: &'static [&'static str],
    group: &'static str,
}

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const PUT: &[Method] = &[Method::PUT];
const WRITE: &[Method] = &[Method::POST, Method::PUT];
const GET_DELETE: &[Method] = &[Method::GET, Method::DELETE];
const GET_POST: &[Method] = &[Method::GET, Method::POST];
const JOBS: &[Method] = &[Method::GET, Method::POST, Method::DELETE];
const ANY: &[Method] = &[
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::PATCH,
];
const V1: &[&str] = &["v1.0"];
const ALPHA: &[&str] = &["v1.0-alpha1"];
const STABLE_OR_ALPHA: &[&str] = &["v1.0", "v1.0-alpha1"];
const WORKFLOWS: &[&str] = &["v1.0", "v1.0-beta1", "v1.0-alpha1"];
const ALPHAS: &[&str] = &["v1.0-alpha1", "v1.0-alpha2"];

const fn row(
    block: Block,
    methods: &'static [Method],
    versions: &'static [&'static str],
    path: &'static [&'static str],
    group: &'static str,
) -> Row {
    Row {
        block,
        methods,
        versions,
        path,
        group,
    }
}

/// Routes in the order in which they are tried.
const ROWS: &[Row] = &[
    row(
        Block::State,
        GET_DELETE,
        V1,
        &["state", "*", "*"],
        "v1/state",
    ),
    row(Block::State, WRITE, V1, &["state", "*"], "v1/state"),
    row(Block::State, WRITE, V1, &["state", "*", "bulk"], "v1/state"),
    row(
        Block::State,
        WRITE,
        V1,
        &["state", "*", "transaction"],
        "v1/state",
    ),
    row(
        Block::State,
        WRITE,
        ALPHA,
        &["state", "*", "query"],
        "v1alpha1/state",
    ),
    row(
        Block::Publish,
        WRITE,
        STABLE_OR_ALPHA,
        &["publish", "bulk", "*", "**"],
        "v1alpha1/publish",
    ),
    row(
        Block::Publish,
        WRITE,
        V1,
        &["publish", "*", "**"],
        "v1/publish",
    ),
    row(
        Block::Bindings,
        WRITE,
        V1,
        &["bindings", "*"],
        "v1/bindings",
    ),
    row(
        Block::Secrets,
        GET,
        V1,
        &["secrets", "*", "*"],
        "v1/secrets",
    ),
    row(
        Block::Configuration,
        GET,
        STABLE_OR_ALPHA,
        &["configuration", "*"],
        "v1/configuration",
    ),
    row(
        Block::Configuration,
        GET,
        STABLE_OR_ALPHA,
        &["configuration", "*", "subscribe"],
        "v1/configuration",
    ),
    row(
        Block::Configuration,
        GET,
        STABLE_OR_ALPHA,
        &["configuration", "*", "*", "unsubscribe"],
        "v1/configuration",
    ),
    row(Block::Lock, POST, ALPHA, &["lock", "*"], "v1alpha1/lock"),
    row(
        Block::Lock,
        POST,
        ALPHA,
        &["unlock", "*"],
        "v1alpha1/unlock",
    ),
    row(
        Block::Crypto,
        PUT,
        ALPHA,
        &["crypto", "*", "*"],
        "v1alpha1/crypto",
    ),
    row(
        Block::Crypto,
        POST,
        ALPHA,
        &["subtlecrypto", "*", "*"],
        "v1alpha1/subtlecrypto",
    ),
    row(
        Block::Actors,
        ANY,
        V1,
        &["actors", "*", "*", "**"],
        "v1/actors",
    ),
    row(
        Block::Workflows,
        GET_POST,
        WORKFLOWS,
        &["workflows", "*", "**"],
        "v1/workflows",
    ),
    row(
        Block::Jobs,
        JOBS,
        STABLE_OR_ALPHA,
        &["jobs", "*"],
        "v1alpha1/jobs",
    ),
    row(
        Block::Jobs,
        GET_DELETE,
        STABLE_OR_ALPHA,
        &["jobs"],
        "v1alpha1/jobs",
    ),
    row(
        Block::Conversation,
        POST,
        ALPHAS,
        &["conversation", "*", "converse"],
        "v1alpha1/conversation",
    ),
];

/// Finds the block that a cleaned, still encoded path belongs to.
pub(crate) fn find<'a>(method: &Method, path: &'a str) -> Option<BlockCall<'a>> {
    let (version, rest) = path.strip_prefix('/')?.split_once('/')?;
    let row = ROWS.iter().find(|row| {
        row.methods.contains(method) && row.versions.contains(&version) && fits(row.path, rest)
    })?;
    let position = row.path.iter().position(|segment| *segment == "*");
    let name = position.and_then(|n| rest.split('/').nth(n)).unwrap_or("");
    Some(BlockCall {
        block: row.block,
        name,
        group: row.group,
    })
}

fn fits(pattern: &[&str], rest: &str) -> bool {
    let mut given = rest.split('/');
    for segment in pattern {
        match (*segment, given.next()) {
            ("**", Some(_)) => return true,
            ("*", Some(text)) if !text.is_empty() => {}
            (literal, Some(text)) if literal == text => {}
            (_, _) => return false,
        }
    }
    given.next().is_none()
}

// === impl BlockCall ===

impl BlockCall<'_> {
    /// As the API access lists see this call.
    pub(crate) fn access_group<'g>(&'g self, path: &'g str) -> Group<'g> {
        Group {
            key: self.group,
            route: path.trim_start_matches('/'),
        }
    }

    /// The HTTP answer. `body` is looked at only where a malformed one is refused first.
    pub(crate) fn answer(&self, method: &Method, body: &[u8]) -> Response<Body> {
        let name = percent_encoding::percent_decode_str(self.name).decode_utf8_lossy();
        if self.block == Block::Bindings
            && let Err(err) =
                serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body)
        {
            let message = format!("failed deserializing HTTP body: {err}");
            return reply::error(StatusCode::BAD_REQUEST, "ERR_MALFORMED_REQUEST", &message);
        }
        let (status, code) = self.block.http();
        let message = match (self.block, method) {
            (Block::Jobs, &Method::GET) => jobs("get"),
            (Block::Jobs, &Method::DELETE) => jobs("delete"),
            (_, _) => self.block.message(&name),
        };
        if self.block == Block::State {
            return reply::json(
                status,
                with_state_detail(&reply::error_text(code, &message)),
            );
        }
        reply::error(status, code, &message)
    }

    /// True if the answer depends on the body.
    pub(crate) fn reads_body(&self) -> bool {
        self.block == Block::Bindings
    }
}

/// `details[0]` of state errors; the keys are sorted.
fn with_state_detail(error: &str) -> String {
    let open = error.strip_suffix('}').unwrap_or(error);
    format!(
        r#"{open},"details":[{{"@type":"type.googleapis.com/google.rpc.ErrorInfo","domain":"dapr.io","reason":"DAPR_STATE_NOT_CONFIGURED"}}]}}"#
    )
}

fn jobs(verb: &str) -> String {
    format!("failed to {verb} job due to: scheduler is not configured")
}

// === impl Block ===

impl Block {
    fn http(self) -> (StatusCode, &'static str) {
        let own = StatusCode::INTERNAL_SERVER_ERROR;
        match self {
            Self::State => (own, "ERR_STATE_STORE_NOT_CONFIGURED"),
            Self::Publish => (StatusCode::NOT_FOUND, "ERR_PUBSUB_NOT_FOUND"),
            Self::Bindings => (own, "ERR_INVOKE_OUTPUT_BINDING"),
            Self::Secrets => (own, "ERR_SECRET_STORES_NOT_CONFIGURED"),
            Self::Configuration => (own, "ERR_CONFIGURATION_STORE_NOT_CONFIGURED"),
            Self::Lock => (own, "ERR_LOCK_STORE_NOT_CONFIGURED"),
            Self::Crypto => (own, "ERR_CRYPTO_PROVIDERS_NOT_CONFIGURED"),
            Self::Actors | Self::Workflows => (StatusCode::BAD_REQUEST, "ERR_ACTOR_NO_PLACEMENT"),
            Self::Jobs => (own, "DAPR_SCHEDULER_SCHEDULE_JOB"),
            Self::Conversation => (StatusCode::BAD_REQUEST, "ERR_CONVERSATION_NOT_FOUND"),
        }
    }

    fn message(self, name: &str) -> String {
        match self {
            Self::State => format!("state store {name} is not configured"),
            Self::Publish => format!("pubsub {name} is not found"),
            Self::Bindings => {
                format!("error invoking output binding {name}: couldn't find output binding {name}")
            }
            Self::Secrets => "secret store is not configured".to_owned(),
            Self::Configuration => "configuration stores not configured".to_owned(),
            Self::Lock => "lock store is not configured".to_owned(),
            Self::Crypto => "crypto providers not configured".to_owned(),
            Self::Actors | Self::Workflows => "placement service is not configured".to_owned(),
            Self::Jobs => jobs("schedule"),
            Self::Conversation => format!("failed finding conversation component {name}"),
        }
    }

    /// The block of an RPC of the public service; `None` for one that no table names.
    pub(crate) fn of_rpc(method: &str) -> Option<Self> {
        match method {
            "GetState"
            | "GetBulkState"
            | "SaveState"
            | "DeleteState"
            | "DeleteBulkState"
            | "ExecuteStateTransaction"
            | "QueryStateAlpha1" => Some(Self::State),
            "PublishEvent"
            | "BulkPublishEventAlpha1"
            | "BulkPublishEvent"
            | "SubscribeTopicEventsAlpha1" => Some(Self::Publish),
            "InvokeBinding" => Some(Self::Bindings),
            "GetSecret" | "GetBulkSecret" => Some(Self::Secrets),
            "TryLockAlpha1" | "UnlockAlpha1" => Some(Self::Lock),
            "EncryptAlpha1" | "DecryptAlpha1" => Some(Self::Crypto),
            "ConverseAlpha1" | "ConverseAlpha2" => Some(Self::Conversation),
            other if other.starts_with("Subtle") => Some(Self::Crypto),
            other if other.contains("Configuration") => Some(Self::Configuration),
            other if other.contains("Workflow") => Some(Self::Workflows),
            other if other.contains("Actor") => Some(Self::Actors),
            other if other.contains("Job") => Some(Self::Jobs),
            _ => None,
        }
    }

    /// True if the RPC names its store in field 1 of its only message.
    pub(crate) fn names_in_message(self, method: &str) -> bool {
        let named = matches!(
            self,
            Self::State | Self::Publish | Self::Bindings | Self::Conversation
        );
        named && !method.starts_with("Subscribe")
    }

    /// The status of such an RPC; `name` is empty where the message was not read.
    pub(crate) fn status(self, method: &str, name: &str) -> Status {
        let verb = ["get", "delete"]
            .into_iter()
            .find(|verb| method.to_ascii_lowercase().starts_with(verb));
        let message = match verb {
            Some(verb) if self == Self::Jobs => jobs(verb),
            Some(_) | None => self.message(name),
        };
        match self {
            Self::State => status::with_error_info(
                Code::FailedPrecondition,
                &message,
                "DAPR_STATE_NOT_CONFIGURED",
                [],
            ),
            Self::Secrets | Self::Configuration | Self::Lock => {
                Status::failed_precondition(message)
            }
            Self::Publish | Self::Conversation => Status::invalid_argument(message),
            Self::Bindings | Self::Crypto | Self::Jobs => Status::internal(message),
            Self::Actors | Self::Workflows => Status::unavailable(message),
        }
    }
}

/// The one field that is read of such a message.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Named {
    /// Name of the store, component or topic broker.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[cfg(test)]
mod tests {
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
}
