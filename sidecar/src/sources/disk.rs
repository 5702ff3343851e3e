//! Files of a self-hosted sidecar, as they are now, and the objects of one in a cluster.
//!
//! Owns the reading of `--config` files and resource directories (process-interface 6), what of the operator's objects
//! can be used, and what was seen at one time ([`Snapshot`]). What follows from it is `compile.rs`, when it is read
//! again `reload.rs`.

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
    loader::{self, Loaded, Loader, Reason, ResourceFile},
};
use tokio::sync::watch;

use super::{
    access::{self, AccessError},
    cluster::{Accepted, Kind, News, Object, Objects, Withheld},
    compile::{CompileError, Compiled, Inputs, compile},
    operator::State,
    stream::Streamed,
};
use crate::{
    config::{Config, Files, env::Environment},
    live::Generation,
    middleware::{KeySource, Tools},
};

#[cfg(test)]
pub(super) mod tests;

/// What the files say and where it is read from.
pub(crate) struct Disk {
    config: Arc<Config>,
    env: Environment,
    clock: ironside_chassis::Clock,
    keys: KeySource,
    domain: TrustDomain,
    cluster: Option<Cluster>,
}

/// The operator's objects: the last word, and what of it can be used.
struct Cluster {
    states: watch::Receiver<State>,
    accepted: Accepted,
    /// Everything had been said when it was last taken in.
    is_whole: bool,
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
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    configurations: Vec<(PathBuf, Vec<u8>)>,
    resources: Vec<(PathBuf, Vec<u8>)>,
    objects: Arc<Objects>,
    withheld: Withheld,
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
            cluster: None,
            domain: TrustDomain::default(),
        }
    }

    /// The same, for an app of this trust domain.
    #[must_use]
    pub(crate) fn within(self, domain: TrustDomain) -> Self {
        Self { domain, ..self }
    }

    /// The same, with the operator's objects.
    #[must_use]
    pub(crate) fn following(self, states: watch::Receiver<State>) -> Self {
        let accepted = Accepted::default();
        Self {
            cluster: Some(Cluster {
                states,
                accepted,
                is_whole: false,
            }),
            ..self
        }
    }

    /// Tells of each new word of the operator; `None` without one.
    pub(crate) fn states(&self) -> Option<watch::Receiver<State>> {
        self.cluster.as_ref().map(|cluster| cluster.states.clone())
    }

    /// The operator's objects that can be used.
    pub(crate) fn accepted(&self) -> Option<&Accepted> {
        self.cluster.as_ref().map(|cluster| &cluster.accepted)
    }

    /// True if the operator had said everything when it was last taken in.
    pub(super) fn is_whole(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.is_whole)
    }

    /// Takes in what the operator says now; returns what is to be said of objects that cannot be used.
    pub(crate) fn gather(&mut self) -> Vec<News> {
        let Some(mut cluster) = self.cluster.take() else {
            return Vec::new();
        };
        let (wanted, is_whole) = {
            let state = cluster.states.borrow();
            (Arc::clone(&state.objects), state.is_complete())
        };
        cluster.is_whole = is_whole;
        let judge = |kind, object: &Object| self.judge(kind, object);
        let news = cluster.accepted.take(&wanted, judge);
        self.cluster = Some(cluster);
        news
    }

    /// Whether an object can be used, by itself.
    fn judge(&self, kind: Kind, object: &Object) -> Result<(), String> {
        let key = (kind, object.name.clone());
        let alone = Bytes {
            objects: Arc::new(Objects::from([(key, object.clone())])),
            ..Bytes::default()
        };
        let understood = self.understand(&alone);
        let (configuration, loaded) = understood.map_err(|cause| cause.to_string())?;
        if let Some(failure) = loaded.resiliency_failures.first() {
            return Err(failure.to_string());
        }
        let flaw = |warning: &&loader::Warning| is_flaw(&warning.reason);
        if let Some(warning) = loaded.warnings.iter().find(flaw) {
            return Err(warning.reason.to_string());
        }
        let is_endpoint = !loaded.http_endpoints.is_empty();
        let snapshot = Snapshot::new(alone, configuration, loaded);
        let compiled = self.compile(&snapshot, &Streamed::Absent, None);
        let Compiled { live, warnings, .. } = compiled.map_err(|cause| cause.to_string())?;
        if is_endpoint && live.endpoints.is_empty() {
            return Err(warnings.join("; "));
        }
        Ok(())
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
        let files = Bytes::read(
            &self.config.files.configurations,
            &self.config.files.resources,
        )?;
        let Some(Cluster {
            states, accepted, ..
        }) = &self.cluster
        else {
            return Ok(files);
        };
        let is_untold = !states.borrow().has_told(Kind::Component);
        Ok(Bytes {
            objects: Arc::clone(accepted.objects()),
            withheld: accepted.withheld(is_untold),
            ..files
        })
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
        let own = bytes
            .objects
            .iter()
            .find(|((kind, _), _)| *kind == Kind::Configuration);
        let configuration = match own {
            Some(((_, name), object)) => configuration::from_json(name, &object.json)?,
            None => configuration::load(files, |name| self.env.get(name).map(str::to_owned))?,
        };
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
        let is_resource = |kind: &Kind| *kind != Kind::Configuration;
        let objects: Vec<(String, &Object)> = bytes
            .objects
            .iter()
            .filter(|((kind, _), _)| is_resource(kind))
            .map(|((kind, name), object)| (format!("{kind}/{name}.yaml"), object))
            .collect();
        let files = names
            .iter()
            .zip(&bytes.resources)
            .map(|(name, (_, bytes))| ResourceFile { name, bytes });
        let objects = objects.iter().map(|(name, object)| ResourceFile {
            name,
            bytes: &object.json,
        });
        loader.load(files.chain(objects))
    }

    /// True if peers are refused because there is an operator that cannot be asked.
    pub(crate) fn is_operator_unasked(&self) -> bool {
        self.config.is_operator_unasked
    }

    /// Compiles what was read; the state of the policies in force goes on.
    ///
    /// # Errors
    /// [`CompileError`] if it cannot be used.
    pub(crate) fn compile(
        &self,
        snapshot: &Snapshot,
        streamed: &Streamed,
        policies: Option<&ironside_resiliency::Table>,
    ) -> Result<Compiled, CompileError> {
        let lookup = |name: &str| self.env.get(name).map(str::to_owned);
        let mut compiled = compile(&Inputs {
            configuration: &snapshot.configuration,
            loaded: &snapshot.loaded,
            config: &self.config,
            domain: &self.domain,
            env: &EnvAccess {
                keys: self.env.get("DAPR_ENV_KEYS"),
                lookup: &lookup,
            },
            withheld: &snapshot.bytes.withheld,
            streamed,
            policies,
            tools: &Tools {
                clock: &self.clock,
                keys: &self.keys,
            },
        })?;
        compiled.live.generations = snapshot.generations();
        Ok(compiled)
    }
}

/// True for what is wrong with an object itself; of other building blocks there may be any number.
fn is_flaw(reason: &Reason) -> bool {
    match reason {
        Reason::NotText
        | Reason::Unreadable(_)
        | Reason::ApiVersion { .. }
        | Reason::Name { .. }
        | Reason::Endpoint { .. } => true,
        Reason::NotYaml | Reason::OtherBlock { .. } | Reason::Denied(_) | Reason::Tolerated(_) => {
            false
        }
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

    /// Name of the Configuration of a cluster.
    pub(super) fn configuration_name(&self) -> Option<&str> {
        let mut objects = self.bytes.objects.keys();
        let own = objects.find(|(kind, _)| *kind == Kind::Configuration);
        own.map(|(_, name)| &**name)
    }

    /// Which generation of each object for this app is in force.
    fn generations(&self) -> Vec<Generation> {
        let loaded = &self.loaded;
        let is_ours = |kind: Kind, name: &str| match kind {
            Kind::Configuration => true,
            Kind::Component => loaded.components.iter().any(|one| one.name == name),
            Kind::HttpEndpoint => loaded.http_endpoints.iter().any(|one| one.name == name),
            Kind::Resiliency => loaded.resiliencies.iter().any(|one| one.name == name),
        };
        let objects = self.bytes.objects.iter();
        let ours = objects.filter(|((kind, name), _)| is_ours(*kind, name));
        ours.map(|((kind, name), object)| Generation {
            kind: kind.as_str(),
            name: name.clone(),
            generation: object.generation,
        })
        .collect()
    }

    /// True if the files mean the same, whatever their bytes.
    pub(super) fn says_as(&self, other: &Self) -> bool {
        self.configuration == other.configuration
            && self.loaded == other.loaded
            && self.bytes.withheld == other.bytes.withheld
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
            objects: Arc::default(),
            withheld: Withheld::default(),
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
