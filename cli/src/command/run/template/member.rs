//! One app of a template while it runs: its processes and where their output goes.

use std::process::{ChildStderr, ChildStdout};
use std::time::Duration;

use anyhow::Context as _;
use ironside_chassis::tasks::Tasks;
use rustix::process::getpid;
use tokio::sync::watch;

use super::resolve::TemplateApp;
use super::sink::{Gate, Sink, console_has_colour};
use crate::api::Endpoint;
use crate::command::Session;
use crate::command::run::prepare::{Plan, Surroundings, prepare};
use crate::command::run::single::{APP_GRACE, SIDECAR_GRACE, join_sentry};
use crate::command::run::spec::AppSpec;
use crate::command::run::startup::{addresses, set_metadata, wait_for_sidecar};
use crate::output::age;
use crate::process::child::Streams;
use crate::process::{Child, Ended};

/// How long the apps after one wait for its port.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);
/// How often the port is tried.
const LISTEN_POLL: Duration = Duration::from_millis(50);

/// What the start of one app needs from those around it.
pub(crate) struct Surrounded<'a> {
    /// The session.
    pub session: &'a Session,
    /// What preparing needs.
    pub around: &'a Surroundings<'a>,
    /// Who owns the tasks that move output.
    pub tasks: &'a Tasks,
    /// Who owns the tasks without an end of their own.
    pub beside: &'a Tasks,
    /// What holds output back.
    pub gate: Gate,
    /// The template's path and name.
    pub template: (&'a str, &'a str),
}

/// One app that runs.
pub(crate) struct Member {
    plan: Plan,
    app_log: Sink,
    daprd_log: Sink,
    sidecar: Child,
    app: Option<Child>,
    sidecar_told: bool,
    app_told: bool,
}

/// An app or a sidecar that ended by itself.
pub(crate) struct End {
    app_id: String,
    part: Part,
    how: Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    App,
    Sidecar,
}

// === impl End ===

impl End {
    /// Whether something went wrong.
    pub(crate) fn is_failure(&self) -> bool {
        self.how != Ended::Code(0)
    }

    /// The console line.
    pub(crate) fn text(&self) -> String {
        let Self { app_id, part, how } = self;
        let what = match part {
            Part::App => "App",
            Part::Sidecar => "daprd",
        };
        if self.is_failure() {
            format!("The {what} process of app id {app_id:?} exited with error code: {how}")
        } else {
            format!("The {what} process of app id {app_id:?} exited")
        }
    }
}

// === impl Member ===

impl Member {
    /// Starts a sidecar and its app.
    ///
    /// What has been started is in `into` even if this fails or is dropped, so that it can be ended.
    pub(crate) async fn start(
        app: TemplateApp,
        surrounded: &Surrounded<'_>,
        into: &mut Option<Self>,
    ) -> anyhow::Result<()> {
        let Surrounded {
            session,
            around,
            tasks,
            beside,
            gate,
            template,
        } = surrounded;
        let id = app.spec.app_id.clone();
        session
            .status
            .info(&format!("Validating config and starting app {id:?}"));
        let (app_log, daprd_log) = sinks(&app, session)?;
        let folder = app.folder.join(".dapr").join("logs");
        let sentry = join_sentry(session, &app.spec, beside).await?;
        let mut plan = prepare(app.spec, around, sentry, &mut rand::rng())?;
        daprd_log.note(&format!("Starting Dapr with id {id}. {}", addresses(&plan)));
        let mut sidecar = plan
            .sidecar(Streams::Piped)
            .start()
            .context("starting the sidecar")?;
        pump(&mut sidecar, &daprd_log, tasks, gate);
        session.status.success(&format!(
            "Started Dapr with app id {id:?}. {}",
            addresses(&plan)
        ));
        if app_log.path().is_some() || daprd_log.path().is_some() {
            session.status.info(&format!(
                "Writing log files to directory : {}",
                folder.display()
            ));
        }
        let member = into.insert(Self {
            plan,
            app_log,
            daprd_log,
            sidecar,
            app: None,
            sidecar_told: false,
            app_told: false,
        });
        member.go_on(session, tasks, gate, *template).await
    }

    async fn go_on(
        &mut self,
        session: &Session,
        tasks: &Tasks,
        gate: &Gate,
        template: (&str, &str),
    ) -> anyhow::Result<()> {
        let daprd_log = self.daprd_log.clone();
        let say = |_level, text: &str| daprd_log.note(text);
        let early = tokio::select! {
            ended = self.sidecar.ended() => Some(ended),
            () = wait_for_sidecar(&self.plan, &say) => None,
        };
        if let Some(ended) = early {
            self.sidecar_told = true;
            anyhow::bail!("the daprd process exited with error code: {ended}");
        }
        match self.plan.app(Streams::Piped)? {
            Some(launch) => {
                let mut app = launch.start().context("starting the app")?;
                pump(&mut app, &self.app_log, tasks, gate);
                self.app = Some(app);
            }
            None => {
                let text = format!(
                    "No application command found for app {:?} present in {}",
                    self.plan.spec.app_id, template.0
                );
                session.status.warning(&text);
            }
        }
        self.daprd_log
            .note("You're up and running! Dapr logs will appear here.");
        let api = self.plan.api(session.token());
        let pairs = self.metadata(template);
        tokio::select! {
            () = set_metadata(&api, &pairs, &say) => {}
            _ended = self.sidecar.ended() => {}
        }
        Ok(())
    }

    /// Waits until the app listens, so that the apps after it can call it; for an app without a port there is nothing
    /// to wait for. Bounded, and over when the app ends: a template may well name an app that never listens.
    pub(crate) async fn app_listens(&mut self) {
        let AppSpec {
            app_port,
            app_channel_address: host,
            ..
        } = &self.plan.spec;
        let (Some(app), Ok(port @ 1..)) = (&mut self.app, u16::try_from(*app_port)) else {
            return;
        };
        let endpoint = Endpoint::Tcp {
            hosts: vec![host.clone()],
            port,
        };
        let open = async {
            while !endpoint.accepts().await {
                tokio::time::sleep(LISTEN_POLL).await;
            }
        };
        let late = tokio::select! {
            opened = tokio::time::timeout(LISTEN_LIMIT, open) => opened.is_err(),
            _ended = app.ended() => false,
        };
        if late {
            self.app_log.note(&format!(
                "does not listen on port {port} after {}s: going on with the next app",
                LISTEN_LIMIT.as_secs()
            ));
        }
    }

    fn metadata(&self, (path, name): (&str, &str)) -> Vec<(&'static str, String)> {
        let mut pairs = vec![("cliPID", getpid().as_raw_nonzero().to_string())];
        let mut add = |key, value: String| {
            if !value.is_empty() {
                pairs.push((key, value));
            }
        };
        let shown = |sink: &Sink| {
            sink.path()
                .map(|path| path.display().to_string())
                .unwrap_or_default()
        };
        add("runTemplatePath", path.to_owned());
        add("runTemplateName", name.to_owned());
        add("appLogPath", shown(&self.app_log));
        add("daprdLogPath", shown(&self.daprd_log));
        if let Some(app) = &self.app {
            add("appCommand", self.plan.spec.command_text());
            add("appPID", app.pid().as_raw_nonzero().to_string());
        }
        pairs
    }

    /// Waits until the app or the sidecar ends by itself; each end is told once.
    pub(crate) async fn next_end(&mut self) -> End {
        let Self {
            sidecar,
            app,
            sidecar_told,
            app_told,
            ..
        } = self;
        let app_end = async {
            match app {
                Some(app) if !*app_told => app.ended().await,
                Some(_) | None => std::future::pending().await,
            }
        };
        let sidecar_end = async {
            if *sidecar_told {
                std::future::pending::<()>().await;
            }
            sidecar.ended().await
        };
        let (part, how) = tokio::select! {
            how = app_end => (Part::App, how),
            how = sidecar_end => (Part::Sidecar, how),
        };
        match part {
            Part::App => self.app_told = true,
            Part::Sidecar => self.sidecar_told = true,
        }
        self.note_end(part, how);
        End {
            app_id: self.plan.spec.app_id.clone(),
            part,
            how,
        }
    }

    fn note_end(&self, part: Part, how: Ended) {
        let (sink, name) = match part {
            Part::App => (&self.app_log, "App"),
            Part::Sidecar => (&self.daprd_log, "daprd"),
        };
        match (how, part) {
            (Ended::Code(0), Part::App) => sink.note("Exited App successfully"),
            (Ended::Code(0), Part::Sidecar) => sink.note("Exited Dapr successfully"),
            (Ended::Code(_) | Ended::Signal(_), _) => {
                sink.note(&format!("The {name} process exited with error code: {how}"));
            }
        }
    }

    /// Ends the app.
    pub(crate) async fn stop_app(&mut self, hurried: watch::Receiver<bool>) {
        let Some(app) = &mut self.app else { return };
        if !self.app_told {
            self.app_log
                .note("termination signal received: shutting down");
        }
        app.stop(APP_GRACE, hurry(hurried)).await;
        if !self.app_told {
            self.app_told = true;
            self.app_log.note("Exited App successfully");
        }
    }

    /// Ends the sidecar.
    pub(crate) async fn stop_sidecar(&mut self, hurried: watch::Receiver<bool>) {
        self.daprd_log
            .note("termination signal received: shutting down");
        self.sidecar.stop(SIDECAR_GRACE, hurry(hurried)).await;
        self.plan.clean_up();
        if !self.sidecar_told {
            self.sidecar_told = true;
            self.daprd_log.note("Exited Dapr successfully");
        }
    }
}

async fn hurry(mut hurried: watch::Receiver<bool>) {
    if hurried.wait_for(|hurry| *hurry).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Opens where the output of an app and its sidecar goes.
pub(crate) fn sinks(app: &TemplateApp, session: &Session) -> anyhow::Result<(Sink, Sink)> {
    let id = &app.spec.app_id;
    let stamp = age::digits(session.clock.now());
    let file = |part: &str| {
        app.folder
            .join(".dapr")
            .join("logs")
            .join(format!("{id}_{part}_{stamp}.log"))
    };
    let colour = console_has_colour(session.environment.text("NO_COLOR").is_some());
    let prefix = format!("== APP - {id} == ");
    let app_log = Sink::open(app.app_log, file("app"), &prefix, colour)
        .context("opening the app's log file")?;
    let daprd_log = Sink::open(app.daprd_log, file("daprd"), "", colour)
        .context("opening the sidecar's log file")?;
    Ok((app_log, daprd_log))
}

fn pump(child: &mut Child, sink: &Sink, tasks: &Tasks, gate: &Gate) {
    let Some((out, err)): Option<(ChildStdout, ChildStderr)> = child.output.take() else {
        return;
    };
    for pipe in [out.into(), err.into()] {
        tasks.spawn("output", sink.clone().pump(pipe, gate.clone()));
    }
}
