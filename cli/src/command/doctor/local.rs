//! The sidecars of this machine, and a real call from one to another.
//!
//! It is a GET, unless another verb is asked for.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use ironside_sentry::inspect;

use super::call::{Asked, message};
use super::finding::Finding;
use super::{Session, judge};
use crate::instances::{self, Instance};
use crate::own_sentry::OwnSentry;

/// How long a sidecar may take to say how it is.
const ANSWER: Duration = Duration::from_secs(5);

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
        let asked = Asked::of(session, &caller.vector.app_id, to);
        findings.push(asked.make(&caller.api(session.token())).await);
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
