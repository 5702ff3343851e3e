//! Files of a self-hosted sidecar: read at the start, watched, read again.
//!
//! Owns the reading of `--config` files and resource directories, the watch on both (5 ms debounce, a backup
//! listing, SIGHUP), and the reload: a whole new [`Live`] is compiled and published; a bad edit keeps the last
//! good one and says in one line what to correct. The reference restarts its runtime for most edits and closes
//! its ports; here they stay (decision in docs/compatibility.md). Source: process-interface 2.9, 6.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ironside_resources::{
    Configuration, EnvAccess,
    configuration::{self, ConfigFile},
    loader::{self, Loaded, Loader, ResourceFile},
};
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::compile::{CompileError, Compiled, Inputs, compile};
use crate::{
    config::{Config, env::Environment},
    live::Live,
    middleware::{KeySource, Tools},
};

#[cfg(test)]
mod tests;

/// Events within so long are one edit (process-interface 2.9).
const DEBOUNCE: Duration = Duration::from_millis(5);
/// Scope of reload lines.
const LOG: &str = "dapr.runtime.hotreload";

/// What the files say and where it is read from.
pub(crate) struct Disk {
    config: Arc<Config>,
    env: Environment,
    clock: ironside_chassis::Clock,
    keys: KeySource,
}

/// What was read at one time.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The merged `--config` files.
    pub(crate) configuration: Configuration,
    /// What the resource directories hold.
    pub(crate) loaded: Loaded,
    bytes: Bytes,
}

/// File names and contents, to see whether anything changed.
#[derive(Debug, PartialEq, Eq)]
struct Bytes {
    configurations: Vec<(PathBuf, Vec<u8>)>,
    resources: Vec<(PathBuf, Vec<u8>)>,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// A `--config` file cannot be read.
    #[error("error loading configuration: open {}: {cause}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// A `--config` file cannot be understood.
    #[error("error loading configuration: {0}")]
    Configuration(#[from] configuration::ConfigError),
    /// A resource directory cannot be read.
    #[error("failed to load components: open {}: {cause}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// What was read cannot be used.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

// === impl Disk ===

impl Disk {
    /// Files of this process.
    pub(crate) fn new(
        config: Arc<Config>,
        env: Environment,
        clock: ironside_chassis::Clock,
        keys: KeySource,
    ) -> Self {
        Self {
            config,
            env,
            clock,
            keys,
        }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// [`DiskError`] for the first file or directory that cannot be used.
    pub(crate) fn read(&self) -> Result<Snapshot, DiskError> {
        let bytes = Bytes::read(
            &self.config.files.configurations,
            &self.config.files.resources,
        )?;
        let paths: Vec<String> = bytes
            .configurations
            .iter()
            .map(|(path, _)| path.display().to_string())
            .collect();
        let files = paths
            .iter()
            .zip(&bytes.configurations)
            .map(|(path, (_, bytes))| ConfigFile { path, bytes });
        let configuration =
            configuration::load(files, |name| self.env.get(name).map(str::to_owned))?;
        let loaded = self.load(&bytes, &configuration);
        Ok(Snapshot {
            configuration,
            loaded,
            bytes,
        })
    }

    fn load(&self, bytes: &Bytes, configuration: &Configuration) -> Loaded {
        let loader = Loader {
            namespace: self.env.non_empty("NAMESPACE").unwrap_or_default(),
            app_id: self.config.app_id.as_str(),
            deny: configuration.denied_components(),
        };
        let names: Vec<String> = bytes
            .resources
            .iter()
            .map(|(path, _)| path.display().to_string())
            .collect();
        loader.load(
            names
                .iter()
                .zip(&bytes.resources)
                .map(|(name, (_, bytes))| ResourceFile { name, bytes }),
        )
    }

    /// Compiles what was read.
    ///
    /// # Errors
    /// [`CompileError`] if it cannot be used.
    pub(crate) fn compile(&self, snapshot: &Snapshot) -> Result<Compiled, CompileError> {
        let lookup = |name: &str| self.env.get(name).map(str::to_owned);
        compile(&Inputs {
            configuration: &snapshot.configuration,
            loaded: &snapshot.loaded,
            config: &self.config,
            env: &EnvAccess {
                keys: self.env.get("DAPR_ENV_KEYS"),
                lookup: &lookup,
            },
            tools: &Tools {
                clock: &self.clock,
                keys: &self.keys,
            },
        })
    }
}

// === impl Bytes ===

impl Bytes {
    fn read(configurations: &[PathBuf], directories: &[PathBuf]) -> Result<Self, DiskError> {
        let file = |path: &PathBuf| match std::fs::read(path) {
            Ok(bytes) => Ok((path.clone(), bytes)),
            Err(cause) => Err(DiskError::ConfigFile {
                path: path.clone(),
                cause,
            }),
        };
        let configurations = configurations.iter().map(file).collect::<Result<_, _>>()?;
        let mut resources = Vec::new();
        for directory in directories {
            let listed = list(directory).map_err(|cause| DiskError::Directory {
                path: directory.clone(),
                cause,
            });
            resources.append(&mut listed?);
        }
        Ok(Self {
            configurations,
            resources,
        })
    }
}

/// The files of a directory itself, in name order. Files that are no YAML are named but not read.
fn list(directory: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            continue;
        }
        let named = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(loader::is_yaml_name);
        match if named {
            std::fs::read(&path)
        } else {
            Ok(Vec::new())
        } {
            Ok(bytes) => files.push((path, bytes)),
            // Gone between listing and reading.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
    }
    files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}

/// Keeps live state up to date with the files.
pub(crate) struct Reloader {
    disk: Disk,
    last: Snapshot,
    live: watch::Sender<Arc<Live>>,
    hangup: mpsc::Receiver<()>,
}

// === impl Reloader ===

impl Reloader {
    /// Publishes into `live` whenever the files change or `hangup` says so. `last` is what is in force.
    pub(crate) fn new(
        disk: Disk,
        last: Snapshot,
        live: watch::Sender<Arc<Live>>,
        hangup: mpsc::Receiver<()>,
    ) -> Self {
        Self {
            disk,
            last,
            live,
            hangup,
        }
    }

    /// True unless the Configuration at the start switched watching off (feature `HotReload`).
    pub(crate) fn watches(&self) -> bool {
        self.last
            .configuration
            .is_feature_enabled(configuration::HOT_RELOAD)
    }

    /// Starts the watch, so that no edit after this is missed.
    ///
    /// # Errors
    /// The system's, when a directory cannot be watched.
    pub(crate) fn watch(&self) -> Result<Watch, notify::Error> {
        let (sender, edits) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| !is_edit(event.kind)) {
                return;
            }
            // A full channel says already that something changed.
            let _already = sender.try_send(());
        })?;
        let mut watch = Watch { watcher, edits };
        if self.watches() {
            watch.add(
                &self.disk.config.files.configurations,
                &self.disk.config.files.resources,
            )?;
        }
        Ok(watch)
    }

    /// Reloads until `stop` is cancelled.
    pub(crate) async fn run(mut self, mut watch: Watch, stop: CancellationToken) {
        let relist = self.disk.config.files.relist;
        loop {
            let forced = tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = self.hangup.recv() => true,
                Some(()) = watch.edits.recv() => {
                    tokio::time::sleep(DEBOUNCE).await;
                    while watch.edits.try_recv().is_ok() {}
                    false
                }
                () = tokio::time::sleep(relist), if self.watches() => false,
            };
            self.reload(forced);
            if self.watches() {
                // Directories that were replaced are watched anew; the others are already.
                let files = &self.disk.config.files;
                let _gone = watch.add(&files.configurations, &files.resources);
            }
        }
    }

    /// Reads, compares, compiles, publishes.
    fn reload(&mut self, forced: bool) {
        let next = match self.disk.read() {
            Ok(next) => next,
            Err(cause) => return kept(&cause),
        };
        if next.bytes == self.last.bytes && !forced {
            return;
        }
        match self.disk.compile(&next) {
            Ok(Compiled {
                live,
                components: _,
                warnings,
            }) => {
                report(&self.last, &next);
                for warning in warnings {
                    warn!(target: LOG, "{warning}");
                }
                self.last = next;
                self.live.send_replace(Arc::new(live));
                info!(target: LOG, "configuration and resources are in force; ports and connections stay");
            }
            Err(cause) => {
                // Remembered, so that the same bad edit is reported once.
                self.last.bytes = next.bytes;
                kept(&cause.into());
            }
        }
    }
}

fn kept(cause: &DiskError) {
    error!(target: LOG, "an edit cannot be used: {cause}; the last good state stays in force until the file is corrected");
}

/// One line for each resource that came, changed or went, in the reference's words.
fn report(before: &Snapshot, after: &Snapshot) {
    let line = |kind: &str, event: &str, name: &str| {
        info!(target: "dapr.runtime.hotreload.reconciler", "Received {kind} {event} event: {name}");
    };
    let component = |c: &ironside_resources::Component| c.log_name().to_string();
    for (event, name) in changes(
        &before.loaded.components,
        &after.loaded.components,
        |c| &c.name,
        component,
    ) {
        line("Component", event, &name);
    }
    let endpoint = |e: &ironside_resources::HttpEndpoint| e.name.clone();
    for (event, name) in changes(
        &before.loaded.http_endpoints,
        &after.loaded.http_endpoints,
        |e| &e.name,
        endpoint,
    ) {
        line("HTTPEndpoint", event, &name);
    }
    if before.configuration != after.configuration {
        line("Configuration", "UPDATED", "--config");
    }
}

/// Deleted first, then updated, then created (process-interface 2.9).
fn changes<T: PartialEq>(
    before: &[T],
    after: &[T],
    key: impl Fn(&T) -> &String,
    log_name: impl Fn(&T) -> String,
) -> Vec<(&'static str, String)> {
    let find = |list: &'_ [T], wanted: &T| list.iter().position(|item| key(item) == key(wanted));
    let deleted = before
        .iter()
        .filter(|item| find(after, item).is_none())
        .map(|item| ("DELETED", log_name(item)));
    let mut later: Vec<(&'static str, String)> = deleted.collect();
    let mut created = Vec::new();
    for item in after {
        match find(before, item).and_then(|at| before.get(at)) {
            None => created.push(("CREATED", log_name(item))),
            Some(old) if old != item => later.push(("UPDATED", log_name(item))),
            Some(_) => {}
        }
    }
    later.append(&mut created);
    later
}

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

/// A running watch.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    edits: mpsc::Receiver<()>,
}

impl Watch {
    fn add(
        &mut self,
        configurations: &[PathBuf],
        directories: &[PathBuf],
    ) -> Result<(), notify::Error> {
        // The directory of a file is watched, because editors replace files instead of writing into them.
        let parents = configurations.iter().map(|path| match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        });
        for path in parents.chain(directories.iter().map(PathBuf::as_path)) {
            self.watcher.watch(path, RecursiveMode::NonRecursive)?;
        }
        Ok(())
    }
}
