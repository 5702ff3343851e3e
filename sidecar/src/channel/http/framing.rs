//! How the body of a request to an app is framed: by its length, in chunks, or not at all.
//!
//! Owns the choice (service-invocation 1.7) and the check that a body is as long as it was said to be. What the
//! body holds is nobody's business here.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::HeaderValue;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use ironside_policy::Verb;

use crate::{
    body::{self, Body, BodyError},
    channel::ChannelError,
    invocation::Length,
};

/// How a request's body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body, no header.
    None,
    /// `Content-Length`; the body must be that long.
    Exact(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Decides how the body is framed: by its declared length, in chunks, or not at all.
///
/// A request without a length whose verb needs no body gets no body headers if its body is empty; every other
/// one is chunked, even when empty (service-invocation 1.7). A declared length that is no number is not one.
pub(super) async fn framing(
    verb: Verb,
    declared: Option<HeaderValue>,
    length: Length,
    mut body: Body,
) -> Result<(Framing, Body), ChannelError> {
    let declared = declared.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(declared) = declared {
        return Ok((Framing::Exact(declared), exact(body, declared)));
    }
    if !matches!(verb, Verb::Get | Verb::Head | Verb::Delete | Verb::Options) {
        return Ok((Framing::Chunked, chunked(body)));
    }
    if length == Length::Fixed(0) {
        return Ok((Framing::None, body::empty()));
    }
    match body.frame().await.transpose()? {
        None => Ok((Framing::None, body::empty())),
        Some(first) => Ok((Framing::Chunked, chunked(prepend(first, body)))),
    }
}

/// A body that is as long as it was said to be, or an error: a peer's word is checked before the app relies on it.
fn exact(body: Body, length: u64) -> Body {
    Exact { body, left: length }.boxed_unsync()
}

struct Exact {
    body: Body,
    left: u64,
}

impl http_body::Body for Exact {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let size = frame.data_ref().map_or(0, Bytes::len) as u64;
                match self.left.checked_sub(size) {
                    Some(left) => {
                        self.left = left;
                        Some(Ok(frame))
                    }
                    None => Some(Err(BodyError::Malformed("body longer than its length"))),
                }
            }
            None if self.left > 0 => Some(Err(BodyError::Cut)),
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn prepend(first: Frame<Bytes>, rest: Body) -> Body {
    let first = futures_util::stream::iter([Ok::<_, BodyError>(first)]);
    let rest = BodyStream::new(rest);
    StreamBody::new(first.chain(rest)).boxed_unsync()
}

/// A body that never says how long it is.
fn chunked(body: Body) -> Body {
    struct Unknown(Body);
    impl http_body::Body for Unknown {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Pin::new(&mut self.0).poll_frame(cx)
        }
    }
    Unknown(body).boxed_unsync()
}
