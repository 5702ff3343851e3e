//! What a peer still sends of a call that was answered already.
//!
//! HTTP/2 resets the stream of a request that is not read to its end, and frames of a reset stream that were on
//! their way count as errors of the connection: after a thousand denials it would be closed, with all the other
//! calls on it. So an answer to a request that nobody reads any more waits a moment for the rest of it, which for
//! a unary call is there at once. Bounded in bytes and time: who sends more is reset.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::body::{Body, BodyError};

/// Bytes that are read and thrown away.
const MOST: usize = 64 * 1024;
/// Time that the rest has: enough for what is on its way, unnoticed by who waits for the answer.
const LIMIT: Duration = Duration::from_millis(50);

/// The place where a request body goes that nobody reads any more.
#[derive(Default)]
pub(crate) struct Leftover(Arc<Mutex<Option<Body>>>);

/// A request body that is given back when it is dropped before its end.
struct Returned {
    inner: Option<Body>,
    place: Arc<Mutex<Option<Body>>>,
}

// === impl Leftover ===

impl Leftover {
    /// Returns the same body; what is not read of it comes here.
    pub(crate) fn watch(&self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Returned {
            inner: Some(body),
            place: Arc::clone(&self.0),
        }
        .boxed_unsync()
    }

    /// Reads what is left, within the bounds.
    pub(crate) async fn drain(self) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = left else { return };
        let rest = async {
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > MOST {
                    return;
                }
            }
        };
        // Whatever is left then is reset.
        let _ended = tokio::time::timeout(LIMIT, rest).await;
    }
}

// === impl Returned ===

impl Drop for Returned {
    fn drop(&mut self) {
        let rest = self.inner.take().filter(|body| !body.is_end_stream());
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = rest;
    }
}

impl HttpBody for Returned {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.inner = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.inner.as_ref().map(HttpBody::size_hint);
        hint.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    #[tokio::test(start_paused = true)]
    async fn a_dropped_body_is_read_to_its_end_and_a_read_one_is_gone() {
        let leftover = Leftover::default();
        drop(leftover.watch(body::full("rest")));
        assert!(leftover.0.lock().unwrap().is_some());
        leftover.drain().await;
        let leftover = Leftover::default();
        let read = leftover.watch(body::full("all")).collect().await.unwrap();
        assert_eq!(read.to_bytes(), "all");
        assert!(leftover.0.lock().unwrap().is_none());
    }

    /// A caller that never ends does not hold the answer.
    #[tokio::test(start_paused = true)]
    async fn a_body_without_end_is_left_in_time() {
        let (_feed, endless) = crate::inbound::in_flight::tests::body();
        let leftover = Leftover::default();
        drop(leftover.watch(endless));
        leftover.drain().await;
    }
}
