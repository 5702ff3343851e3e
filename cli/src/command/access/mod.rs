//! `accesscontrol`: rules tried out, explained, checked, converted and compared before they are in force.
//!
//! Owns the words and forms and the exit codes; every answer is the policy crate's, over the files that a sidecar
//! would read, or over the objects of a cluster. Exit codes: 0 as it should be, 1 failed, 2 the answer is no (denied, findings, changes), 3 too much
//! to try.

mod call;
mod check;
pub(crate) mod cluster;
mod convert;
mod diff;
mod lint;
mod nearest;
pub(crate) mod rules;
mod show;
mod why;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use ironside_identity::{AppId, Namespace, SpiffeId, TrustDomain};
use ironside_policy::{AppKind, Callee};

use super::Session;

/// The answer is no: denied, findings, changes.
const NO: u8 = 2;
/// Not everything was tried.
const TOO_MUCH: u8 = 3;

/// Runs the command `below`.
pub(crate) fn run(session: &Session, below: &str) -> anyhow::Result<ExitCode> {
    match below {
        "check" => check::run(session),
        "convert" => convert::run(session),
        "diff" => diff::run(session),
        "lint" => lint::run(session),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(why::run(session))
        }
    }
}

/// Whether the output is to be JSON.
fn wants_json(session: &Session) -> anyhow::Result<bool> {
    match session.values.text("output") {
        None | Some("text") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => bail!("--output {other}: write text or json"),
    }
}

fn app_kind(session: &Session) -> anyhow::Result<AppKind> {
    match session.values.text("app-protocol").unwrap_or("http") {
        "http" | "https" | "h2c" => Ok(AppKind::Http),
        "grpc" | "grpcs" => Ok(AppKind::Grpc),
        other => bail!("--app-protocol {other}: write http, https, h2c, grpc or grpcs"),
    }
}

/// The called app: `namespace/app`, or `app` in the namespace `default`.
fn callee(text: &str, app: AppKind) -> anyhow::Result<Callee> {
    let (namespace, app_id) = text.split_once('/').unwrap_or(("default", text));
    let read = || -> anyhow::Result<Callee> {
        let callee = Callee {
            app_id: AppId::parse(app_id)?,
            namespace: Namespace::parse(namespace)?,
            trust_domain: TrustDomain::default(),
            app,
        };
        // Names that no identity can have are slips.
        SpiffeId::new(
            callee.trust_domain.clone(),
            callee.namespace.clone(),
            callee.app_id.clone(),
        )?;
        Ok(callee)
    };
    read().with_context(|| format!("--callee {text}: write namespace/app-id"))
}

/// A caller: `namespace/app`, a SPIFFE ID, or `-` for one without identity.
fn caller(text: &str) -> anyhow::Result<Option<SpiffeId>> {
    if text == "-" {
        return Ok(None);
    }
    let id = if text.starts_with("spiffe://") {
        SpiffeId::parse(text)
    } else {
        let (namespace, app_id) = text.split_once('/').unwrap_or(("default", text));
        SpiffeId::parse(&format!(
            "spiffe://{}/ns/{namespace}/{app_id}",
            TrustDomain::default()
        ))
    };
    let hint = || format!("--caller {text}: write namespace/app-id, a SPIFFE ID, or - for none");
    id.map(Some).with_context(hint)
}
