//! Series by a text that callers choose, and never more than so many of them.
//!
//! The governor of all families whose labels others choose. The first combinations of a text and a key get series
//! of their own; once there are too many, all further ones are counted under one label, and a counter says how
//! often. A known series is found under a read lock and without allocating.

use std::collections::HashMap;
use std::sync::{OnceLock, PoisonError, RwLock};

use super::family::{Count, Counts};

/// Keys that the shared text may have; further ones share the last label of all.
const MAX_SHARED: usize = 64;

/// Series by text and a small key.
#[derive(Debug)]
pub(super) struct Bounded<K, S> {
    limit: usize,
    /// What stands for a text, and for a key, that found no room.
    other: (&'static str, K),
    overflow: Overflow,
    table: RwLock<Table<K, S>>,
}

/// How often a family had no series left; appears with the first time.
#[derive(Debug)]
pub(super) struct Overflow {
    counts: Counts,
    family: &'static str,
    count: OnceLock<Count>,
}

#[derive(Debug)]
struct Table<K, S> {
    by_text: HashMap<Box<str>, ByKey<K, S>>,
    /// Series of all texts but the shared one.
    own: usize,
}

/// The series of one text; a handful, so that a search beats a hash.
type ByKey<K, S> = Vec<(K, S)>;

// === impl Overflow ===

impl Overflow {
    pub(super) const fn new(counts: Counts, family: &'static str) -> Self {
        Self {
            counts,
            family,
            count: OnceLock::new(),
        }
    }

    pub(super) fn inc(&self) {
        let series = || self.counts.series(&[self.family]);
        self.count.get_or_init(series).inc();
    }
}

// === impl Bounded ===

impl<K: Copy + PartialEq, S> Bounded<K, S> {
    /// At most `limit` series, then those of `other`.
    pub(super) fn new(limit: usize, other: (&'static str, K), overflow: Overflow) -> Self {
        Self {
            limit,
            other,
            overflow,
            table: RwLock::default(),
        }
    }

    /// Measures with the series of `text` and `key`, made by `make` from what its labels say.
    pub(super) fn with<R>(
        &self,
        text: &str,
        key: K,
        make: impl FnOnce(&str, K) -> S,
        measure: impl FnOnce(&S) -> R,
    ) -> Option<R> {
        // A map of handles is valid after any interrupted change.
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = table.find(text, key) {
            return Some(measure(found));
        }
        let is_full = table.own >= self.limit;
        if is_full {
            self.overflow.inc();
            if let Some(found) = table.find(self.other.0, key) {
                return Some(measure(found));
            }
            if table.len(self.other.0) >= MAX_SHARED
                && let Some(found) = table.find(self.other.0, self.other.1)
            {
                return Some(measure(found));
            }
        }
        drop(table);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let has_room = table.own < self.limit && text != self.other.0;
        let (text, key) = match has_room {
            true => (text, key),
            false if table.len(self.other.0) + 1 < MAX_SHARED => (self.other.0, key),
            false => self.other,
        };
        if table.find(text, key).is_none() {
            table.own += usize::from(has_room);
            let list = table.by_text.entry(text.into()).or_default();
            list.push((key, make(text, key)));
        }
        table.find(text, key).map(measure)
    }
}

// === impl Table ===

impl<K, S> Default for Table<K, S> {
    fn default() -> Self {
        Self {
            by_text: HashMap::new(),
            own: 0,
        }
    }
}

impl<K: Copy + PartialEq, S> Table<K, S> {
    fn find(&self, text: &str, key: K) -> Option<&S> {
        let list = self.by_text.get(text)?;
        let known = list.iter().find(|(known, _)| *known == key);
        known.map(|(_, series)| series)
    }

    fn len(&self, text: &str) -> usize {
        self.by_text.get(text).map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn bounded(limit: usize) -> (Bounded<i32, String>, Overflow) {
        let counts = Counts::unregistered(&["family"]);
        let told = Overflow::new(counts.clone(), "f");
        let overflow = Overflow::new(counts, "f");
        (Bounded::new(limit, ("_other", -1), overflow), told)
    }

    #[test]
    fn known_texts_keep_their_series_and_others_share_one() {
        let (bounded, told) = bounded(3);
        let made = RefCell::new(Vec::new());
        let measured = RefCell::new(Vec::new());
        for (text, key) in [
            ("a", 1),
            ("b", 1),
            ("a", 2),
            ("a", 1),
            ("c", 1),
            ("d", 1),
            ("b", 1),
            ("b", 2),
            ("_other", 1),
        ] {
            let make = |text: &str, key| {
                made.borrow_mut().push((text.to_owned(), key));
                format!("{text}{key}")
            };
            let measure = |series: &String| measured.borrow_mut().push(series.clone());
            bounded.with(text, key, make, measure);
        }
        assert_eq!(
            *measured.borrow(),
            [
                "a1", "b1", "a2", "a1", "_other1", "_other1", "b1", "_other2", "_other1"
            ]
        );
        assert_eq!(made.borrow().len(), 5);
        told.inc();
        assert_eq!(
            told.count.get().unwrap().get(),
            4,
            "three calls and this one"
        );
    }

    /// An app may answer with any status: keys are bounded as well.
    #[test]
    fn keys_are_bounded_too() {
        let (bounded, _told) = bounded(10);
        let mut made = 0;
        for key in 0..10_000 {
            bounded.with(
                "a",
                key,
                |_, _| {
                    made += 1;
                    String::new()
                },
                |_| (),
            );
        }
        assert_eq!(made, 10 + MAX_SHARED);
    }
}
