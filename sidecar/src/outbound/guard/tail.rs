//! The rest of an answer, on its way to the caller: what is told when it ends.
//!
//! The head of an answer is no end: a limit of the attempt holds up to the last byte, a breaker hears how it
//! went, and an address counts the call until then. An answer that is cut ends with an error, never as if it
//! were whole, and nothing is sent again. Part of stage 11, `guard`.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use ironside_resiliency::outcome::{End, Failure, Outcome};

use super::Course;
use crate::{
    body::{Body, BodyError},
    invocation::grpc,
    outbound::{idle::Idle, replicas::Lease},
};

/// What an answer owes when it ends.
pub(crate) struct Debts {
    /// A success that its breaker has not heard of yet.
    pub(super) unsettled: Option<Box<Course>>,
    /// Time that is left for the body.
    pub(super) left: Option<Duration>,
    /// What the head says.
    pub(super) head: Outcome,
    /// The call at its address.
    pub(crate) lease: Option<Lease>,
}

/// An answer that owes something when it ends.
struct Tail {
    inner: Option<Body>,
    limit: Option<Pin<Box<tokio::time::Sleep>>>,
    unsettled: Option<Box<Course>>,
    head: Outcome,
    /// What ends a gRPC answer with a status that is not the callee's.
    idle: Option<Idle>,
    /// Held until the end.
    lease: Option<Lease>,
}

// === impl Debts ===

impl Debts {
    /// The body with everything that is owed; itself if that is nothing.
    pub(crate) fn onto(self, body: Body) -> Body {
        self.watched_onto(body, None)
    }

    fn watched_onto(self, body: Body, idle: Option<Idle>) -> Body {
        let Self {
            unsettled,
            left,
            head,
            lease,
        } = self;
        if body.is_end_stream() {
            if let Some(unsettled) = unsettled {
                unsettled.settle(head);
            }
            return body;
        }
        if unsettled.is_none() && left.is_none() && lease.is_none() {
            return body;
        }
        Tail {
            inner: Some(body),
            limit: left.map(|left| Box::pin(tokio::time::sleep(left))),
            unsettled,
            head,
            idle,
            lease,
        }
        .boxed_unsync()
    }

    /// Settles now: what follows is not of this call's policies.
    pub(crate) fn end_here(&mut self) {
        self.left = None;
        if let Some(unsettled) = self.unsettled.take() {
            unsettled.settle(self.head);
        }
    }

    /// The same for a gRPC answer, whose own body watches the limit and ends with a status, after `idle` too.
    pub(crate) fn onto_grpc(self, body: Body, idle: Option<Idle>) -> Body {
        Self { left: None, ..self }.watched_onto(body, idle)
    }
}

// === impl Tail ===

impl Tail {
    fn end(&mut self, outcome: Outcome) {
        self.inner = None;
        self.limit = None;
        self.lease = None;
        if let Some(unsettled) = self.unsettled.take() {
            unsettled.settle(outcome);
        }
    }
}

impl HttpBody for Tail {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(limit) = &mut self.limit
            && limit.as_mut().poll(cx).is_ready()
        {
            self.end(Failure::Timeout.into());
            return Poll::Ready(Some(Err(BodyError::Deadline)));
        }
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let polled = ready!(Pin::new(inner).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                let is_quiet = self.idle.as_ref().is_some_and(Idle::is_over);
                let code = frame.trailers_ref().and_then(grpc::number_in);
                if let Some(code) = code.filter(|_| !is_quiet) {
                    self.head = End::Grpc(code).into();
                }
            }
            // Who says nothing for long may be as well as before.
            Some(Err(BodyError::Idle(_))) => {
                let head = self.head;
                self.end(head);
            }
            Some(Err(_)) => self.end(Failure::Lost.into()),
            None => {
                let head = self.head;
                self.end(head);
            }
        }
        Poll::Ready(polled)
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

impl Drop for Tail {
    /// A caller that has its answer and leaves says nothing against the callee.
    fn drop(&mut self) {
        let head = self.head;
        self.end(head);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::{
        inbound::in_flight::tests::body as fed,
        invocation::{
            messages::{Back, Messages},
            stream::Fault,
        },
        outbound::idle::tests::idle,
    };

    fn tail(body: Body, idle: Option<Idle>) -> Tail {
        Tail {
            inner: Some(body),
            limit: None,
            unsettled: None,
            head: End::Grpc(0).into(),
            idle,
            lease: None,
        }
    }

    async fn code(tail: &mut Tail) -> Option<u32> {
        let trailers = tail.frame().await.unwrap().unwrap().into_trailers();
        grpc::number_in(&trailers.unwrap())
    }

    /// What this sidecar says of a stream that went quiet is no word of its callee.
    #[tokio::test(start_paused = true)]
    async fn a_quiet_end_counts_as_its_head() {
        let (_feed, answer) = fed();
        let idle = idle();
        let back = Back {
            limit: 1024,
            fault: Fault::default(),
            entry: None,
            tally: None,
        };
        let body = Messages::response(idle.answer(answer), back, None);
        let mut quiet = tail(body, Some(idle));
        assert_eq!(code(&mut quiet).await, Some(4));
        assert_eq!(quiet.head.end, End::Grpc(0));
    }

    #[tokio::test]
    async fn a_status_of_the_callee_counts() {
        let status = (
            HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("4"),
        );
        let trailers = Frame::trailers(HeaderMap::from_iter([status]));
        let frames = futures_util::stream::iter([Ok(trailers)]);
        let body = http_body_util::StreamBody::new(frames).boxed_unsync();
        let idle = idle();
        let mut loud = tail(idle.answer(body), Some(idle));
        assert_eq!(code(&mut loud).await, Some(4));
        assert_eq!(loud.head.end, End::Grpc(4));
    }
}
