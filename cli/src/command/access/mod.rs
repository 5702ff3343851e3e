//! `accesscontrol`: rules tried out, explained, checked, converted and compared before they are in force.
//!
//! Owns the words and forms and the exit codes; every answer is the policy crate's, over the files that a sidecar would
//! read, or over the objects of a cluster. Exit codes: 0 as it should be, 1 failed, 2 the answer is no (denied,
//! findings, changes), 3 too much to try.

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
use ironside_policy::{AppKind, Callee, Verb, VerbSet};

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

/// A request that doctor asks about.
pub(crate) struct Request {
    /// The caller, as `namespace/app-id`.
    pub(crate) caller: String,
    /// The called app, as `namespace/app-id`.
    pub(crate) callee: String,
    /// The HTTP verb.
    pub(crate) verb: String,
    /// The path below the app.
    pub(crate) path: String,
    /// Whether the called app speaks gRPC.
    pub(crate) is_grpc: bool,
}

/// Whether the rules of a cluster let a request pass, and why.
pub(crate) async fn verdict(
    session: &Session,
    cluster: &crate::cluster::Cluster,
    request: &Request,
) -> anyhow::Result<(bool, String)> {
    let app = match request.is_grpc {
        true => AppKind::Grpc,
        false => AppKind::Http,
    };
    let callee = callee(&request.callee, app)?;
    let sources = cluster::of(cluster, Some(&callee)).await?;
    let rules = sources.rules(&callee, session)?;
    let asked = check::Asked {
        caller: caller(&request.caller)?,
        callee,
        verb: Verb::from_http(&request.verb),
        method: check::method(&request.path, "http")?,
        is_proxied: false,
        overrides: VerbSet::NONE,
    };
    let explained = asked.explain(&rules.set);
    let verdict = &explained.decision.verdict;
    let word = show::word(verdict.is_allowed());
    let because = show::because(&rules.set, &sources, verdict);
    let Request {
        caller,
        callee,
        verb,
        path,
        is_grpc: _,
    } = request;
    let text = format!("{verb} {path} of {callee} by {caller}: {word} {because}");
    Ok((verdict.is_allowed(), text))
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
