//! Debian packages and other programs that the machine of a cluster is made of.
//!
//! As root on Debian what is missing is installed; otherwise the error names it. Nothing is removed.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use rustix::process::geteuid;

use crate::surroundings::Surroundings;

/// Programs, and the Debian package that brings each.
const PROGRAMS: [(&str, &str); 11] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("sysctl", "procps"),
    ("mount", "mount"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
];

/// Where Debian puts the plugins of the container network.
pub(crate) const CNI: &str = "/usr/lib/cni";

/// Plugins that the network of pods needs, and their package.
const PLUGINS: [&str; 3] = ["ptp", "host-local", "loopback"];
const PLUGINS_PACKAGE: &str = "containernetworking-plugins";

/// Makes sure that everything is there.
///
/// # Errors
/// Without root; names what is missing and cannot be installed.
pub(crate) fn ensure(around: &Surroundings) -> Result<()> {
    let wanted = missing(around);
    if !geteuid().is_root() {
        let lack = if wanted.is_empty() {
            String::new()
        } else {
            format!("; missing Debian packages: {}", wanted.join(" "))
        };
        bail!(
            "a cluster of its own needs root (namespaces, mounts){lack}. \
             Any other cluster serves as well: IRONSIDE_E2E_KUBECONFIG=<file>"
        );
    }
    if wanted.is_empty() {
        return Ok(());
    }
    if around.find("apt-get").is_none() {
        bail!(
            "missing, and there is no apt-get to install them with: {}",
            wanted.join(" ")
        );
    }
    eprintln!("-- installing {}", wanted.join(" "));
    apt(Command::new("apt-get").args(["update", "-qq"]))?;
    apt(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&wanted))?;
    let left = missing(around);
    if !left.is_empty() {
        bail!("still missing after the installation: {}", left.join(" "));
    }
    Ok(())
}

/// The packages of which something is missing, each once.
pub(crate) fn missing(around: &Surroundings) -> Vec<&'static str> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| around.find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    let plugin = |name: &&str| std::path::Path::new(CNI).join(name).is_file();
    if !PLUGINS.iter().all(plugin) {
        packages.push(PLUGINS_PACKAGE);
    }
    packages.dedup();
    packages
}

fn apt(command: &mut Command) -> Result<()> {
    let output = command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("starting apt-get")?;
    if !output.status.success() {
        bail!(
            "apt-get failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
