//! `run` of one app: start, watch, end in order.
//!
//! The app ends before its sidecar, so that it can still call it; signals are honoured at every moment; a second one
//! kills at once. Facts: cli-and-clients 1.7, 1.8, CH1, CH2, CL-20 to CL-37.

use std::process::ExitCode;
use std::time::Duration;

use ironside_chassis::tasks::Tasks;
use rustix::process::{Signal, getpid};

use super::prepare::{Plan, Surroundings, prepare};
use super::spec::AppSpec;
use super::startup::{addresses, set_metadata, wait_for_sidecar};
use super::vector::LogForm;
use crate::command::Session;
use crate::output::Status;
use crate::own_sentry::{Joined, OwnSentry};
use crate::process::child::Streams;
use crate::process::{Change, Child, Ended, Interrupts, Terminal};

/// How long the app may take to end.
pub(super) const APP_GRACE: Duration = Duration::from_secs(5);
/// How long the sidecar may take: its own grace period and two seconds.
pub(super) const SIDECAR_GRACE: Duration = Duration::from_secs(7);

/// Why a run ends.
enum Cause {
    Signal,
    App(Ended),
    Sidecar(Ended),
    /// The app could not be started.
    NoApp(anyhow::Error),
}

struct Run<'a> {
    status: &'a Status,
    plan: Plan,
    interrupts: Interrupts,
    terminal: Terminal,
    sidecar: Child,
    app: Option<Child>,
    /// What goes on beside, to the end of this process.
    _tasks: Tasks,
}

/// Runs the app that the flags describe.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let status = &session.status;
    if session.words.is_empty() {
        no_command(status);
    }
    let spec = AppSpec::from_flags(&session.values, &session.words, session.home());
    if spec.unix_domain_socket.is_some() {
        status.warning("Unix domain sockets are currently a preview feature");
    }
    let around = Surroundings {
        environment: &session.environment,
        log: if status.is_json() {
            LogForm::Json
        } else {
            LogForm::Text
        },
        sidecar_variables: Vec::new(),
    };
    let mut interrupts = Interrupts::install()?;
    let tasks = Tasks::new();
    let sentry = tokio::select! {
        biased;
        () = interrupts.next() => {
            status.info("terminated signal received: shutting down");
            return Ok(ExitCode::SUCCESS);
        }
        joined = join_sentry(session, &spec, &tasks) => joined?,
    };
    let mut plan = prepare(spec, &around, sentry, &mut rand::rng())?;
    let sidecar = plan.sidecar(Streams::Output).start()?;
    status.info(&format!(
        "Starting Dapr with id {}. {}",
        plan.spec.app_id,
        addresses(&plan)
    ));
    let mut run = Run {
        status,
        plan,
        interrupts,
        terminal: Terminal::find()?,
        sidecar,
        app: None,
        _tasks: tasks,
    };
    let cause = match run.start(session.token()).await {
        Some(cause) => cause,
        None => run.watch().await,
    };
    Ok(run.end(cause).await)
}

/// Makes a run a client of this user's Sentry, if it asks for that.
pub(super) async fn join_sentry(
    session: &Session,
    spec: &AppSpec,
    tasks: &Tasks,
) -> anyhow::Result<Option<Joined>> {
    if !spec.own_sentry {
        return Ok(None);
    }
    let sentry = OwnSentry::find(spec.home.as_ref(), &session.environment)?;
    let joined = sentry.join(&session.status).await?;
    tasks.spawn("sentry", joined.keep(&session.status));
    Ok(Some(joined))
}

/// Says that there is only a sidecar, in the reference's words.
fn no_command(status: &Status) {
    if status.is_json() {
        status.warning("no application command found.");
    } else {
        crate::output::line("WARNING: no application command found.");
    }
}

// === impl Run ===

impl Run<'_> {
    /// Starts the app once the sidecar answers; returns early when something ends the run before it began.
    async fn start(&mut self, token: Option<&str>) -> Option<Cause> {
        let Self {
            status,
            plan,
            interrupts,
            terminal: _,
            sidecar,
            app,
            _tasks: _,
        } = self;
        let say = |level, text: &str| status.say(level, text);
        let steps = async {
            wait_for_sidecar(plan, &say).await;
            match plan
                .app(Streams::Inherited)
                .and_then(|launch| Ok(launch.map(|one| one.start()).transpose()?))
            {
                Ok(started) => *app = started,
                Err(error) => return Some(Cause::NoApp(error)),
            }
            set_metadata(&plan.api(token), &metadata(plan, app.as_ref()), &say).await;
            None
        };
        let early = tokio::select! {
            biased;
            () = interrupts.next() => Some(Cause::Signal),
            ended = sidecar.ended() => Some(Cause::Sidecar(ended)),
            failed = steps => failed,
        };
        if early.is_some() {
            return early;
        }
        let what = if self.app.is_some() {
            "Both Dapr and your app logs"
        } else {
            "Dapr logs"
        };
        self.status
            .success(&format!("You're up and running! {what} will appear here."));
        None
    }

    /// Waits for whatever ends the run.
    async fn watch(&mut self) -> Cause {
        loop {
            tokio::select! {
                () = self.interrupts.next() => return Cause::Signal,
                ended = self.sidecar.ended() => return Cause::Sidecar(ended),
                change = change(&mut self.app) => match change {
                    Change::Ended(ended) => return self.app_ended(ended),
                    Change::Stopped(by) => {
                        if let Some(app) = &self.app {
                            self.terminal.app_stopped(app, by);
                        }
                    }
                },
                () = self.terminal.continued() => {
                    if let Some(app) = &self.app {
                        self.terminal.resume(app);
                    }
                }
            }
        }
    }

    /// An app that had the terminal and died of Ctrl-C was ended by the user.
    fn app_ended(&self, ended: Ended) -> Cause {
        let by_interrupt = match ended {
            Ended::Signal(signal) => signal == Signal::INT.as_raw(),
            Ended::Code(code) => code == 128 + Signal::INT.as_raw(),
        };
        if self.terminal.is_lent() && by_interrupt {
            return Cause::Signal;
        }
        Cause::App(ended)
    }

    /// Ends what still runs, app first, and says how it went.
    async fn end(mut self, cause: Cause) -> ExitCode {
        self.terminal.take_back();
        let status = self.status;
        match &cause {
            Cause::Signal => status.info("terminated signal received: shutting down"),
            Cause::App(Ended::Code(0)) => {
                status.success("Exited App successfully");
                status.info("terminated signal received: shutting down");
            }
            Cause::App(Ended::Code(code)) => {
                status.failure(&format!("The App process exited with error code: {code}"));
            }
            Cause::App(Ended::Signal(signal)) => {
                let name = Ended::signal_name(*signal);
                status.failure(&format!("The App process was terminated by signal: {name}"));
            }
            Cause::Sidecar(Ended::Code(0)) => {}
            Cause::Sidecar(ended) => status.failure(&format!(
                "The daprd process exited with error code: {ended}"
            )),
            Cause::NoApp(error) => status.failure(&format!("{error:#}")),
        }
        self.stop().await;
        report(status, &cause, self.app.is_some())
    }

    async fn stop(&mut self) {
        let interrupts = &mut self.interrupts;
        let mut hurry = false;
        if let Some(app) = &mut self.app {
            app.stop(APP_GRACE, async {
                interrupts.next().await;
                hurry = true;
            })
            .await;
        }
        let grace = if hurry { Duration::ZERO } else { SIDECAR_GRACE };
        self.sidecar.stop(grace, interrupts.next()).await;
        self.plan.clean_up();
    }
}

/// The last lines, once all is over, and the exit code.
fn report(status: &Status, cause: &Cause, had_app: bool) -> ExitCode {
    let exited = |what: &str| status.success(&format!("Exited {what} successfully"));
    match cause {
        Cause::Signal | Cause::Sidecar(Ended::Code(0)) | Cause::App(Ended::Code(0)) => {
            exited("Dapr");
            if had_app {
                exited("App");
            }
            ExitCode::SUCCESS
        }
        Cause::App(Ended::Code(code)) => {
            exited("Dapr");
            status.failure(&format!("Error exiting App: app exited with status {code}"));
            ExitCode::FAILURE
        }
        Cause::App(Ended::Signal(_)) => {
            exited("Dapr");
            ExitCode::FAILURE
        }
        Cause::Sidecar(_) => {
            if had_app {
                exited("App");
            }
            ExitCode::FAILURE
        }
        Cause::NoApp(_) => {
            status.failure("Start App failed, try to stop Dapr successfully");
            ExitCode::FAILURE
        }
    }
}

async fn change(app: &mut Option<Child>) -> Change {
    match app {
        Some(app) => app.change().await,
        None => std::future::pending().await,
    }
}

fn metadata(plan: &Plan, app: Option<&Child>) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("cliPID", getpid().as_raw_nonzero().to_string())];
    if let Some(app) = app {
        pairs.push(("appPID", app.pid().as_raw_nonzero().to_string()));
        pairs.push(("appCommand", plan.spec.command_text()));
    }
    pairs
}
