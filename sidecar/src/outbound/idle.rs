//! Streams over which nothing goes any more.
//!
//! Owns `idleTimeout` of a target: an answer that has begun, and a proxied stream that its caller declares, end when no
//! part of either direction passed for so long (resiliency-observability 6.2, row "Deadline propagation"). Owns
//! nothing of how an end looks: a body that ends so breaks as any other does. Part of stage 11, `guard`.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use ironside_chassis::clock::Clock;
use ironside_resiliency::Target;

use crate::body::{Body, BodyError};

/// Watches both directions of one call.
#[derive(Debug, Clone)]
pub(crate) struct Idle {
    limit: Duration,
    /// When something passed last, in microseconds of the clock.
    last: Arc<AtomicU64>,
    /// The answer broke because nothing passed.
    is_over: Arc<AtomicBool>,
    clock: Clock,
}

// === impl Idle ===

impl Idle {
    /// As the target's policies have it.
    pub(crate) fn of(target: &Target, clock: &Clock) -> Option<Self> {
        let idle = Self {
            limit: target.idle_timeout()?,
            last: Arc::default(),
            is_over: Arc::default(),
            clock: clock.clone(),
        };
        idle.touch();
        Some(idle)
    }

    /// A request whose parts are seen.
    pub(crate) fn request(&self, inner: Body) -> Body {
        if inner.is_end_stream() {
            return inner;
        }
        let watch = self.clone();
        inner
            .map_frame(move |frame| {
                watch.touch();
                frame
            })
            .boxed_unsync()
    }

    /// An answer that breaks when nothing passed for too long, from now on.
    pub(crate) fn answer(&self, inner: Body) -> Body {
        if inner.is_end_stream() {
            return inner;
        }
        self.touch();
        Watched {
            inner: Some(inner),
            sleep: Box::pin(tokio::time::sleep(self.limit)),
            idle: self.clone(),
        }
        .boxed_unsync()
    }

    /// Waits for something that is part of the call.
    ///
    /// # Errors
    /// [`BodyError::Idle`] if nothing passed for too long before.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T, BodyError> {
        let mut work = std::pin::pin!(work);
        let mut left = self.limit;
        loop {
            if let Ok(done) = tokio::time::timeout(left, work.as_mut()).await {
                return Ok(done);
            }
            left = self.left().ok_or_else(|| self.over())?;
        }
    }

    /// Whether the answer broke because nothing passed for too long, however its caller hears of it.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn touch(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// How long nothing may pass yet; `None` if that is over.
    fn left(&self) -> Option<Duration> {
        let quiet = self.now().saturating_sub(self.last.load(Ordering::Relaxed));
        let left = self.limit.saturating_sub(Duration::from_micros(quiet));
        (left > Duration::ZERO).then_some(left)
    }

    fn over(&self) -> BodyError {
        BodyError::Idle(self.limit)
    }

    fn now(&self) -> u64 {
        let now = self.clock.monotonic().since_start();
        u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
    }
}

/// An answer under watch.
struct Watched {
    inner: Option<Body>,
    idle: Idle,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(polled) = Pin::new(inner).poll_frame(cx) {
            this.idle.touch();
            return Poll::Ready(polled);
        }
        while this.sleep.as_mut().poll(cx).is_ready() {
            let Some(left) = this.idle.left() else {
                this.inner = None;
                this.idle.is_over.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err(this.idle.over())));
            };
            this.sleep.set(tokio::time::sleep(left));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::inbound::in_flight::tests::body as fed;

    pub(crate) const LIMIT: Duration = Duration::from_secs(5);

    pub(crate) fn idle() -> Idle {
        let idle = Idle {
            limit: LIMIT,
            last: Arc::default(),
            is_over: Arc::default(),
            clock: Clock::system(),
        };
        idle.touch();
        idle
    }

    /// What passes in either direction counts; what comes in time comes whole.
    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_both_directions_are_quiet() {
        let idle = idle();
        let (upload, request) = fed();
        let (download, answer) = fed();
        let mut request = idle.request(request);
        let mut answer = idle.answer(answer);
        for step in 0..6 {
            let (feed, body) = match step % 2 {
                0 => (&upload, &mut request),
                _ => (&download, &mut answer),
            };
            tokio::time::sleep(LIMIT * 9 / 10).await;
            feed.send(Bytes::from_static(b"x")).await.unwrap();
            assert!(body.frame().await.unwrap().is_ok(), "{step}");
        }
        let start = Clock::system().monotonic();
        let end = answer.frame().await.unwrap().unwrap_err();
        assert_eq!(end.to_string(), "nothing came or went for 5s (idleTimeout)");
        let took = Clock::system().monotonic() - start;
        assert_eq!(took.as_secs(), LIMIT.as_secs());
        assert!(download.is_closed(), "the callee's stream is let go");
        assert!(answer.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_keeps_a_call_without_answer_alive() {
        let idle = idle();
        let (upload, request) = fed();
        let mut request = idle.request(request);
        let head = async {
            for _ in 0..4 {
                tokio::time::sleep(LIMIT * 2 / 3).await;
                upload.send(Bytes::from_static(b"x")).await.unwrap();
                assert!(request.frame().await.unwrap().is_ok());
            }
            7
        };
        assert_eq!(idle.during(head).await.unwrap(), 7);
        let never = idle.during(std::future::pending::<()>());
        assert!(matches!(never.await, Err(BodyError::Idle(LIMIT))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_is_not_watched() {
        let (download, answer) = fed();
        let mut answer = idle().answer(answer);
        drop(download);
        assert!(answer.frame().await.is_none());
        assert!(idle().answer(crate::body::empty()).is_end_stream());
    }
}
