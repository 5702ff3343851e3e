//! How the context of a call begins: its trace, its baggage, and the recording of its span.
//!
//! Owns what of the head each of the three kinds of requests brings with it, and the refusal of invalid baggage (E15).
//! What a trace header looks like is telemetry's business; when a span ends, that of [`Record`].

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, StatusCode, request::Parts};
use ironside_telemetry::{
    SpanId, TraceParent, baggage,
    span::{Kind, keys},
    without_user,
};
use tonic::Status;

use super::Record;
use crate::{
    api::{access::SERVICE, reply},
    body::Body,
    inbound::SERVICE as INTERNAL,
    invocation::{
        context::{CallContext, CallTrace, Source},
        headers::{APP_ID, BAGGAGE, CALLEE_APP_ID},
    },
    live::Live,
    middleware::ClientAddress,
    server::grpc::TASK_HUB,
    traces::{Queue, Recording, attributes, recording::Beginning},
    worker::Shared,
};

/// Trace and baggage of an HTTP request, told to its record.
///
/// # Errors
/// The answer to invalid baggage.
#[expect(clippy::result_large_err, reason = "the refusal is the answer itself")]
pub(in crate::server) fn http_context(
    shared: &Shared,
    live: &Live,
    head: &Parts,
    record: &mut Record,
) -> Result<CallContext, Response<Body>> {
    let path = head.uri.path();
    if path.contains("/healthz") {
        return Ok(CallContext::default());
    }
    let begun = context(&shared.spans, live, &head.headers, Source::Http, || {
        (path, Kind::Client)
    });
    let context = begun.map_err(|cause| {
        reply::plain(
            StatusCode::BAD_REQUEST,
            &format!("invalid baggage header: {cause}"),
        )
    })?;
    if let Some(span) = &context.span {
        let from = head.extensions.get::<ClientAddress>();
        attributes::http(span, head, from.map(|ClientAddress(from)| *from));
        record.span = Some(Arc::clone(span));
    }
    Ok(context)
}

/// Trace and baggage of a gRPC call, told to its record.
///
/// # Errors
/// The status for invalid baggage.
pub(in crate::server) fn grpc_context(
    shared: &Shared,
    live: &Live,
    head: &Parts,
    record: &mut Record,
) -> Result<CallContext, Status> {
    let path = head.uri.path();
    let is_own = path.starts_with(SERVICE);
    let kind = || {
        let named = [CALLEE_APP_ID, APP_ID];
        let named = named.iter().find_map(|name| head.headers.get(name));
        let own = shared.config.app_id.as_str();
        // A proxied call to the own app, and what workers ask of a workflow engine.
        let is_served = !is_own && named.is_some_and(|named| named == own);
        if is_served || path.starts_with(TASK_HUB) {
            Kind::Server
        } else {
            Kind::Client
        }
    };
    let begun = context(&shared.spans, live, &head.headers, Source::Grpc, || {
        (path, kind())
    });
    let context = begun
        .map_err(|cause| Status::invalid_argument(format!("invalid baggage header: {cause}")))?;
    if let Some(span) = &context.span {
        if is_own {
            attributes::grpc_api(span, path);
        } else {
            span.set(keys::RPC_SYSTEM, "grpc");
        }
        attributes::metadata(span, &head.headers);
        record.span = Some(Arc::clone(span));
    }
    Ok(context)
}

/// Trace of a call by another sidecar, told to its record; its baggage was checked where it came from.
pub(in crate::server) fn hop_context(
    shared: &Shared,
    live: &Live,
    head: &Parts,
    record: &mut Record,
) -> CallContext {
    let path = head.uri.path();
    let (trace, parent) = CallTrace::start(live.trace, &head.headers, Source::Sidecar);
    let span = begin(&shared.spans, live, &trace, parent, || (path, Kind::Server));
    if let Some(span) = &span {
        attributes::hop(span, path, &head.headers, path.starts_with(INTERNAL));
        record.span = Some(Arc::clone(span));
    }
    CallContext {
        trace,
        span,
        ..CallContext::default()
    }
}

/// With sampling rate 0 neither trace nor baggage is looked at (resiliency-observability 2.1).
pub(super) fn context<'a>(
    spans: &Arc<Queue>,
    live: &Live,
    headers: &HeaderMap,
    from: Source,
    about: impl FnOnce() -> (&'a str, Kind),
) -> Result<CallContext, baggage::BaggageError> {
    if !live.trace.is_installed() {
        return Ok(CallContext::default());
    }
    let baggage = baggage_of(headers)?;
    let (trace, parent) = CallTrace::start(live.trace, headers, from);
    let span = begin(spans, live, &trace, parent, about);
    Ok(CallContext {
        trace,
        span,
        baggage,
        ..CallContext::default()
    })
}

/// Baggage, valid and joined; nothing is made of none.
fn baggage_of(headers: &HeaderMap) -> Result<Option<HeaderValue>, baggage::BaggageError> {
    if !headers.contains_key(BAGGAGE) {
        return Ok(None);
    }
    let joined = baggage::validate(headers.get_all(BAGGAGE).iter().map(HeaderValue::as_bytes))?;
    // What was checked is text that a header may carry.
    let value = (!joined.is_empty()).then(|| joined.as_str().parse().ok());
    Ok(value.flatten())
}

/// The recording of a call, if it is sampled and somebody receives it.
fn begin<'a>(
    spans: &Arc<Queue>,
    live: &Live,
    trace: &CallTrace,
    parent: Option<TraceParent>,
    about: impl FnOnce() -> (&'a str, Kind),
) -> Option<Arc<Recording>> {
    let is_recorded = trace.has_span() && trace.span().is_sampled() && live.export.is_some();
    is_recorded.then(|| {
        let (name, kind) = about();
        let above = parent.map(|parent| parent.span_id);
        let beginning = Beginning {
            context: trace.span(),
            parent: above.filter(|id| *id != SpanId::default()),
            state: trace.state(),
            name: &without_user(name),
            kind,
        };
        Recording::begin(beginning, spans)
    })
}

/// Puts trace and baggage on the head of an own gRPC answer.
pub(in crate::server) fn tell_grpc_client(context: &CallContext, headers: &mut HeaderMap) {
    context.trace.to_hop_error(headers);
    if let Some(baggage) = &context.baggage {
        headers.insert(BAGGAGE, baggage.clone());
    }
}
