//! The sidecars of this machine, and a real call from one to another.
//!
//! The call is the proof: it takes the way that the caller's own calls take, through both sidecars to the app. It is a
//! GET, unless another verb is asked for.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use ironside_sentry::inspect;
use serde_json::Value;

use super::finding::Finding;
use super::{Session, judge, stage};
use crate::api::status_line;
use crate::instances::{self, Instance};
use crate::own_sentry::OwnSentry;

/// How long a sidecar may take to say how it is.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the call may take, built-in retries included.
const CALL: Duration = Duration::from_secs(20);

/// Looks at all sidecars, or at two and what is between them.
pub(super) async fn examine(session: &Session, pair: Option<(&str, &str)>) -> Vec<Finding> {
    let instances = instances::found();
    let mut findings = certificates(session).await;
    let Some((from, to)) = pair else {
        if instances.is_empty() {
            findings.push(Finding::warning(
                "sidecars",
                "no sidecar runs on this machine",
                "ironside run; or -k for a cluster",
            ));
        }
        for instance in &instances {
            findings.push(health(session, instance, "/v1.0/healthz").await);
        }
        findings.extend(mutual(instances.iter()));
        return findings;
    };
    let [caller, callee] =
        [from, to].map(|id| instances.iter().find(|one| one.vector.app_id == id));
    for (id, found) in [(from, caller), (to, callee)] {
        findings.push(match found {
            None => Finding::error(
                "sidecars",
                format!("no sidecar of app ID {id} runs on this machine"),
                "ironside list shows those that do",
            ),
            Some(instance) => {
                // The caller's own app has no part in the call.
                let what = if id == from {
                    "/v1.0/healthz/outbound"
                } else {
                    "/v1.0/healthz"
                };
                health(session, instance, what).await
            }
        });
    }
    findings.extend(mutual([caller, callee].into_iter().flatten()));
    if let Some(caller) = caller {
        findings.push(call(session, caller, to).await);
    }
    findings
}

async fn certificates(session: &Session) -> Vec<Finding> {
    let sentry = OwnSentry::find(session.home().as_ref(), &session.environment);
    let Ok(sentry) = sentry else {
        return Vec::new();
    };
    let folder = sentry.credentials();
    if !folder.is_dir() {
        return Vec::new();
    }
    let now: SystemTime = session.clock.now();
    match inspect::inspect(&folder).await {
        Ok(overview) => {
            let found = judge::ends("certificates", "the last root", overview.roots_end(), now);
            let fix = "ironside mtls renew-certificate".to_owned();
            vec![match found {
                Some(found) => Finding { fix, ..found },
                None => Finding::good("certificates", "those of this user's Sentry are valid"),
            }]
        }
        Err(error) => vec![Finding::error(
            "certificates",
            format!("those of this user's Sentry: {error}"),
            "move their folder away; the next run --mtls makes new ones",
        )],
    }
}

/// How a sidecar is, by its own word.
async fn health(session: &Session, instance: &Instance, path: &str) -> Finding {
    const CHECK: &str = "sidecars";
    let id = &instance.vector.app_id;
    let api = instance.api(session.token());
    let call = api.call(
        Method::GET,
        path,
        HeaderMap::new(),
        Bytes::new(),
        Some(ANSWER),
    );
    match call.await {
        Ok(answer) if answer.status() == StatusCode::NO_CONTENT => {
            Finding::good(CHECK, format!("{id} is ready"))
        }
        Ok(answer) => Finding::error(
            CHECK,
            format!("{id} is not ready: {}", message(answer.body())),
            "the brackets name what it waits for; runtime is the app's port",
        ),
        Err(error) => Finding::error(
            CHECK,
            format!("{id} does not answer: {error}"),
            "its log; is it still starting?",
        ),
    }
}

/// Sidecars with and without mutual TLS cannot call each other.
fn mutual<'a>(instances: impl Iterator<Item = &'a Instance>) -> Option<Finding> {
    let is_on = |one: &Instance| {
        let words = &one.process.command_line;
        words
            .iter()
            .any(|word| matches!(word.as_str(), "--enable-mtls" | "--enable-mtls=true"))
    };
    let (on, off): (Vec<_>, Vec<_>) = instances.partition(|one| is_on(one));
    let (on, off) = (on.first()?, off.first()?);
    Some(Finding::warning(
        "identity",
        format!(
            "{} has mutual TLS and {} has not: they cannot call each other",
            on.vector.app_id, off.vector.app_id
        ),
        "run --mtls for both, or for none",
    ))
}

/// Makes the call, and says how far it came.
async fn call(session: &Session, caller: &Instance, to: &str) -> Finding {
    let values = &session.values;
    let verb = values.text("verb").unwrap_or("GET").to_ascii_uppercase();
    let path = values.text("path").unwrap_or("/").trim_start_matches('/');
    let target = format!("/v1.0/invoke/{to}/method/{path}");
    let Ok(method) = Method::from_bytes(verb.as_bytes()) else {
        return Finding::error(
            "call",
            format!("--verb {verb} is no HTTP verb"),
            "GET, POST, …",
        );
    };
    let what = format!("{verb} /{path} of {to}, called by {}", caller.vector.app_id);
    let api = caller.api(session.token());
    let answer = api.call(method, &target, HeaderMap::new(), Bytes::new(), Some(CALL));
    let answer = match answer.await {
        Ok(answer) => answer,
        Err(error) => {
            let fix = "the caller's sidecar does not answer: its log";
            return Finding::error("call", format!("{what}: {error}"), fix);
        }
    };
    let is_sidecars = serde_json::from_slice::<Value>(answer.body())
        .is_ok_and(|body| body.get("errorCode").is_some());
    let status = status_line(answer.status());
    if answer.status() == StatusCode::UNAUTHORIZED && !is_sidecars && session.token().is_none() {
        let fix = "set DAPR_API_TOKEN to the token that the sidecar was started with";
        return Finding::error("call", format!("{what}: {status}"), fix);
    }
    if !is_sidecars {
        return Finding::good("call", format!("{what}: the app answered {status}"));
    }
    let text = message(answer.body());
    let (stage, fix) = stage::of(&text);
    Finding::error(stage, format!("{what}: {status}: {text}"), fix)
}

/// The message of a sidecar's error, or what else the body holds.
fn message(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let text = parsed
        .as_ref()
        .and_then(|body| body.get("message")?.as_str());
    match text {
        Some(text) => text.to_owned(),
        None => String::from_utf8_lossy(body).into_owned(),
    }
}
