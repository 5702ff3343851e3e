//! What the tests on a cluster share: the client, a namespace for each test, waiting, calls, what is left to read.
//!
//! A test is a body in [`test()`]: it gets a [`Place`], a namespace of its own that goes when the body ends, and when
//! the body fails everything there is to know is first written into one folder. Writing goes through `kubectl`, as a
//! user's does, so that warnings and refusals are seen word for word; reading goes through the API.
//!
//! Which cluster: `IRONSIDE_E2E_KUBECONFIG`, else the one that `cargo xtask cluster up` started.

mod dump;
mod helm;
mod images;
mod machine;
mod own;
mod place;
mod pods;
mod sample;

use std::{
    fs::OpenOptions,
    io::Write as _,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

pub use helm::Helm;
pub use images::{image, pull_policy, registry};
pub use machine::{Machine, built};
pub use own::{test_on_bare, test_on_machine, test_on_own};
pub use place::{Place, Said};
pub use pods::{Answer, Followed};
pub use sample::Sample;

use crate::{binaries::setting, wait::Stopwatch};

/// Far above what a healthy cluster takes for one step, on a machine that is busy as well.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A cluster, and how programs reach it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    kubeconfig: PathBuf,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("kubeconfig", &self.kubeconfig)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster of this run.
    ///
    /// # Errors
    /// If there is none.
    pub async fn connect() -> Result<Self> {
        let kubeconfig = match setting("IRONSIDE_E2E_KUBECONFIG") {
            Some(given) => given,
            None => machine::folder(machine::MAIN)?.join("kubeconfig"),
        };
        Self::at(kubeconfig).await
    }

    /// The cluster of a kubeconfig.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn at(kubeconfig: PathBuf) -> Result<Self> {
        let read = Kubeconfig::read_from(&kubeconfig).with_context(|| {
            format!(
                "{}: bring a cluster up (cargo xtask cluster up) or name one (IRONSIDE_E2E_KUBECONFIG)",
                kubeconfig.display()
            )
        })?;
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
            .await
            .with_context(|| format!("{}", kubeconfig.display()))?;
        let client = Client::try_from(config).context("client of the cluster")?;
        Ok(Self { client, kubeconfig })
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The kubeconfig that leads to it.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A call of `kubectl` on this cluster.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        self.program("kubectl")
    }

    /// A call of `helm` on this cluster.
    #[must_use]
    pub fn helm(&self) -> Command {
        self.program("helm")
    }

    /// A call of this project's own command on this cluster.
    #[must_use]
    pub fn ironside(&self) -> Command {
        let mut command = Command::new(crate::binaries::path("ironside"));
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// The project's own build of a program, or the one in `PATH`.
    fn program(&self, name: &str) -> Command {
        let beside = self.kubeconfig.with_file_name("bin").join(name);
        let given = machine::programs().map(|folder| folder.join(name));
        let path = [Some(beside), given]
            .into_iter()
            .flatten()
            .find(|path| path.is_file());
        let mut command = Command::new(path.unwrap_or_else(|| name.into()));
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }
}

/// Whether the long counts are wanted: `cargo xtask e2e k8s --full`.
#[must_use]
pub fn is_full() -> bool {
    setting("IRONSIDE_E2E_FULL").is_some()
}

/// Runs `body` in a namespace of its own, on the cluster of this run.
///
/// `name` is the test's path as cargo prints it: `module::function`.
///
/// # Panics
/// If the body fails; what there is to know lies in the folder whose path was printed before.
pub async fn test(name: &str, body: impl AsyncFnOnce(&Place) -> Result<()>) {
    let cluster = Cluster::connect().await.expect("a cluster");
    test_on(&cluster, name, body).await;
}

/// The same on a given cluster.
///
/// # Panics
/// As [`test()`].
pub async fn test_on(cluster: &Cluster, name: &str, body: impl AsyncFnOnce(&Place) -> Result<()>) {
    let watch = Stopwatch::start();
    let place = Place::make(cluster, name).await.expect("a namespace");
    let outcome = AssertUnwindSafe(body(&place)).catch_unwind().await;
    note(name, watch.elapsed());
    let failed = !matches!(outcome, Ok(Ok(())));
    if failed {
        match dump::write(&place, name) {
            Ok(folder) => eprintln!("state of the cluster: {}", folder.display()),
            Err(error) => eprintln!("the state of the cluster could not be written: {error:#}"),
        }
    }
    place.leave().await;
    match outcome {
        Ok(outcome) => outcome.unwrap_or_else(|error| panic!("{name}: {error:#}")),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Prints a measured value, and writes it down where `IRONSIDE_E2E_FIGURES` names a file.
pub fn figure(text: &str) {
    eprintln!("figure: {text}");
    append("IRONSIDE_E2E_FIGURES", text);
}

/// Writes down how long a test took, where `cargo xtask e2e k8s` asked for it.
fn note(name: &str, took: Duration) {
    append(
        "IRONSIDE_E2E_TIMES",
        &format!("{name}\t{:.1}", took.as_secs_f64()),
    );
}

/// Adds a line to the file that a variable names, if it names one.
fn append(variable: &str, line: &str) {
    if let Some(path) = setting(variable) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            eprintln!("not written: {line}: {error}");
        }
    }
}
