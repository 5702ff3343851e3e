//! `run`: an app and its sidecar, or all apps of a template, here or in a cluster.

mod prepare;
mod single;
mod spec;
mod startup;
mod template;
mod vector;
mod workloads;
mod yaml;

use std::process::ExitCode;

use anyhow::bail;

use super::Session;

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let is_cluster = session.values.switch("kubernetes");
    match (run_file(session), is_cluster) {
        (Some(file), true) => {
            let apps = template::for_cluster(session, file)?;
            workloads::run(session, apps).await
        }
        (Some(file), false) => template::run(session, file).await,
        (None, true) => {
            bail!("run -k needs --run-file (-f): a template says what runs in a cluster")
        }
        (None, false) => single::run(session).await,
    }
}

/// Deletes what `run -k -f` has applied.
pub(crate) async fn stop_in_cluster(session: &Session) -> anyhow::Result<ExitCode> {
    let Some(file) = run_file(session) else {
        bail!("stop -k needs --run-file (-f): a template says what is to be deleted");
    };
    let apps = template::for_cluster(session, file)?;
    workloads::stop(session, apps).await
}

fn run_file(session: &Session) -> Option<&str> {
    let file = session.values.text("run-file");
    file.filter(|file| !file.is_empty())
}

pub(crate) use template::absolute_path as template_path;
