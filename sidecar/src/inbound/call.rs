//! An invocation as a peer's sidecar sends it: decode, authorise, deliver, answer.
//!
//! The last place of this half that sees the generated types: `call/decode.rs` reads them, `call/answer.rs` writes
//! them. Owns service-invocation 4.2 on the callee's side. Stages 17 to 22.

use std::{pin::pin, sync::Arc};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use ironside_identity::VerifiedPeer;
use ironside_policy::Operation;
use ironside_proto::{
    common::StreamPayload,
    internals::{ApiVersion, InternalInvokeRequest},
};
use ironside_telemetry::{TraceState, span::keys};
use tonic::{Code, Status};

use super::{
    authorise::{Judged, authorise, caller},
    in_flight,
    unread::Room,
};
use crate::{
    body::{self, Body},
    channel::{self, AppChannel, ChannelError, http::EVENT_STREAM},
    decisions::{Asked, record::Protocol},
    invocation::{
        AppStatus, Invocation, Reply, bulk, chunks,
        context::CallContext,
        grpc, headers,
        stream::{Direction, Pieces},
        tally::caller_of,
        undelivered::{self, Cause},
    },
    live::Live,
    payload::Way,
    traces::attributes,
    worker::Worker,
};
use answer::{channel_status, refusal, streamed, whole};
use decode::{decode, leading, overrides, parsing, state_length};

mod answer;
mod decode;

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
        let (message, payload, room) = leading(&mut pieces, &worker.unread).await?;
        if let Some(StreamPayload { data, seq }) = payload {
            pieces
                .lead(data, seq)
                .map_err(|error| parsing(&error.to_string()))?;
        }
        let arrived = Arrived {
            message,
            body: pieces.boxed(),
            kind: Kind::Stream(room),
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
        bulk::check(&bytes, bulk::REQUEST)?;
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

/// What came from a peer.
struct Arrived {
    message: InternalInvokeRequest,
    body: Body,
    kind: Kind,
}

/// How it came.
enum Kind {
    /// As a stream, which may live for long: a new policy may end it. Its first message takes room until its caller is
    /// known to be allowed.
    Stream(Room),
    /// Whole: it takes room as long.
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
        Kind::Stream(room) => {
            drop(room);
            Some(in_flight::enter(worker, &live, peer, &asked)?)
        }
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
            Err(undelivered::marked(channel_status(&error), Cause::AppGone))
        }
        Err(error @ ChannelError::NotBegun { .. }) => Err(undelivered::marked(
            channel_status(&error),
            Cause::ConnectionClosed,
        )),
        Err(ChannelError::NoConnection(status)) if worker.shared.config.kubernetes.is_some() => {
            Err(undelivered::marked(*status, Cause::AppGone))
        }
        Err(ChannelError::NoConnection(status)) => Ok(channel::grpc::unreached(&status)),
        Err(error) => Err(channel_status(&error)),
    }
}

/// True for an HTTP app's 200-299.
fn is_success(reply: &Reply) -> bool {
    matches!(reply.status, AppStatus::Http(code) if (200..300).contains(&code))
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
