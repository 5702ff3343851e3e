//! What the app knows: its name, what was asked of it, the load it makes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{call::Caller, load::Load};

/// Paths that are counted one by one; the rest is counted together.
const PATHS: usize = 1000;

/// The name under which further paths are counted.
const OTHERS: &str = "(others)";

/// Shared by every connection.
#[derive(Clone, Debug)]
pub(crate) struct State {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    pod: String,
    counts: Mutex<BTreeMap<String, u64>>,
    load: Mutex<Option<Load>>,
    caller: Caller,
}

impl State {
    /// An app of this name in a pod of that one.
    pub(crate) fn new(name: String, pod: String) -> Self {
        Self {
            inner: Arc::new(Inner {
                name,
                pod,
                counts: Mutex::default(),
                load: Mutex::default(),
                caller: Caller::new(),
            }),
        }
    }

    /// The app's name.
    pub(crate) fn name(&self) -> &str {
        &self.inner.name
    }

    /// The pod's name: the host name.
    pub(crate) fn pod(&self) -> &str {
        &self.inner.pod
    }

    /// The client of outgoing calls.
    pub(crate) fn caller(&self) -> &Caller {
        &self.inner.caller
    }

    /// Counts a request to `path` and returns how many there were, this one included.
    pub(crate) fn count(&self, path: &str) -> u64 {
        let mut counts = self.counts_locked();
        let name = if counts.len() < PATHS || counts.contains_key(path) {
            path
        } else {
            OTHERS
        };
        let count = counts.entry(name.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Requests so far, by path.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts_locked().clone()
    }

    /// Forgets the counts.
    pub(crate) fn forget(&self) {
        self.counts_locked().clear();
    }

    /// The load in progress or the last one.
    pub(crate) fn load(&self) -> MutexGuard<'_, Option<Load>> {
        self.inner
            .load
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn counts_locked(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.inner
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
