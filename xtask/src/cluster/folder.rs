//! The folder of one cluster: where its kubeconfig, certificates, settings, logs and notes lie.
//!
//! Only paths and small notes; the folder is made anew by every `up` and removed by `down`. Notes are files of one
//! line that one process writes and others read, so that a command finds a cluster that another one started.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;
use rustix::process::Pid;

use super::toolchain::Version;
use crate::surroundings::Surroundings;

/// Folders that the machine sees empty and its own: a cluster's folder may not lie below one.
pub(crate) const HIDDEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// The note of the version.
const VERSION: &str = "kubernetes";

/// Paths of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    name: String,
    path: PathBuf,
}

impl Folder {
    /// The folder of the cluster `name`, whether it runs or not.
    ///
    /// # Errors
    /// If the name is no name, or the cache folder lies where the machine cannot see it.
    pub(crate) fn of(around: &Surroundings, name: &str) -> Result<Self> {
        let fits =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if name.is_empty() || name.len() > 32 || !name.chars().all(fits) {
            bail!("{name:?} is no name of a cluster: 1 to 32 of a-z, 0-9 and -");
        }
        let path = around.shared().join("cluster").join("run").join(name);
        Self::at(&path)
    }

    /// The cluster whose folder is `path`.
    ///
    /// # Errors
    /// If the path has no name, or lies where the machine cannot see it.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        if let Some(hidden) = HIDDEN.iter().find(|hidden| path.starts_with(hidden)) {
            bail!(
                "the cluster's folder {} lies below {hidden}, which the cluster hides: set IRONSIDE_CACHE",
                path.display()
            );
        }
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .context("the cluster's folder has no name")?
            .to_owned();
        Ok(Self {
            name,
            path: path.to_path_buf(),
        })
    }

    /// Names of all clusters that have a folder.
    pub(crate) fn names(around: &Surroundings) -> Vec<String> {
        let run = around.shared().join("cluster").join("run");
        let mut names: Vec<String> = fs::read_dir(run)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// The cluster's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file below the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file of certificates and keys.
    pub(crate) fn pki(&self, name: &str) -> PathBuf {
        self.path.join("pki").join(name)
    }

    /// A file of settings.
    pub(crate) fn etc(&self, name: &str) -> PathBuf {
        self.path.join("etc").join(name)
    }

    /// The log of a part.
    pub(crate) fn log(&self, part: &str) -> PathBuf {
        self.path.join("log").join(format!("{part}.log"))
    }

    /// The kubeconfig for programs outside the machine.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig")
    }

    /// What the machine says of its start, line by line.
    pub(crate) fn progress(&self) -> PathBuf {
        self.file("progress")
    }

    /// The note that keeps `part` down while it exists.
    pub(crate) fn stopped(&self, part: &str) -> PathBuf {
        self.path.join("stopped").join(part)
    }

    /// Makes an empty folder.
    ///
    /// # Errors
    /// If the old one does not go away or the new one cannot be made.
    pub(crate) fn make(&self) -> Result<()> {
        self.remove()?;
        for name in ["pki", "etc/cni", "log", "stopped"] {
            let folder = self.path.join(name);
            fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        }
        Ok(())
    }

    /// Removes the folder.
    ///
    /// # Errors
    /// If something in it does not go away.
    pub(crate) fn remove(&self) -> Result<()> {
        if self.path.exists() {
            fs::remove_dir_all(&self.path)
                .with_context(|| format!("removing {}", self.path.display()))?;
        }
        Ok(())
    }

    /// Writes a file of settings and returns its path.
    ///
    /// # Errors
    /// If the disk is full.
    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<()> {
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Writes down of which Kubernetes the cluster is.
    ///
    /// # Errors
    /// If the disk is full.
    pub(crate) fn note_version(&self, version: Version) -> Result<()> {
        self.write(&self.file(VERSION), version.number())
    }

    /// Of which Kubernetes the cluster is.
    pub(crate) fn version(&self) -> Version {
        let noted = fs::read_to_string(self.file(VERSION)).unwrap_or_default();
        let mut all = Version::value_variants().iter().copied();
        all.find(|version| version.number() == noted)
            .unwrap_or_default()
    }

    /// Writes down a process id under `name`.
    ///
    /// # Errors
    /// If the disk is full.
    pub(crate) fn note_pid(&self, name: &str, pid: u32) -> Result<()> {
        // Renamed, so that nobody reads half a number.
        let draft = self.file(&format!("{name}.draft"));
        self.write(&draft, &pid.to_string())?;
        fs::rename(&draft, self.file(name)).with_context(|| format!("note {name}"))
    }

    /// The process id noted under `name`, as those outside of the machine count.
    pub(crate) fn noted(&self, name: &str) -> Option<Pid> {
        let text = fs::read_to_string(self.file(name)).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    /// The process noted under `name`, if it lives.
    pub(crate) fn living(&self, name: &str) -> Option<Pid> {
        let pid = self.noted(name)?;
        // A number may belong to somebody else by now: ours have the folder in their command line.
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_pid())).ok()?;
        let named = line
            .split(|byte| *byte == 0)
            .any(|word| word == self.path.as_os_str().as_encoded_bytes());
        named.then_some(pid)
    }

    /// The first process of the machine, if it lives.
    pub(crate) fn machine(&self) -> Option<Pid> {
        self.living("machine.pid")
    }

    /// The process that tidies up after the machine, if it lives.
    pub(crate) fn keeper(&self) -> Option<Pid> {
        self.living("keeper.pid")
    }

    /// Whether the machine said that everything is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.machine().is_some() && self.said().lines().any(|line| line == READY)
    }

    /// Everything the machine said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.progress()).unwrap_or_default()
    }
}

/// The last line of a start that succeeded.
pub(crate) const READY: &str = "ready";
