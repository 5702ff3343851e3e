//! `log-level`: how much a running sidecar logs, without a restart.
//!
//! On this machine the sidecar gets a signal; one that does not listen for it is left alone. In a cluster the sidecar's
//! own container sends it: see `cluster/log_level.rs`. Facts: resiliency-observability 4.1.

use std::process::ExitCode;

use ironside_chassis::logging::LevelChange;

use super::{Session, cluster};
use crate::instances;

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let words: Vec<_> = session
        .words
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    let parsed = match words.as_slice() {
        [app, word] => LevelChange::of(word).map(|change| (app, change)),
        _ => None,
    };
    let Some((app, change)) = parsed else {
        let text = "name an app id and what its sidecar is to log: `log-level orders debug`, or \
                    `log-level orders reset` for the level of its start";
        session.status.failure(text);
        return Ok(ExitCode::FAILURE);
    };
    if session.values.switch("kubernetes") {
        return cluster::log_level::run(session, app, change).await;
    }
    Ok(here(session, app, change).await)
}

/// The sidecars of an app on this machine.
async fn here(session: &Session, app: &str, change: LevelChange) -> ExitCode {
    let instances = instances::list(session.token()).await;
    let ours = instances.iter().filter(|one| one.vector.app_id == app);
    let mut code = None;
    for instance in ours {
        let pid = instance.process.pid;
        let told = match change.ask(pid) {
            Ok(()) => {
                let text = format!("log level of {app} (process {pid}): {}", change.told());
                session.status.success(&text);
                ExitCode::SUCCESS
            }
            Err(cause) => {
                let text = format!("failed to change the log level of {app}: {cause}");
                session.status.failure(&text);
                ExitCode::FAILURE
            }
        };
        if code != Some(ExitCode::FAILURE) {
            code = Some(told);
        }
    }
    code.unwrap_or_else(|| {
        session
            .status
            .failure(&format!("couldn't find app id {app}"));
        ExitCode::FAILURE
    })
}
