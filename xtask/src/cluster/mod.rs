//! `cluster`: a real Kubernetes in namespaces of its own, from package registries, Ready in seconds.
//!
//! Owns the commands; each concern has its file: `packages` and `toolchain` bring the programs, `pki` and `settings`
//! configure them, `keeper` and `machine` run them, `forward` lets callers in. No container engine, no image
//! registry and no network is needed once the programs are built. Several clusters run side by side by name.

mod calls;
mod cgroups;
mod check;
mod folder;
mod forward;
mod keeper;
mod machine;
mod network;
mod packages;
mod parts;
mod pki;
mod settings;
mod system_images;
mod toolchain;

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use rustix::process::{Pid, Signal, kill_process};

use self::{folder::Folder, parts::Part, toolchain::Toolchain};
use crate::{
    deadline::{Stopwatch, until},
    surroundings::Surroundings,
};
pub(crate) use toolchain::Version;

/// The cluster that is meant when none is named.
pub(crate) const MAIN: &str = "main";

/// A start takes seconds; on a machine that is busy with a build, a minute.
const START: Duration = Duration::from_secs(240);
/// Processes in the cluster end by SIGKILL.
const END: Duration = Duration::from_secs(30);

/// What to do with a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Builds the programs if need be, starts a cluster and prints the path of its kubeconfig.
    Up {
        #[command(flatten)]
        named: Named,
        /// Of which Kubernetes: the oldest by default. One that runs is left as it is if it is of this one.
        #[arg(long, value_enum)]
        kubernetes: Option<Version>,
    },
    /// Ends a cluster and everything in it.
    Down(Named),
    /// Runs a command inside the cluster's namespaces; without one, a shell.
    Sh {
        #[command(flatten)]
        named: Named,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Loads images: docker-archives, as `cargo xtask images` writes them.
    Load {
        #[command(flatten)]
        named: Named,
        /// The archives.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Says what runs, and where programs, kubeconfig and logs are.
    Status(Named),
    /// Says whether a cluster can be brought up here, and names what is missing; exit code 3 if it cannot.
    Check,
    /// Stops a part, or the node: every container and the node's own parts at once, as a loss of power does.
    Stop {
        #[command(flatten)]
        named: Named,
        /// The part.
        part: Stoppable,
    },
    /// Starts what was stopped.
    Start {
        #[command(flatten)]
        named: Named,
        /// The part.
        part: Stoppable,
    },
    /// The process around a machine.
    #[command(hide = true)]
    Keep {
        /// The cluster's folder.
        folder: PathBuf,
    },
    /// The first process of a machine.
    #[command(hide = true)]
    Machine {
        /// The cluster's folder.
        folder: PathBuf,
    },
}

/// There is no cluster here, nor can one be brought up; what is missing was said.
#[derive(Debug, thiserror::Error)]
#[error("tests on a cluster cannot run here")]
pub(crate) struct Impossible;

impl Impossible {
    /// Its exit code, so that a script can tell it from a failure.
    pub(crate) const CODE: u8 = 3;
}

/// Which cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The cluster's name.
    #[arg(long, default_value = MAIN)]
    name: String,
}

/// What can be stopped and started.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stoppable {
    /// The node.
    Node,
    /// One part.
    Part(Part),
}

impl std::str::FromStr for Stoppable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == machine::NODE {
            return Ok(Self::Node);
        }
        <Part as clap::ValueEnum>::from_str(text, false)
            .map(Self::Part)
            .map_err(|_unknown| {
                let names = <Part as clap::ValueEnum>::value_variants()
                    .iter()
                    .map(|part| part.name());
                let known: Vec<&str> = [machine::NODE].into_iter().chain(names).collect();
                format!("one of: {}", known.join(" "))
            })
    }
}

impl Stoppable {
    fn name(self) -> &'static str {
        match self {
            Self::Node => machine::NODE,
            Self::Part(part) => part.name(),
        }
    }
}

/// Does it.
///
/// # Errors
/// Says which step failed, and where the logs are.
pub(crate) fn run(around: &Surroundings, action: &Action) -> Result<()> {
    match action {
        Action::Up { named, kubernetes } => {
            let kubeconfig = up(around, &named.name, *kubernetes)?;
            say(&format!("{}", kubeconfig.display()))
        }
        Action::Down(named) => down(around, &named.name),
        Action::Sh { named, command } => shell(around, &named.name, command),
        Action::Load { named, archives } => load(around, &named.name, archives),
        Action::Status(named) => status(around, &named.name),
        Action::Check => check(around),
        Action::Stop { named, part } => stop(around, &named.name, *part),
        Action::Start { named, part } => start(around, &named.name, *part),
        Action::Keep { folder } => {
            let folder = Folder::at(folder)?;
            let tools = Toolchain::locate(around, folder.version())?;
            keeper::run(&folder, &tools)
        }
        Action::Machine { folder } => {
            let folder = Folder::at(folder)?;
            let tools = Toolchain::locate(around, folder.version())?;
            machine::run(&folder, &tools, &system_images::path(&tools))
        }
    }
}

/// Starts the cluster `name` unless it runs; returns the kubeconfig for callers outside it. Without a version, one that
/// runs may be of any.
///
/// # Errors
/// If a program is missing or does not build, if the cluster is not ready in time, or if one of another version runs.
pub(crate) fn up(around: &Surroundings, name: &str, version: Option<Version>) -> Result<PathBuf> {
    let folder = Folder::of(around, name)?;
    if folder.is_ready() {
        fits(name, folder.version(), version)?;
        return Ok(folder.kubeconfig());
    }
    let version = version.unwrap_or_default();
    packages::ensure(around)?;
    let tools = Toolchain::locate(around, version)?;
    tools.ensure(around)?;
    system_images::ensure(&tools)?;
    // What is left of a start that was interrupted.
    end(&folder)?;
    folder.make()?;
    folder.note_version(version)?;
    let watch = Stopwatch::start();
    let log = File::create(folder.log("keeper")).context("the keeper's log")?;
    let mut keeper = Command::new("setsid")
        .arg(std::env::current_exe().context("own path")?)
        .args(["cluster", "keep"])
        .arg(folder.path())
        .env("IRONSIDE_CACHE", around.shared())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("starting setsid")?;
    let mut told = 0;
    let started = until("the start of the cluster", START, || {
        let said = folder.said();
        for line in said.lines().skip(told) {
            eprintln!("-- {line}");
        }
        told = said.lines().count();
        if folder.is_ready() {
            return Ok(Some(()));
        }
        if keeper
            .try_wait()
            .context("waiting for the keeper")?
            .is_some()
        {
            bail!("it ended");
        }
        Ok(None)
    });
    if let Err(error) = started {
        let logs = folder.path().join("log");
        drop(end(&folder));
        return Err(error.context(format!("cluster {name}, logs in {}", logs.display())));
    }
    eprintln!("-- cluster {name} is up ({})", watch.seconds());
    Ok(folder.kubeconfig())
}

/// Refuses a cluster that runs and is of another version than the one that is wanted.
fn fits(name: &str, running: Version, wanted: Option<Version>) -> Result<()> {
    if let Some(wanted) = wanted.filter(|wanted| *wanted != running) {
        bail!(
            "cluster {name} runs, of Kubernetes {}, not {}: end it (cargo xtask cluster down --name {name}) or name \
             another",
            running.number(),
            wanted.number()
        );
    }
    Ok(())
}

/// Ends the cluster `name` and removes its folder.
///
/// # Errors
/// If it does not end in time.
pub(crate) fn down(around: &Surroundings, name: &str) -> Result<()> {
    let folder = Folder::of(around, name)?;
    end(&folder)?;
    cgroups::sweep();
    folder.remove()
}

/// Whether the cluster `name` runs.
///
/// # Errors
/// If the name is no name.
pub(crate) fn is_up(around: &Surroundings, name: &str) -> Result<bool> {
    Ok(Folder::of(around, name)?.is_ready())
}

/// Loads docker-archives into the cluster `name`.
///
/// # Errors
/// If it does not run, or refuses an archive.
pub(crate) fn load(around: &Surroundings, name: &str, archives: &[PathBuf]) -> Result<()> {
    let folder = Folder::of(around, name)?;
    for archive in archives {
        let content = fs::read(archive).with_context(|| format!("{}", archive.display()))?;
        let mut command = enter(&folder)?;
        command.args(["ctr", "--namespace", "k8s.io", "images", "import", "-"]);
        calls::feed(&mut command, &content)
            .with_context(|| format!("loading {}", archive.display()))?;
        eprintln!("-- loaded {}", archive.display());
    }
    Ok(())
}

/// The folder of helm, kubectl and the others; they are built if need be.
///
/// # Errors
/// If one does not build.
pub(crate) fn programs(around: &Surroundings) -> Result<PathBuf> {
    let tools = Toolchain::locate(around, Version::default())?;
    tools.ensure(around)?;
    Ok(tools.bin())
}

fn end(folder: &Folder) -> Result<()> {
    // The keeper tidies up after the machine and ends by itself; only without a machine is it in the way.
    if let Some(process) = folder.machine().or_else(|| folder.keeper()) {
        let _gone = kill_process(process, Signal::KILL);
    }
    until("the end of the cluster", END, || {
        let alive = folder.machine().is_some() || folder.keeper().is_some();
        Ok((!alive).then_some(()))
    })
}

/// A command that runs inside the machine.
fn enter(folder: &Folder) -> Result<Command> {
    let machine = running(folder)?;
    let mut command = Command::new("nsenter");
    command
        .args(["--target", &machine.as_raw_pid().to_string()])
        .args(["--net", "--mount", "--pid", "--ipc", "--uts", "--"]);
    Ok(command)
}

fn running(folder: &Folder) -> Result<Pid> {
    folder.machine().with_context(|| {
        format!(
            "cluster {} does not run: cargo xtask cluster up --name {}",
            folder.name(),
            folder.name()
        )
    })
}

fn shell(around: &Surroundings, name: &str, command: &[String]) -> Result<()> {
    let folder = Folder::of(around, name)?;
    let tools = Toolchain::locate(around, folder.version())?;
    let mut path = vec![tools.bin()];
    path.extend(std::env::split_paths(around.path()));
    let mut inside = enter(&folder)?;
    inside
        .env("PATH", std::env::join_paths(path).context("PATH")?)
        .env("KUBECONFIG", folder.etc("admin.kubeconfig"));
    match command {
        [] => inside.arg("bash"),
        _ => inside.args(command),
    };
    let status = inside.status().context("starting nsenter")?;
    if !status.success() {
        bail!("the command ended with {status}");
    }
    Ok(())
}

fn status(around: &Surroundings, name: &str) -> Result<()> {
    let folder = Folder::of(around, name)?;
    let tools = Toolchain::locate(around, folder.version())?;
    say(&format!("programs    {}", tools.bin().display()))?;
    let missing = tools.missing();
    if !missing.is_empty() {
        say(&format!("not built   {}", missing.join(" ")))?;
    }
    let packages = packages::missing(around);
    if !packages.is_empty() {
        say(&format!("not there   {}", packages.join(" ")))?;
    }
    for other in Folder::names(around) {
        let each = Folder::of(around, &other)?;
        let state = match (each.is_ready(), each.machine()) {
            (true, _) => "ready",
            (false, Some(_)) => "starting",
            (false, None) => "down",
        };
        say(&format!("cluster     {other}: {state}"))?;
    }
    if folder.machine().is_none() {
        return Ok(());
    }
    say(&format!("kubeconfig  {}", folder.kubeconfig().display()))?;
    say(&format!(
        "logs        {}",
        folder.path().join("log").display()
    ))?;
    for part in <Part as clap::ValueEnum>::value_variants() {
        let up = folder.file(&format!("{}.pid", part.name())).exists();
        let state = if up { "runs" } else { "down" };
        say(&format!("part        {} {state}", part.name()))?;
    }
    let keeper = folder
        .keeper()
        .map(|keeper| keeper.as_raw_pid().unsigned_abs());
    if let Some(bytes) = keeper.and_then(|keeper| cgroups::memory(&cgroups::name(keeper))) {
        say(&format!(
            "containers  {} MiB",
            bytes.checked_div(1 << 20).unwrap_or(0)
        ))?;
    }
    Ok(())
}

fn check(around: &Surroundings) -> Result<()> {
    let check::Report { notes, lacks } = check::look(around)?;
    for note in notes {
        say(&format!("there       {note}"))?;
    }
    for lack in &lacks {
        say(&format!("missing     {lack}"))?;
    }
    if lacks.is_empty() {
        return say("tests on a cluster can run here");
    }
    if around.kubeconfig().is_none() {
        say("any other cluster does as well: IRONSIDE_E2E_KUBECONFIG=<file>")?;
    }
    Err(Impossible.into())
}

fn stop(around: &Surroundings, name: &str, part: Stoppable) -> Result<()> {
    let folder = Folder::of(around, name)?;
    running(&folder)?;
    let note = folder.stopped(part.name());
    folder.write(&note, "")?;
    until(&format!("the end of {}", part.name()), END, || {
        Ok(pids(&folder, part)
            .iter()
            .all(|pid| !pid.exists())
            .then_some(()))
    })
}

fn start(around: &Surroundings, name: &str, part: Stoppable) -> Result<()> {
    let folder = Folder::of(around, name)?;
    running(&folder)?;
    let note = folder.stopped(part.name());
    if note.exists() {
        fs::remove_file(&note).with_context(|| format!("{}", note.display()))?;
    }
    until(&format!("the start of {}", part.name()), END, || {
        Ok(pids(&folder, part)
            .iter()
            .all(|pid| pid.exists())
            .then_some(()))
    })
}

fn pids(folder: &Folder, part: Stoppable) -> Vec<PathBuf> {
    let note = |part: Part| folder.file(&format!("{}.pid", part.name()));
    match part {
        Stoppable::Part(part) => vec![note(part)],
        Stoppable::Node => <Part as clap::ValueEnum>::value_variants()
            .iter()
            .filter(|part| part.is_of_the_node())
            .map(|part| note(*part))
            .collect(),
    }
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("writing to stdout")
}

#[cfg(test)]
mod tests {
    use super::{Version, fits};

    #[test]
    fn a_cluster_of_another_version_is_not_taken_for_the_one_that_is_wanted() {
        assert!(fits("a", Version::Oldest, None).is_ok());
        assert!(fits("a", Version::Newest, None).is_ok());
        assert!(fits("a", Version::Newest, Some(Version::Newest)).is_ok());
        let refused = fits("a", Version::Oldest, Some(Version::Newest)).unwrap_err();
        let text = refused.to_string();
        for part in ["v1.34.4", "v1.36.3", "cluster down --name a"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
