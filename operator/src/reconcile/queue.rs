//! What is to be done, each thing once, and failures later and later.
//!
//! Pure: time is an argument. A task that comes again while it is being done is done once more afterwards, so that no
//! change is lost and no two workers do the same.

use ironside_chassis::Tick;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

/// Pause after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause: what cannot be done is tried again this often.
const LONGEST: Duration = Duration::from_secs(300);

/// How doing a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// It may succeed later.
    Failed,
    /// Only a change can help; it is looked at seldom.
    Stuck,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    waiting: BTreeMap<(Tick, u64), K>,
    places: HashMap<K, (Tick, u64)>,
    busy: HashSet<K>,
    again: HashSet<K>,
    failures: HashMap<K, u32>,
    next: u64,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            places: HashMap::new(),
            busy: HashSet::new(),
            again: HashSet::new(),
            failures: HashMap::new(),
            next: 0,
        }
    }
}

// === impl Queue ===

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Adds a task, to be done at once.
    pub(crate) fn add(&mut self, task: K, now: Tick) {
        if self.busy.contains(&task) {
            self.again.insert(task);
            return;
        }
        self.put(task, now);
    }

    /// Takes the next task that is due; it must be given back by [`Self::done`].
    pub(crate) fn take(&mut self, now: Tick) -> Option<K> {
        let entry = self.waiting.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let task = entry.remove();
        self.places.remove(&task);
        self.busy.insert(task.clone());
        Some(task)
    }

    /// Gives a task back.
    pub(crate) fn done(&mut self, task: K, outcome: Outcome, now: Tick) {
        self.busy.remove(&task);
        let again = self.again.remove(&task);
        let pause = match outcome {
            Outcome::Done => {
                self.failures.remove(&task);
                None
            }
            Outcome::Failed => {
                let failures = self.failures.entry(task.clone()).or_default();
                let pause = FIRST.saturating_mul(1_u32.checked_shl(*failures).unwrap_or(u32::MAX));
                *failures = failures.saturating_add(1).min(16);
                Some(pause.min(LONGEST))
            }
            Outcome::Stuck => Some(LONGEST),
        };
        match (again, pause) {
            (true, _) => self.put(task, now),
            (false, Some(pause)) => self.put(task, now + pause),
            (false, None) => {}
        }
    }

    /// When the next task is due.
    pub(crate) fn next_at(&self) -> Option<Tick> {
        self.waiting.keys().next().map(|(at, _)| *at)
    }

    /// Forgets everything that waits.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.places.clear();
        self.again.clear();
        self.failures.clear();
    }

    /// Tasks that wait or are being done.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.busy.len()
    }

    /// Earlier counts.
    fn put(&mut self, task: K, at: Tick) {
        if let Some(place) = self.places.get(&task) {
            if place.0 <= at {
                return;
            }
            self.waiting.remove(place);
        }
        self.next += 1;
        let place = (at, self.next);
        self.waiting.insert(place, task.clone());
        self.places.insert(task, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_task_waits_once() {
        let mut queue = Queue::default();
        queue.add("a", at(0));
        queue.add("b", at(0));
        queue.add("a", at(0));
        assert_eq!(
            (queue.take(at(0)), queue.take(at(0))),
            (Some("a"), Some("b"))
        );
        assert_eq!(queue.take(at(0)), None);
        assert_eq!(queue.len(), 2, "both are being done");
    }

    #[test]
    fn a_change_under_way_is_looked_at_afterwards() {
        let mut queue = Queue::default();
        queue.add("a", at(0));
        queue.take(at(0));
        queue.add("a", at(1));
        assert_eq!(queue.take(at(1)), None, "nobody else does it");
        queue.done("a", Outcome::Done, at(2));
        assert_eq!(queue.take(at(2)), Some("a"));
        queue.done("a", Outcome::Done, at(3));
        assert_eq!(queue.len(), 0);
    }

    /// KO-12: retries are bounded in rate.
    #[test]
    fn failures_come_later_and_later() {
        let mut queue = Queue::default();
        queue.add("a", at(0));
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            queue.take(now).unwrap();
            queue.done("a", Outcome::Failed, now);
            let next = queue.next_at().unwrap();
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        queue.add("a", now);
        assert_eq!(queue.next_at(), Some(now), "a change brings it forward");
    }

    #[test]
    fn what_is_stuck_is_looked_at_seldom() {
        let mut queue = Queue::default();
        queue.add("a", at(0));
        queue.take(at(0));
        queue.done("a", Outcome::Stuck, at(0));
        assert_eq!(queue.next_at(), Some(at(300)));
        queue.clear();
        assert_eq!((queue.next_at(), queue.len()), (None, 0));
    }
}
