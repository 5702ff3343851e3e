//! `log-level`: how much a running sidecar logs, without a restart.
//!
//! The sidecar gets SIGUSR1 or SIGUSR2. One that does not listen for them is left alone: they would end it. Sidecars of
//! a cluster are out of its reach; it says which command does it there. Facts: resiliency-observability 4.1.

use std::process::ExitCode;

use rustix::process::{Pid, Signal, kill_process};

use super::Session;
use crate::instances::{self, proc};

/// What the level becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// `debug`.
    Debug,
    /// That of the start.
    Reset,
}

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let words: Vec<_> = session
        .words
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    let parsed = match words.as_slice() {
        [app, word] => Change::of(word).map(|change| (app, change)),
        _ => None,
    };
    let Some((app, change)) = parsed else {
        let text = "name an app id and what its sidecar is to log: `log-level orders debug`, or \
                    `log-level orders reset` for the level of its start";
        session.status.failure(text);
        return Ok(ExitCode::FAILURE);
    };
    if session.values.switch("kubernetes") {
        session.status.failure(&elsewhere(change));
        return Ok(ExitCode::FAILURE);
    }
    Ok(here(session, app, change).await)
}

/// What to do in a cluster.
fn elsewhere(change: Change) -> String {
    format!(
        "log-level reaches the sidecars of this machine alone; in a cluster run, for each pod of the app, `kubectl exec \
         --namespace <namespace> <pod> --container daprd -- /daprd log-level {}`",
        change.as_str()
    )
}

/// The sidecars of an app on this machine.
async fn here(session: &Session, app: &str, change: Change) -> ExitCode {
    let instances = instances::list(session.token()).await;
    let ours = instances.iter().filter(|one| one.vector.app_id == app);
    let mut code = None;
    for instance in ours {
        let pid = instance.process.pid;
        let told = match signal(pid, change.signal()) {
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

fn signal(pid: proc::Pid, signal: Signal) -> anyhow::Result<()> {
    anyhow::ensure!(
        proc::catches(pid, signal.as_raw()),
        "process {pid} does not listen for it; is it a sidecar of an older version, or just starting?"
    );
    let process = Pid::from_raw(pid).ok_or_else(|| anyhow::anyhow!("no process {pid}"))?;
    Ok(kill_process(process, signal)?)
}

// === impl Change ===

impl Change {
    fn of(word: &str) -> Option<Self> {
        match word {
            "debug" => Some(Self::Debug),
            "reset" => Some(Self::Reset),
            _ => None,
        }
    }

    /// The word of the command line.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Reset => "reset",
        }
    }

    /// What the level is then.
    const fn told(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Reset => "that of its start",
        }
    }

    const fn signal(self) -> Signal {
        match self {
            Self::Debug => Signal::USR1,
            Self::Reset => Signal::USR2,
        }
    }
}
