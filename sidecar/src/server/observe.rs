//! Stage 3, `observe`: trace and baggage of a request; its series and its log line when the *body* ends.
//!
//! Owns [`Record`], which starts with the request head and writes when the last byte of the answer has gone, or when
//! the client goes away before that, and [`Observed`], the response body that carries it. The span of a recorded
//! request begins and ends here. How a context begins is `observe/begin.rs`. Refuses to own what a trace header looks
//! like: telemetry does.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header, request::Parts};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ironside_chassis::Tick;
use ironside_telemetry::metrics::{HttpServed, Rpc};
use tonic::Code;

use super::{access_log::Line, conn::StreamGuard};
use crate::{
    api::access::SERVICE,
    body::{self, Body, BodyError},
    invocation::{chunks::PREFIX, grpc, headers::APP_ID},
    traces::Recording,
    worker::Shared,
};

mod begin;
#[cfg(test)]
mod tests;

pub(super) use begin::{grpc_context, hop_context, http_context, tell_grpc_client};

/// What a client gets whose request ended before its answer began; no status goes over the wire then.
const CLIENT_GONE: u16 = 499;

/// One request, from its head to the last byte of its answer.
pub(crate) struct Record {
    shared: Arc<Shared>,
    started: Tick,
    subject: Subject,
    status: Ended,
    line: Option<Line>,
    /// Its span, where it is recorded.
    span: Option<Arc<Recording>>,
    written: bool,
    _open: StreamGuard,
}

/// What is measured.
enum Subject {
    Http {
        method: http::Method,
        path: Box<str>,
        request_bytes: Option<u64>,
    },
    Grpc {
        method: Box<str>,
        shape: Shape,
    },
}

/// How a gRPC call is measured.
#[derive(Debug, Clone)]
enum Shape {
    /// One message each way: bytes are counted. Holds the bytes of the request body so far.
    Unary(Arc<AtomicU64>),
    /// A stream: only that it ended, how and when.
    Stream,
    /// Not at all, as in the reference.
    Unmeasured,
}

#[derive(Debug, Clone, Copy)]
enum Ended {
    Http(u16),
    Grpc(Option<Code>),
}

// === impl Record ===

impl Record {
    /// Starts with the head of an HTTP request.
    pub(super) fn http(shared: &Arc<Shared>, head: &Parts, open: StreamGuard) -> Self {
        let length = head.headers.get(header::CONTENT_LENGTH);
        let request_bytes = length.and_then(|v| v.to_str().ok()?.parse().ok());
        let subject = Subject::Http {
            method: head.method.clone(),
            path: head.uri.path().into(),
            request_bytes,
        };
        Self::new(shared, subject, Ended::Http(CLIENT_GONE), open)
    }

    /// Starts with the head of a call on the gRPC API.
    pub(super) fn grpc(shared: &Arc<Shared>, head: &Parts, open: StreamGuard) -> Self {
        let path = head.uri.path();
        let shape = match path.starts_with(SERVICE) {
            true => Shape::Unary(Arc::default()),
            false if head.headers.contains_key(APP_ID) => Shape::Stream,
            false => Shape::Unmeasured,
        };
        Self::new(
            shared,
            Subject::Grpc {
                method: path.into(),
                shape,
            },
            Ended::Grpc(None),
            open,
        )
    }

    /// Starts with the head of a call on the internal port; streams are not measured there, as in the
    /// reference.
    pub(super) fn internal(shared: &Arc<Shared>, head: &Parts, open: StreamGuard) -> Self {
        let path = head.uri.path();
        let unary = path == "/dapr.proto.internals.v1.ServiceInvocation/CallLocal";
        let shape = if unary {
            Shape::Unary(Arc::default())
        } else {
            Shape::Unmeasured
        };
        Self::new(
            shared,
            Subject::Grpc {
                method: path.into(),
                shape,
            },
            Ended::Grpc(None),
            open,
        )
    }

    fn new(shared: &Arc<Shared>, subject: Subject, status: Ended, open: StreamGuard) -> Self {
        let started = shared.clock.monotonic();
        Self {
            shared: Arc::clone(shared),
            started,
            subject,
            status,
            line: None,
            span: None,
            written: false,
            _open: open,
        }
    }

    /// The body of a request, counted where its bytes are measured.
    pub(super) fn counted(&self, incoming: Incoming) -> Body {
        match &self.subject {
            Subject::Grpc {
                shape: Shape::Unary(received),
                ..
            } => {
                let received = Arc::clone(received);
                let count = move |frame: Frame<Bytes>| {
                    let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                    received.fetch_add(bytes, Ordering::Relaxed);
                    frame
                };
                incoming
                    .map_frame(count)
                    .map_err(BodyError::Connection)
                    .boxed_unsync()
            }
            Subject::Grpc { .. } | Subject::Http { .. } => body::incoming(incoming),
        }
    }

    /// Ties the record to the answer.
    pub(super) fn finish(mut self, mut response: Response<Body>) -> Response<Observed> {
        self.line = response.extensions_mut().remove::<Line>();
        self.status = match self.subject {
            Subject::Http { .. } => Ended::Http(response.status().as_u16()),
            Subject::Grpc { .. } => Ended::Grpc(self.grpc_status(response.headers())),
        };
        response.map(|inner| Observed {
            inner,
            sent: 0,
            hold: Hold::Record(Box::new(self)),
        })
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        if let Ended::Grpc(code) = self.status {
            self.status = Ended::Grpc(self.grpc_status(trailers).or(code));
        }
    }

    /// The code that stands there, told to the span with its message.
    fn grpc_status(&self, headers: &HeaderMap) -> Option<Code> {
        let status = grpc::status_in(headers)?;
        if let Some(span) = &self.span {
            span.grpc_status(status.code(), status.message());
        }
        Some(status.code())
    }

    /// The span of the request has ended.
    fn end_span(&mut self) {
        let Some(span) = self.span.take() else { return };
        match self.status {
            Ended::Http(code) => {
                let reason = StatusCode::from_u16(code).ok();
                let reason = reason.as_ref().and_then(StatusCode::canonical_reason);
                span.http_status(code, reason);
            }
            // Nobody waited for its status.
            Ended::Grpc(None) => span.grpc_status(Code::Cancelled, "context canceled"),
            Ended::Grpc(Some(_)) => {}
        }
        span.end();
    }

    fn write(&mut self, sent: u64) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        self.end_span();
        let took = self.shared.clock.monotonic() - self.started;
        let metrics = &self.shared.metrics;
        let code = match (&self.subject, self.status) {
            (
                Subject::Http {
                    method,
                    path,
                    request_bytes,
                },
                Ended::Http(status),
            ) => {
                metrics.http_served(&HttpServed {
                    verb: method.as_str(),
                    path,
                    status,
                    latency: took,
                    request_bytes: *request_bytes,
                    response_bytes: sent,
                });
                i64::from(status)
            }
            (Subject::Grpc { method, shape }, Ended::Grpc(code)) => {
                // Without a status the client went away.
                let code = code.unwrap_or(Code::Cancelled) as i32;
                let message = |bytes: u64| bytes.saturating_sub(PREFIX as u64);
                let bytes = match shape {
                    Shape::Unary(received) => {
                        Some((message(received.load(Ordering::Relaxed)), message(sent)))
                    }
                    Shape::Stream | Shape::Unmeasured => None,
                };
                if !matches!(shape, Shape::Unmeasured) {
                    let (received_bytes, sent_bytes) = bytes.unzip();
                    metrics.rpc_served(&Rpc {
                        method,
                        code,
                        latency: took,
                        received_bytes,
                        sent_bytes,
                    });
                }
                i64::from(code)
            }
            (Subject::Http { .. }, Ended::Grpc(_)) | (Subject::Grpc { .. }, Ended::Http(_)) => {
                return;
            }
        };
        if let Some(line) = self.line.take() {
            line.write(code, sent, took);
        }
    }
}

impl Drop for Record {
    /// A client that went away before its answer began dropped the request, wherever it was.
    fn drop(&mut self) {
        self.write(0);
    }
}

/// A response body that ends its record.
pub(crate) struct Observed {
    inner: Body,
    sent: u64,
    hold: Hold,
}

enum Hold {
    Record(Box<Record>),
    Unrecorded { _open: StreamGuard },
    Written,
}

// === impl Observed ===

impl Observed {
    /// An answer of which nothing is measured; it still counts as an open stream.
    pub(super) fn unrecorded(response: Response<Body>, open: StreamGuard) -> Response<Self> {
        response.map(|inner| Self {
            inner,
            sent: 0,
            hold: Hold::Unrecorded { _open: open },
        })
    }

    fn ended(&mut self) {
        if let Hold::Record(mut record) = std::mem::replace(&mut self.hold, Hold::Written) {
            record.write(self.sent);
        }
    }
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                self.sent += frame.data_ref().map_or(0, Bytes::len) as u64;
                if let (Some(trailers), Hold::Record(record)) =
                    (frame.trailers_ref(), &mut self.hold)
                {
                    record.trailers(trailers);
                }
            }
            Some(Err(_)) | None => self.ended(),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.ended();
    }
}
