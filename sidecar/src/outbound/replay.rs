//! A request body that can be sent again, without a copy.
//!
//! Keeps the slices that an attempt has sent, up to a limit; a longer body is sent once. What is kept goes when
//! the response starts. One attempt reads at a time, and one that misses a byte ends with an error, never as if it
//! were whole. Part of stage 11, `guard`.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::body::{Body, BodyError};

/// Bytes that are kept of a body whose limit is not known.
const UNBOUNDED: u64 = 4 * 1024 * 1024;

/// The body of all attempts of one call; the last one alone reads it.
#[derive(Debug, Clone)]
pub(crate) struct Replay(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rest: Option<Body>,
    kept: VecDeque<Bytes>,
    /// How many kept slices the last attempt has read.
    next: usize,
    /// Which attempt is the last one: an answer that came early leaves an upload behind.
    generation: u64,
    /// Whoever waits for more of the body.
    waiting: Option<Waker>,
    size: u64,
    limit: u64,
    /// Everything that was sent is kept.
    keep: bool,
    /// Bytes were sent that are not kept.
    is_gone: bool,
    /// The last attempt cannot be whole: it ends with an error.
    is_cut: bool,
    /// Declared length, if the body has one: it travels with each attempt.
    hint: Option<u64>,
}

impl Replay {
    /// Bytes that are kept of a body that no retry needs: with them the call can go on to another address when
    /// the first one cannot be reached.
    pub(crate) const FIRST: u64 = 64 * 1024;

    /// A body of which `limit` bytes are kept; `None` is for one without a bound of its own.
    pub(crate) fn new(body: Body, limit: Option<u64>) -> Self {
        let hint = HttpBody::size_hint(&body).exact();
        Self(Arc::new(Mutex::new(State {
            rest: Some(body),
            kept: VecDeque::new(),
            next: 0,
            generation: 0,
            waiting: None,
            size: 0,
            limit: limit.unwrap_or(UNBOUNDED),
            keep: true,
            is_gone: false,
            is_cut: false,
            hint,
        })))
    }

    /// The body of the next attempt; the one before ends with an error if it is still read.
    pub(crate) fn attempt(&self) -> Body {
        let generation = self.supersede();
        Attempt {
            replay: self.clone(),
            generation,
            has_begun: false,
        }
        .boxed_unsync()
    }

    /// Ends the attempt before with an error, so that it reads no further.
    pub(crate) fn hold(&self) {
        self.supersede();
    }

    /// True once a further attempt would not send the same bytes.
    pub(crate) fn is_gone(&self) -> bool {
        self.lock().is_gone
    }

    /// Drops what is kept, except what the last attempt has not read yet: no further attempt will come.
    pub(crate) fn release(&self) {
        let mut state = self.lock();
        state.keep = false;
        state.is_gone |= !state.kept.is_empty();
        let read = state.next.min(state.kept.len());
        state.kept.drain(..read);
        state.next = 0;
    }

    fn supersede(&self) -> u64 {
        let mut state = self.lock();
        state.generation += 1;
        state.next = 0;
        // What is gone is missing at the start of every attempt from now on.
        state.is_cut |= state.is_gone;
        let (generation, waiting) = (state.generation, state.waiting.take());
        drop(state);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        generation
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Attempt {
    replay: Replay,
    generation: u64,
    has_begun: bool,
}

impl HttpBody for Attempt {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.has_begun = true;
        let mut state = self.replay.lock();
        if state.generation != self.generation || state.is_cut {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        if let Some(slice) = state.slice() {
            return Poll::Ready(Some(Ok(Frame::data(slice))));
        }
        loop {
            let Some(rest) = &mut state.rest else {
                return Poll::Ready(None);
            };
            let Poll::Ready(polled) = Pin::new(rest).poll_frame(cx) else {
                state.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            };
            match polled {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    state.keep(&data);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    state.rest = None;
                    state.keep = false;
                    state.is_gone = true;
                    state.is_cut = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    state.rest = None;
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.replay.lock();
        state.generation == self.generation
            && !state.is_cut
            && state.next >= state.kept.len()
            && state.rest.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match self.replay.lock().hint {
            Some(exact) if !self.has_begun => SizeHint::with_exact(exact),
            _ => SizeHint::default(),
        }
    }
}

impl State {
    /// The next slice that is kept; once no further attempt will come, it goes with this one.
    fn slice(&mut self) -> Option<Bytes> {
        if !self.keep {
            return self.kept.pop_front();
        }
        let slice = self.kept.get(self.next)?.clone();
        self.next += 1;
        Some(slice)
    }

    /// Keeps a slice that the last attempt reads now, unless that is over.
    fn keep(&mut self, data: &Bytes) {
        if data.is_empty() {
            return;
        }
        self.size = self.size.saturating_add(data.len() as u64);
        if !self.keep || self.size > self.limit {
            self.keep = false;
            self.is_gone = true;
            self.kept.clear();
            self.next = 0;
            return;
        }
        self.kept.push_back(data.clone());
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        task::{Wake, ready},
    };

    use futures_util::stream;
    use tokio::sync::mpsc;

    use super::*;
    use crate::body;

    async fn read(body: Body) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn each_attempt_sends_the_same_bytes() {
        let replay = Replay::new(body::full("hello"), None);
        drop(replay.attempt());
        assert_eq!(read(replay.attempt()).await, "hello");
        assert!(!replay.is_gone());
        assert_eq!(read(replay.attempt()).await, "hello");
        replay.release();
        assert!(replay.is_gone());
    }

    /// R-61; resiliency-observability 6.2, row "Commit point and body cap".
    #[tokio::test]
    async fn a_long_body_is_sent_once() {
        for (length, is_gone) in [(4, false), (5, true)] {
            let replay = Replay::new(body::full(vec![0; length]), Some(4));
            assert!(!replay.is_gone(), "nothing was sent yet");
            assert_eq!(read(replay.attempt()).await.len(), length);
            assert_eq!(replay.is_gone(), is_gone, "{length}");
        }
        let replay = Replay::new(body::empty(), Some(0));
        assert!(read(replay.attempt()).await.is_empty() && !replay.is_gone());
    }

    #[tokio::test]
    async fn an_attempt_cut_short_is_continued_by_the_next() {
        let frames = ["a", "b", "c"].map(|s| Ok::<_, BodyError>(Frame::data(Bytes::from(s))));
        let frames = http_body_util::StreamBody::new(stream::iter(frames));
        let replay = Replay::new(frames.boxed_unsync(), None);
        let mut first = replay.attempt();
        first.frame().await.unwrap().unwrap();
        drop(first);
        assert_eq!(read(replay.attempt()).await, "abc");
    }

    type Pieces = mpsc::Sender<Result<&'static str, BodyError>>;

    /// A body that comes as the test sends it, of which `limit` bytes are kept.
    fn slow(limit: u64) -> (Pieces, Replay) {
        let (sender, mut pieces) = mpsc::channel(8);
        let frames = stream::poll_fn(move |cx| {
            let piece: Option<Result<&str, _>> = ready!(pieces.poll_recv(cx));
            Poll::Ready(piece.map(|piece| piece.map(|text| Frame::data(Bytes::from(text)))))
        });
        let body = http_body_util::StreamBody::new(frames).boxed_unsync();
        (sender, Replay::new(body, Some(limit)))
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Woken {
        fn is_so(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    fn poll(body: &mut Body, woken: &Arc<Woken>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let waker = Waker::from(Arc::clone(woken));
        Pin::new(body).poll_frame(&mut Context::from_waker(&waker))
    }

    async fn piece(body: &mut Body) -> Bytes {
        body.frame().await.unwrap().unwrap().into_data().unwrap()
    }

    async fn is_cut(mut body: Body) -> bool {
        assert!(!body.is_end_stream(), "a cut body is not at its end");
        matches!(body.frame().await, Some(Err(BodyError::Cut)))
    }

    /// An answer that comes early leaves an upload behind: it neither takes a slice nor the place in the queue.
    #[tokio::test]
    async fn an_attempt_left_behind_reads_no_further_and_does_not_stop_the_next() {
        let (pieces, replay) = slow(100);
        let mut old = replay.attempt();
        pieces.try_send(Ok("a")).unwrap();
        assert_eq!(piece(&mut old).await, "a");
        let (woken, next) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        assert!(poll(&mut old, &woken).is_pending());
        let mut new = replay.attempt();
        assert!(woken.is_so(), "it ends now and not with the next byte");
        let left = poll(&mut old, &woken);
        assert!(matches!(left, Poll::Ready(Some(Err(BodyError::Cut)))));
        assert_eq!(piece(&mut new).await, "a");
        assert!(poll(&mut new, &next).is_pending());
        // The old one is asked once more, as a connection may.
        assert!(is_cut(old).await);
        pieces.try_send(Ok("b")).unwrap();
        assert!(next.is_so(), "the last attempt is told of each piece");
        assert!(poll(&mut new, &next).is_ready());
        drop(pieces);
        assert!(new.frame().await.is_none());
        assert_eq!(read(replay.attempt()).await, "ab");
    }

    /// A body of which a part is gone never starts in its middle.
    #[tokio::test]
    async fn an_attempt_after_the_limit_ends_with_an_error() {
        let (pieces, replay) = slow(1);
        let mut old = replay.attempt();
        pieces.try_send(Ok("a")).unwrap();
        pieces.try_send(Ok("b")).unwrap();
        assert_eq!(piece(&mut old).await, "a");
        assert!(!replay.is_gone());
        assert_eq!(piece(&mut old).await, "b");
        assert!(replay.is_gone());
        pieces.try_send(Ok("c")).unwrap();
        assert!(is_cut(replay.attempt()).await);
        assert!(is_cut(old).await);
    }

    /// A held attempt cannot use the body up while the next one waits for its time.
    #[tokio::test]
    async fn a_held_attempt_takes_nothing_from_the_next() {
        let (pieces, replay) = slow(1);
        let mut old = replay.attempt();
        pieces.try_send(Ok("a")).unwrap();
        assert_eq!(piece(&mut old).await, "a");
        replay.hold();
        pieces.try_send(Ok("b")).unwrap();
        drop(pieces);
        assert!(is_cut(old).await);
        assert!(!replay.is_gone());
        assert_eq!(read(replay.attempt()).await, "ab");
    }

    /// The caller's body broke in an earlier attempt: no later one looks whole.
    #[tokio::test]
    async fn an_attempt_after_a_broken_body_ends_with_an_error() {
        let (pieces, replay) = slow(100);
        let mut old = replay.attempt();
        pieces.try_send(Ok("a")).unwrap();
        pieces.try_send(Err(BodyError::SecondMessage)).unwrap();
        assert_eq!(piece(&mut old).await, "a");
        let broken = old.frame().await;
        assert!(matches!(broken, Some(Err(BodyError::SecondMessage))));
        assert!(replay.is_gone());
        assert!(is_cut(old).await, "an error is not followed by an end");
        assert!(is_cut(replay.attempt()).await);
    }

    /// The second attempt of a call may be answered before it has sent what was kept.
    #[tokio::test]
    async fn a_release_leaves_the_last_attempt_whole() {
        let (pieces, replay) = slow(100);
        let mut old = replay.attempt();
        for text in ["a", "b", "c"] {
            pieces.try_send(Ok(text)).unwrap();
            assert_eq!(piece(&mut old).await, text);
        }
        let mut new = replay.attempt();
        assert_eq!(piece(&mut new).await, "a");
        replay.release();
        pieces.try_send(Ok("d")).unwrap();
        drop(pieces);
        assert_eq!(read(new).await, "bcd");
    }
}
