//! Files and folders of rules, read as a sidecar reads them.
//!
//! The same loader, so the same documents count and the same ones are refused. What cannot be used is an error
//! with file, line and field; nothing is tried with half of the rules.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ironside_identity::{AppId, Namespace, TrustDomain};
use ironside_policy::{AppKind, Block, Callee, Input, Namespaces, PolicySet};
use ironside_resources::{
    access_control::{self, Outline},
    configuration::{self, ConfigFile},
    loader::{Loader, ResourceFile, is_yaml_name},
};

use super::Session;

/// Everything that was named on the command line.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sources {
    resources: Vec<File>,
    configurations: Vec<File>,
}

#[derive(Debug, Clone)]
struct File {
    name: String,
    bytes: Vec<u8>,
    /// Whether a person can look at its lines.
    has_lines: bool,
}

/// Rules for one app.
pub(crate) struct Rules {
    pub(crate) set: PolicySet,
    /// What the loader left out, in words.
    pub(crate) warnings: Vec<String>,
}

// === impl Sources ===

impl Sources {
    /// Reads files, folders and Configurations; a file may also be a Configuration.
    pub(super) fn read(
        files: &[String],
        folders: &[String],
        configurations: &[String],
    ) -> anyhow::Result<Self> {
        let mut sources = Self::default();
        for name in configurations {
            sources.configurations.push(File::read(Path::new(name))?);
        }
        for name in files {
            sources.file(Path::new(name))?;
        }
        for name in folders {
            sources.folder(Path::new(name))?;
        }
        if sources.resources.is_empty() && sources.configurations.is_empty() {
            bail!(
                "name the rules: --file for a file, --resources-path for a folder, --config for a Configuration"
            );
        }
        Ok(sources)
    }

    /// Adds an object that is in no file.
    pub(super) fn add_resource(&mut self, name: String, text: String) {
        self.resources.push(File::stored(name, text));
    }

    /// Adds a Configuration that is in no file.
    pub(super) fn add_configuration(&mut self, name: String, text: String) {
        self.configurations.push(File::stored(name, text));
    }

    /// These sources after others have been applied over them: an object of the same name is replaced.
    pub(super) fn with(&self, applied: &Self) -> Self {
        let key = |outline: &Outline| {
            let namespace = match outline.namespace.as_str() {
                "" => "default",
                namespace => namespace,
            };
            (namespace.to_owned(), outline.name.clone())
        };
        let new: BTreeSet<_> = applied
            .resources
            .iter()
            .flat_map(File::outlines)
            .map(|outline| key(&outline))
            .collect();
        let is_kept = |file: &&File| !file.outlines().any(|one| new.contains(&key(&one)));
        let kept = self.resources.iter().filter(is_kept);
        let resources = kept.chain(&applied.resources).cloned().collect();
        let configurations = match applied.configurations.is_empty() {
            true => self.configurations.clone(),
            false => applied.configurations.clone(),
        };
        Self {
            resources,
            configurations,
        }
    }

    /// Reads one file or folder.
    pub(super) fn one(path: &str) -> anyhow::Result<Self> {
        let mut sources = Self::default();
        let path = Path::new(path);
        if path.is_dir() {
            sources.folder(path)?;
        } else {
            sources.file(path)?;
        }
        Ok(sources)
    }

    fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let file = File::read(path)?;
        let is_configuration = file
            .outlines()
            .any(|outline| outline.kind == "Configuration");
        let list = if is_configuration {
            &mut self.configurations
        } else {
            &mut self.resources
        };
        list.push(file);
        Ok(())
    }

    /// The files of a folder itself, in name order, as a sidecar takes them.
    fn folder(&mut self, path: &Path) -> anyhow::Result<()> {
        let reading = || format!("reading the folder {}", path.display());
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(path).with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if !path.is_dir() && name.is_some_and(is_yaml_name) {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        for path in paths {
            self.resources.push(File::read(&path)?);
        }
        Ok(())
    }

    /// The apps that the rules tell apart: those of the scopes, and any other, in each namespace that is named.
    pub(super) fn callees(&self, app: AppKind) -> anyhow::Result<Vec<Callee>> {
        let outlines = self.resources.iter().flat_map(File::outlines);
        let outlines: Vec<Outline> = outlines
            .filter(|outline| outline.kind == "AccessControl")
            .collect();
        let mut namespaces: BTreeSet<&str> =
            outlines.iter().map(|one| one.namespace.as_str()).collect();
        // An object that names no namespace applies in all; so do those of a Configuration.
        if namespaces.len() != 1 {
            namespaces.remove("");
        }
        if namespaces.is_empty() {
            namespaces.insert("");
        }
        let mut found = Vec::new();
        for namespace in namespaces {
            let near = outlines
                .iter()
                .filter(|one| one.namespace.is_empty() || one.namespace == namespace);
            let mut apps: BTreeSet<&str> = near
                .flat_map(|one| &one.scopes)
                .map(String::as_str)
                .collect();
            apps.insert(ANY_APP);
            for name in apps {
                found.push(Callee {
                    app_id: AppId::parse(name).with_context(|| format!("scope {name:?}"))?,
                    namespace: Namespace::parse(if namespace.is_empty() {
                        "default"
                    } else {
                        namespace
                    })?,
                    trust_domain: TrustDomain::default(),
                    app,
                });
            }
        }
        Ok(found)
    }

    /// Compiles what applies to an app.
    pub(crate) fn rules(&self, callee: &Callee, session: &Session) -> anyhow::Result<Rules> {
        let files = self.configurations.iter().map(|file| ConfigFile {
            path: &file.name,
            bytes: &file.bytes,
        });
        let configuration = configuration::load(files, |name| {
            session.environment.text(name).map(str::to_owned)
        })?;
        let loader = Loader {
            namespace: callee.namespace.as_str(),
            app_id: callee.app_id.as_str(),
            deny: &[],
        };
        let loaded = loader.load(self.resources.iter().map(|file| ResourceFile {
            name: &file.name,
            bytes: &file.bytes,
        }));
        if !loaded.policy_failures.is_empty() {
            let failures = loaded.policy_failures.iter();
            let lines: Vec<String> = failures.map(ToString::to_string).collect();
            bail!("{}; correct the file, or remove it", lines.join("\n"));
        }
        let stem = self.configurations.last().map(|file| Path::new(&file.name));
        let stem = stem.and_then(Path::file_stem).unwrap_or_default();
        let name = stem.to_string_lossy();
        let block = configuration.spec.access_control.as_ref();
        let input = Input {
            callee,
            block: block.map(|spec| Block {
                name: &name,
                spec,
                is_strict: session.values.switch("strict"),
            }),
            objects: &loaded.access_controls,
            refused: &[],
            // The loader has chosen already.
            namespaces: Namespaces::Any,
            deny_by_default: false,
        };
        let set = PolicySet::compile(&input).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}; correct the file, or remove it", lines.join("\n"))
        })?;
        Ok(Rules {
            set,
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
        })
    }

    /// Where a rule stands: `file:line`, or the file alone.
    pub(super) fn place(&self, object: &str, pointer: &str) -> Option<String> {
        let (files, name) = match object.strip_prefix("Configuration/") {
            Some(name) => (&self.configurations, name),
            None => (&self.resources, object),
        };
        let is_block = object.starts_with("Configuration/");
        let last = |file: &File| {
            Path::new(&file.name)
                .file_stem()
                .is_some_and(|stem| stem == name)
        };
        files.iter().find_map(|file| {
            let outline = file.outlines().find(|outline| {
                if is_block {
                    last(file)
                } else {
                    outline.kind == "AccessControl" && outline.log_name() == name
                }
            })?;
            Some(match outline.line_of(pointer).filter(|_| file.has_lines) {
                Some(line) => format!("{}:{line}", file.name),
                None => file.name.clone(),
            })
        })
    }
}

/// An app that no scope names.
const ANY_APP: &str = "any-other-app";

// === impl File ===

impl File {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).with_context(|| format!("reading {name}"))?;
        Ok(Self {
            name,
            bytes,
            has_lines: true,
        })
    }

    fn stored(name: String, text: String) -> Self {
        Self {
            name,
            bytes: text.into_bytes(),
            has_lines: false,
        }
    }

    /// What its documents are; those that cannot be read are left to the loader.
    fn outlines(&self) -> impl Iterator<Item = Outline> {
        let text = std::str::from_utf8(&self.bytes).unwrap_or_default();
        access_control::outlines(text)
    }
}
