//! The project's own cluster tool, as tests use it: where it keeps things, and clusters that a test may break.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::Cluster;
use crate::binaries::{cargo, root, setting};

/// The cluster that tests share.
pub(super) const MAIN: &str = "main";

/// Where the tool keeps programs and clusters.
fn cache() -> Option<PathBuf> {
    setting("IRONSIDE_CACHE")
        .or_else(|| setting("XDG_CACHE_HOME").map(|cache| cache.join("ironside")))
        .or_else(|| setting("HOME").map(|home| home.join(".cache/ironside")))
        .map(|cache| cache.join("cluster"))
}

/// A program that clusters of this cache run on, where it is built; of several versions, the last one built.
#[must_use]
pub fn built(name: &str) -> Option<PathBuf> {
    let versions = fs::read_dir(cache()?).ok()?;
    let programs = versions
        .flatten()
        .map(|version| version.path().join("bin").join(name));
    programs
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
}

/// The folder of the cluster `name`.
pub(super) fn folder(name: &str) -> Result<PathBuf> {
    let cache = cache().context("neither IRONSIDE_CACHE nor HOME is set")?;
    Ok(cache.join("run").join(name))
}

/// The folder of the programs that clusters of this cache run on.
pub(super) fn programs() -> Option<PathBuf> {
    setting("IRONSIDE_E2E_PROGRAMS")
}

/// A cluster of the tool's that a test may stop parts of.
#[derive(Debug)]
pub struct Machine {
    name: String,
    is_own: bool,
}

impl Machine {
    /// A cluster of its own for one test, with the images of this run; gone when dropped, unless it ran before.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn own(name: &str) -> Result<Self> {
        own_tool()?;
        let mut machine = Self {
            name: name.to_owned(),
            is_own: false,
        };
        let said = machine.order(&["status"])?;
        machine.is_own = !said.contains(&format!("cluster     {name}: ready"));
        machine.order(&["up"])?;
        let images = setting("IRONSIDE_E2E_IMAGES")
            .context("IRONSIDE_E2E_IMAGES names no folder: cargo xtask e2e k8s sets it")?;
        for archive in ["ironside.tar", "sample.tar"] {
            let path = images.join(archive);
            machine.order(&["load", text(&path)?])?;
        }
        Ok(machine)
    }

    /// The cluster.
    ///
    /// # Errors
    /// If its kubeconfig cannot be read.
    pub async fn cluster(&self) -> Result<Cluster> {
        Cluster::at(folder(&self.name)?.join("kubeconfig")).await
    }

    /// Stops a part (`kube-apiserver`, `kubelet`, …) or the `node` with every container on it.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&self, part: &str) -> Result<()> {
        self.order(&["stop", part]).map(drop)
    }

    /// Starts what was stopped.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(&self, part: &str) -> Result<()> {
        self.order(&["start", part]).map(drop)
    }

    /// Runs a command where every process and network of the cluster is seen, with its programs in `PATH`.
    ///
    /// # Errors
    /// With what it wrote to stderr, unless it ends with success.
    pub fn run(&self, command: &[&str]) -> Result<()> {
        let enter = ["xtask", "cluster", "sh", "--name", &self.name, "--"];
        said(&[&enter[..], command].concat()).map(drop)
    }

    /// Loads an archive of images.
    ///
    /// # Errors
    /// If the archive is refused.
    pub fn load(&self, archive: &Path) -> Result<()> {
        self.order(&["load", text(archive)?]).map(drop)
    }

    /// The cluster that tests share, where the tool started it.
    ///
    /// # Errors
    /// If somebody else brought the cluster: the tool can do nothing to it.
    pub fn shared() -> Result<Self> {
        own_tool()?;
        let given = setting("IRONSIDE_E2E_CLUSTER");
        let name = given.and_then(|name| name.into_os_string().into_string().ok());
        Ok(Self {
            name: name.unwrap_or_else(|| MAIN.to_owned()),
            is_own: false,
        })
    }

    fn order(&self, words: &[&str]) -> Result<String> {
        said(&[&["xtask", "cluster"], words, &["--name", &self.name]].concat())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.is_own
            && let Err(error) = self.order(&["down"])
        {
            eprintln!("{error:#}");
        }
    }
}

/// Clusters that somebody brought are nothing that the tool could do anything to, nor do others belong beside them.
fn own_tool() -> Result<()> {
    let is_brought = setting("IRONSIDE_E2E_KUBECONFIG").is_some();
    if is_brought && setting("IRONSIDE_E2E_CLUSTER").is_none() {
        bail!("this needs a cluster of `cargo xtask cluster up`, not a brought one");
    }
    Ok(())
}

/// Calls cargo; returns what it wrote to stdout.
fn said(words: &[&str]) -> Result<String> {
    let mut command: Command = cargo();
    let output = command
        .current_dir(root())
        .args(words)
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!(
            "cargo {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}
