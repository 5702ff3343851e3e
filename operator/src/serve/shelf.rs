//! The objects of one kind, and everybody who follows them.
//!
//! Owns that nobody holds up anybody: a change is noted with each follower, joined with what waits there already, and
//! told when that follower takes it (kubernetes 3.9, FIX 1). What waits is bounded by the objects of one namespace,
//! and by [`MAX_WAITING`]; who falls further behind is cut off and begins anew.

use crate::index::mirror::{Fact, Key, Mirror};
use crate::index::objects::{Kind, Stored};
use crate::index::scope::Step;
use crate::metrics::Metrics;
use ironside_chassis::{Clock, Tick};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Objects with a change that one follower has not taken.
const MAX_WAITING: usize = 10_000;

/// All objects of a kind.
pub(crate) struct Shelf {
    kind: Kind,
    clock: Clock,
    metrics: Metrics,
    state: Mutex<State>,
    is_whole: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    objects: Mirror<Stored>,
    followers: HashMap<Arc<str>, Vec<Weak<Queue>>>,
}

/// Somebody who follows the objects of one namespace; it ends with the value.
pub(crate) struct Follower(Arc<Queue>);

struct Queue {
    kind: Kind,
    clock: Clock,
    metrics: Metrics,
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    order: VecDeque<Entry>,
    steps: HashMap<Key, (Step, Tick)>,
    /// What could not be told, and when to try again.
    later: HashMap<Key, (Step, Tick)>,
    has_overrun: bool,
}

enum Entry {
    Object(Key),
    SnapshotEnd,
}

/// What a follower is to be told next.
pub(crate) enum Next {
    Step(Key, Step, Tick),
    /// All objects that there were at the beginning have been told.
    SnapshotEnd,
    /// Too much waited; the stream must begin anew.
    Overrun,
}

// === impl Shelf ===

impl Shelf {
    pub(crate) fn new(kind: Kind, clock: Clock, metrics: Metrics) -> Self {
        Self {
            kind,
            clock,
            metrics,
            state: Mutex::default(),
            is_whole: watch::Sender::new(false),
        }
    }

    /// Takes a fact, and notes with all followers what it changed for them.
    pub(crate) fn take(&self, fact: Fact<Stored>) {
        let now = self.clock.monotonic();
        let mut state = self.lock();
        let changes = state.objects.take(fact);
        for change in changes {
            if let (Some(before), Some(after)) = (&change.before, &change.after)
                && before.uid == after.uid
                && before.means_the_same(after)
            {
                continue;
            }
            let Some(followers) = state.followers.get_mut(&change.key.0) else {
                continue;
            };
            followers.retain(|follower| follower.strong_count() > 0);
            for follower in followers.iter().filter_map(Weak::upgrade) {
                let step = Step {
                    before: change.before.clone(),
                    after: change.after.clone(),
                };
                follower.note(change.key.clone(), step, now);
            }
        }
        state.followers.retain(|_, followers| !followers.is_empty());
        let is_whole = state.objects.is_whole();
        drop(state);
        self.is_whole.send_if_modified(|held| {
            let news = *held != is_whole;
            *held = is_whole;
            news
        });
    }

    /// Says whether all objects have been told at least once.
    pub(crate) fn is_whole(&self) -> bool {
        *self.is_whole.borrow()
    }

    /// Waits until all objects have been told once.
    pub(crate) async fn whole(&self) {
        let mut is_whole = self.is_whole.subscribe();
        // The sender is this value's.
        let _closed = is_whole.wait_for(|is_whole| *is_whole).await;
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        let key = (namespace.into(), name.into());
        self.lock().objects.get(&key).cloned()
    }

    /// The objects of a namespace, by name.
    pub(crate) fn of_namespace(&self, namespace: &str) -> Vec<Arc<Stored>> {
        let state = self.lock();
        let objects = state.objects.of_namespace(namespace);
        objects.map(|(_, object)| Arc::clone(object)).collect()
    }

    /// Follows a namespace from now on; with a snapshot, from nothing.
    pub(crate) fn follow(&self, namespace: &Arc<str>, with_snapshot: bool) -> Follower {
        let queue = Arc::new(Queue {
            kind: self.kind,
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            waiting: Mutex::default(),
            wake: Notify::new(),
        });
        let now = self.clock.monotonic();
        let mut state = self.lock();
        if with_snapshot {
            for (key, object) in state.objects.of_namespace(namespace) {
                let step = Step {
                    before: None,
                    after: Some(Arc::clone(object)),
                };
                queue.note(key.clone(), step, now);
            }
            queue.lock().order.push_back(Entry::SnapshotEnd);
        }
        let followers = state.followers.entry(Arc::clone(namespace)).or_default();
        followers.push(Arc::downgrade(&queue));
        drop(state);
        self.metrics.count_stream(self.kind.as_str(), 1);
        Follower(queue)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Follower ===

impl Follower {
    /// Waits for what is to be told next.
    pub(crate) async fn next(&self) -> Next {
        loop {
            let woken = self.0.wake.notified();
            let due = match self.0.pop() {
                Ok(next) => return next,
                Err(due) => due,
            };
            let pause = due.map(|due| due - self.0.clock.monotonic());
            tokio::select! {
                () = woken => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Has a step told again after a while, unless something else becomes of the object.
    pub(crate) fn defer(&self, key: Key, step: Step, pause: Duration) {
        let due = self.0.clock.monotonic() + pause;
        let mut waiting = self.0.lock();
        if let Some((newer, _since)) = waiting.steps.get_mut(&key) {
            // What the client knows is what it knew before both.
            newer.before = step.before;
        } else if waiting.later.len() < MAX_WAITING {
            waiting.later.insert(key, (step, due));
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let left = self.0.lock().steps.len();
        let left = i64::try_from(left).unwrap_or(i64::MAX);
        self.0.metrics.count_waiting(self.0.kind, -left);
        self.0.metrics.count_stream(self.0.kind.as_str(), -1);
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

// === impl Queue ===

impl Queue {
    fn note(&self, key: Key, mut step: Step, now: Tick) {
        let mut waiting = self.lock();
        if waiting.has_overrun {
            return;
        }
        if let Some((known, _since)) = waiting.steps.get_mut(&key) {
            known.join(step.after);
            return;
        }
        if let Some((untold, _due)) = waiting.later.remove(&key) {
            step.before = untold.before;
        }
        if waiting.steps.len() >= MAX_WAITING {
            let left = i64::try_from(waiting.steps.len()).unwrap_or(i64::MAX);
            self.metrics.count_waiting(self.kind, -left);
            *waiting = Waiting {
                has_overrun: true,
                ..Waiting::default()
            };
        } else {
            waiting.order.push_back(Entry::Object(key.clone()));
            waiting.steps.insert(key, (step, now));
            self.metrics.count_waiting(self.kind, 1);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// What is next; or when something is.
    fn pop(&self) -> Result<Next, Option<Tick>> {
        let now = self.clock.monotonic();
        let mut waiting = self.lock();
        if waiting.has_overrun {
            return Ok(Next::Overrun);
        }
        loop {
            match waiting.order.pop_front() {
                Some(Entry::SnapshotEnd) => return Ok(Next::SnapshotEnd),
                Some(Entry::Object(key)) => {
                    if let Some((step, since)) = waiting.steps.remove(&key) {
                        self.metrics.count_waiting(self.kind, -1);
                        return Ok(Next::Step(key, step, since));
                    }
                }
                None => break,
            }
        }
        let first = waiting.later.iter().min_by_key(|(_, (_, due))| *due);
        let Some((key, due)) = first.map(|(key, (_, due))| (key.clone(), *due)) else {
            return Err(None);
        };
        if due > now {
            return Err(Some(due));
        }
        match waiting.later.remove(&key) {
            Some((step, _due)) => Ok(Next::Step(key, step, now)),
            None => Err(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
