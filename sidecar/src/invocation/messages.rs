//! A gRPC body on its way through, message by message but untouched: the size of each is checked, nothing else.
//!
//! Owns what becomes of a proxied body that breaks: a request resets its stream and leaves the reason in a
//! [`Fault`], a response ends with a status, so that the caller hears why.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tonic::Status;

use super::{
    chunks::PREFIX,
    grpc,
    stream::{Ending, Fault},
    tally::Tally,
};
use crate::{
    body::{Body, BodyError},
    inbound::in_flight::Entry,
};

/// Follows the lengths before the messages of one body.
#[derive(Debug)]
struct Lengths {
    /// Bytes of the prefix that have been seen.
    prefix: Vec<u8>,
    /// Bytes of the present message that are still to come.
    left: usize,
    limit: usize,
    /// Only one message may come; true once it has begun.
    single: Option<bool>,
}

impl Lengths {
    /// True if no message is under way.
    fn is_between(&self) -> bool {
        self.left == 0 && self.prefix.is_empty()
    }

    fn check(&mut self, mut data: &[u8]) -> Result<(), BodyError> {
        while !data.is_empty() {
            if self.left > 0 {
                let step = self.left.min(data.len());
                data.advance(step);
                self.left -= step;
                continue;
            }
            if self.prefix.is_empty()
                && let Some(has_begun) = &mut self.single
                && std::mem::replace(has_begun, true)
            {
                return Err(BodyError::SecondMessage);
            }
            let step = (PREFIX - self.prefix.len()).min(data.len());
            self.prefix
                .extend_from_slice(data.get(..step).unwrap_or_default());
            data.advance(step);
            if let Some([_, a, b, c, d]) = self.prefix.first_chunk::<PREFIX>() {
                let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                if size > self.limit {
                    return Err(BodyError::MessageTooLarge {
                        size,
                        limit: self.limit,
                    });
                }
                self.left = size;
                self.prefix.clear();
            }
        }
        Ok(())
    }
}

/// A proxied body.
pub(crate) struct Messages {
    inner: Option<Body>,
    lengths: Lengths,
    ending: Ending,
    fault: Fault,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
    entry: Option<Entry>,
    tally: Option<Tally>,
    /// Runs while the message that was under way at a revocation may still become whole.
    rest: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// How an answer comes back.
pub(crate) struct Back {
    /// Bound on each message, in bytes.
    pub(crate) limit: usize,
    /// Why the request broke, if it did.
    pub(crate) fault: Fault,
    /// The call's place in the register, if a new policy may end it.
    pub(crate) entry: Option<Entry>,
    /// What is counted when it ends.
    pub(crate) tally: Option<Tally>,
}

/// Time for the rest of a message when a call is revoked: clients take half a message for a protocol error.
pub(crate) const REST: Duration = Duration::from_secs(1);

impl Messages {
    /// A request body; `limit` bounds each message, in bytes.
    pub(crate) fn request(inner: Body, limit: usize) -> (Body, Fault) {
        let fault = Fault::default();
        let back = Back {
            limit,
            fault: fault.clone(),
            entry: None,
            tally: None,
        };
        (Self::boxed(inner, back, Ending::Request, None), fault)
    }

    /// A request body of one message; a second one breaks it.
    pub(crate) fn single(inner: Body, limit: usize) -> (Body, Fault) {
        let fault = Fault::default();
        let back = Back {
            limit,
            fault: fault.clone(),
            entry: None,
            tally: None,
        };
        let mut messages = Self::new(inner, back, Ending::Request, None);
        messages.lengths.single = Some(false);
        (messages.boxed_unsync(), fault)
    }

    /// A response body; it ends with DeadlineExceeded when `left` has passed.
    pub(crate) fn response(inner: Body, back: Back, left: Option<Duration>) -> Body {
        Self::boxed(inner, back, Ending::Response, left)
    }

    fn boxed(inner: Body, back: Back, ending: Ending, left: Option<Duration>) -> Body {
        if inner.is_end_stream() {
            return crate::body::empty();
        }
        Self::new(inner, back, ending, left).boxed_unsync()
    }

    fn new(inner: Body, back: Back, ending: Ending, left: Option<Duration>) -> Self {
        let Back {
            limit,
            fault,
            entry,
            tally,
        } = back;
        let lengths = Lengths {
            prefix: Vec::with_capacity(PREFIX),
            left: 0,
            limit,
            single: None,
        };
        let deadline = left.map(|left| Box::pin(tokio::time::sleep(left)));
        Self {
            inner: Some(inner),
            lengths,
            ending,
            fault,
            deadline,
            entry,
            tally,
            rest: None,
        }
    }

    /// Why the call must end now: it was revoked, and no message is cut by that.
    fn revoked(&mut self, cx: &mut Context<'_>) -> Option<BodyError> {
        let status = self.entry.as_mut()?.revoked(cx)?.clone();
        let rest = self
            .rest
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(REST)));
        let is_over = self.lengths.is_between() || rest.as_mut().poll(cx).is_ready();
        is_over.then(|| BodyError::Denied(Box::new(status)))
    }

    /// Ends the body because of `error`.
    fn break_off(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.inner = None;
        match self.ending {
            Ending::Request => {
                self.fault.set(error);
                Poll::Ready(Some(Err(BodyError::Cut)))
            }
            Ending::Response => {
                // A request that broke is the cause of a response that did.
                let status = status_of(self.fault.get().unwrap_or(&error));
                if let Some(mut tally) = self.tally.take() {
                    tally.ends(status.code());
                }
                Poll::Ready(Some(Ok(Frame::trailers(grpc::status_trailers(&status)))))
            }
        }
    }
}

/// What a broken proxied body means to its caller.
pub(crate) fn status_of(error: &BodyError) -> Status {
    if let BodyError::Connection(cause) = error {
        let cause = crate::peers::connection::cause_of(cause);
        return Status::unavailable(format!("error reading from server: {cause}"));
    }
    grpc::from_body_error(error)
}

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.inner.is_some()
            && let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return self.break_off(BodyError::Deadline);
        }
        if self.inner.is_some()
            && let Some(denied) = self.revoked(cx)
        {
            return self.break_off(denied);
        }
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        match ready!(Pin::new(inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref()
                    && let Err(error) = self.lengths.check(data)
                {
                    return self.break_off(error);
                }
                if let (Some(trailers), Some(tally)) = (frame.trailers_ref(), &mut self.tally) {
                    tally.heard(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => self.break_off(error),
            None => {
                self.inner = None;
                self.tally = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lengths_are_followed_whatever_the_splits(
            sizes in prop::collection::vec(0_usize..40, 0..6),
            splits in prop::collection::vec(1_usize..9, 1..4),
            limit in 0_usize..40,
        ) {
            let wire: Vec<u8> = sizes
                .iter()
                .flat_map(|size| {
                    let mut message = vec![0];
                    message.extend_from_slice(&u32::try_from(*size).unwrap().to_be_bytes());
                    message.extend(std::iter::repeat_n(7, *size));
                    message
                })
                .collect();
            let mut lengths = Lengths { prefix: Vec::new(), left: 0, limit, single: None };
            let mut rest = wire.as_slice();
            let mut result = Ok(());
            let mut splits = splits.into_iter().cycle();
            while !rest.is_empty() && result.is_ok() {
                let step = splits.next().unwrap().min(rest.len());
                result = lengths.check(&rest[..step]);
                rest = &rest[step..];
            }
            prop_assert_eq!(result.is_err(), sizes.iter().any(|size| *size > limit));
        }
    }

    /// Fact K198: a revoked call ends between two messages, or a second later.
    #[tokio::test(start_paused = true)]
    async fn a_revocation_waits_for_the_message_under_way_but_not_for_ever() {
        for (pieces, whole) in [
            (["\0\0\0\0\u{4}ab", "cd"], true),
            (["\0\0\0\0\u{4}ab", ""], false),
        ] {
            let (feed, inner) = crate::inbound::in_flight::tests::body();
            let (entry, revoke) = crate::inbound::in_flight::tests::revocable();
            let back = Back {
                limit: 1024,
                fault: Fault::default(),
                entry: Some(entry),
                tally: None,
            };
            let mut body = Messages::response(inner, back, None);
            let [first, second] = pieces.map(|text| Bytes::from_static(text.as_bytes()));
            feed.try_send(first.clone()).unwrap();
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), first);
            revoke.await;
            if whole {
                feed.try_send(second.clone()).unwrap();
                let frame = body.frame().await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), second);
            }
            let trailers = body
                .frame()
                .await
                .unwrap()
                .unwrap()
                .into_trailers()
                .unwrap();
            assert_eq!(trailers["grpc-status"], "7");
            assert!(body.frame().await.is_none());
            assert!(feed.is_closed(), "the app's stream is let go");
        }
    }
}
