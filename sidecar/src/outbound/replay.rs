//! A request body that can be sent again, without a copy.
//!
//! Keeps the slices that an attempt has sent, up to a limit; a longer body is sent once. What is kept goes when
//! the response starts. Part of stage 11, `guard`.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::body::{Body, BodyError};

/// Bytes that are kept of a body whose limit is not known.
const UNBOUNDED: u64 = 4 * 1024 * 1024;

/// The body of all attempts of one call.
#[derive(Debug, Clone)]
pub(crate) struct Replay(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rest: Option<Body>,
    kept: Vec<Bytes>,
    size: u64,
    limit: u64,
    /// Everything that was sent is kept.
    keep: bool,
    /// Bytes were sent that are not kept.
    is_gone: bool,
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
            kept: Vec::new(),
            size: 0,
            limit: limit.unwrap_or(UNBOUNDED),
            keep: true,
            is_gone: false,
            hint,
        })))
    }

    /// The body of the next attempt; the one before must have been dropped.
    pub(crate) fn attempt(&self) -> Body {
        Attempt {
            replay: self.clone(),
            next: 0,
        }
        .boxed_unsync()
    }

    /// True once a further attempt would not send the same bytes.
    pub(crate) fn is_gone(&self) -> bool {
        self.lock().is_gone
    }

    /// Drops what is kept: no further attempt will come.
    pub(crate) fn release(&self) {
        let mut state = self.lock();
        state.keep = false;
        state.is_gone |= !state.kept.is_empty();
        state.kept.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Attempt {
    replay: Replay,
    next: usize,
}

impl HttpBody for Attempt {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let replay = self.replay.clone();
        let mut state = replay.lock();
        if let Some(slice) = state.kept.get(self.next) {
            let slice = slice.clone();
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(slice))));
        }
        loop {
            let Some(rest) = &mut state.rest else {
                return Poll::Ready(None);
            };
            match ready!(Pin::new(rest).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if state.keep(&data) {
                        self.next += 1;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    state.rest = None;
                    state.keep = false;
                    state.is_gone = true;
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
        state.kept.get(self.next).is_none()
            && state.rest.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match self.replay.lock().hint {
            Some(exact) if self.next == 0 => SizeHint::with_exact(exact),
            _ => SizeHint::default(),
        }
    }
}

impl State {
    /// Keeps a slice; false if nothing is kept any more.
    fn keep(&mut self, data: &Bytes) -> bool {
        if data.is_empty() {
            return false;
        }
        self.size = self.size.saturating_add(data.len() as u64);
        if !self.keep || self.size > self.limit {
            self.keep = false;
            self.is_gone = true;
            self.kept.clear();
            return false;
        }
        self.kept.push(data.clone());
        true
    }
}

#[cfg(test)]
mod tests {
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
        use futures_util::stream;
        let frames = ["a", "b", "c"].map(|s| Ok::<_, BodyError>(Frame::data(Bytes::from(s))));
        let frames = http_body_util::StreamBody::new(stream::iter(frames));
        let replay = Replay::new(frames.boxed_unsync(), None);
        let mut first = replay.attempt();
        first.frame().await.unwrap().unwrap();
        drop(first);
        assert_eq!(read(replay.attempt()).await, "abc");
    }
}
