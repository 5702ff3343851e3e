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
    outbound::replicas::Lease,
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

struct Tail {
    inner: Option<Body>,
    limit: Option<Pin<Box<tokio::time::Sleep>>>,
    unsettled: Option<Box<Course>>,
    head: Outcome,
    /// Held until the end.
    lease: Option<Lease>,
}

// === impl Debts ===

impl Debts {
    /// The body with everything that is owed; itself if that is nothing.
    pub(crate) fn onto(self, body: Body) -> Body {
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

    /// The same for a gRPC answer, whose own body watches the limit and ends with a status.
    pub(crate) fn onto_grpc(self, body: Body) -> Body {
        Self { left: None, ..self }.onto(body)
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
                if let Some(code) = frame.trailers_ref().and_then(grpc::number_in) {
                    self.head = End::Grpc(code).into();
                }
            }
            Some(Err(BodyError::Idle(_))) => self.end(Failure::Timeout.into()),
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
