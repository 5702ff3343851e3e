//! An invocation as a peer's sidecar sends it: decode, authorise, deliver, answer.
//!
//! The last file of this half that sees the generated types. Owns service-invocation 4.2 on the callee's side
//! and its error texts. Stages 17 to 22.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use ironside_identity::VerifiedPeer;
use ironside_policy::{Method, OVERRIDE_HEADERS, Operation, Verb, VerbSet};
use ironside_proto::{
    common::{InvokeRequest, StreamPayload},
    google::protobuf::Any,
    internals::{ApiVersion, InternalInvokeRequest, InternalInvokeRequestStream},
};
use ironside_telemetry::{TraceState, span::keys};
use tonic::{Code, Status};

use super::{
    authorise::{Judged, authorise, caller},
    in_flight,
    unread::Room,
};
use crate::{
    body::{self, Body, BodyError},
    channel::{self, AppChannel, ChannelError, http::EVENT_STREAM},
    decisions::{Asked, record::Protocol},
    invocation::{
        AppStatus, Invocation, Length, Origin, Reply, chunks,
        context::CallContext,
        grpc, headers,
        stream::{Direction, Ending, Outgoing, Pieces},
        tally::caller_of,
        undelivered, wire,
    },
    live::Live,
    payload::Way,
    traces::attributes,
    worker::Worker,
};

/// Time that a peer has for its leading message.
const LEADING_LIMIT: Duration = Duration::from_secs(10);
/// Room for metadata above the message limit in one internal message, in bytes.
const HEAD_ROOM: usize = 4 * 1024 * 1024;

/// Serves `CallLocalStream`.
pub(crate) async fn stream(
    worker: &Arc<Worker>,
    peer: Option<&Arc<VerifiedPeer>>,
    request: Request<Body>,
    context: CallContext,
) -> Response<Body> {
    let trace = context.trace.clone();
    let work = async {
        let limit = worker.shared.config.max_message.max(chunks::MAX_PIECE) + HEAD_ROOM;
        let mut pieces = Pieces::new(request.into_body(), Direction::Request, limit);
        let (message, payload) = leading(&mut pieces).await?;
        if let Some(StreamPayload { data, seq }) = payload {
            pieces
                .lead(data, seq)
                .map_err(|error| parsing(&error.to_string()))?;
        }
        let arrived = Arrived {
            message,
            body: pieces.boxed(),
            kind: Kind::Stream,
        };
        let reply = invoke(worker, peer, arrived, context).await?;
        Ok(streamed(reply))
    };
    let result: Result<Response<Body>, Status> = work.await;
    result.unwrap_or_else(|status| refusal(&status, &trace))
}

/// Serves `CallLocal`.
pub(crate) async fn unary(
    worker: &Arc<Worker>,
    peer: Option<&Arc<VerifiedPeer>>,
    request: Request<Body>,
    context: CallContext,
) -> Response<Body> {
    let trace = context.trace.clone();
    let work = async {
        let limit = worker.shared.config.max_message;
        let body = request.into_body();
        let reading = worker.unread.read(body, limit.saturating_add(HEAD_ROOM));
        let (bytes, room) = match context.deadline {
            Some(deadline) => tokio::time::timeout(deadline.left(&worker.shared.clock), reading)
                .await
                .map_err(|_elapsed| Status::deadline_exceeded("context deadline exceeded"))?,
            None => reading.await,
        }?;
        let mut message: InternalInvokeRequest = grpc::decode(bytes)?;
        let data = message
            .message
            .as_mut()
            .and_then(|message| message.data.as_mut());
        let data = data
            .map(|any| std::mem::take(&mut any.value))
            .unwrap_or_default();
        state_length(&mut message, data.len());
        let arrived = Arrived {
            message,
            body: body::full(data),
            kind: Kind::Unary(room),
        };
        let reply = invoke(worker, peer, arrived, context).await?;
        whole(reply, limit, &trace).await
    };
    let result: Result<Response<Body>, Status> = work.await;
    result.unwrap_or_else(|status| refusal(&status, &trace))
}

/// A unary call knows its length, so the app is told (golden 25); what the caller wrote does not count.
fn state_length(message: &mut InternalInvokeRequest, length: usize) {
    let verb = message
        .message
        .as_ref()
        .and_then(|message| message.http_extension.as_ref())
        .map(|http| wire::verb_from_wire(http.verb));
    let bodiless = matches!(
        verb,
        Some(Verb::Get | Verb::Head | Verb::Delete | Verb::Options)
    );
    let metadata = &mut message.metadata;
    let stated = metadata.len();
    metadata.retain(|key, _| !key.eq_ignore_ascii_case("content-length"));
    let stated = metadata.len() < stated;
    if length > 0 || stated || !bodiless {
        let values = vec![length.to_string()];
        metadata.insert(
            "content-length".to_owned(),
            ironside_proto::internals::ListStringValue { values },
        );
    }
}

async fn leading(
    pieces: &mut Pieces,
) -> Result<(InternalInvokeRequest, Option<StreamPayload>), Status> {
    const MISSING: &str = "request does not contain the required fields in the leading chunk";
    let leading = tokio::time::timeout(LEADING_LIMIT, pieces.leading())
        .await
        .map_err(|_elapsed| Status::deadline_exceeded("no leading message within 10 s"))?
        .map_err(|error| parsing(&error.to_string()))?;
    let Some(leading) = leading else {
        return Err(Status::unknown("EOF"));
    };
    let InternalInvokeRequestStream { request, payload } =
        grpc::decode(leading).map_err(|status| parsing(status.message()))?;
    match request {
        Some(request) if !request.metadata.is_empty() && request.message.is_some() => {
            Ok((request, payload))
        }
        _ => Err(parsing(MISSING)),
    }
}

fn parsing(text: &str) -> Status {
    Status::invalid_argument(format!("parsing InternalInvokeRequest error: {text}"))
}

/// What came from a peer.
struct Arrived {
    message: InternalInvokeRequest,
    body: Body,
    kind: Kind,
}

/// How it came.
enum Kind {
    /// As a stream, which may live for long: a new policy may end it.
    Stream,
    /// Whole: it takes room until its caller is known to be allowed.
    Unary(Room),
}

async fn invoke(
    worker: &Arc<Worker>,
    peer: Option<&Arc<VerifiedPeer>>,
    arrived: Arrived,
    mut context: CallContext,
) -> Result<Reply, Status> {
    let Arrived {
        message,
        body,
        kind,
    } = arrived;
    let Some(app) = &worker.app else {
        return Err(Status::internal("app channel is not initialized"));
    };
    let version = message.ver;
    let (mut call, raw) = decode(message, body, app)?;
    if let Some(span) = &context.span {
        let own = worker.shared.config.app_id.as_str();
        attributes::arrived(span, own, call.method.as_str());
        let state = call.headers.get(headers::TRACESTATE);
        let state = state.and_then(|state| TraceState::parse(state.to_str().ok()?));
        if let Some(state) = state {
            span.state(&state);
        }
    }
    let asked = Asked {
        caller: caller(peer.map(Arc::as_ref)),
        operation: Operation {
            overrides: overrides(&call.headers),
            ..Operation::invoke(call.method.as_str(), call.verb)
        },
        raw: &raw,
        protocol: if app.is_http() {
            Protocol::Http
        } else {
            Protocol::Grpc
        },
        trace: context.trace.id(),
    };
    // The rules of now: the caller chose when its last byte came.
    let live = worker.shared.live();
    authorise(&worker.decisions, &live, &asked)?;
    if let Err(busy) = super::rate(worker, &live, peer.map(Arc::as_ref)) {
        return Ok(busy.reply(app.is_http()));
    }
    let mut entry = match kind {
        Kind::Stream => Some(in_flight::enter(worker, &live, peer, &asked)?),
        Kind::Unary(room) => {
            drop(room);
            None
        }
    };
    context.judged = Some(Judged {
        peer: peer.cloned(),
        overrides: asked.operation.overrides,
        protocol: asked.protocol,
        worker: Arc::clone(worker),
        call: entry.as_ref().map(|entry| Arc::clone(entry.call())),
    });
    if version != ApiVersion::V1 as i32 {
        return Err(channel_status(&ChannelError::Version(version)));
    }
    if let Some(peer) = peer {
        name_caller(&mut call.headers, peer);
    }
    let metrics = &worker.shared.metrics;
    let caller = caller_of(&call.headers);
    metrics.invocation_received(&caller);
    if let Some(entry) = &entry {
        call.body = entry.upload(call.body.into_inner()).into();
    }
    let span = context.span.clone();
    let work = pin!(deliver(worker, app, call, &mut context, &live));
    let result = match &mut entry {
        Some(entry) => entry.during(work).await,
        None => work.await,
    };
    let status = result
        .as_ref()
        .map_or(Code::Internal as i32, |reply| reply.status.number());
    metrics.invocation_replied(&caller, status);
    if let (Some(span), Ok(reply)) = (&span, &result)
        && let AppStatus::Http(code) = reply.status
    {
        span.set(keys::HTTP_STATUS, &code.to_string());
    }
    let mut reply = result?;
    if let Some(entry) = entry {
        reply.body = entry.answer(reply.body);
    }
    Ok(reply)
}

/// Hands the call to the app, for as long as the caller waits.
async fn deliver(
    worker: &Worker,
    app: &AppChannel,
    mut call: Invocation,
    context: &mut CallContext,
    live: &Live,
) -> Result<Reply, Status> {
    context.event_stream = call.headers.get(header::ACCEPT).is_some_and(|value| {
        value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(EVENT_STREAM.as_bytes())
    });
    context.trace.take_from(&mut call.headers);
    let told = worker.shared.config.payloads.as_ref().map(|payloads| {
        payloads.request(Way::Inbound, &mut call);
        (payloads, call.method.clone())
    });
    let work = app.deliver(call, context, live, &worker.shared.admission);
    let result = match context.deadline {
        Some(deadline) => tokio::time::timeout(deadline.left(&worker.shared.clock), work)
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("context deadline exceeded"))?,
        None => work.await,
    };
    let result = result.map(|reply| match told {
        Some((payloads, method)) => payloads.reply(Way::Inbound, method.as_str(), reply),
        None => reply,
    });
    match result {
        Ok(reply) if context.event_stream && !is_success(&reply) => {
            Err(channel_status(&ChannelError::NoStream))
        }
        Ok(reply) => Ok(reply),
        Err(error @ ChannelError::Unreached { .. })
            if worker.shared.config.kubernetes.is_some() =>
        {
            Err(undelivered::marked(channel_status(&error)))
        }
        Err(ChannelError::NoConnection(status)) if worker.shared.config.kubernetes.is_some() => {
            Err(undelivered::marked(*status))
        }
        Err(ChannelError::NoConnection(status)) => Ok(channel::grpc::unreached(&status)),
        Err(error) => Err(channel_status(&error)),
    }
}

/// True for an HTTP app's 200-299.
fn is_success(reply: &Reply) -> bool {
    matches!(reply.status, AppStatus::Http(code) if (200..300).contains(&code))
}

/// Wire to invocation, and the path as it was written.
fn decode(
    message: InternalInvokeRequest,
    body: Body,
    app: &AppChannel,
) -> Result<(Invocation, String), Status> {
    let InternalInvokeRequest {
        ver: _,
        metadata,
        message,
        actor: _,
    } = message;
    let InvokeRequest {
        method: raw,
        data,
        content_type,
        http_extension,
    } = message.unwrap_or_default();
    let Any { type_url, .. } = data.unwrap_or_default();
    let method = Method::parse(&raw)
        .map_err(|error| Status::invalid_argument(format!("invalid method: {error}")))?;
    let wire::Mapped {
        mut headers,
        pseudo,
        canonical,
    } = wire::from_map(metadata).map_err(|error| Status::invalid_argument(error.to_string()))?;
    headers.remove(headers::API_TOKEN);
    headers.remove(headers::APP_ID);
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map_or(Length::Streaming, Length::Fixed);
    let verb = http_extension
        .as_ref()
        .map_or(Verb::None, |extension| wire::verb_from_wire(extension.verb));
    let origin = if canonical {
        Origin::Http
    } else {
        Origin::Grpc
    };
    if !app.is_http() && origin == Origin::Grpc {
        headers.remove(header::CONTENT_LENGTH);
    }
    let call = Invocation {
        method,
        verb,
        has_http: http_extension.is_some(),
        query: http_extension
            .map(|extension| extension.querystring)
            .unwrap_or_default()
            .into(),
        origin,
        headers,
        pseudo,
        content_type: content_type.into(),
        type_url: type_url.into(),
        length,
        body: body.into(),
    };
    Ok((call, raw))
}

/// Verbs that the app may take the request for (fact O-A4).
fn overrides(headers: &HeaderMap) -> VerbSet {
    let values = OVERRIDE_HEADERS.iter();
    let values = values.flat_map(|name| headers.get_all(*name));
    VerbSet::overrides(values.filter_map(|value| value.to_str().ok()))
}

/// Who calls is what the certificate says, whatever the message does (O-C9).
pub(crate) fn name_caller(headers: &mut HeaderMap, peer: &VerifiedPeer) {
    let callee = headers.remove(headers::CALLEE_APP_ID);
    headers::take_identity(headers);
    if let Some(callee) = callee {
        headers.insert(headers::CALLEE_APP_ID, callee);
    }
    for (name, text) in [
        (headers::CALLER_APP_ID, peer.id.app_id().as_str()),
        (headers::CALLER_NAMESPACE, peer.id.namespace().as_str()),
    ] {
        // A SPIFFE ID's segments are plain ASCII.
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
}

fn channel_status(error: &ChannelError) -> Status {
    if let ChannelError::Denied(status) = error {
        return Status::clone(status);
    }
    if matches!(error, ChannelError::Body(BodyError::MessageTooLarge { .. })) {
        return Status::resource_exhausted(error.to_string());
    }
    Status::internal(format!("error invoking app channel: {error}"))
}

/// A refusal: headers with our span, then the status.
fn refusal(status: &Status, trace: &crate::invocation::context::CallTrace) -> Response<Body> {
    let mut headers = HeaderMap::new();
    trace.to_hop_error(&mut headers);
    undelivered::mark(&mut headers, status);
    grpc::answer(headers, None, status, HeaderMap::new())
}

/// A reply as an internal stream.
fn streamed(reply: Reply) -> Response<Body> {
    let Reply {
        status,
        headers,
        trailers,
        content_type,
        type_url,
        body,
    } = reply;
    let message = wire::response(
        &status,
        &headers,
        &trailers,
        &content_type,
        &type_url,
        Bytes::new(),
    );
    let (outgoing, _fault) = Outgoing::new(&message, body, Ending::Response);
    let mut response = Response::new(outgoing.boxed());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, grpc::CONTENT_TYPE);
    response
}

/// A reply as one message.
async fn whole(
    reply: Reply,
    limit: usize,
    trace: &crate::invocation::context::CallTrace,
) -> Result<Response<Body>, Status> {
    let Reply {
        status,
        headers,
        trailers,
        content_type,
        type_url,
        body,
    } = reply;
    let data = http_body_util::Limited::new(body, limit)
        .collect()
        .await
        .map_err(|error| match error.downcast_ref::<BodyError>() {
            Some(broken) => channel_status(&ChannelError::NoAnswer(broken.to_string().into())),
            None => {
                Status::resource_exhausted(format!("response body is larger than {limit} bytes"))
            }
        })?;
    let data = match &status {
        AppStatus::Grpc { code, .. } if *code != Code::Ok => Bytes::new(),
        AppStatus::Grpc { .. } | AppStatus::Http(_) => data.to_bytes(),
    };
    let message = wire::response(&status, &headers, &trailers, &content_type, &type_url, data);
    let mut initial = HeaderMap::new();
    trace.to_hop_error(&mut initial);
    Ok(grpc::answer(
        initial,
        Some(chunks::message(&message)),
        &Status::new(Code::Ok, ""),
        HeaderMap::new(),
    ))
}
