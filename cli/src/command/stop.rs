//! `stop`: ends apps with their sidecars, and returns when they are gone.
//!
//! Facts: cli-and-clients 1.12 "`stop`", CL-42, CL-44, CL-71.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Session;
use crate::instances::{self, Instance, proc};

/// How long processes may take to end before they are killed.
const GRACE: Duration = Duration::from_secs(10);
/// How long one of them may take before the next one is signalled.
const APP_GRACE: Duration = Duration::from_secs(5);
/// How often they are looked at.
const POLL: Duration = Duration::from_millis(20);

/// A process that is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    pid: proc::Pid,
    ticks: u64,
}

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    if session.values.switch("kubernetes") {
        return super::run::stop_in_cluster(session).await;
    }
    if let Some(file) = session
        .values
        .text("run-file")
        .filter(|file| !file.is_empty())
    {
        return Ok(template(session, file).await);
    }
    let flag = session.values.text("app-id").map(str::to_owned);
    let words = session
        .words
        .iter()
        .map(|word| word.to_string_lossy().into_owned());
    let ids: Vec<String> = flag.into_iter().chain(words).collect();
    if ids.is_empty() {
        let text = "nothing to stop: name app ids (`stop orders checkout`) or a template (`stop -f dapr.yaml`)";
        session.status.failure(text);
        return Ok(ExitCode::FAILURE);
    }
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        if !app(session, &id).await {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Ends one app; says whether that went well. An app that does not run has been stopped already.
async fn app(session: &Session, id: &str) -> bool {
    let instances = instances::list(session.token()).await;
    let Some(instance) = instances.iter().find(|one| one.vector.app_id == id) else {
        let text = format!("failed to stop app id {id}: couldn't find app id {id}");
        session.status.failure(&text);
        return true;
    };
    match end(&signalled(instance, &instances), Target::all(instance)).await {
        Ok(()) => {
            session
                .status
                .success(&format!("app stopped successfully: {id}"));
            true
        }
        Err(error) => {
            session
                .status
                .failure(&format!("failed to stop app id {id}: {error}"));
            false
        }
    }
}

/// Which processes get the signal, one after the other: the command line if it runs this app alone, else the app, if
/// that can be told, and the sidecar.
fn signalled(instance: &Instance, all: &[Instance]) -> Vec<proc::Pid> {
    let sidecar = instance.process.pid;
    let Some(command_line) = instance.command_line_pid() else {
        return vec![sidecar];
    };
    let apps = all
        .iter()
        .filter(|one| one.command_line_pid() == Some(command_line))
        .count();
    if apps == 1 {
        return vec![command_line];
    }
    Target::all(instance)
        .iter()
        .rev()
        .map(|target| target.pid)
        .collect()
}

/// Ends all apps of a template.
async fn template(session: &Session, file: &str) -> ExitCode {
    let wanted = super::run::template_path(Path::new(file));
    let instances = instances::list(session.token()).await;
    let path = wanted
        .as_ref()
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default();
    let ours: Vec<&Instance> = instances
        .iter()
        .filter(|one| !path.is_empty() && one.extended.run_template_path == path)
        .collect();
    let Some(command_line) = ours.iter().find_map(|one| one.command_line_pid()) else {
        let text = format!(
            "Failed to stop Dapr and app processes: couldn't find apps with run file {file:?}"
        );
        session.status.failure(&text);
        return ExitCode::SUCCESS;
    };
    let targets = ours.iter().flat_map(|one| Target::all(one)).collect();
    match end(&[command_line], targets).await {
        Ok(()) => {
            session
                .status
                .success("Dapr and app processes stopped successfully");
            ExitCode::SUCCESS
        }
        Err(error) => {
            session
                .status
                .failure(&format!("Failed to stop Dapr and app processes: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Signals processes one after the other, and waits until all are gone; what is left after the grace period is killed.
async fn end(signalled: &[proc::Pid], mut targets: Vec<Target>) -> Result<(), rustix::io::Errno> {
    targets.extend(signalled.iter().copied().filter_map(Target::new));
    let mut rest = signalled.iter().copied().peekable();
    while let Some(pid) = rest.next() {
        let target = Target::new(pid);
        send(pid, Signal::TERM)?;
        if rest.peek().is_some() {
            // One that takes longer is killed in the end.
            let _late = tokio::time::timeout(APP_GRACE, gone(target.as_slice())).await;
        }
    }
    if tokio::time::timeout(GRACE, gone(&targets)).await.is_ok() {
        return Ok(());
    }
    for target in targets.iter().filter(|target| target.runs()) {
        send(target.pid, Signal::KILL)?;
    }
    Ok(())
}

async fn gone(targets: &[Target]) {
    while targets.iter().any(Target::runs) {
        tokio::time::sleep(POLL).await;
    }
}

fn send(pid: proc::Pid, signal: Signal) -> Result<(), rustix::io::Errno> {
    let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 1) else {
        return Ok(());
    };
    match kill_process(pid, signal) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

// === impl Target ===

impl Target {
    fn new(pid: proc::Pid) -> Option<Self> {
        let ticks = proc::ticks(pid)?;
        Some(Self { pid, ticks })
    }

    /// The processes of an instance: its sidecar, and its command line and app if they can be told.
    fn all(instance: &Instance) -> Vec<Self> {
        let sidecar = Self {
            pid: instance.process.pid,
            ticks: instance.process.ticks,
        };
        // Believed only if it is a child of the same command line.
        let app: Option<proc::Pid> = instance.extended.app_pid.parse().ok();
        let command_line = instance.command_line_pid();
        let app = app
            .filter(|&pid| command_line.is_some() && proc::ancestors(pid).next() == command_line);
        std::iter::once(sidecar)
            .chain(app.and_then(Self::new))
            .collect()
    }

    fn runs(&self) -> bool {
        proc::runs(self.pid, self.ticks)
    }
}
