//! Where an authority is kept: what a store must be able to do.
//!
//! Owns the seam behind which files (and a cluster's objects) lie. A store holds either nothing, or an authority that
//! somebody supplied, or one that Sentry made itself with its state; it changes only the last kind, only from the
//! generation that the writer has seen, and never overwrites what it cannot read (fact O-S9).

mod files;
mod image;
pub(crate) mod jwt;
mod secret;

#[cfg(test)]
pub(crate) use files::{Disk, Write};
pub(crate) use files::{FileStore, JwtFiles};
pub(crate) use secret::{JwtSecret, SecretStore};

use crate::cluster::CallError;
use crate::rotation::state::Marks;
use crate::rotation::{State, StateError};
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::SystemTime;

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

    /// Makes everything else that the store holds what the authority says, where it is not yet: the three files of a
    /// state, and what others read of it.
    fn tidy<'a>(
        &'a self,
        texts: &'a Texts,
        state: Option<&'a State>,
    ) -> Later<'a, Result<Wrote, StoreError>>;

    /// Takes back the wish for a rotation.
    fn answer(&self) -> Later<'_, Result<(), StoreError>>;

    /// Tells those who look after the store of trouble with it, where they look first; the log has it already.
    fn report<'a>(&'a self, now: SystemTime, reason: &'static str, note: &'a str) -> Later<'a, ()>;

    /// Begins to watch for changes.
    fn watch(&self) -> Box<dyn Changes>;
}

/// A watch on a store.
pub(crate) trait Changes: Send {
    /// Waits for a change; cancel safe.
    fn changed(&mut self) -> Later<'_, Change>;
}

/// What a watch has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Somebody has written.
    Written,
    /// Something may be different, and only a look can tell.
    Perhaps,
}

/// Whether a call has changed the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrote {
    Yes,
    No,
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
    /// The cluster has no such object.
    #[error("the {what} does not exist: install the chart, or create it without data")]
    NoObject {
        /// Kind, namespace and name.
        what: String,
    },
    /// Some keys of the Secret are there and some are not.
    #[error(
        "the {what} is incomplete: missing: {}; present: {}; restore what is missing, or take away the rest to have \
         a new CA generated",
        missing.join(", "),
        found.join(", ")
    )]
    PartialSecret {
        /// Kind, namespace and name.
        what: String,
        /// Keys that are not there.
        missing: Vec<String>,
        /// Keys that are.
        found: Vec<String>,
    },
    /// The state in the Secret can't be understood.
    #[error(
        "the {what}: key {key}: {cause}; restore the key, or take it away to have the rest treated as a supplied CA"
    )]
    SecretState {
        /// Kind, namespace and name.
        what: String,
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        cause: StateError,
    },
    /// The cluster does not answer, or not as it should.
    #[error("cannot {verb} the {what}: {cause}")]
    Cluster {
        /// `read` or `write`.
        verb: &'static str,
        /// Kind, namespace and name.
        what: String,
        /// What the API server says.
        cause: CallError,
    },
    /// Somebody else has changed the store in the meantime.
    #[error("the issuer credentials were changed by somebody else")]
    Conflict,
}

// === impl Wrote ===

impl Wrote {
    pub(crate) fn of(wrote: bool) -> Self {
        match wrote {
            true => Self::Yes,
            false => Self::No,
        }
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self::of(self == Self::Yes || other == Self::Yes)
    }
}

// === impl StoreError ===

impl StoreError {
    /// Says whether the store was not reached, so that nothing is known of what it holds.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        matches!(self, Self::Cluster { .. })
    }
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
