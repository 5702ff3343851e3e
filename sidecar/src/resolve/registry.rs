//! The registry folder: how apps of one user on one machine find each other, multicast or not.
//!
//! Owns this sidecar's own entry and the memory of the others': refreshed when the folder changed,
//! checked for processes that died, whose files it removes. Cheap to ask: an unchanged folder costs
//! one system call. Refuses to merge and to pick; `layers.rs` and `table.rs` do.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ironside_chassis::clock::Clock;
use ironside_identity::{AppId, Namespace};
use ironside_resolution::Authority;
use ironside_resolution::registry::{Entry, Process, Standing, standing};
use tracing::{debug, warn};

use super::{COMPONENT, LOG};
use folder::Folder;

mod folder;
mod process;
#[cfg(test)]
mod tests;

pub(super) use folder::FolderError;

/// A change this much younger than the look at the folder may have been missed: the kernel's time
/// stamps of files advance in steps of up to 10 ms.
const STAMP_STEP: Duration = Duration::from_millis(20);

/// The sidecars of this user on this machine.
#[derive(Debug)]
pub(super) struct Registry {
    folder: Folder,
    clock: Clock,
    here: Process,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    stamp: Stamp,
    entries: BTreeMap<String, Entry>,
}

/// What is known about the folder's state at the last look.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    /// Never looked, or changed while it was looked at.
    #[default]
    Unsure,
    /// As it was when it had changed at this time.
    Of(SystemTime),
}

/// An entry in the folder; dropping it removes the file.
#[derive(Debug)]
pub(super) struct Announcement {
    folder: Folder,
    entry: Entry,
}

/// Where the folder lies: in the user's runtime folder if that is really the user's, else in the
/// temporary one.
pub(super) fn place(runtime_dir: Option<&Path>, temp_dir: &Path, uid: u32) -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let is_own = |dir: &&Path| {
        dir.is_absolute()
            && dir
                .metadata()
                .is_ok_and(|dir| dir.is_dir() && dir.uid() == uid)
    };
    ironside_resolution::registry::folder(runtime_dir.filter(is_own), temp_dir, uid)
}

// === impl Registry ===

impl Registry {
    /// Opens the folder at `path` for the user `uid`, and makes it if need be.
    ///
    /// # Errors
    /// [`FolderError`] if others could have written into it.
    pub(super) fn open(path: &Path, uid: u32, clock: Clock) -> Result<Self, FolderError> {
        Ok(Self {
            folder: Folder::open(path, uid)?,
            clock,
            here: process::own(),
            memory: Mutex::default(),
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Lets the others find an app at `authority`, for as long as the answer lives.
    ///
    /// # Errors
    /// What the kernel says about the file.
    pub(super) fn announce(
        &self,
        namespace: Namespace,
        app_id: AppId,
        authority: Authority,
    ) -> io::Result<Announcement> {
        let entry = Entry {
            namespace,
            app_id,
            authority,
            process: self.here.clone(),
        };
        self.folder.write(&entry)?;
        Ok(Announcement {
            folder: self.folder.clone(),
            entry,
        })
    }

    /// Looks again if the folder changed since the last look; true if the entries did.
    pub(super) fn refresh(&self) -> bool {
        let changed_at = self.folder.changed_at();
        if changed_at.is_some_and(|at| self.memory().stamp == Stamp::Of(at)) {
            return false;
        }
        let looked_at = self.clock.now();
        // Files are read before the lock: the data path reads the memory.
        let entries = self.read();
        let mut memory = self.memory();
        memory.stamp = match changed_at {
            Some(at) if at + STAMP_STEP < looked_at => Stamp::Of(at),
            Some(_) | None => Stamp::Unsure,
        };
        let differs = memory.entries != entries;
        memory.entries = entries;
        differs
    }

    /// Forgets entries whose process has ended, and removes their files; returns their addresses.
    pub(super) fn bury(&self) -> Vec<Authority> {
        let known = self.memory().entries.clone();
        let dead: Vec<(String, Entry)> = known
            .into_iter()
            .filter(|(_, entry)| self.judge(entry) == Standing::Dead)
            .collect();
        self.memory()
            .entries
            .retain(|name, _| !dead.iter().any(|(gone, _)| gone == name));
        dead.into_iter()
            .map(|(name, entry)| {
                self.remove_dead(&name, &entry);
                entry.authority
            })
            .collect()
    }

    /// The believed entries.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.memory().entries.values().cloned().collect()
    }

    /// Writes an entry for another process, as that process would.
    #[cfg(test)]
    pub(super) fn plant(&self, entry: &Entry) {
        self.folder.write(entry).expect("writes");
    }

    /// This process, for entries like its own.
    #[cfg(test)]
    pub(super) fn here(&self) -> Process {
        self.here.clone()
    }

    fn read(&self) -> BTreeMap<String, Entry> {
        let mut believed = BTreeMap::new();
        for (name, entry) in self.folder.read() {
            match self.judge(&entry) {
                Standing::Believed => drop(believed.insert(name, entry)),
                Standing::Elsewhere => {}
                Standing::Dead => self.remove_dead(&name, &entry),
            }
        }
        believed
    }

    fn remove_dead(&self, name: &str, entry: &Entry) {
        debug!(target: LOG, component = COMPONENT, peer.app = %entry.app_id, peer.pid = entry.process.pid, "a sidecar ended without saying so");
        self.folder.remove(name);
    }

    fn judge(&self, entry: &Entry) -> Standing {
        let sign = process::sign(entry.process.pid);
        standing(&entry.process, &self.here.place, sign)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // The map is valid after any interrupted change.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Announcement ===

impl Announcement {
    /// Writes the entry again if somebody removed it: temporary folders are swept by age.
    pub(super) fn keep(&self) {
        if self.folder.has(&self.entry.file_name()) {
            return;
        }
        let Self { folder, entry } = self;
        let again = Folder::open(folder.path(), rustix::process::geteuid().as_raw());
        let written = again.map(|folder| folder.write(entry));
        if let Err(err) = &written {
            warn!(target: LOG, component = COMPONENT, %err, "the entry of this sidecar was removed and cannot be written again");
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.folder.remove(&self.entry.file_name());
    }
}
