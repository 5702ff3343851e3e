//! The control groups of one cluster: a folder in every hierarchy, below which the kubelet makes its own.
//!
//! They are the one thing that outlives the machine's first process, so whoever outlives it removes them: the
//! keeper, and every later command for keepers that were killed as well. The keeper's process id is in the name.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::deadline::until;

/// Killed processes are gone long before.
const LIMIT: Duration = Duration::from_secs(5);

const PREFIX: &str = "ironside-cluster-";

/// The name of the groups whose keeper is the process `keeper`.
pub(crate) fn name(keeper: u32) -> String {
    format!("{PREFIX}{keeper}")
}

/// Makes the groups.
///
/// # Errors
/// If a hierarchy refuses.
pub(crate) fn make(name: &str) -> Result<()> {
    for root in hierarchies() {
        let group = root.join(name);
        fs::create_dir_all(&group).with_context(|| format!("control group {}", group.display()))?;
        // The first version of cpuset starts empty, and an empty group takes no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if root.join("cgroup.clone_children").is_file()
                && let Ok(all) = fs::read_to_string(root.join(file))
            {
                fs::write(group.join(file), all.trim())
                    .with_context(|| format!("{file} of {}", group.display()))?;
            }
        }
        // The second version hands controllers down only when asked; one that is not there is not asked for.
        if let Ok(controllers) = fs::read_to_string(root.join("cgroup.controllers")) {
            for controller in controllers.split_whitespace() {
                drop(fs::write(
                    root.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                ));
            }
        }
    }
    Ok(())
}

/// Removes the groups and all below them.
pub(crate) fn remove(name: &str) {
    for root in hierarchies() {
        vanish(&root.join(name));
    }
}

/// Removes all that is below the groups.
///
/// Left there after their processes, the kubelet's next start asks the container runtime for each, for three seconds.
pub(crate) fn empty(name: &str) {
    for root in hierarchies() {
        for entry in fs::read_dir(root.join(name))
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.path().is_dir() {
                vanish(&entry.path());
            }
        }
    }
}

/// Removes the groups of keepers that live no more.
pub(crate) fn sweep() {
    for root in hierarchies() {
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let keeper = name
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX))
                .and_then(|number| number.parse().ok());
            if keeper.is_some_and(|keeper| !lives(keeper)) {
                vanish(&entry.path());
            }
        }
    }
}

/// Removes one group; a process that was killed a moment ago may still hold it.
fn vanish(group: &Path) {
    let what = format!("the end of control group {}", group.display());
    let gone = until(&what, LIMIT, || {
        remove_tree(group);
        Ok((!group.exists()).then_some(()))
    });
    if let Err(error) = gone {
        eprintln!("{error:#}");
    }
}

/// Whether the process is a keeper; one that ended and that nobody has asked for yet has no command line.
fn lives(keeper: u32) -> bool {
    let line = fs::read(format!("/proc/{keeper}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == b"keep")
}

/// Bytes of memory that the groups hold, where the kernel counts them.
pub(crate) fn memory(name: &str) -> Option<u64> {
    hierarchies()
        .iter()
        .flat_map(|root| {
            ["memory.usage_in_bytes", "memory.current"].map(|file| root.join(name).join(file))
        })
        .find_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// Where hierarchies are mounted.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let at = words.next()?;
            let kind = words.next()?;
            ["cgroup", "cgroup2"]
                .contains(&kind)
                .then(|| PathBuf::from(at))
        })
        .collect()
}

/// A group is a folder whose files vanish with it: only folders are removed, the innermost first.
fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    drop(fs::remove_dir(group));
}
