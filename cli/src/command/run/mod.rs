//! `run`: an app and its sidecar, or all apps of a template.

mod prepare;
mod single;
mod spec;
mod startup;
mod template;
mod vector;
mod yaml;

use std::process::ExitCode;

use super::{Session, absent};

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    if session.values.switch("kubernetes") {
        return Ok(absent::kubernetes(session, "run"));
    }
    match session
        .values
        .text("run-file")
        .filter(|file| !file.is_empty())
    {
        Some(file) => template::run(session, file).await,
        None => single::run(session).await,
    }
}

pub(crate) use template::absolute_path as template_path;
