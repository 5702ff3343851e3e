//! A real call from one app to another, and how far it came.
//!
//! The call is the proof: it takes the way that the caller's own calls take, through both sidecars to the app. Any
//! answer of the app is good; one of a sidecar names its stage.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::Value;

use super::finding::Finding;
use super::{Session, stage};
use crate::api::{Api, CallError, status_line};

const CHECK: &str = "call";
/// How long the call may take, built-in retries included.
const LIMIT: Duration = Duration::from_secs(20);

/// The request that `--verb` and `--path` ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    verb: String,
    path: String,
    /// The called app, as its caller names it.
    target: String,
    /// Both in words.
    what: String,
}

// === impl Asked ===

impl Asked {
    /// The call of `target` (`app-id` or `app-id.namespace`) by `caller`.
    pub(super) fn of(session: &Session, caller: &str, target: &str) -> Self {
        let values = &session.values;
        let verb = values.text("verb").unwrap_or("GET").to_ascii_uppercase();
        let path = values.text("path").unwrap_or("/").trim_start_matches('/');
        Self {
            what: format!("{verb} /{path} of {target}, called by {caller}"),
            path: path.to_owned(),
            target: target.to_owned(),
            verb,
        }
    }

    /// That nobody wanted it, and how to have it made.
    pub(super) fn not_wanted(&self) -> Finding {
        Finding::note(
            CHECK,
            format!(
                "{}: not made; the above is what objects and sidecars say",
                self.what
            ),
            "--call makes it. It reaches the app: --verb and --path name a request that does no harm",
        )
    }

    /// That there is nobody to make it.
    pub(super) fn not_possible(&self, caller: &str) -> Finding {
        Finding::error(
            CHECK,
            format!("{}: not made, no sidecar of {caller} runs", self.what),
            format!("start {caller}; ironside list -k shows the sidecars that there are"),
        )
    }

    /// Has a caller's sidecar make the call, and says how far it came.
    pub(super) async fn make(&self, api: &Api) -> Finding {
        let Ok(verb) = Method::from_bytes(self.verb.as_bytes()) else {
            return Finding::error(
                CHECK,
                format!("--verb {} is no HTTP verb", self.verb),
                "GET, POST, …",
            );
        };
        let target = format!("/v1.0/invoke/{}/method/{}", self.target, self.path);
        let answer = api.call(verb, &target, HeaderMap::new(), Bytes::new(), Some(LIMIT));
        self.judge(&answer.await, api.token.is_some())
    }

    fn judge(&self, answer: &Result<Response<Bytes>, CallError>, has_token: bool) -> Finding {
        let what = &self.what;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error @ CallError::Forward { .. }) => {
                return Finding::unknown(CHECK, format!("{what}: {error}"));
            }
            Err(error) => {
                let fix = "the caller's sidecar does not answer: its log";
                return Finding::error(CHECK, format!("{what}: {error}"), fix);
            }
        };
        let is_sidecars = serde_json::from_slice::<Value>(answer.body())
            .is_ok_and(|body| body.get("errorCode").is_some());
        let code = answer.status();
        let status = status_line(code);
        if code == StatusCode::UNAUTHORIZED && !is_sidecars && !has_token {
            let fix = "set DAPR_API_TOKEN to the token that the sidecar was started with";
            return Finding::error(CHECK, format!("{what}: {status}"), fix);
        }
        let is_failure = code.is_client_error() || code.is_server_error();
        if self.verb == "HEAD" && is_failure {
            return Finding {
                fix: "ask with another --verb".to_owned(),
                ..Finding::unknown(
                    CHECK,
                    format!("{what}: {status}, and an answer to HEAD does not say whose it is"),
                )
            };
        }
        if !is_sidecars {
            return Finding::good(CHECK, format!("{what}: the app answered {status}"));
        }
        let text = message(answer.body());
        let (stage, fix) = stage::of(&text);
        Finding::error(stage, format!("{what}: {status}: {text}"), fix)
    }
}

/// The message of a sidecar's error, or what else the body holds.
pub(super) fn message(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let text = parsed
        .as_ref()
        .and_then(|body| body.get("message")?.as_str());
    match text {
        Some(text) => text.to_owned(),
        None => String::from_utf8_lossy(body).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Weight;
    use super::*;

    fn asked(verb: &str) -> Asked {
        Asked {
            verb: verb.to_owned(),
            path: "x".to_owned(),
            target: "orders.shop".to_owned(),
            what: "the call".to_owned(),
        }
    }

    #[test]
    fn an_answer_is_the_apps_or_names_a_stage() {
        let denied = r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"rpc error: code = PermissionDenied desc = x"}"#;
        for (verb, status, body, has_token, check, weight, text) in [
            (
                "GET",
                200,
                "",
                false,
                "call",
                Weight::Good,
                "the call: the app answered 200 OK",
            ),
            (
                "GET",
                500,
                "{}",
                false,
                "call",
                Weight::Good,
                "the call: the app answered 500 Internal Server Error",
            ),
            (
                "GET",
                401,
                "",
                true,
                "call",
                Weight::Good,
                "the call: the app answered 401 Unauthorized",
            ),
            (
                "GET",
                401,
                "",
                false,
                "call",
                Weight::Error,
                "the call: 401 Unauthorized",
            ),
            (
                "GET",
                403,
                denied,
                false,
                "policy",
                Weight::Error,
                "the call: 403 Forbidden: rpc error: code = PermissionDenied desc = x",
            ),
            (
                "HEAD",
                204,
                "",
                false,
                "call",
                Weight::Good,
                "the call: the app answered 204 No Content",
            ),
            (
                "HEAD",
                403,
                "",
                false,
                "call",
                Weight::Unknown,
                "the call: 403 Forbidden, and an answer to HEAD does not say whose it is",
            ),
        ] {
            let answer = Response::builder().status(status);
            let answer = Ok(answer.body(Bytes::from_static(body.as_bytes())).unwrap());
            let found = asked(verb).judge(&answer, has_token);
            assert_eq!(
                (found.check, found.weight, found.text.as_str()),
                (check, weight, text)
            );
            assert_eq!(found.fix.is_empty(), weight == Weight::Good);
        }
    }

    /// Want of the right to forward a port says nothing about the call.
    #[test]
    fn no_answer_is_the_sidecars_unless_it_could_not_be_asked() {
        let forward = CallError::Forward {
            pod: "web-1".to_owned(),
            cause: anyhow::anyhow!("forbidden"),
        };
        for (error, weight) in [
            (forward, Weight::Unknown),
            (CallError::Slow(LIMIT), Weight::Error),
        ] {
            let found = asked("GET").judge(&Err(error), false);
            assert_eq!((found.check, found.weight), ("call", weight));
            assert!(!found.fix.is_empty());
        }
    }
}
