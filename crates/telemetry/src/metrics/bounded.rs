//! Series by a text that callers choose, and never more than so many of them.
//!
//! The first texts get series of their own; once there are too many, all
//! others share one. A known series is found under a read lock and without
//! allocating.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Series by text and a small key; the key's values are few by their type.
#[derive(Debug)]
pub(super) struct Bounded<K, S> {
    limit: usize,
    overflow: &'static str,
    series: RwLock<HashMap<Box<str>, ByKey<K, S>>>,
}

/// The series of one text; a handful, so that a search beats a hash.
type ByKey<K, S> = Vec<(K, S)>;

impl<K: Copy + PartialEq, S> Bounded<K, S> {
    /// At most `limit` texts, then `overflow` for all others.
    pub(super) fn new(limit: usize, overflow: &'static str) -> Self {
        Self {
            limit,
            overflow,
            series: RwLock::default(),
        }
    }

    /// Measures with the series of `text` and `key`, made by `make` from the text that is
    /// the label.
    pub(super) fn with(
        &self,
        text: &str,
        key: K,
        make: impl FnOnce(&str) -> S,
        measure: impl FnOnce(&S),
    ) {
        // A map of handles is valid after any interrupted change.
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = series.get(text).and_then(|list| find(list, key)) {
            return measure(found);
        }
        drop(series);
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let label = if series.contains_key(text) || series.len() < self.limit {
            text
        } else {
            self.overflow
        };
        let list = series.entry(label.into()).or_default();
        if find(list, key).is_none() {
            list.push((key, make(label)));
        }
        if let Some(found) = find(list, key) {
            measure(found);
        }
    }
}

fn find<K: Copy + PartialEq, S>(list: &[(K, S)], key: K) -> Option<&S> {
    list.iter()
        .find(|(known, _)| *known == key)
        .map(|(_, series)| series)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn known_texts_keep_their_series_and_others_share_one() {
        let bounded = Bounded::new(2, "_other");
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
        ] {
            bounded.with(
                text,
                key,
                |label| {
                    made.borrow_mut().push((label.to_owned(), key));
                    format!("{label}{key}")
                },
                |series: &String| measured.borrow_mut().push(series.clone()),
            );
        }
        assert_eq!(
            *measured.borrow(),
            ["a1", "b1", "a2", "a1", "_other1", "_other1", "b1"]
        );
        assert_eq!(made.borrow().len(), 4);
    }
}
