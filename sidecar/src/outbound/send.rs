//! One attempt at a peer: resolve, connect, stamp, send, read the head of the answer.
//!
//! Owns the two ways to ask (`CallLocalStream`, and `CallLocal` for a peer that does not know it) and what a
//! failed hop means. With `inbound/call.rs` the only file that speaks the internal messages. Stages 12 to 15.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use ironside_proto::{
    common::{InvokeResponse, StreamPayload},
    google::protobuf::Any,
    internals::{InternalInvokeResponse, InternalInvokeResponseStream},
};
use ironside_resolution::Authority;
use ironside_telemetry::metrics::CallKind;
use tonic::{Code, Status};

use super::{
    Callee, InvokeError,
    guard::{Failure, reason},
    replay::Replay,
};
use crate::{
    body::{self, Body, BodyError},
    channel::grpc::USER_AGENT,
    invocation::{
        AppStatus, Invocation, Length, Reply, bulk, chunks,
        context::CallContext,
        grpc,
        stream::{Direction, Ending, Fault, Outgoing, Pieces},
        undelivered::{self, Cause},
        wire,
    },
    peers::{DialError, PeerError, PeerKey},
    traces::attributes::PREVIOUS_ATTEMPTS,
    worker::Worker,
};

const STREAM: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream";
const UNARY: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocal";

/// Room for metadata above the body limit in one internal message, in bytes.
const HEAD_ROOM: usize = 4 * 1024 * 1024;

/// Where the callee listens, for an app that is not known yet. Stage 12.
///
/// # Errors
/// [`Failure`]; an app that was found a moment ago counts as one that cannot be reached.
pub(super) async fn resolve(worker: &Worker, callee: &Callee) -> Result<Authority, Failure> {
    let now = worker.shared.clock.monotonic();
    let found = worker
        .shared
        .resolver
        .resolve(&callee.app_id, &callee.namespace)
        .await;
    match found {
        Ok(authority) => {
            worker.known.found(callee, now);
            Ok(authority)
        }
        Err(error) if worker.known.is_known(callee, now) => {
            Err(Failure::Unreachable(Status::unavailable(error.to_string())))
        }
        Err(error) => Err(Failure::Unresolved(error)),
    }
}

/// One attempt at a peer.
pub(super) struct Hop<'a> {
    /// Whose data thread.
    pub(super) worker: &'a Worker,
    /// Who is called.
    pub(super) callee: &'a Callee,
    /// Where, and who has to prove to be there.
    pub(super) key: &'a PeerKey,
    /// What accompanies the call.
    pub(super) context: &'a CallContext,
    /// When the attempt is given up, the caller's deadline included: the callee is told.
    pub(super) until: Option<Duration>,
    /// Which attempt it is, from 1: the callee is told of the ones before.
    pub(super) number: u32,
}

impl Hop<'_> {
    /// Tries once.
    ///
    /// # Errors
    /// [`Failure`] says whether the request can have arrived.
    pub(super) async fn attempt(
        &self,
        call: &Invocation,
        replay: &Replay,
    ) -> Result<Reply, Failure> {
        let worker = self.worker;
        let metrics = &worker.shared.metrics;
        let started = worker.shared.clock.monotonic();
        metrics.invocation_sent(self.callee.app_id.as_str(), CallKind::Unary);
        let result = match self.stream(call, replay).await {
            Err(Failure::Final(InvokeError::Hop(hop))) if hop.code() == Code::Unimplemented => {
                Box::pin(self.unary(call, replay)).await
            }
            other => other,
        };
        if let Ok(reply) = &result {
            let latency = worker.shared.clock.monotonic().since(started);
            let (app, status) = (self.callee.app_id.as_str(), reply.status.number());
            metrics.invocation_answered(app, status, CallKind::Unary, Some(latency));
        }
        result
    }

    async fn stream(&self, call: &Invocation, replay: &Replay) -> Result<Reply, Failure> {
        let message = wire::request(&self.stamped(call), Bytes::new());
        let (outgoing, fault) = Outgoing::new(&message, replay.attempt(), Ending::Request);
        let request = self.request(STREAM, outgoing.boxed())?;
        let response = self.send(request, &fault).await?;
        let (parts, body) = response.into_parts();
        let undelivered = undelivered::cause(&parts.headers);
        refused(&parts.headers).map_err(|failure| self.elsewhere(failure, undelivered))?;
        let limit = self.worker.shared.config.max_message.max(chunks::MAX_PIECE) + HEAD_ROOM;
        let mut pieces = Pieces::new(body, Direction::Response, limit);
        let leading = pieces
            .leading()
            .await
            .map_err(|error| self.elsewhere(from_stream(error, &fault), undelivered))?;
        let Some(leading) = leading else {
            return Err(fault.get().map_or_else(
                || Failure::Final(InvokeError::Body("EOF".to_owned())),
                |error| Failure::Caller(error.into()),
            ));
        };
        self.reply(leading, pieces)
    }

    /// A refusal of a call that the app knows nothing of: it may be made again, and where the app is gone, at another
    /// address, as the next ones.
    fn elsewhere(&self, failure: Failure, undelivered: Option<Cause>) -> Failure {
        let Some(cause) = undelivered else {
            return self.broke(failure);
        };
        let status = if let Failure::Final(InvokeError::Hop(status)) = failure {
            *status
        } else if let Failure::Lost(status) = failure {
            status
        } else {
            return failure;
        };
        match cause {
            // Peer and app may be well: they get the next call.
            Cause::ConnectionClosed => Failure::NotBegun(status),
            Cause::AppGone => {
                let shared = &self.worker.shared;
                shared.resolver.broke(&self.key.authority);
                shared.fleet.left_by(self.callee, &self.key.authority);
                Failure::Unreachable(status)
            }
        }
    }

    /// Tells the resolver of an answer that had begun and broke: of a request that got none `blame` has told.
    fn broke(&self, failure: Failure) -> Failure {
        if matches!(failure, Failure::Lost(_)) {
            let resolver = &self.worker.shared.resolver;
            resolver.broke(&self.key.authority);
        }
        failure
    }

    fn reply(&self, leading: Bytes, mut pieces: Pieces) -> Result<Reply, Failure> {
        let malformed = |text: &str| Failure::Final(InvokeError::Body(text.to_owned()));
        let checked = bulk::check(&leading, bulk::RESPONSE_STREAM);
        checked.map_err(|status| malformed(status.message()))?;
        let first: InternalInvokeResponseStream =
            grpc::decode(leading).map_err(|status| malformed(status.message()))?;
        let InternalInvokeResponseStream { response, payload } = first;
        let Some(response) = response.filter(|response| response.status.is_some()) else {
            return Err(malformed(
                "response does not contain the required fields in the leading chunk",
            ));
        };
        if let Some(StreamPayload { data, seq }) = payload {
            pieces
                .lead(data, seq)
                .map_err(|error| Failure::Final((&error).into()))?;
        }
        read(response, pieces.boxed(), self.context)
    }

    async fn unary(&self, call: &Invocation, replay: &Replay) -> Result<Reply, Failure> {
        let old = || Failure::Final(InvokeError::OldPeer(self.callee.app_id.as_str().into()));
        if call.length == Length::Streaming || replay.is_gone() {
            return Err(old());
        }
        let data = replay
            .attempt()
            .collect()
            .await
            .map_err(|error| Failure::Caller((&error).into()))?
            .to_bytes();
        let message = chunks::message(&wire::request(&self.stamped(call), data));
        let request = self.request(UNARY, body::full(message))?;
        let response = self.send(request, &Fault::default()).await?;
        let (parts, body) = response.into_parts();
        let broke = |failure| self.broke(failure);
        refused(&parts.headers).map_err(broke)?;
        let unary = grpc::read_unary(body, self.limit()).await;
        let (message, trailers) = unary.map_err(|status| broke(hop(status)))?;
        finished(&trailers.unwrap_or_default()).map_err(broke)?;
        let message = message.unwrap_or_default();
        bulk::check(&message, bulk::RESPONSE)
            .map_err(|status| Failure::Final(InvokeError::Body(status.message().to_owned())))?;
        let mut response: InternalInvokeResponse = grpc::decode(message)
            .map_err(|status| Failure::Final(InvokeError::Body(status.message().to_owned())))?;
        let data = take_data(&mut response);
        read(response, body::full(data), self.context)
    }

    /// Bytes that one message of the peer may have.
    fn limit(&self) -> usize {
        let limit = self.worker.shared.config.max_message;
        limit.max(chunks::MAX_PIECE).saturating_add(HEAD_ROOM)
    }

    /// The invocation with what this sidecar says of itself and of the callee.
    fn stamped(&self, call: &Invocation) -> Invocation {
        let mut call = call.again();
        let headers = &mut call.headers;
        self.worker.stamp.identity(headers, &self.callee.header);
        self.worker.stamp.forwarded(headers, &self.callee.header);
        self.context.trace.take_from(headers);
        call
    }

    fn request(&self, path: &'static str, body: Body) -> Result<Request<Body>, Failure> {
        let uri = crate::channel::http::uri("http", self.key.authority.as_str(), path)?;
        let mut request = Request::new(body);
        *request.method_mut() = ::http::Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, grpc::CONTENT_TYPE);
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::USER_AGENT, USER_AGENT);
        if let Some(until) = self.until {
            let now = self.worker.shared.clock.monotonic().since_start();
            let left = grpc::timeout_value(until.saturating_sub(now));
            headers.insert("grpc-timeout", left);
        }
        if self.number > 1 {
            headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(self.number - 1));
        }
        self.context.trace.to_hop(headers);
        Ok(request)
    }

    async fn send(&self, request: Request<Body>, fault: &Fault) -> Result<Response<Body>, Failure> {
        self.worker
            .peers
            .send(self.key, request)
            .await
            .inspect_err(|error| blame(self.worker, self.key, error))
            .map_err(|error| match (fault.get(), error) {
                (Some(broken), _) => Failure::Caller(broken.into()),
                (None, error @ PeerError::Unfit(_)) => Failure::Unfit(reason::unavailable(error)),
                (None, error @ PeerError::Dial(DialError::OwnExpired { .. })) => {
                    Failure::Final(InvokeError::Hop(Box::new(reason::unavailable(error))))
                }
                (None, error @ (PeerError::Dial(_) | PeerError::Unsent(_))) => {
                    Failure::Unreachable(reason::unavailable(error))
                }
                (None, error @ (PeerError::Silent | PeerError::Lost(_))) => {
                    Failure::Lost(reason::unavailable(error))
                }
            })
    }
}

/// Tells the resolver what a failure says of the address.
pub(super) fn blame(worker: &Worker, key: &PeerKey, error: &PeerError) {
    let resolver = &worker.shared.resolver;
    match error {
        PeerError::Dial(DialError::OwnExpired { .. }) | PeerError::Unfit(_) => {}
        PeerError::Dial(
            DialError::Tcp { .. } | DialError::Tls { .. } | DialError::Preface { .. },
        ) => resolver.failed(&key.authority),
        PeerError::Unsent(_) | PeerError::Silent | PeerError::Lost(_) => {
            resolver.broke(&key.authority);
        }
    }
}

fn unavailable(cause: &str) -> Status {
    Status::unavailable(format!("error reading from server: {cause}"))
}

/// A status other than OK where a head was expected.
fn refused(headers: &HeaderMap) -> Result<(), Failure> {
    match grpc::status_in(headers) {
        Some(status) if status.code() != Code::Ok => Err(hop(status)),
        _ => Ok(()),
    }
}

/// The status at the end of a unary call: it must be there and be OK.
fn finished(trailers: &HeaderMap) -> Result<(), Failure> {
    if grpc::status_in(trailers).is_none() {
        return Err(Failure::Lost(unavailable("missing status")));
    }
    refused(trailers)
}

/// What a hop's status means: an unavailable or unauthenticated peer did nothing with the request.
fn hop(status: Status) -> Failure {
    if matches!(status.code(), Code::Unavailable | Code::Unauthenticated) {
        return Failure::Lost(status);
    }
    Failure::Final(InvokeError::Hop(Box::new(status)))
}

fn from_stream(error: BodyError, fault: &Fault) -> Failure {
    if let Some(broken) = fault.get() {
        return Failure::Caller(broken.into());
    }
    match error {
        BodyError::Peer { code, message } => hop(Status::new(code, message.as_ref())),
        BodyError::Connection(error) => {
            Failure::Lost(unavailable(&crate::peers::connection::cause_of(&error)))
        }
        BodyError::Cut => Failure::Lost(unavailable("EOF")),
        BodyError::TooLarge
        | BodyError::Sequence { .. }
        | BodyError::LateRequest
        | BodyError::LateResponse
        | BodyError::Malformed(_)
        | BodyError::MessageTooLarge { .. }
        | BodyError::Denied(_)
        | BodyError::SecondMessage
        | BodyError::Idle(_)
        | BodyError::Deadline => Failure::Final((&error).into()),
    }
}

fn take_data(response: &mut InternalInvokeResponse) -> Bytes {
    let data = response
        .message
        .as_mut()
        .and_then(|message| message.data.as_mut());
    data.map(|any| std::mem::take(&mut any.value))
        .unwrap_or_default()
}

/// A response message as a reply.
fn read(
    response: InternalInvokeResponse,
    body: Body,
    context: &CallContext,
) -> Result<Reply, Failure> {
    let malformed = |error: wire::MapError| Failure::Final(InvokeError::Body(error.to_string()));
    let InternalInvokeResponse {
        status,
        headers,
        trailers,
        message,
    } = response;
    let status = wire::app_status(status.unwrap_or_default());
    if let AppStatus::Http(code @ (..200 | 1000..)) = status {
        let text = format!("app answered with status {code}, which ends no request");
        return Err(Failure::Final(InvokeError::Body(text)));
    }
    if context.event_stream
        && !wire::is_stream_status(&status)
        && !matches!(status, AppStatus::Http(200..=299))
    {
        return Err(Failure::Final(InvokeError::NoStream));
    }
    let status = if context.event_stream {
        AppStatus::Http(200)
    } else {
        status
    };
    let InvokeResponse { data, content_type } = message.unwrap_or_default();
    let Any { type_url, .. } = data.unwrap_or_default();
    Ok(Reply {
        status,
        headers: wire::from_map(headers).map_err(malformed)?.headers,
        trailers: wire::from_map(trailers).map_err(malformed)?.headers,
        content_type: content_type.into(),
        type_url: type_url.into(),
        body,
    })
}
