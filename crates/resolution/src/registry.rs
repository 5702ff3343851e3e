//! What a sidecar writes into the registry folder of its user, and who is believed there.
//!
//! Owns the folder's place, the text of an entry and the judgement about it: an entry counts while
//! the process that wrote it lives, told from a later one with the same number by its start time,
//! and while that process shares this one's network. Refuses files and processes: the sidecar's
//! `resolve/registry.rs` reads both.

use std::path::{Path, PathBuf};

use ironside_identity::{AppId, Namespace};
use serde::{Deserialize, Serialize};

use crate::Authority;

#[cfg(test)]
mod tests;

/// Bytes; a larger file in the folder is no entry.
pub const MAX_ENTRY: u64 = 4096;

/// Written into every entry; a reader skips versions it does not know.
const VERSION: u32 = 1;

/// One announced sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The app's namespace.
    pub namespace: Namespace,
    /// The app behind the sidecar.
    pub app_id: AppId,
    /// Where the sidecar's internal server listens.
    pub authority: Authority,
    /// The sidecar itself.
    pub process: Process,
}

/// A process, and the part of the machine it can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The number of the process.
    pub pid: u32,
    /// Clock ticks between the machine's start and the process's; 0 if that could not be read.
    pub start_time: u64,
    /// Where the numbers of processes and the networks of this machine mean the same.
    pub place: Place,
}

/// The kernel's names for a process's surroundings, empty where there are none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The namespace in which the process's number is valid.
    pub processes: Box<str>,
    /// The namespace whose interfaces and ports the process uses.
    pub network: Box<str>,
}

/// What the kernel says now about a process number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// There is no such process, or it has ended and only waits to be collected.
    Dead,
    /// A process runs; its start time, if that could be read.
    Alive(Option<u64>),
}

/// What an entry is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its sidecar runs and can be reached from here.
    Believed,
    /// Nothing can be said from here about its process, or it uses another network.
    Elsewhere,
    /// Its process has ended: the file may be removed.
    Dead,
}

/// Why the content of a file is no entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// No JSON of the expected shape.
    #[error("not an entry")]
    Shape(#[source] serde_json::Error),
    /// Written by a later version of the program.
    #[error("version {0} is unknown")]
    Version(u32),
    /// A field's value is not allowed.
    #[error("{field} {value:?} is not valid")]
    Value {
        /// The field's name in the file.
        field: &'static str,
        /// What stands there.
        value: Box<str>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text<'a> {
    version: u32,
    namespace: std::borrow::Cow<'a, str>,
    app_id: std::borrow::Cow<'a, str>,
    address: std::borrow::Cow<'a, str>,
    internal_port: u16,
    pid: u32,
    start_time: u64,
    #[serde(default)]
    process_namespace: std::borrow::Cow<'a, str>,
    #[serde(default)]
    network_namespace: std::borrow::Cow<'a, str>,
}

/// The folder in which the sidecars of one user find each other.
///
/// `runtime_dir` is the user's own folder for such things (`XDG_RUNTIME_DIR`), if there is one.
#[must_use]
pub fn folder(runtime_dir: Option<&Path>, temp_dir: &Path, uid: u32) -> PathBuf {
    runtime_dir
        .map_or_else(
            || temp_dir.join(format!("ironside-{uid}")),
            |dir| dir.join("ironside"),
        )
        .join("peers")
}

/// Judges an entry's process, given what the kernel says about its number.
#[must_use]
pub fn standing(process: &Process, here: &Place, sign: Sign) -> Standing {
    if process.place.processes != here.processes {
        return Standing::Elsewhere;
    }
    let same = match sign {
        Sign::Dead => false,
        Sign::Alive(None) => true,
        Sign::Alive(Some(started)) => process.start_time == 0 || process.start_time == started,
    };
    if !same {
        return Standing::Dead;
    }
    if process.place.network != here.network {
        return Standing::Elsewhere;
    }
    Standing::Believed
}

// === impl Entry ===

impl Entry {
    /// Reads a file of the folder.
    ///
    /// # Errors
    /// [`EntryError`] if it is no entry.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        let text: Text<'_> = serde_json::from_slice(bytes).map_err(EntryError::Shape)?;
        if text.version != VERSION {
            return Err(EntryError::Version(text.version));
        }
        let refused = |field, value: &str| EntryError::Value {
            field,
            value: value.into(),
        };
        Ok(Self {
            namespace: Namespace::parse(&text.namespace)
                .map_err(|_why| refused("namespace", &text.namespace))?,
            app_id: AppId::parse(&text.app_id).map_err(|_why| refused("appId", &text.app_id))?,
            authority: Authority::new(&text.address, text.internal_port)
                .map_err(|_why| refused("address", &text.address))?,
            process: Process {
                pid: text.pid,
                start_time: text.start_time,
                place: Place {
                    processes: text.process_namespace.into(),
                    network: text.network_namespace.into(),
                },
            },
        })
    }

    /// The file's content.
    ///
    /// # Errors
    /// Never in practice: the fields are texts and numbers.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let Self {
            namespace,
            app_id,
            authority,
            process,
        } = self;
        serde_json::to_vec(&Text {
            version: VERSION,
            namespace: namespace.as_str().into(),
            app_id: app_id.as_str().into(),
            address: authority.host().into(),
            internal_port: authority.port(),
            pid: process.pid,
            start_time: process.start_time,
            process_namespace: process.place.processes.as_ref().into(),
            network_namespace: process.place.network.as_ref().into(),
        })
    }

    /// The file's name: one per process and port, so that sidecars never share one.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-{}.json", self.process.pid, self.authority.port())
    }
}
