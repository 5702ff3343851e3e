//! `run -f`: all apps of a template.
//!
//! Apps start strictly in the order of the file, each completely before the next, and end together: apps first, then
//! their sidecars. Facts: cli-and-clients 1.9, 1.10, CL-60 to CL-75.

pub(super) mod member;
mod model;
pub(super) mod resolve;
pub(super) mod sink;

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::future::{join_all, select_all};
use ironside_chassis::tasks::Tasks;
use tokio::sync::watch;

use super::prepare::Surroundings;
use super::vector::LogForm;
use crate::command::Session;
use crate::folders::Home;
use crate::process::Interrupts;
use member::{Member, Surrounded};
use model::{Template, Unknown};
use resolve::{Place, TemplateApp};

/// Flags that mean something beside `--run-file`.
const BESIDE: [&str; 9] = [
    "run-file",
    "mtls",
    "kubernetes",
    "help",
    "runtime-path",
    "log-as-json",
    "strict",
    "fail-fast",
    "version",
];
/// The name of a template in a folder.
const DEFAULT_NAME: &str = "dapr.yaml";
/// How long output may be held back while apps start.
const HOLD: Duration = Duration::from_secs(3);
/// How long the last output of processes that have ended may take to arrive.
const DRAIN: Duration = Duration::from_secs(1);

/// A template that was read, and where from.
struct Source {
    text: String,
    /// The file as an absolute path; none for the standard input.
    path: Option<PathBuf>,
    /// The folder that its paths are relative to.
    base: PathBuf,
}

/// Keys that say something about this machine only.
const OF_THIS_MACHINE: [&str; 5] = [
    "configFilePath",
    "resourcesPath",
    "resourcesPaths",
    "daprHTTPPort",
    "mtls",
];

/// Runs the apps of the template that the flag names.
pub(crate) async fn run(session: &Session, file: &str) -> anyhow::Result<ExitCode> {
    warn_about_flags(session, &[]);
    let (source, template) = read(session, file)?;
    let name = template.name.clone().unwrap_or_default();
    let mut apps = resolved(session, template, &source.base)?;
    if session.values.switch("mtls") {
        apps.iter_mut().for_each(|app| app.spec.own_sentry = true);
    }
    let path = source
        .path
        .as_deref()
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    Crew::new(session, path, name)?.run(apps).await
}

/// The apps of the template that the flag names, for a cluster.
pub(super) fn for_cluster(session: &Session, file: &str) -> anyhow::Result<Vec<TemplateApp>> {
    warn_about_flags(session, &["namespace", "kubeconfig", "context"]);
    let (source, template) = read(session, file)?;
    let unused = of_this_machine(&template);
    if !unused.is_empty() {
        let text = format!(
            "The following keys of the run template file mean nothing in a cluster: {}",
            unused.join(", ")
        );
        session.status.warning(&text);
    }
    resolved(session, template, &source.base)
}

fn read(session: &Session, file: &str) -> anyhow::Result<(Source, Template)> {
    let source = Source::read(file)?;
    let template = model::parse(&source.text)
        .with_context(|| format!("error parsing run template file {file:?}"))?;
    check_keys(session, &template.unknown)?;
    Ok((source, template))
}

/// The keys that a template has in vain when it is for a cluster.
fn of_this_machine(template: &Template) -> Vec<&'static str> {
    let apps = template.apps.iter();
    let shared = apps.clone().map(|(_, shared)| shared);
    let shared: Vec<_> = shared.chain([&template.common]).collect();
    let used = [
        shared.iter().any(|one| one.config_file_path.is_some()),
        shared.iter().any(|one| one.resources_path.is_some()),
        shared.iter().any(|one| one.resources_paths.is_some()),
        apps.clone().any(|(own, _)| own.http_port.is_some()),
        shared.iter().any(|one| one.mtls.is_some()),
    ];
    let keys = OF_THIS_MACHINE.into_iter().zip(used);
    keys.filter_map(|(key, used)| used.then_some(key)).collect()
}

/// The template that a file argument names, as an absolute path.
pub(crate) fn absolute_path(file: &Path) -> anyhow::Result<PathBuf> {
    let file = if file.is_dir() {
        file.join(DEFAULT_NAME)
    } else {
        file.to_path_buf()
    };
    let is_yaml = file
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("yaml") || end.eq_ignore_ascii_case("yml"));
    if !is_yaml {
        bail!("file {:?} is not a YAML file", file.display().to_string());
    }
    file.canonicalize()
        .with_context(|| format!("reading {}", file.display()))
}

fn warn_about_flags(session: &Session, more: &[&str]) {
    let ignored: Vec<String> = session
        .values
        .names()
        .filter(|name| !BESIDE.contains(name) && !more.contains(name))
        .map(|name| format!("--{name}"))
        .collect();
    if !ignored.is_empty() {
        let text = format!(
            "The following flags are ignored when --run-file is given: {}",
            ignored.join(", ")
        );
        session.status.warning(&text);
    }
}

fn check_keys(session: &Session, unknown: &[Unknown]) -> anyhow::Result<()> {
    let texts: Vec<String> = unknown
        .iter()
        .map(|one| {
            format!(
                "unknown key '{}' in line {} of the run template file",
                one.key, one.line
            )
        })
        .collect();
    if session.values.switch("strict") && !texts.is_empty() {
        bail!(texts.join("\n"));
    }
    for text in texts {
        // Not on the standard output, whose first lines belong to the apps.
        crate::output::err(
            session
                .status
                .line(crate::output::Level::Warning, &text)
                .as_bytes(),
        );
    }
    Ok(())
}

fn resolved(
    session: &Session,
    template: Template,
    base: &Path,
) -> anyhow::Result<Vec<TemplateApp>> {
    let user = session.environment.path("HOME");
    let home: Option<Home> = session.home();
    let exists = |path: &Path| path.exists();
    resolve::resolve(
        template,
        &Place {
            base,
            user: user.as_deref(),
            home: home.as_ref(),
            exists: &exists,
        },
    )
}

// === impl Source ===

impl Source {
    fn read(file: &str) -> anyhow::Result<Self> {
        if file == "-" {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("reading the template from the standard input")?;
            return Ok(Self {
                text,
                path: None,
                base: std::env::current_dir()?,
            });
        }
        let path = absolute_path(Path::new(file))?;
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(Self {
            text,
            path: Some(path),
            base,
        })
    }
}

/// The apps that run, and what they share.
struct Crew<'a> {
    session: &'a Session,
    path: String,
    name: String,
    interrupts: Interrupts,
    tasks: Tasks,
    /// What goes on beside, to the end of this process.
    beside: Tasks,
    gate: watch::Sender<bool>,
    members: Vec<Member>,
}

/// How the start of all apps went.
enum Started {
    All,
    /// A signal came first.
    Interrupted,
    /// One could not be started.
    Failed,
}

// === impl Crew ===

impl<'a> Crew<'a> {
    fn new(session: &'a Session, path: String, name: String) -> anyhow::Result<Self> {
        Ok(Self {
            session,
            path,
            name,
            interrupts: Interrupts::install()?,
            tasks: Tasks::new(),
            beside: Tasks::new(),
            gate: watch::Sender::new(false),
            members: Vec::new(),
        })
    }

    async fn run(mut self, apps: Vec<TemplateApp>) -> anyhow::Result<ExitCode> {
        let gate = self.gate.clone();
        self.tasks.spawn("console-gate", async move {
            tokio::time::sleep(HOLD).await;
            gate.send_replace(true);
        });
        let started = self.start(apps).await;
        self.gate.send_replace(true);
        let failed = match started {
            Started::All => self.watch().await,
            Started::Interrupted => false,
            Started::Failed => true,
        };
        if !failed {
            self.session
                .status
                .info("Received signal to stop Dapr and app processes. Shutting down Dapr and app processes.");
        }
        self.stop().await;
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    async fn start(&mut self, apps: Vec<TemplateApp>) -> Started {
        let around = Surroundings {
            environment: &self.session.environment,
            log: if self.session.status.is_json() {
                LogForm::Json
            } else {
                LogForm::Text
            },
            sidecar_variables: self.host_ip().into_iter().collect(),
        };
        for app in apps {
            let id = app.spec.app_id.clone();
            let surrounded = Surrounded {
                session: self.session,
                around: &around,
                tasks: &self.tasks,
                beside: &self.beside,
                gate: self.gate.subscribe(),
                template: (&self.path, &self.name),
            };
            let mut unfinished = None;
            let before = self.members.last_mut();
            let start = async {
                if let Some(before) = before {
                    before.app_listens().await;
                }
                Member::start(app, &surrounded, &mut unfinished).await
            };
            let result = tokio::select! {
                biased;
                () = self.interrupts.next() => None,
                result = start => Some(result),
            };
            self.members.extend(unfinished);
            match result {
                None => return Started::Interrupted,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    let text = format!("Error starting Dapr and app ({id:?}): {error:#}");
                    self.session.status.failure(&text);
                    return Started::Failed;
                }
            }
        }
        Started::All
    }

    /// Sidecars of a template listen where all of its apps find them.
    fn host_ip(&self) -> Option<(OsString, OsString)> {
        let given = self.session.environment.text("DAPR_HOST_IP").is_some();
        (!given).then(|| ("DAPR_HOST_IP".into(), "127.0.0.1".into()))
    }

    /// Watches until a signal comes, or something fails and that is to end all; says which.
    async fn watch(&mut self) -> bool {
        let fail_fast = self.session.values.switch("fail-fast");
        loop {
            let ends = self
                .members
                .iter_mut()
                .map(|member| Box::pin(member.next_end()));
            let any = select_all(ends);
            let ended = tokio::select! {
                () = self.interrupts.next() => return false,
                (ended, _, _) = any => ended,
            };
            let text = ended.text();
            if ended.is_failure() {
                self.session.status.warning(&text);
            } else {
                self.session.status.info(&text);
            }
            if fail_fast && ended.is_failure() {
                return true;
            }
        }
    }

    /// Ends all apps, then all sidecars; a signal meanwhile kills what is left.
    async fn stop(mut self) {
        let (hurry, hurried) = watch::channel(false);
        let interrupts = &mut self.interrupts;
        let members = &mut self.members;
        let stop = async {
            join_all(
                members
                    .iter_mut()
                    .map(|member| member.stop_app(hurried.clone())),
            )
            .await;
            join_all(
                members
                    .iter_mut()
                    .map(|member| member.stop_sidecar(hurried.clone())),
            )
            .await;
        };
        tokio::pin!(stop);
        tokio::select! {
            () = &mut stop => {}
            () = interrupts.next() => {
                hurry.send_replace(true);
                stop.await;
            }
        }
        self.gate.send_replace(true);
        let _still_open = self.tasks.wait(DRAIN).await;
    }
}
