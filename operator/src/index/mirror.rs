//! A copy of all objects of one kind, made of facts as a watch tells them.
//!
//! Owns what a new list means for what was known before: the copy serves until the list is whole, then what was not
//! on it is gone. Only views are kept, and what has no view is not kept at all, so memory grows with what matters.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Namespace and name.
pub(crate) type Key = (Arc<str>, Arc<str>);

/// What a watch says of one kind.
#[derive(Debug)]
pub(crate) enum Fact<V> {
    /// A list begins.
    Listing,
    /// The object is there; without a view it is of no interest.
    Is(Key, Option<V>),
    /// The object is not there any more.
    Gone(Key),
    /// The list is whole.
    Complete,
    /// There is no such kind in this cluster.
    NoKind,
}

/// What one fact changed.
#[derive(Debug)]
pub(crate) struct Change<V> {
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<V>>,
    pub(crate) after: Option<Arc<V>>,
}

/// The copy.
#[derive(Debug)]
pub(crate) struct Mirror<V> {
    held: BTreeMap<Key, Arc<V>>,
    /// What is on the list that is being told.
    listed: Option<HashSet<Key>>,
    is_whole: bool,
}

// === impl Change ===

impl<V> Clone for Change<V> {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone(),
            before: self.before.clone(),
            after: self.after.clone(),
        }
    }
}

// === impl Mirror ===

impl<V> Default for Mirror<V> {
    fn default() -> Self {
        Self {
            held: BTreeMap::new(),
            listed: None,
            is_whole: false,
        }
    }
}

impl<V> Mirror<V> {
    /// Takes a fact and says what it changed.
    pub(crate) fn take(&mut self, fact: Fact<V>) -> Vec<Change<V>> {
        match fact {
            Fact::Listing => {
                self.listed = Some(HashSet::new());
                Vec::new()
            }
            Fact::Is(key, view) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(key.clone());
                }
                self.put(key, view.map(Arc::new)).into_iter().collect()
            }
            Fact::Gone(key) => self.put(key, None).into_iter().collect(),
            Fact::Complete => {
                self.is_whole = true;
                let listed = self.listed.take();
                listed.map_or_else(Vec::new, |listed| self.keep(&listed))
            }
            Fact::NoKind => {
                self.is_whole = true;
                self.listed = None;
                self.keep(&HashSet::new())
            }
        }
    }

    /// Says whether all objects have been told at least once.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<V>> {
        self.held.get(key)
    }

    /// All of one namespace, by name.
    pub(crate) fn of_namespace<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<V>)> {
        let from: Key = (namespace.into(), "".into());
        self.held
            .range(from..)
            .take_while(move |((own, _), _)| **own == *namespace)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Key, &Arc<V>)> {
        self.held.iter()
    }

    fn put(&mut self, key: Key, after: Option<Arc<V>>) -> Option<Change<V>> {
        let before = match &after {
            Some(view) => self.held.insert(key.clone(), Arc::clone(view)),
            None => self.held.remove(&key),
        };
        (before.is_some() || after.is_some()).then_some(Change { key, before, after })
    }

    fn keep(&mut self, listed: &HashSet<Key>) -> Vec<Change<V>> {
        let gone: Vec<Key> = self
            .held
            .keys()
            .filter(|key| !listed.contains(*key))
            .cloned()
            .collect();
        let changes = gone.into_iter().filter_map(|key| self.put(key, None));
        changes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("ns".into(), name.into())
    }

    fn is(name: &str, view: u32) -> Fact<u32> {
        Fact::Is(key(name), Some(view))
    }

    /// (name, before, after)
    fn told(changes: Vec<Change<u32>>) -> Vec<(String, Option<u32>, Option<u32>)> {
        let tell = |change: Change<u32>| {
            let value = |view: Option<Arc<u32>>| view.map(|view| *view);
            (
                change.key.1.to_string(),
                value(change.before),
                value(change.after),
            )
        };
        changes.into_iter().map(tell).collect()
    }

    #[test]
    fn a_new_list_takes_away_what_is_not_on_it() {
        let mut mirror = Mirror::default();
        mirror.take(Fact::Listing);
        mirror.take(is("a", 1));
        mirror.take(is("b", 1));
        assert!(!mirror.is_whole());
        assert!(mirror.take(Fact::Complete).is_empty());
        assert!(mirror.is_whole());
        mirror.take(Fact::Listing);
        assert_eq!(mirror.all().count(), 2, "the old copy serves");
        assert_eq!(
            told(mirror.take(is("b", 2))),
            [("b".to_owned(), Some(1), Some(2))]
        );
        assert_eq!(
            told(mirror.take(Fact::Complete)),
            [("a".to_owned(), Some(1), None)]
        );
    }

    #[test]
    fn what_has_no_view_is_not_kept() {
        let mut mirror = Mirror::default();
        assert!(mirror.take(Fact::<u32>::Is(key("a"), None)).is_empty());
        mirror.take(is("a", 1));
        let off = mirror.take(Fact::Is(key("a"), None));
        assert_eq!(told(off), [("a".to_owned(), Some(1), None)]);
        assert!(mirror.take(Fact::Gone(key("a"))).is_empty());
    }

    #[test]
    fn a_kind_that_is_not_there_is_whole_and_empty() {
        let mut mirror = Mirror::default();
        mirror.take(is("a", 1));
        assert_eq!(mirror.take(Fact::NoKind).len(), 1);
        assert!(mirror.is_whole());
    }

    #[test]
    fn a_namespace_is_not_its_prefix() {
        let mut mirror = Mirror::default();
        for (namespace, name) in [("a", "x"), ("a", "y"), ("a-b", "x"), ("b", "x")] {
            mirror.take(Fact::Is((namespace.into(), name.into()), Some(1)));
        }
        let names = mirror
            .of_namespace("a")
            .map(|((namespace, name), _)| format!("{namespace}/{name}"));
        assert_eq!(names.collect::<Vec<_>>(), ["a/x", "a/y"]);
        assert_eq!(mirror.of_namespace("c").count(), 0);
    }
}
