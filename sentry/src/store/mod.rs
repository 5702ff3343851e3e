//! Where an authority is kept: what a store must be able to do.
//!
//! Owns the seam behind which files (and a cluster's objects) lie. A store holds either nothing, or an authority that
//! somebody supplied, or one that Sentry made itself with its state; it changes only the last kind, only from the
//! generation that the writer has seen, and never overwrites what it cannot read (fact O-S9).

mod files;
pub(crate) mod jwt;

#[cfg(test)]
pub(crate) use files::{Disk, Write};
pub(crate) use files::{FileStore, JwtFiles};

use crate::rotation::state::Marks;
use crate::rotation::{State, StateError};
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;

/// What a store answers with, later.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where the authority is kept.
pub(crate) trait Store: Send + Sync {
    /// Says where, for the log.
    fn place(&self) -> &'static str;

    /// Reads what is there.
    fn read(&self) -> Later<'_, Result<Found, StoreError>>;

    /// Puts a new state in the place of the one of generation `from`, or of nothing at all.
    ///
    /// The change is whole or not at all. Its files may be older afterwards: [`Store::tidy`] sees to that.
    fn commit<'a>(
        &'a self,
        from: Option<u64>,
        state: &'a State,
    ) -> Later<'a, Result<(), StoreError>>;

    /// Makes the three files what the state says, where they are not yet.
    fn tidy<'a>(&'a self, state: &'a State) -> Later<'a, Result<(), StoreError>>;

    /// Takes back the wish for a rotation.
    fn answer(&self) -> Later<'_, Result<(), StoreError>>;

    /// Begins to watch for changes.
    fn watch(&self) -> Box<dyn Changes>;
}

/// A watch on a store.
pub(crate) trait Changes: Send {
    /// Waits for a change; cancel safe.
    fn changed(&mut self) -> Later<'_, ()>;
}

/// The three texts of an authority, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Texts {
    /// Trust anchors.
    pub(crate) root: Vec<u8>,
    /// The issuer and what is sent behind it.
    pub(crate) issuer: Vec<u8>,
    /// The issuer's private key.
    pub(crate) key: Vec<u8>,
}

/// The content of a store.
pub(crate) struct Found {
    pub(crate) stored: Stored,
    /// Somebody wants a rotation now.
    pub(crate) requested: bool,
}

/// Whose authority is in a store.
pub(crate) enum Stored {
    Nothing,
    /// Somebody else's: it is used, and never changed.
    Supplied(Texts),
    /// Sentry's own.
    Own(Box<State>),
}

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// There is no such folder.
    #[error("issuer credentials folder {}: {cause}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Some parts are there and some are not.
    #[error("issuer credentials are incomplete: {}", partial(missing, found))]
    Partial {
        /// What is not there.
        missing: Vec<PathBuf>,
        /// What is.
        found: Vec<PathBuf>,
    },
    /// A file can't be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A file can't be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The state of Sentry's own authority can't be understood.
    #[error("{}: {cause}; restore the file, or move it away to have its folder treated as a supplied CA", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: StateError,
    },
    /// Somebody else has changed the store in the meantime.
    #[error("the issuer credentials were changed by somebody else")]
    Conflict,
}

// === impl Texts ===

impl Texts {
    /// The marks of the three texts.
    pub(crate) fn marks(&self) -> Marks {
        Marks {
            root: mark(&self.root),
            issuer: mark(&self.issuer),
            key: mark(&self.key),
        }
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn mark(text: &[u8]) -> String {
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn partial(missing: &[PathBuf], found: &[PathBuf]) -> String {
    let list = |paths: &[PathBuf]| {
        let paths: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        paths.join(", ")
    };
    format!(
        "missing: {}; present: {}; restore what is missing, or move the rest away to have a new CA \
         generated",
        list(missing),
        list(found)
    )
}
