//! Tells when files of a folder come or go.
//!
//! Owns the kernel's notice, where the kernel has one to give: each user may have only so many.
//! Without it nothing is ever told, and whoever listens must look now and then anyway.

use std::path::Path;
use std::sync::Arc;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tracing::debug;

use super::LOG;

/// Notices of one folder.
pub(super) struct Watcher {
    noticed: Arc<Notify>,
    _kernel: Option<RecommendedWatcher>,
}

// === impl Watcher ===

impl Watcher {
    /// Watches a folder from now on.
    pub(super) fn new(folder: &Path) -> Self {
        let noticed = Arc::new(Notify::new());
        let told = noticed.clone();
        let tell = move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| is_change(event.kind)) {
                told.notify_one();
            }
        };
        let kernel = notify::recommended_watcher(tell).and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        if let Err(err) = &kernel {
            debug!(target: LOG, folder = %folder.display(), %err, "changes of a folder are not told, it is looked at every second");
        }
        Self {
            noticed,
            _kernel: kernel.ok(),
        }
    }

    /// Waits for the next change, or for several at once.
    pub(super) async fn changed(&self) {
        self.noticed.notified().await;
    }
}

fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
        EventKind::Any | EventKind::Access(_) | EventKind::Other => false,
    }
}
