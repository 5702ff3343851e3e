//! May the app have one more call? Health first, then a place.
//!
//! Owns the app's health as probes leave it, the concurrency limit, and how many calls may wait for a place and
//! for how long. A place is given back when the response
//! body has been consumed or dropped, whatever ends the call. Stage 20, `admit`.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use ironside_resources::configuration::InboundLimits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::busy::Busy;
use crate::{
    body::{Body, BodyError},
    invocation::Reply,
};

/// Health and places of the app, shared by all data workers.
#[derive(Debug)]
pub(crate) struct Admission {
    healthy: watch::Sender<bool>,
    places: Option<Arc<Semaphore>>,
    /// Calls that wait for one.
    waiting: AtomicU32,
}

impl Admission {
    /// `limit` calls at once, `None` for any number; `healthy` is the state before the first probe.
    pub(crate) fn new(limit: Option<usize>, healthy: bool) -> Self {
        let places = limit.map(|limit| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))));
        Self {
            healthy: watch::Sender::new(healthy),
            places,
            waiting: AtomicU32::new(0),
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

    /// Waits for a place, as long as the limits allow.
    ///
    /// # Errors
    /// [`Refused`]: the app must not be called.
    pub(crate) async fn admit(&self, limits: &InboundLimits) -> Result<Permit, Refused> {
        if !self.is_healthy() {
            return Err(Refused::Unhealthy);
        }
        let Some(places) = &self.places else {
            return Ok(Permit(None));
        };
        let place = match Arc::clone(places).try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_taken) => self.wait(places, limits).await?,
        };
        // The wait may have been long.
        if self.is_healthy() {
            Ok(Permit(place))
        } else {
            Err(Refused::Unhealthy)
        }
    }

    async fn wait(
        &self,
        places: &Arc<Semaphore>,
        limits: &InboundLimits,
    ) -> Result<Option<OwnedSemaphorePermit>, Refused> {
        let size = limits.queue_size;
        let _waiting = Waiting::enter(&self.waiting, size).ok_or(Busy::Queue { size })?;
        let place = Arc::clone(places).acquire_owned();
        let place = match limits.max_wait {
            Some(limit) => tokio::time::timeout(limit, place)
                .await
                .map_err(|_elapsed| Busy::Wait { limit })?,
            None => place.await,
        };
        // The semaphore is never closed.
        Ok(place.ok())
    }
}

/// Why the app must not be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its health is bad.
    Unhealthy,
    /// It has enough to do.
    Busy(Busy),
}

impl From<Busy> for Refused {
    fn from(busy: Busy) -> Self {
        Self::Busy(busy)
    }
}

/// One that waits for a place.
struct Waiting<'a>(&'a AtomicU32);

// === impl Waiting ===

impl<'a> Waiting<'a> {
    /// One more, unless `size` wait already.
    fn enter(count: &'a AtomicU32, size: u32) -> Option<Self> {
        let one_more = |waiting: u32| (waiting < size).then(|| waiting.saturating_add(1));
        let entered = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.is_ok().then_some(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    const ANY: InboundLimits = InboundLimits {
        rate_limit: None,
        queue_size: 2,
        max_wait: None,
        deadline_header: false,
    };

    #[tokio::test]
    async fn a_place_comes_back_when_its_holder_goes() {
        let admission = Admission::new(Some(1), true);
        let first = admission.admit(&ANY).await.unwrap();
        assert!(
            admission.admit(&ANY).now_or_never().is_none(),
            "the second waits"
        );
        drop(first);
        assert!(admission.admit(&ANY).now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn an_unhealthy_app_is_not_called() {
        let admission = Admission::new(None, false);
        let refused = admission.admit(&ANY).await.unwrap_err();
        assert_eq!(refused, Refused::Unhealthy);
        assert!(admission.set_healthy(true));
        assert!(admission.admit(&ANY).await.is_ok());
    }

    /// resiliency-observability 6.2, row "Concurrency limits, load shedding".
    #[tokio::test(start_paused = true)]
    async fn so_many_wait_and_only_for_so_long() {
        let admission = Admission::new(Some(1), true);
        let first = admission.admit(&ANY).await.unwrap();
        let waiting = [(); 2].map(|()| Box::pin(admission.admit(&ANY)));
        let [mut one, mut other] = waiting;
        assert!((&mut one).now_or_never().is_none());
        assert!((&mut other).now_or_never().is_none());
        let full = Refused::Busy(Busy::Queue { size: 2 });
        assert_eq!(admission.admit(&ANY).await.unwrap_err(), full);
        drop(other);
        let limit = Duration::from_secs(1);
        let short = InboundLimits {
            max_wait: Some(limit),
            ..ANY
        };
        let late = Refused::Busy(Busy::Wait { limit });
        assert_eq!(admission.admit(&short).await.unwrap_err(), late);
        drop(first);
        assert!(one.await.is_ok(), "whoever waits gets the place");
        let none = InboundLimits {
            queue_size: 0,
            ..ANY
        };
        let _held = admission.admit(&none).await.unwrap();
        let full = Refused::Busy(Busy::Queue { size: 0 });
        assert_eq!(admission.admit(&none).await.unwrap_err(), full);
    }
}
