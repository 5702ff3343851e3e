//! What is told of sessions to whoever keeps the status of objects: this process, or another replica of it.
//!
//! Pure values. A [`Cursor`] remembers what one listener was told, so that each look brings what is new only.

use std::{collections::BTreeSet, sync::Arc};

use crate::world::App;

/// A connected sidecar, and what it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// Whose it is, as its certificate says.
    pub app: App,
    /// Which of them, as it says itself: the name of a pod and a word that is new at each start.
    pub instance: Box<str>,
    /// What it made of each object that it was sent last, in no order.
    pub objects: Vec<Ran>,
}

/// What a sidecar made of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The object.
    pub uid: Arc<str>,
    /// The generation that it was sent.
    pub generation: i64,
    /// Why it does not run it.
    pub refusal: Option<Refusal>,
}

/// Why a sidecar does not run an object; short, and fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A word.
    pub code: Box<str>,
    /// A sentence.
    pub message: Box<str>,
}

/// What one listener was told.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    pub(crate) after: Option<u64>,
    pub(crate) told: BTreeSet<u64>,
}

/// What is new to a listener. The numbers are those of sessions; one never comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Sidecars that are new, or run something else.
    pub sidecars: Vec<(u64, Sidecar)>,
    /// Sessions that ended.
    pub gone: Vec<u64>,
}

// === impl News ===

impl News {
    /// True if there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sidecars.is_empty() && self.gone.is_empty()
    }
}
