//! Which directories are watched for edits, and which of what happens there is one.
//!
//! Owns the watcher, the names that mean something and the wait for what belongs to the same edit (5 ms). What is
//! read then, and when, is the reload's business. Source: process-interface 2.9.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use ironside_resources::loader;
use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc;

/// Events within so long are one edit (process-interface 2.9).
const DEBOUNCE: Duration = Duration::from_millis(5);

/// Reading a file is no edit: our own reload reads them all.
pub(super) fn is_edit(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// Which names in the watched directories mean something: a log file beside a `--config` file does not.
#[derive(Debug)]
pub(super) struct Watched {
    configurations: Vec<OsString>,
    directories: Vec<PathBuf>,
}

// === impl Watched ===

impl Watched {
    pub(super) fn new(configurations: &[PathBuf], directories: &[PathBuf]) -> Self {
        let name = |path: &PathBuf| path.file_name().map(OsString::from);
        Self {
            configurations: configurations.iter().filter_map(name).collect(),
            directories: directories.to_vec(),
        }
    }

    /// True if an event at these paths may be an edit; one without a path may be any.
    pub(super) fn concerns(&self, paths: &[PathBuf]) -> bool {
        let concerns = |path: &PathBuf| {
            let Some(name) = path.file_name() else {
                return true;
            };
            let text = name.to_string_lossy();
            // `..data` is how a mounted volume replaces all of its files at once.
            text.starts_with("..")
                || loader::is_yaml_name(&text)
                || self.configurations.iter().any(|file| file == name)
                || self.directories.contains(path)
        };
        paths.is_empty() || paths.iter().any(concerns)
    }
}

/// A running watch, if there is one.
pub(crate) struct Watch {
    pub(super) watcher: Option<RecommendedWatcher>,
    pub(super) edits: mpsc::Receiver<()>,
}

impl Watch {
    /// Waits for what belongs to the same edit.
    pub(super) async fn debounce(&mut self) {
        tokio::time::sleep(DEBOUNCE).await;
        while self.edits.try_recv().is_ok() {}
    }

    pub(super) fn add(
        &mut self,
        configurations: &[PathBuf],
        directories: &[PathBuf],
    ) -> Result<(), notify::Error> {
        let Some(watcher) = &mut self.watcher else {
            return Ok(());
        };
        // The directory of a file is watched, because editors replace files instead of writing into them.
        let parents = configurations.iter().map(|path| match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        });
        for path in parents.chain(directories.iter().map(PathBuf::as_path)) {
            watcher.watch(path, RecursiveMode::NonRecursive)?;
        }
        Ok(())
    }
}
