//! Bodies on their way: one type, reference-counted slices, and the reasons for which one can break.
//!
//! Owns [`Body`] and [`BodyError`]. Every stage passes frames on as it gets them; none copies them. A body
//! that breaks ends with an error, so that the next hop resets its stream: a cut body never looks whole.

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};

/// The body of every request and response between two stages.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// More bytes than `--max-body-size`.
    #[error("stream too large")]
    TooLarge,
    /// The connection that carries it failed.
    #[error("{0}")]
    Connection(#[from] hyper::Error),
    /// A message of the internal stream came out of order.
    #[error("invalid sequence number received: {got} (expected: {expected})")]
    Sequence {
        /// What the peer wrote.
        got: u64,
        /// What had to follow.
        expected: u64,
    },
    /// A later message of an internal request stream carried a request.
    #[error("request metadata found in non-leading chunk")]
    LateRequest,
    /// A later message of an internal response stream carried a response.
    #[error("response metadata found in non-leading chunk")]
    LateResponse,
    /// A gRPC frame or message that does not decode.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// One gRPC message above its limit.
    #[error("grpc: received message larger than max ({size} vs. {limit})")]
    MessageTooLarge {
        /// Declared size in bytes.
        size: usize,
        /// Limit in bytes.
        limit: usize,
    },
    /// The peer ended its stream with a status other than OK.
    #[error("rpc error: code = {} desc = {message}", crate::invocation::status::code_name(*code))]
    Peer {
        /// Status code of the hop.
        code: tonic::Code,
        /// Its message.
        message: Box<str>,
    },
    /// The stream ended without the part that says that it is whole.
    #[error("unexpected EOF")]
    Cut,
    /// A new policy does not allow the call any more.
    #[error("{}", .0.message())]
    Denied(Box<tonic::Status>),
    /// A call with one message that may be repeated has more than one.
    #[error("cannot use resiliency policies with retries on streaming RPCs")]
    SecondMessage,
    /// The call's deadline passed while the body was under way.
    #[error("context deadline exceeded")]
    Deadline,
    /// Nothing passed for this long.
    #[error("nothing came or went for {0:?} (idleTimeout)")]
    Idle(std::time::Duration),
}

/// A body without bytes.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of one piece.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// The body of a connection, as ours.
pub(crate) fn incoming(body: hyper::body::Incoming) -> Body {
    if body.is_end_stream() {
        return empty();
    }
    body.map_err(BodyError::Connection).boxed_unsync()
}
