//! What the recipes read from the outside: environment, folders, programs in `PATH`.
//!
//! The only file of this crate that reads the environment. It knows where things are, not what to do
//! with them.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

/// Folders and programs of this run.
#[derive(Debug)]
pub(crate) struct Surroundings {
    cargo: OsString,
    root: PathBuf,
    target: PathBuf,
    cache: PathBuf,
    shared: PathBuf,
    path: OsString,
    rustc: OsString,
    kubeconfig: Option<PathBuf>,
    advisories: Option<PathBuf>,
    helm: Option<PathBuf>,
}

impl Surroundings {
    /// Reads the environment once.
    ///
    /// # Errors
    /// If the workspace root cannot be found.
    pub(crate) fn read() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask has no parent folder")?
            .to_path_buf();
        let cargo = variable("CARGO").unwrap_or_else(|| "cargo".into());
        let target =
            variable("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let cache =
            variable("IRONSIDE_CACHE").map_or_else(|| target.join("e2e"), |dir| root.join(dir));
        let cargo_home = variable("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cargo")));
        let advisories = cargo_home
            .map(|home| home.join("advisory-dbs"))
            .filter(|dir| holds_entries(dir));
        let shared = variable("IRONSIDE_CACHE")
            .map(|dir| root.join(dir))
            .or_else(|| variable("XDG_CACHE_HOME").map(|dir| Path::new(&dir).join("ironside")))
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache/ironside")))
            .unwrap_or_else(|| cache.clone());
        Ok(Self {
            cargo,
            root,
            target,
            cache,
            shared,
            path: variable("PATH").unwrap_or_default(),
            rustc: variable("RUSTC").unwrap_or_else(|| "rustc".into()),
            kubeconfig: variable("IRONSIDE_E2E_KUBECONFIG").map(PathBuf::from),
            advisories,
            helm: variable("IRONSIDE_HELM").map(PathBuf::from),
        })
    }

    /// A folder of the workspace.
    pub(crate) fn sources(&self, folder: &str) -> PathBuf {
        self.root.join(folder)
    }

    /// The folder of what cargo builds.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The folder for installed tools and SDKs: `IRONSIDE_CACHE`, default `target/e2e`.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// A Helm that the caller has: `IRONSIDE_HELM`.
    pub(crate) fn helm(&self) -> Option<&Path> {
        self.helm.as_deref()
    }

    /// The folder of what outlives a checkout: `IRONSIDE_CACHE`, default `$XDG_CACHE_HOME/ironside`.
    pub(crate) fn shared(&self) -> &Path {
        &self.shared
    }

    /// `PATH`.
    pub(crate) fn path(&self) -> &OsStr {
        &self.path
    }

    /// The Rust compiler.
    pub(crate) fn rustc(&self) -> &OsStr {
        &self.rustc
    }

    /// The kubeconfig of a cluster that somebody else brought: `IRONSIDE_E2E_KUBECONFIG`.
    pub(crate) fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// Where `program` lies, in `PATH` or in the folders of administrators.
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path)
            .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
            .map(|folder| folder.join(program))
            .find(|path| path.is_file())
    }

    /// The folder of advisory databases, if one is there.
    pub(crate) fn advisories(&self) -> Option<&Path> {
        self.advisories.as_deref()
    }

    /// A cargo call in the workspace root.
    pub(crate) fn cargo(&self) -> Command {
        self.program(&self.cargo)
    }

    /// A call of `program` in the workspace root, with the cache folder named to it.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.root)
            .env("IRONSIDE_CACHE", &self.cache);
        command
    }
}

fn holds_entries(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of this crate that reads the environment"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
