//! Waits until one of a few files is another one.
//!
//! Owns the watch on the directories that hold the files, the pause that lets a writer finish, and the look at the
//! files' marks (modification time, size, inode) that decides whether anything changed. A look every ten seconds
//! backs the notification up where there is none. Reading the files, and judging them, is the caller's.

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::warn;

/// How often the files are looked at when nothing was notified.
const POLL: Duration = Duration::from_secs(10);

/// A watch on a few files, which need not exist yet.
pub struct FileWatch {
    files: Vec<PathBuf>,
    marks: Vec<Option<Mark>>,
    settle: Duration,
    events: mpsc::Receiver<()>,
    /// Kept because dropping it ends the notifications; none if the system has none to spare.
    _watcher: Option<RecommendedWatcher>,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    modified: (i64, i64),
    size: u64,
    inode: u64,
}

// === impl FileWatch ===

impl FileWatch {
    /// Starts to watch; what the files are now counts as known. Changes are reported when the files have been
    /// quiet for `settle`.
    #[must_use]
    pub fn new(files: Vec<PathBuf>, settle: Duration) -> Self {
        // One waiting event says all: somebody should look.
        let (tx, events) = mpsc::channel(1);
        let watcher = watch_directories(&files, tx)
            .inspect_err(|cause| {
                warn!(target: "dapr.watch", err = %cause, "no file notifications; looking every {POLL:?} instead");
            })
            .ok();
        let marks = files.iter().map(|file| Mark::of(file)).collect();
        Self {
            files,
            marks,
            settle,
            events,
            _watcher: watcher,
        }
    }

    /// Waits until a file has changed, appeared or vanished.
    ///
    /// Cancel safe: a change that was not yet reported is reported by the next call.
    pub async fn changed(&mut self) {
        loop {
            if self.next_event(POLL).await {
                self.let_settle().await;
            }
            let marks: Vec<_> = self.files.iter().map(|file| Mark::of(file)).collect();
            if marks != self.marks {
                self.marks = marks;
                return;
            }
        }
    }

    /// Waits until the folder is quiet; a folder that never is must not hold a change back.
    async fn let_settle(&mut self) {
        let (settle, longest) = (self.settle, self.settle * 5);
        let quiet = async { while self.next_event(settle).await {} };
        let _restless = tokio::time::timeout(longest, quiet).await.is_err();
    }

    /// Waits for an event; `false` if none came in time.
    async fn next_event(&mut self, limit: Duration) -> bool {
        match tokio::time::timeout(limit, self.events.recv()).await {
            Ok(Some(())) => true,
            Ok(None) => {
                tokio::time::sleep(limit).await;
                false
            }
            Err(_elapsed) => false,
        }
    }
}

// === impl Mark ===

impl Mark {
    fn of(file: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(file).ok()?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Some(Self {
            modified,
            size: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

/// Directories are watched rather than files: an atomic replacement gives the name to another file.
fn watch_directories(
    files: &[PathBuf],
    tx: mpsc::Sender<()>,
) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.map_or(true, |event| is_change(event.kind)) {
            // A full queue already says that somebody should look.
            let _already_told = tx.try_send(()).is_err();
        }
    })?;
    let parent = |file: &PathBuf| match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    for directory in files.iter().map(parent).collect::<BTreeSet<_>>() {
        watcher.watch(&directory, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Reading is no change; otherwise our own look would wake us.
fn is_change(kind: EventKind) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const SOON: Duration = Duration::from_secs(8);

    fn watch(file: &Path) -> FileWatch {
        FileWatch::new(vec![file.to_owned()], Duration::from_millis(20))
    }

    async fn reported(watch: &mut FileWatch) -> bool {
        tokio::time::timeout(SOON, watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn changes_creations_removals_and_replacements_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        let mut watch = watch(&file);
        fs::write(&file, "one").unwrap();
        assert!(reported(&mut watch).await, "created");
        fs::write(&file, "two!").unwrap();
        assert!(reported(&mut watch).await, "written");
        fs::write(folder.path().join("new"), "thr").unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
        assert!(reported(&mut watch).await, "replaced");
        fs::remove_file(&file).unwrap();
        assert!(reported(&mut watch).await, "removed");
    }

    #[tokio::test]
    async fn a_link_that_points_elsewhere_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("v1"), "one").unwrap();
        fs::write(path("v2"), "one").unwrap();
        std::os::unix::fs::symlink(path("v1"), path("ca.crt")).unwrap();
        let mut watch = watch(&path("ca.crt"));
        std::os::unix::fs::symlink(path("v2"), path("next")).unwrap();
        fs::rename(path("next"), path("ca.crt")).unwrap();
        assert!(reported(&mut watch).await);
    }

    #[tokio::test]
    async fn other_files_and_readers_are_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        fs::write(&file, "one").unwrap();
        let mut watch = watch(&file);
        fs::write(folder.path().join("other"), "x").unwrap();
        fs::read(&file).unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
        assert!(quiet.is_err());
    }

    #[tokio::test]
    async fn a_missing_folder_falls_back_to_looking() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("later/ca.crt");
        let mut watch = watch(&file);
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(&file, "one").unwrap();
        tokio::time::timeout(POLL * 2, watch.changed())
            .await
            .unwrap();
    }
}
