//! A folder of its own for one test: configuration, resources, logs, the name-resolution database.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

/// The surroundings of one test; removed when dropped.
#[derive(Debug)]
pub struct World {
    folder: TempDir,
    files: AtomicU32,
}

impl World {
    /// Makes an empty one.
    ///
    /// # Panics
    /// If the machine has no writable temporary folder.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("ironside-e2e-")
            .tempdir()
            .expect("a temporary folder");
        Self {
            folder,
            files: AtomicU32::new(0),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of this name and returns its path.
    ///
    /// # Panics
    /// If the disk is full.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a folder inside the world");
        }
        fs::write(&path, text).expect("a file inside the world");
        path
    }

    /// A file name that nobody else in this world uses.
    #[must_use]
    pub fn fresh(&self, stem: &str, extension: &str) -> String {
        format!(
            "{stem}-{}.{extension}",
            self.files.fetch_add(1, Ordering::Relaxed)
        )
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
