//! Names that belong to one run at a time, across processes.
//!
//! A name is a small file that is locked for as long as the run lives; the kernel lets go of it however the run ends.
//! Without a folder for them nothing is locked, and runs rely on luck as the reference's do.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// A folder of names.
#[derive(Debug, Clone)]
pub(crate) struct Locks(Option<PathBuf>);

/// A name that is ours while this value lives; the file is absent where nothing can be locked.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Option<File>,
}

// === impl Lock ===

impl Lock {
    /// A lock on nothing.
    pub(crate) fn none() -> Self {
        Self { _file: None }
    }
}

// === impl Locks ===

impl Locks {
    /// The names of one kind, in a folder of this user's private folder.
    pub(crate) fn below(private: Option<&Path>, kind: &str) -> Self {
        let folder = private.map(|folder| folder.join(kind));
        Self(folder.filter(|folder| fs::create_dir_all(folder).is_ok()))
    }

    /// Takes a name; none if it belongs to another run.
    pub(crate) fn take(&self, name: &str) -> Option<Lock> {
        let file = self.0.as_ref().and_then(|folder| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(folder.join(name))
                .ok()
        });
        if let Some(file) = &file
            && flock(file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
        {
            return None;
        }
        Some(Lock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let locks = Locks::below(Some(folder.path()), "names");
        let first = locks.take("a");
        assert!(first.is_some());
        assert!(locks.take("a").is_none());
        assert!(locks.take("b").is_some());
        drop(first);
        assert!(locks.take("a").is_some());
    }

    #[test]
    fn without_a_folder_every_name_is_free() {
        let locks = Locks::below(None, "names");
        assert!(locks.take("a").is_some() && locks.take("a").is_some());
    }
}
