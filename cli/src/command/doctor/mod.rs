//! `doctor`: is everything as it should be, and why does a call from one app to another fail?
//!
//! Owns the order of the checks. Facts are gathered first and judged by pure functions; without `-k` the sidecars of
//! this machine are looked at. Every finding names a fix. Changes nothing, but a call that is made reaches an app.

mod call;
mod definitions;
mod facts;
mod finding;
mod judge;
mod local;
mod rights;
mod stage;
mod way;

use std::process::ExitCode;

use anyhow::bail;
use ironside_chassis::build_info::VERSION;

use super::Session;
use crate::cluster::Cluster;

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let words: Vec<String> = session
        .words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let pair = match words.as_slice() {
        [] => None,
        [from, to] => Some((from.as_str(), to.as_str())),
        _ => bail!("name no app, or two: doctor [<caller> <callee>]"),
    };
    let findings = if session.values.switch("kubernetes") {
        let cluster = Cluster::of(session).await?;
        let facts = facts::gather(session, &cluster).await?;
        let mut findings = judge::judge(&facts);
        match facts.definitions.as_ref() {
            Some(Ok(held)) => findings.extend(definitions::judge(held, VERSION)?),
            Some(Err(why)) => findings.push(finding::Finding::unknown("definitions", why)),
            None => {}
        }
        if let Some((from, to)) = pair {
            findings.extend(way::walk(session, &cluster, &facts, from, to).await?);
        }
        findings
    } else {
        local::examine(session, pair).await
    };
    finding::tell(session, &findings)
}
