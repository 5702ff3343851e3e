//! Building blocks that are not offered: their routes exist, and answer what the reference answers when
//! nothing is configured.
//!
//! Owns the two tables of cli-and-clients 2.10, so that a program with one unsupported call gets a typed
//! error and never a hang or an accidental invocation. Refuses to own anything that such a block would do.

use http::{Method, Response, StatusCode};
use tonic::{Code, Status};

use super::{access::Group, reply};
use crate::{body::Body, invocation::status};

mod routes;

pub(crate) use routes::find;

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
            && let Err(err) = serde_json::from_slice::<AnyObject>(body)
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

/// A JSON object of which nothing is kept: kept, it would be a hundred times as large.
struct AnyObject;

impl<'de> serde::Deserialize<'de> for AnyObject {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> serde::de::Visitor<'de> for Entries {
            type Value = AnyObject;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<AnyObject, A::Error> {
                while map
                    .next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?
                    .is_some()
                {}
                Ok(AnyObject)
            }
        }
        from.deserialize_map(Entries)
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
mod tests;
