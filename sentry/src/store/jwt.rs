//! Where the key of JWTs and its public set are kept: what a store of them must be able to do.
//!
//! Owns the seam behind which files (and a cluster's objects) lie. A store gets what it lacks and nothing else: what is
//! there, readable or not, is never overwritten (fact O-S9).

use super::{Changes, Later, StoreError};

/// Where the key and its set are kept.
pub(crate) trait JwtStore: Send + Sync {
    /// Reads what is there.
    fn read(&self) -> Later<'_, Result<JwtTexts, StoreError>>;

    /// Writes the parts that are given where there is nothing: the key first, since the set can be made of it.
    ///
    /// A part that is there by now is left alone, and the call ends with [`StoreError::Conflict`].
    fn fill<'a>(&'a self, parts: &'a JwtTexts) -> Later<'a, Result<(), StoreError>>;

    /// Shows the set to others, where they look for it. Only a set that was found to be public may come here.
    fn show<'a>(&'a self, set: &'a [u8]) -> Later<'a, Result<(), StoreError>>;

    /// Begins to watch for changes.
    fn watch(&self) -> Box<dyn Changes>;

    /// Says where key and set are, for errors.
    fn names(&self) -> [String; 2];
}

/// The key in PEM and the set in JSON, as far as they are there.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct JwtTexts {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) set: Option<Vec<u8>>,
}
