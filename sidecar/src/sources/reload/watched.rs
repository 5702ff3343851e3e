//! Which directories are watched for edits, and which of what happens there is one.
//!
//! Owns the watcher, the names that mean something and the wait for what belongs to the same edit (5 ms). A node
//! without free watches stops nothing: what cannot be watched is said once and tried again whenever files are looked
//! at. What is read then, and when, is the reload's business. Source: process-interface 2.9.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use ironside_resources::loader;
use notify::{
    Event, EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc;
use tracing::warn;

use super::LOG;
use crate::config::Files;

/// Events within so long are one edit (process-interface 2.9).
const DEBOUNCE: Duration = Duration::from_millis(5);

/// Reading a file is no edit: our own reload reads them all.
fn is_edit(kind: EventKind) -> bool {
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
    fn new(configurations: &[PathBuf], directories: &[PathBuf]) -> Self {
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

/// Makes what tells of changes in the directories that it is given.
type Make =
    Box<dyn Fn(Watched, mpsc::Sender<()>) -> notify::Result<Box<dyn Watcher + Send>> + Send>;

/// A running watch, if there is one.
pub(crate) struct Watch {
    make: Make,
    /// None where there is nothing to watch, and while the system gives no watcher.
    watcher: Option<Box<dyn Watcher + Send>>,
    sender: mpsc::Sender<()>,
    edits: mpsc::Receiver<()>,
    /// Why not all is watched, once that was said.
    missing: Option<String>,
}

// === impl Watch ===

impl Watch {
    /// Nothing is watched yet.
    pub(super) fn new() -> Self {
        Self::by(Box::new(|watched, sender| {
            let told = move |event: notify::Result<Event>| {
                if event.is_ok_and(|event| !is_edit(event.kind) || !watched.concerns(&event.paths))
                {
                    return;
                }
                // A full channel says already that something changed.
                let _already = sender.try_send(());
            };
            Ok(Box::new(notify::recommended_watcher(told)?))
        }))
    }

    /// As above, with watchers that `make` makes.
    pub(super) fn by(make: Make) -> Self {
        let (sender, edits) = mpsc::channel(1);
        Self {
            make,
            watcher: None,
            sender,
            edits,
            missing: None,
        }
    }

    /// Whether the system tells of anything.
    #[cfg(test)]
    pub(super) fn is_on(&self) -> bool {
        self.watcher.is_some()
    }

    /// Returns with the next edit; never where nothing is watched.
    pub(super) async fn edit(&mut self) {
        // It cannot end: there is a sender beside it.
        let _edited = self.edits.recv().await;
    }

    /// Waits for what belongs to the same edit.
    pub(super) async fn debounce(&mut self) {
        tokio::time::sleep(DEBOUNCE).await;
        while self.edits.try_recv().is_ok() {}
    }

    /// Watches all directories that are not watched yet, or were replaced; what cannot be is said once.
    ///
    /// All sidecars of a node share what the system gives to one user, both watchers and directories.
    pub(super) fn follow(&mut self, files: &Files) {
        if files.configurations.is_empty() && files.resources.is_empty() {
            return;
        }
        let done = self.try_follow(files).map_err(|cause| cause.to_string());
        let missing = done.err();
        if let Some(err) = missing.as_ref().filter(|_| missing != self.missing) {
            let relist = files.relist;
            warn!(target: LOG, %err, ?relist, "files cannot be watched: they are looked at now and then");
        }
        self.missing = missing;
    }

    fn try_follow(&mut self, files: &Files) -> notify::Result<()> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => {
                let watched = Watched::new(&files.configurations, &files.resources);
                none.insert((self.make)(watched, self.sender.clone())?)
            }
        };
        // The directory of a file is watched, because editors replace files instead of writing into them.
        let parents = files.configurations.iter().map(|path| match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        });
        let mut done = Ok(());
        for path in parents.chain(files.resources.iter().map(PathBuf::as_path)) {
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                // One that is not there is told of when it is read.
                Err(cause) if path.exists() => done = Err(cause),
                Ok(()) | Err(_) => {}
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_read_are_watched() {
        let watched = Watched::new(&["/etc/d/conf".into()], &["/res".into()]);
        for (path, concerns) in [
            ("/etc/d/conf", true),
            ("/etc/d/daprd.log", false),
            ("/etc/d/..data", true),
            ("/res/a.yaml", true),
            ("/res/b.YML", true),
            ("/res/a.yaml.swp", false),
            ("/res", true),
        ] {
            assert_eq!(watched.concerns(&[path.into()]), concerns, "{path}");
        }
        assert!(watched.concerns(&[]), "the kernel lost count");
    }
}
