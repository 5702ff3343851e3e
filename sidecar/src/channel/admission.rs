//! May the app have one more call? Health first, then a place.
//!
//! Owns the app's health as probes leave it and the concurrency limit. A place is given back when the response
//! body has been consumed or dropped, whatever ends the call. Stage 20, `admit`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    body::{Body, BodyError},
    invocation::Reply,
};

/// Health and places of the app, shared by all data workers.
#[derive(Debug)]
pub(crate) struct Admission {
    healthy: watch::Sender<bool>,
    places: Option<Arc<Semaphore>>,
}

impl Admission {
    /// `limit` calls at once, `None` for any number; `healthy` is the state before the first probe.
    pub(crate) fn new(limit: Option<usize>, healthy: bool) -> Self {
        let places = limit.map(|limit| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))));
        Self {
            healthy: watch::Sender::new(healthy),
            places,
        }
    }

    /// Says what the last probe found; returns whether that is news.
    pub(crate) fn set_healthy(&self, healthy: bool) -> bool {
        self.healthy.send_replace(healthy) != healthy
    }

    /// True if the app may be called.
    pub(crate) fn is_healthy(&self) -> bool {
        *self.healthy.borrow()
    }

    /// Follows the app's health.
    pub(crate) fn watch_health(&self) -> watch::Receiver<bool> {
        self.healthy.subscribe()
    }

    /// Waits for a place; `None` if the app is unhealthy.
    pub(crate) async fn admit(&self) -> Option<Permit> {
        if !self.is_healthy() {
            return None;
        }
        let place = match &self.places {
            // The semaphore is never closed.
            Some(places) => Arc::clone(places).acquire_owned().await.ok(),
            None => None,
        };
        // The wait may have been long.
        self.is_healthy().then_some(Permit(place))
    }
}

/// A place at the app.
#[derive(Debug)]
pub(crate) struct Permit(Option<OwnedSemaphorePermit>);

impl Permit {
    /// Ties the place to the reply's body.
    pub(crate) fn hold(self, mut reply: Reply) -> Reply {
        if let Some(place) = self.0 {
            let body = std::mem::replace(&mut reply.body, crate::body::empty());
            reply.body = Held {
                body,
                _place: place,
            }
            .boxed_unsync();
        }
        reply
    }
}

struct Held {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn a_place_comes_back_when_its_holder_goes() {
        let admission = Admission::new(Some(1), true);
        let first = admission.admit().await.unwrap();
        assert!(
            admission.admit().now_or_never().is_none(),
            "the second waits"
        );
        drop(first);
        assert!(admission.admit().now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn an_unhealthy_app_is_not_called() {
        let admission = Admission::new(None, false);
        assert!(admission.admit().await.is_none());
        assert!(admission.set_healthy(true));
        assert!(admission.admit().await.is_some());
    }
}
