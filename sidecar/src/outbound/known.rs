//! Apps that were found a moment ago.
//!
//! An app that nobody has heard of is an error at once, as in the reference. One that answered a minute ago and
//! is not to be found now is restarting: its calls are worth the retries that an unreachable peer gets. Bounded
//! by age and number.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ironside_chassis::clock::Tick;

use super::Callee;

/// How long a found app counts as known.
const MEMORY: Duration = Duration::from_secs(60);
/// Apps that are remembered at most; beyond it the memory starts anew.
const CAPACITY: usize = 4096;

/// The memory of one data worker.
#[derive(Debug, Default)]
pub(crate) struct KnownApps(Mutex<HashMap<Box<str>, Tick>>);

impl KnownApps {
    /// Remembers that an app was found.
    pub(crate) fn found(&self, callee: &Callee, now: Tick) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = known.get_mut(&*callee.written) {
            *seen = now;
            return;
        }
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert(callee.written.clone(), now);
    }

    /// True if the app was found within the last minute.
    pub(crate) fn is_known(&self, callee: &Callee, now: Tick) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(&*callee.written)
            .is_some_and(|seen| now.since(*seen) < MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use ironside_identity::{AppId, Namespace};

    #[test]
    fn an_app_is_known_for_a_minute() {
        let callee = Callee {
            app_id: AppId::parse("a").unwrap(),
            namespace: Namespace::default(),
            header: HeaderValue::from_static("a"),
            written: "a".into(),
        };
        let known = KnownApps::default();
        let start = Tick::ZERO;
        assert!(!known.is_known(&callee, start));
        known.found(&callee, start);
        assert!(known.is_known(&callee, Tick::at(Duration::from_secs(59))));
        assert!(!known.is_known(&callee, Tick::at(Duration::from_secs(60))));
    }
}
