//! Whether a cluster can be brought up here, found out in a moment and without leaving anything behind.
//!
//! Owns what is tried and how each lack is told, with its way out. What `cluster up` installs or builds by itself is
//! no lack; it is told, so that nobody wonders where the minutes go.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use rustix::process::geteuid;

use super::{
    calls::output,
    cgroups, packages,
    toolchain::{Toolchain, Version},
};
use crate::surroundings::Surroundings;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// What is there, or comes by itself.
    pub(crate) notes: Vec<String>,
    /// What is missing, and the way out.
    pub(crate) lacks: Vec<String>,
}

impl Report {
    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn lack(&mut self, what: &str, why: &str, out: &str) {
        self.lacks.push(format!("{what}: {why}; {out}"));
    }
}

/// Looks.
///
/// # Errors
/// If this checkout cannot be read.
pub(crate) fn look(around: &Surroundings) -> Result<Report> {
    let mut report = Report::default();
    let tools = Toolchain::locate(around, Version::default())?;
    let missing = tools.missing();
    if missing.is_empty() {
        report.note(format!("programs are built: {}", tools.bin().display()));
    } else {
        match Toolchain::need_go(around) {
            Ok(version) => report.note(format!(
                "{version} builds once, in minutes: {}",
                missing.join(" ")
            )),
            Err(error) => report.lack(
                "programs",
                &format!("{} are not built; {error:#}", missing.join(" ")),
                "install Go",
            ),
        }
    }
    if let Some(kubeconfig) = around.kubeconfig() {
        match fs::metadata(kubeconfig) {
            Ok(found) if found.is_file() => {
                report.note(format!("the cluster of {}", kubeconfig.display()));
            }
            Ok(_) | Err(_) => {
                let why = format!("{} is no file", kubeconfig.display());
                report.lack("kubeconfig", &why, "correct IRONSIDE_E2E_KUBECONFIG");
            }
        }
        return Ok(report);
    }
    if !geteuid().is_root() {
        report.lack(
            "root",
            "namespaces, mounts and control groups need it",
            "run as root",
        );
        return Ok(report);
    }
    let wanted = packages::missing(around);
    if !wanted.is_empty() {
        let wanted = wanted.join(" ");
        if around.find("apt-get").is_some() {
            report.note(format!("Debian packages are installed first: {wanted}"));
        } else {
            let why = format!("{wanted} are not there, nor is apt-get");
            report.lack("packages", &why, "install them");
        }
    }
    if let Err(error) = namespaces(around) {
        let why = format!("{error:#}");
        report.lack("namespaces", &why, "let root make them here");
    }
    if let Err(error) = groups() {
        let why = format!("{error:#}");
        report.lack("control groups", &why, "mount them writable");
    }
    Ok(report)
}

/// Makes the namespaces of a machine, and in them what needs a kernel that can: a file system, a bridge.
fn namespaces(around: &Surroundings) -> Result<()> {
    // Before the packages are installed there is no `ip`.
    let bridge = match around.find("ip") {
        Some(ip) => format!(" && {} link add probe0 type bridge", ip.display()),
        None => String::new(),
    };
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--pid", "--ipc", "--uts", "--fork"])
        .args(["--kill-child", "--propagation", "private", "sh", "-c"])
        .arg(format!("mount -t tmpfs tmpfs /mnt{bridge}"));
    output(&mut command)?;
    let known = fs::read_to_string("/proc/filesystems").context("the kernel's file systems")?;
    // A module that is loaded when it is asked for is not in the list.
    let is_module = fs::exists("/lib/modules").unwrap_or(false);
    anyhow::ensure!(
        is_module || known.split_whitespace().any(|name| name == "overlay"),
        "the kernel has no overlay file system"
    );
    Ok(())
}

fn groups() -> Result<()> {
    let name = format!("ironside-check-{}", std::process::id());
    let made = cgroups::make(&name);
    cgroups::remove(&name);
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lack_names_its_way_out() {
        let mut report = Report::default();
        report.lack("root", "it is needed", "run as root");
        assert_eq!(report.lacks, ["root: it is needed; run as root"]);
        assert_eq!(report.notes, [""; 0]);
    }

    #[test]
    fn a_look_leaves_no_group_behind() {
        let around = Surroundings::read().unwrap();
        let report = look(&around).unwrap();
        assert!(!(report.notes.is_empty() && report.lacks.is_empty()));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let left = format!("ironside-check-{}", std::process::id());
        for at in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            assert!(!std::path::Path::new(at).join(&left).exists(), "{at}");
        }
    }
}
