//! Files of a self-hosted sidecar, as they are now.
//!
//! Owns the reading of `--config` files and resource directories (process-interface 6) and what was seen at
//! one time ([`Snapshot`]). What follows from it is `compile.rs`, when it is read again `reload.rs`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ironside_identity::TrustDomain;
use ironside_policy::PolicySet;
use ironside_resources::{
    Configuration, EnvAccess,
    configuration::{self, ConfigFile},
    loader::{self, Loaded, Loader, ResourceFile},
};

use super::{
    access::{self, AccessError},
    compile::{CompileError, Compiled, Inputs, compile},
    stream::Streamed,
};
use crate::{
    config::{Config, Files, env::Environment},
    middleware::{KeySource, Tools},
};

#[cfg(test)]
pub(super) mod tests;

/// Variables that name an exporter of traces; the first one wins.
const OTEL_ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// What the files say and where it is read from.
pub(crate) struct Disk {
    config: Arc<Config>,
    env: Environment,
    clock: ironside_chassis::Clock,
    keys: KeySource,
    domain: TrustDomain,
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
pub(crate) struct Bytes {
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
            domain: TrustDomain::default(),
        }
    }

    /// The same, for an app of this trust domain.
    #[must_use]
    pub(crate) fn within(self, domain: TrustDomain) -> Self {
        Self { domain, ..self }
    }

    /// Which files these are.
    pub(super) fn files(&self) -> &Files {
        &self.config.files
    }

    /// Reads everything and understands it.
    ///
    /// # Errors
    /// [`DiskError`] for the first file or directory that cannot be used.
    pub(crate) fn read(&self) -> Result<Snapshot, DiskError> {
        let bytes = self.bytes()?;
        let (configuration, loaded) = self.understand(&bytes)?;
        Ok(Snapshot {
            configuration,
            loaded,
            bytes,
        })
    }

    /// Reads everything.
    ///
    /// # Errors
    /// [`DiskError`] for the first file or directory that cannot be read.
    pub(super) fn bytes(&self) -> Result<Bytes, DiskError> {
        Bytes::read(
            &self.config.files.configurations,
            &self.config.files.resources,
        )
    }

    /// What was read, as values.
    ///
    /// # Errors
    /// [`DiskError`] for the first `--config` file that is none.
    pub(super) fn understand(&self, bytes: &Bytes) -> Result<(Configuration, Loaded), DiskError> {
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
        let loaded = self.load(bytes, &configuration);
        Ok((configuration, loaded))
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

    /// True if peers are refused because there is an operator that cannot be asked.
    pub(crate) fn is_operator_unasked(&self) -> bool {
        self.config.is_operator_unasked
    }

    /// Compiles what was read.
    ///
    /// # Errors
    /// [`CompileError`] if it cannot be used.
    pub(crate) fn compile(
        &self,
        snapshot: &Snapshot,
        streamed: &Streamed,
    ) -> Result<Compiled, CompileError> {
        let lookup = |name: &str| self.env.get(name).map(str::to_owned);
        compile(&Inputs {
            configuration: &snapshot.configuration,
            loaded: &snapshot.loaded,
            config: &self.config,
            domain: &self.domain,
            otel_endpoint: OTEL_ENDPOINTS
                .iter()
                .find_map(|name| self.env.non_empty(name)),
            env: &EnvAccess {
                keys: self.env.get("DAPR_ENV_KEYS"),
                lookup: &lookup,
            },
            streamed,
            tools: &Tools {
                clock: &self.clock,
                keys: &self.keys,
            },
        })
    }
}

impl Disk {
    /// Compiles the rules of access control alone.
    ///
    /// # Errors
    /// [`AccessError`] if they cannot be used.
    pub(super) fn policy(
        &self,
        snapshot: &Snapshot,
        streamed: &Streamed,
    ) -> Result<PolicySet, AccessError> {
        let (configuration, loaded) = (&snapshot.configuration, &snapshot.loaded);
        let (policy, _warnings) =
            access::compile(configuration, loaded, &self.config, &self.domain, streamed)?;
        Ok(policy)
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// What `bytes` were understood as.
    pub(super) fn new(bytes: Bytes, configuration: Configuration, loaded: Loaded) -> Self {
        Self {
            configuration,
            loaded,
            bytes,
        }
    }

    /// True if the files mean the same, whatever their bytes.
    pub(super) fn says_as(&self, other: &Self) -> bool {
        self.configuration == other.configuration && self.loaded == other.loaded
    }

    /// True if every file holds the same bytes as then.
    pub(super) fn is_of(&self, bytes: &Bytes) -> bool {
        self.bytes == *bytes
    }

    /// The files alone.
    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Remembers files that could not be used, so that the same bad edit is reported once.
    pub(super) fn seen_instead(&mut self, unusable: Bytes) {
        self.bytes = unusable;
    }
}

// === impl Bytes ===

impl Bytes {
    fn read(configurations: &[PathBuf], directories: &[PathBuf]) -> Result<Self, DiskError> {
        let file = |path: &PathBuf| match read_bounded(path) {
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

/// Bytes that one file may have. The reference's documents end at 64 KiB.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Reads a regular file: a pipe or a device would hold the control thread, or never end.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let refused = |kind, text: &str| io::Error::new(kind, text.to_owned());
    // Asked before it is opened: opening a pipe waits for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(refused(
            io::ErrorKind::InvalidInput,
            "it is no regular file",
        ));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(refused(
            io::ErrorKind::FileTooLarge,
            "it is larger than 16 MiB",
        ));
    }
    Ok(bytes)
}

/// The files of a directory itself, in name order. Files that are no YAML are named but not read.
///
/// A file that is there and cannot be read may hold rules of access control: it is not left out, but an error
/// (security 4.6, F10).
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
        if !named {
            files.push((path, Vec::new()));
            continue;
        }
        match read_bounded(&path) {
            Ok(bytes) => files.push((path, bytes)),
            // Gone between listing and reading.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) if cause.kind() == io::ErrorKind::InvalidInput => {
                tracing::warn!(target: "dapr.runtime.loader.disk", "resource file {} is skipped: {cause}", path.display());
            }
            Err(cause) => {
                let text = format!("{}: {cause}", path.display());
                return Err(io::Error::new(cause.kind(), text));
            }
        }
    }
    files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}
