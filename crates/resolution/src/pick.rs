//! Whose turn it is: round robin over a list that changes, and random choice.
//!
//! Owns the order of turns. Refuses to know what the items are and why the list changed.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::Rng;
use rand::seq::IndexedRandom as _;

/// A list whose items take turns; several threads may ask at once.
#[derive(Debug)]
pub struct Rotation<T> {
    items: Box<[T]>,
    turn: AtomicUsize,
}

// === impl Rotation ===

impl<T: Ord + Clone> Rotation<T> {
    /// A rotation over the items, sorted and without doubles; the first item is next.
    #[must_use]
    pub fn new(items: impl IntoIterator<Item = T>) -> Self {
        let mut items: Vec<T> = items.into_iter().collect();
        items.sort_unstable();
        items.dedup();
        Self {
            items: items.into(),
            turn: AtomicUsize::new(0),
        }
    }

    /// A rotation over other items that goes on where this one stands.
    ///
    /// The item whose turn it was stays next; if it is gone, the one that follows it is.
    #[must_use]
    pub fn continued(&self, items: impl IntoIterator<Item = T>) -> Self {
        let next = Self::new(items);
        let Some(due) = self.at(self.turn.load(Ordering::Relaxed)) else {
            return next;
        };
        let turn = next.items.partition_point(|item| item < due);
        next.turn.store(turn, Ordering::Relaxed);
        next
    }

    /// The next item; `None` if there are none.
    pub fn pick(&self) -> Option<&T> {
        self.at(self.turn.fetch_add(1, Ordering::Relaxed))
    }

    /// All items, in the order of their turns, beginning anywhere.
    #[must_use]
    pub fn items(&self) -> &[T] {
        &self.items
    }

    fn at(&self, turn: usize) -> Option<&T> {
        let index = turn.checked_rem(self.items.len())?;
        self.items.get(index)
    }
}

/// A random item; `None` if there are none.
pub fn random<'a, T>(items: &'a [T], rng: &mut impl Rng) -> Option<&'a T> {
    items.choose(rng)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    fn turns(rotation: &Rotation<char>, count: usize) -> String {
        (0..count).filter_map(|_| rotation.pick()).collect()
    }

    #[test]
    fn every_item_gets_its_turn() {
        let rotation = Rotation::new("cabb".chars());
        assert_eq!(turns(&rotation, 7), "abcabca");
        assert_eq!(turns(&Rotation::new("".chars()), 2), "");
    }

    #[test]
    fn change_of_the_list_keeps_the_turn() {
        let old = Rotation::new("abcd".chars());
        assert_eq!(turns(&old, 2), "ab");
        assert_eq!(turns(&old.continued("abcd".chars()), 3), "cda");
        assert_eq!(turns(&old.continued("abd".chars()), 3), "dab");
        assert_eq!(turns(&old.continued("ab".chars()), 3), "aba");
        assert_eq!(turns(&old.continued("ax".chars()), 3), "xax");
        assert_eq!(turns(&old.continued("".chars()), 1), "");
        assert_eq!(
            turns(&Rotation::new("".chars()).continued("ab".chars()), 2),
            "ab"
        );
    }

    #[test]
    fn chance_reaches_every_item() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut seen: Vec<char> = (0..100)
            .filter_map(|_| random(&['a', 'b', 'c'], &mut rng).copied())
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, ['a', 'b', 'c']);
        assert_eq!(random::<char>(&[], &mut rng), None);
    }

    proptest::proptest! {
        #[test]
        fn one_round_visits_all_whatever_changed(
            old in proptest::collection::vec(0_u8..20, 0..10),
            new in proptest::collection::vec(0_u8..20, 0..10),
            spent in 0_usize..30,
        ) {
            let old = Rotation::new(old);
            for _ in 0..spent {
                old.pick();
            }
            let next = old.continued(new);
            let mut round: Vec<u8> = (0..next.items().len()).filter_map(|_| next.pick()).copied().collect();
            round.sort_unstable();
            proptest::prop_assert_eq!(round.as_slice(), next.items());
        }
    }
}
