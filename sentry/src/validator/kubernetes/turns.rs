//! Whose turn is it to be judged?
//!
//! Owns fact O-S12 for the API server: how many claims are judged at once, how many wait, and in which order. Sources
//! take turns, so that a crowd from a few addresses waits for itself and not its neighbours for it; and where all
//! places are taken, the longest queue gives one up for whoever has fewer. Time is the caller's: who waits too long
//! goes.

use crate::serve::limit::Source;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The turns. Clones are the same turns.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Mutex<Line>>);

/// The right to be judged; the next one has it when this is dropped.
#[derive(Debug)]
pub(super) struct Turn(Option<Turns>);

#[derive(Debug)]
struct Line {
    /// Turns that nobody has.
    free: usize,
    /// Places in all queues together.
    places: usize,
    /// The first queue is the next one to have a turn; none is empty.
    queues: VecDeque<Queue>,
}

#[derive(Debug)]
struct Queue {
    source: Option<Source>,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

// === impl Turns ===

impl Turns {
    /// So many are judged at once, and so many wait.
    pub(super) fn new(turns: usize, places: usize) -> Self {
        Self(Arc::new(Mutex::new(Line {
            free: turns,
            places,
            queues: VecDeque::new(),
        })))
    }

    /// Waits for a turn; `None` if there is no place to wait, or somebody else is given it.
    pub(super) async fn take(&self, source: Option<Source>) -> Option<Turn> {
        let waiter = {
            let mut line = self.line();
            if line.free > 0 {
                line.free -= 1;
                return Some(self.turn());
            }
            line.wait(source)?
        };
        waiter.await.ok()
    }

    fn turn(&self) -> Turn {
        Turn(Some(self.clone()))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Turn ===

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else { return };
        loop {
            let next = turns.line().next();
            let Some(next) = next else { return };
            match next.send(turns.turn()) {
                Ok(()) => return,
                // Gone meanwhile: the turn is still to be given.
                Err(mut turn) => turn.0 = None,
            }
        }
    }
}

// === impl Line ===

impl Line {
    fn wait(&mut self, source: Option<Source>) -> Option<oneshot::Receiver<Turn>> {
        if self.waiting() >= self.places {
            self.forget_the_gone();
        }
        if self.waiting() >= self.places && !self.make_room(source) {
            return None;
        }
        let (sender, waiter) = oneshot::channel();
        match self.queues.iter_mut().find(|queue| queue.source == source) {
            Some(queue) => queue.waiting.push_back(sender),
            None => self.queues.push_back(Queue {
                source,
                waiting: [sender].into(),
            }),
        }
        Some(waiter)
    }

    /// Takes a place from the longest queue, if it is longer than this source's would be.
    fn make_room(&mut self, source: Option<Source>) -> bool {
        let own = self.queues.iter().find(|queue| queue.source == source);
        let own = own.map_or(0, |queue| queue.waiting.len());
        let longest = self
            .queues
            .iter_mut()
            .max_by_key(|queue| queue.waiting.len());
        match longest {
            Some(longest) if longest.waiting.len() > own + 1 => {
                longest.waiting.pop_back().is_some()
            }
            Some(_) | None => false,
        }
    }

    fn forget_the_gone(&mut self) {
        for queue in &mut self.queues {
            queue.waiting.retain(|waiter| !waiter.is_closed());
        }
        self.queues.retain(|queue| !queue.waiting.is_empty());
    }

    fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.waiting.len()).sum()
    }

    /// The next one in line, whose source then waits for all others; a free turn if there is none.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let Some(mut queue) = self.queues.pop_front() else {
            self.free += 1;
            return None;
        };
        let next = queue.waiting.pop_front();
        if !queue.waiting.is_empty() {
            self.queues.push_back(queue);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;
    use std::net::IpAddr;

    fn source(last: u8) -> Option<Source> {
        Some(Source::from(IpAddr::from([10, 0, 0, last])))
    }

    type Waiting = BoxFuture<'static, Option<Turn>>;

    /// A claim that has asked and waits, or the answer it got at once.
    fn ask(turns: &Turns, last: u8) -> Result<Waiting, Option<Turn>> {
        let turns = turns.clone();
        let mut asked = async move { turns.take(source(last)).await }.boxed();
        match asked.as_mut().now_or_never() {
            Some(answer) => Err(answer),
            None => Ok(asked),
        }
    }

    #[tokio::test]
    async fn sources_take_turns() {
        let turns = Turns::new(1, 10);
        let mut held = ask(&turns, 1).err().unwrap();
        assert!(held.is_some());
        let crowd: Vec<_> = (0..3).map(|_| ask(&turns, 1).unwrap()).collect();
        let late: Vec<_> = [2, 3].map(|last| ask(&turns, last).unwrap()).into();
        let mut all: Vec<_> = crowd.into_iter().chain(late).map(Some).collect();
        let mut order = Vec::new();
        while order.len() < 5 {
            drop(held.take());
            for (at, slot) in all.iter_mut().enumerate() {
                let Some(waiting) = slot else { continue };
                if let Some(turn) = waiting.now_or_never() {
                    held = turn;
                    order.push(at);
                    *slot = None;
                }
            }
        }
        assert_eq!(order, [0, 3, 4, 1, 2]);
    }

    #[tokio::test]
    async fn the_longest_queue_gives_up_a_place() {
        let turns = Turns::new(1, 4);
        let _held = ask(&turns, 1).err().unwrap();
        let mut crowd: Vec<_> = (0..4).map(|_| ask(&turns, 1).unwrap()).collect();
        assert!(ask(&turns, 1).err().unwrap().is_none(), "not for its own");
        let mut late = [ask(&turns, 2).unwrap(), ask(&turns, 3).unwrap()];
        for gone in crowd.drain(2..) {
            assert!(gone.await.is_none(), "the last ones of the longest queue");
        }
        assert!(
            ask(&turns, 2).err().unwrap().is_none(),
            "as long as the longest"
        );
        assert!(late.iter_mut().all(|one| one.now_or_never().is_none()));
    }

    #[tokio::test]
    async fn who_goes_leaves_place_and_turn_to_others() {
        let turns = Turns::new(1, 2);
        let held = ask(&turns, 1).err().unwrap();
        let gone = [ask(&turns, 1).unwrap(), ask(&turns, 1).unwrap()];
        drop(gone);
        let waiting = [ask(&turns, 1).unwrap(), ask(&turns, 1).unwrap()];
        drop(held);
        for one in waiting {
            assert!(one.await.is_some());
        }
        let line = turns.line();
        assert_eq!((line.free, line.waiting()), (1, 0));
    }
}
