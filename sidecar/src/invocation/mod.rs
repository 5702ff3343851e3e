//! One invocation, whatever it came over: the vocabulary that both halves of a sidecar share.
//!
//! Owns [`Invocation`] (a call on its way to an app), [`Reply`] (the answer on its way back), and the pure rules
//! that turn them into headers (`headers.rs`), internal messages (`wire.rs`), pieces of a stream (`chunks.rs`)
//! and statuses (`status.rs`). Knows no sockets.

use http::{HeaderMap, HeaderValue};
use ironside_policy::{Method, Verb};
use ironside_proto::google::protobuf::Any;

use sync_wrapper::SyncWrapper;

use crate::body::Body;

pub(crate) mod bulk;
pub(crate) mod chunks;
pub(crate) mod context;
pub(crate) mod grpc;
pub(crate) mod headers;
pub(crate) mod messages;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod tally;
pub(crate) mod undelivered;
pub(crate) mod wire;

/// Where a call entered the caller's sidecar: header spellings follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The HTTP API.
    Http,
    /// `InvokeService`.
    Grpc,
}

/// How long the request body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// The client said so; such a request may be sent again.
    Fixed(u64),
    /// Nobody knows; such a request is sent once.
    Streaming,
}

/// A call on its way to an app.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// Cleaned path on the app.
    pub(crate) method: Method,
    /// Verb; [`Verb::None`] if the extension names none.
    pub(crate) verb: Verb,
    /// True if the call carries an HTTP extension: an HTTP app needs one.
    pub(crate) has_http: bool,
    /// Raw query without the question mark.
    pub(crate) query: Box<str>,
    /// Where it entered.
    pub(crate) origin: Origin,
    /// Headers of the client and those that sidecars add.
    pub(crate) headers: HeaderMap,
    /// Pseudo headers of a gRPC client (`:authority`), which an HTTP app sees as `dapr-authority`.
    pub(crate) pseudo: Vec<(&'static str, HeaderValue)>,
    /// Content type of the message.
    pub(crate) content_type: Box<str>,
    /// `type_url` of the data.
    pub(crate) type_url: Box<str>,
    /// Length of the body.
    pub(crate) length: Length,
    /// The body. Wrapped, so that a call may be borrowed across an await: nobody reads it through `&`.
    pub(crate) body: SyncWrapper<Body>,
}

impl Invocation {
    /// The same call once more, without its body.
    pub(crate) fn again(&self) -> Self {
        Self {
            method: self.method.clone(),
            verb: self.verb,
            has_http: self.has_http,
            query: self.query.clone(),
            origin: self.origin,
            headers: self.headers.clone(),
            pseudo: self.pseudo.clone(),
            content_type: self.content_type.clone(),
            type_url: self.type_url.clone(),
            length: self.length,
            body: crate::body::empty().into(),
        }
    }
}

/// Status of an app's answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AppStatus {
    /// An HTTP app's.
    Http(u16),
    /// A gRPC app's.
    Grpc {
        /// Code.
        code: tonic::Code,
        /// Message.
        message: Box<str>,
        /// Details.
        details: Vec<Any>,
    },
}

impl AppStatus {
    /// The status as series and messages number it: HTTP from 100, gRPC below.
    pub(crate) fn number(&self) -> i32 {
        match self {
            Self::Http(code) => i32::from(*code),
            Self::Grpc { code, .. } => *code as i32,
        }
    }
}

/// An app's answer on its way back.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Status.
    pub(crate) status: AppStatus,
    /// Headers, or initial metadata.
    pub(crate) headers: HeaderMap,
    /// Trailing metadata of a gRPC app.
    pub(crate) trailers: HeaderMap,
    /// Content type; empty if the app sent none.
    pub(crate) content_type: Box<str>,
    /// `type_url` of the data.
    pub(crate) type_url: Box<str>,
    /// The body.
    pub(crate) body: Body,
}

impl Reply {
    /// True for an HTTP app's 200-399 and for every answer of a gRPC app: such an answer streams to the client.
    pub(crate) fn streams(&self) -> bool {
        match self.status {
            AppStatus::Http(code) => (200..400).contains(&code) || code == STREAM_STATUS,
            AppStatus::Grpc { .. } => true,
        }
    }
}

/// Status of the leading message of an event stream: the reference leaves it at zero.
pub(crate) const STREAM_STATUS: u16 = 0;
