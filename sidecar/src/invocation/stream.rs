//! The two ends of an internal stream as bodies: pieces out ([`Outgoing`]) and pieces in ([`Pieces`]).
//!
//! Owns how a body turns into messages and back while it moves, and how a break on one side is told to the
//! other: a request that breaks resets its stream, a response that breaks ends with a status. What broke is
//! kept in a [`Fault`], because HTTP/2 does not bring a reason back.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use prost::Message;
use tonic::{Code, Status};

use super::{
    chunks::{self, Decoder, Event, FrameError, MAX_PIECE},
    grpc,
};
use crate::body::{Body, BodyError};

/// Why a body that was being sent broke; set at most once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fault(Arc<OnceLock<BodyError>>);

impl Fault {
    /// The reason, if there is one.
    pub(crate) fn get(&self) -> Option<&BodyError> {
        self.0.get()
    }

    pub(crate) fn set(&self, error: BodyError) {
        // The first reason is the cause, later ones follow from it.
        drop(self.0.set(error));
    }
}

/// What ends the stream after the last piece.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Half-close; a break resets the stream.
    Request,
    /// Trailers with a status; a break becomes that status.
    Response,
}

/// A body as messages of an internal stream.
pub(crate) struct Outgoing {
    queue: VecDeque<Bytes>,
    inner: Option<Body>,
    seq: u64,
    ending: Option<Ending>,
    fault: Fault,
}

impl Outgoing {
    /// A stream whose leading message is `head`; what is at hand of `body` travels with it.
    pub(crate) fn new(head: &impl Message, mut body: Body, ending: Ending) -> (Self, Fault) {
        let fault = Fault::default();
        let mut outgoing = Self {
            queue: VecDeque::with_capacity(2),
            inner: None,
            seq: 0,
            ending: Some(ending),
            fault: fault.clone(),
        };
        let first = match body.frame().now_or_never() {
            Some(Some(Ok(frame))) => {
                outgoing.inner = Some(body);
                frame.into_data().unwrap_or_default()
            }
            Some(Some(Err(error))) => {
                fault.set(error);
                Bytes::new()
            }
            Some(None) => Bytes::new(),
            None => {
                outgoing.inner = Some(body);
                Bytes::new()
            }
        };
        outgoing.lead(head, first);
        (outgoing, fault)
    }

    fn lead(&mut self, head: &impl Message, mut first: Bytes) {
        let piece = first.split_to(first.len().min(MAX_PIECE));
        self.queue.push_back(chunks::leading(head, piece.len()));
        if !piece.is_empty() {
            self.queue.push_back(piece);
            self.seq = 1;
        }
        self.enqueue(first);
    }

    /// Queues data as messages of at most [`MAX_PIECE`] bytes.
    fn enqueue(&mut self, mut data: Bytes) {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(MAX_PIECE));
            self.queue
                .push_back(chunks::chunk_head(self.seq, piece.len()));
            self.queue.push_back(piece);
            self.seq += 1;
        }
    }

    /// As a body of a request or response.
    pub(crate) fn boxed(self) -> Body {
        self.boxed_unsync()
    }

    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let broken = self.fault.get();
        match self.ending.take() {
            None => Poll::Ready(None),
            Some(Ending::Request) if broken.is_some() => Poll::Ready(Some(Err(BodyError::Cut))),
            Some(Ending::Request) => Poll::Ready(None),
            Some(Ending::Response) => {
                let status = broken.map_or_else(|| Status::new(Code::Ok, ""), broken_status);
                Poll::Ready(Some(Ok(Frame::trailers(grpc::status_trailers(&status)))))
            }
        }
    }
}

/// How the callee's sidecar tells that its app's body broke: the hop is well, the call is not.
fn broken_status(error: &BodyError) -> Status {
    let status = grpc::from_body_error(error);
    if matches!(error, BodyError::Denied(_)) {
        return status;
    }
    Status::internal(format!("error reading response body: {}", status.message()))
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(bytes) = self.queue.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let Some(inner) = &mut self.inner else {
                return self.end();
            };
            match ready!(Pin::new(inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.enqueue(data);
                    }
                }
                Some(Err(error)) => {
                    self.fault.set(error);
                    self.inner = None;
                }
                None => self.inner = None,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.queue.is_empty()
            && self.inner.is_none()
            && matches!(self.ending, None | Some(Ending::Request))
            && self.fault.get().is_none()
    }
}

/// Which way pieces come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From a caller's sidecar.
    Request,
    /// From a callee's sidecar: must end with status OK.
    Response,
}

/// An internal stream as a body.
pub(crate) struct Pieces {
    inner: Body,
    decoder: Decoder,
    direction: Direction,
    first: Bytes,
    ended: bool,
    status: Option<Status>,
}

impl Pieces {
    /// A stream that comes in over `inner`; messages are bounded by `limit` bytes.
    pub(crate) fn new(inner: Body, direction: Direction, limit: usize) -> Self {
        Self {
            inner,
            decoder: Decoder::new(limit),
            direction,
            first: Bytes::new(),
            ended: false,
            status: None,
        }
    }

    /// The leading message, encoded; `None` if the stream ended without one.
    ///
    /// # Errors
    /// [`BodyError`] of what came instead.
    pub(crate) async fn leading(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.leading_within(|_frame| Ok(())).await
    }

    /// The same; `admit` sees each frame before it is kept.
    ///
    /// # Errors
    /// As [`Self::leading`], and what `admit` says.
    pub(crate) async fn leading_within(
        &mut self,
        mut admit: impl FnMut(&Frame<Bytes>) -> Result<(), BodyError>,
    ) -> Result<Option<Bytes>, BodyError> {
        loop {
            if let Event::Leading(bytes) = self
                .decoder
                .next()
                .map_err(|error| self.frame_error(error))?
            {
                return Ok(Some(bytes));
            }
            match self.inner.frame().await {
                Some(frame) => {
                    let frame = frame?;
                    admit(&frame)?;
                    self.take(frame);
                }
                None => {
                    self.decoder
                        .finish()
                        .map_err(|error| self.frame_error(error))?;
                    return match self.status.take() {
                        Some(status) if status.code() != Code::Ok => Err(peer_error(&status)),
                        _ => Ok(None),
                    };
                }
            }
        }
    }

    /// Says that the leading message carried data.
    ///
    /// # Errors
    /// [`BodyError::Sequence`] if its number was not 0.
    pub(crate) fn lead(&mut self, data: Bytes, seq: u64) -> Result<(), BodyError> {
        self.decoder
            .leading_payload(seq)
            .map_err(|error| self.frame_error(error))?;
        self.first = data;
        Ok(())
    }

    /// As the body of the invocation or reply.
    pub(crate) fn boxed(self) -> Body {
        self.boxed_unsync()
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => self.decoder.push(data),
            Err(frame) => {
                let trailers: Option<HeaderMap> = frame.into_trailers().ok();
                self.status = trailers.as_ref().and_then(grpc::status_in);
            }
        }
    }

    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        if let Err(error) = self.decoder.finish() {
            return Poll::Ready(Some(Err(self.frame_error(error))));
        }
        match (self.direction, self.status.take()) {
            (Direction::Request, _) => Poll::Ready(None),
            (Direction::Response, Some(status)) if status.code() == Code::Ok => Poll::Ready(None),
            (Direction::Response, Some(status)) => Poll::Ready(Some(Err(peer_error(&status)))),
            // A stream that ends without a status was cut.
            (Direction::Response, None) => Poll::Ready(Some(Err(BodyError::Cut))),
        }
    }

    fn frame_error(&self, error: FrameError) -> BodyError {
        match error {
            FrameError::TooLarge { size, limit } => BodyError::MessageTooLarge { size, limit },
            FrameError::Sequence { got, expected } => BodyError::Sequence { got, expected },
            FrameError::LateHead if self.direction == Direction::Request => BodyError::LateRequest,
            FrameError::LateHead => BodyError::LateResponse,
            FrameError::Compressed => {
                BodyError::Malformed("compressed message without a negotiated encoding")
            }
            FrameError::Malformed(what) => BodyError::Malformed(what),
            FrameError::Cut => BodyError::Cut,
        }
    }
}

fn peer_error(status: &Status) -> BodyError {
    BodyError::Peer {
        code: status.code(),
        message: status.message().into(),
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            match self.decoder.next() {
                Ok(Event::Data(slice)) => return Poll::Ready(Some(Ok(Frame::data(slice)))),
                Ok(Event::Leading(_)) => {}
                Ok(Event::NeedMore) => match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                    Some(Ok(frame)) => self.take(frame),
                    Some(Err(error)) => {
                        self.ended = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => return self.end(),
                },
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(self.frame_error(error))));
                }
            }
        }
    }
}
