//! The process around the machine: starts it in namespaces of its own, outlives it, tidies up after it.
//!
//! It lives in the host's namespaces and holds nothing the cluster needs: when it is killed, the machine is killed
//! with it; when the machine is killed, it removes the control groups and the loopback port, and ends.

use std::{
    fs::File,
    net::TcpListener,
    os::{fd::OwnedFd, unix::fs::symlink},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::{cgroups, folder::Folder, pki, settings, toolchain::Toolchain};

/// Starts the machine and waits for its end.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn run(folder: &Folder, tools: &Toolchain) -> Result<()> {
    folder.note_pid("keeper.pid", std::process::id())?;
    cgroups::sweep();
    let group = cgroups::name(std::process::id());
    cgroups::make(&group)?;
    let outcome = machine(folder, tools, &group);
    cgroups::remove(&group);
    outcome
}

fn machine(folder: &Folder, tools: &Toolchain, group: &str) -> Result<()> {
    pki::make(folder)?;
    settings::write(folder, group)?;
    let door = TcpListener::bind(("127.0.0.1", 0)).context("a loopback port")?;
    let address = door.local_addr().context("a loopback port")?;
    let outside = pki::kubeconfig(folder, &format!("https://{address}"), "admin");
    folder.write(&folder.kubeconfig(), &outside)?;
    // Whoever has the kubeconfig finds the programs that fit beside it.
    symlink(tools.bin(), folder.file("bin")).context("link to the programs")?;
    let progress = File::create(folder.progress()).context("the machine's notes")?;
    let log = File::create(folder.log("machine")).context("the machine's log")?;
    let itself = std::env::current_exe().context("own path")?;
    // `setpriv` ends the machine with this process, `--kill-child` with `unshare`.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args([
            "--net",
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--fork",
            "--kill-child",
        ])
        .args(["--propagation", "private"])
        .arg(itself)
        .args(["cluster", "machine"])
        .arg(folder.path())
        .stdin(Stdio::from(OwnedFd::from(door)))
        .stdout(progress)
        .stderr(log)
        .spawn()
        .context("starting setpriv and unshare")?;
    child.wait().context("waiting for the machine")?;
    Ok(())
}
