//! gRPC proxying, the callee's half: a call to the own app over its gRPC listener.
//!
//! Owns the local leg of service-invocation 3. The app gets the path that policy judged: another spelling of it is
//! refused, where the reference judges the cleaned one and hands on the raw one. App health and concurrency are not
//! asked, as in the reference.

use std::{pin::pin, sync::Arc};

use http::{Request, Response, header, uri::PathAndQuery};
use ironside_identity::VerifiedPeer;
use ironside_policy::{Caller, Method, Operation};
use ironside_resolution::Target;
use tonic::{Code, Status};

use super::{
    authorise::{authorise, caller, refused_relay},
    call::name_caller,
    in_flight,
};
use crate::{
    body::Body,
    channel::{
        busy::Busy,
        grpc::{Reach, preface_text},
        http::set_token,
    },
    decisions::{Asked, record::Protocol},
    invocation::{
        context::CallContext,
        grpc,
        headers::{self, API_TOKEN, APP_ID, BAGGAGE},
        messages::{Back, Messages, status_of},
        tally::Tally,
        undelivered::{self, Cause},
    },
    outbound::{
        plan::{self, Route},
        proxy as outbound,
    },
    peers::connection::NOT_HTTP2,
    worker::Worker,
};

/// Whose call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leg {
    /// The own app's, through the API port.
    Own,
    /// A peer's.
    Peer,
}

/// Serves one proxied call of the internal port.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    peer: Option<&Arc<VerifiedPeer>>,
    request: Request<Body>,
    context: CallContext,
) -> Response<Body> {
    let baggage = request.headers().get(BAGGAGE).cloned();
    let work = |context: CallContext| async move {
        outbound::check_path(request.uri().path())?;
        not_reflection(&request)?;
        addressed_to_us(worker, peer, &request, &context)?;
        deliver(worker, peer, request, &context, Leg::Peer).await
    };
    match outbound::bounded(worker, context, work).await {
        Ok(mut response) => {
            if let Some(baggage) = baggage {
                response.headers_mut().append(BAGGAGE, baggage);
            }
            response
        }
        Err(status) => grpc::error(&status),
    }
}

/// A peer that asks this sidecar for its services, and not an app for its own, learns nothing (O-C11, K166).
fn not_reflection(request: &Request<Body>) -> Result<(), Status> {
    let is_addressed = [APP_ID, headers::CALLEE_APP_ID]
        .iter()
        .any(|name| request.headers().contains_key(name));
    let path = request.uri().path();
    if !is_addressed && path.starts_with("/grpc.reflection.") {
        return Err(Status::unimplemented(format!(
            "{path} is not offered: reflection is on the API port only"
        )));
    }
    Ok(())
}

/// This port relays nothing: the callee must be the own app (O-C11).
fn addressed_to_us(
    worker: &Worker,
    peer: Option<&Arc<VerifiedPeer>>,
    request: &Request<Body>,
    context: &CallContext,
) -> Result<(), Status> {
    let named = outbound::target(request.headers(), context.trace.is_on())?;
    let target = Target::parse(&named).map_err(|error| Status::unknown(error.to_string()))?;
    let live = worker.shared.live();
    match plan::route(worker, &live, target) {
        Ok(Route::Local(_)) => Ok(()),
        _ => {
            let path = request.uri().path();
            let asked = Asked {
                caller: caller(peer.map(Arc::as_ref)),
                operation: Operation::proxied(path),
                raw: path,
                protocol: Protocol::Proxy,
                trace: context.trace.id(),
            };
            refused_relay(&worker.decisions, &live, &asked);
            Err(Status::permission_denied(format!(
                "this sidecar serves app {} only and relays no calls: {named} was asked for",
                worker.shared.config.app_id
            )))
        }
    }
}

/// Hands a call to the own app.
///
/// # Errors
/// The status that the caller gets instead of the app's answer.
pub(crate) async fn deliver(
    worker: &Arc<Worker>,
    peer: Option<&Arc<VerifiedPeer>>,
    request: Request<Body>,
    context: &CallContext,
    leg: Leg,
) -> Result<Response<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let method = Method::parse(parts.uri.path())
        .map_err(|error| Status::invalid_argument(format!("invalid method: {error}")))?;
    let live = worker.shared.live();
    let asks = match leg {
        Leg::Own => Caller::Own,
        Leg::Peer => caller(peer.map(Arc::as_ref)),
    };
    let asked = Asked {
        caller: asks,
        operation: Operation::proxied(method.as_str()),
        raw: parts.uri.path(),
        protocol: Protocol::Proxy,
        trace: context.trace.id(),
    };
    authorise(&worker.decisions, &live, &asked)?;
    if leg == Leg::Peer {
        super::rate(worker, &live, peer.map(Arc::as_ref)).map_err(Busy::status)?;
    }
    // Before anything reads them: what a peer with a certificate says of itself does not count.
    match (leg, peer) {
        (Leg::Own, _) => headers::take_identity(&mut parts.headers),
        (Leg::Peer, Some(peer)) => {
            name_caller(&mut parts.headers, peer);
            parts.headers.remove(headers::CALLER_NAMESPACE);
        }
        (Leg::Peer, None) => {}
    }
    let mut tally = match leg {
        Leg::Own => None,
        Leg::Peer => Some(Tally::received(&worker.shared, &parts.headers)),
    };
    let mut entry = match leg {
        Leg::Own => None,
        Leg::Peer => Some(in_flight::enter(worker, &live, peer, &asked)?),
    };
    let Some(app) = &worker.app else {
        return Err(Status::internal("app channel is not initialized"));
    };
    let asked = parts.headers.get(header::CONTENT_TYPE).cloned();
    parts.headers.remove(APP_ID);
    parts.headers.remove(API_TOKEN);
    // A call to the own app has no hop: its headers are the caller's where this sidecar has no span.
    if leg == Leg::Peer || context.trace.has_span() {
        context.trace.take_from(&mut parts.headers);
        context.trace.to_grpc(&mut parts.headers);
    }
    if let Some(token) = app.proxy.token() {
        set_token(&mut parts.headers, token);
    }
    outbound::set_hop(&mut parts, worker, context.deadline);
    let authority = app
        .proxy
        .authority()
        .map_or("app", |authority| authority.as_str());
    let path: PathAndQuery = method
        .as_str()
        .parse()
        .map_err(|_invalid| Status::invalid_argument(format!("invalid method: {method}")))?;
    parts.uri = crate::channel::http::uri("http", authority, path.as_str())
        .map_err(|error| Status::internal(error.to_string()))?;
    let limit = worker.shared.config.max_message;
    let body = match &entry {
        Some(entry) => entry.upload(body),
        None => body,
    };
    let (body, fault) = Messages::request(body, limit);
    let is_told = leg == Leg::Peer && worker.shared.config.kubernetes.is_some();
    let work = pin!(async {
        let sent = app.proxy.send(Request::from_parts(parts, body)).await;
        sent.map_err(|failed| {
            let status = no_http2(failed.status);
            if failed.reach == Reach::Gone && is_told {
                undelivered::marked(status, Cause::AppGone)
            } else {
                status
            }
        })
    });
    let sent = match &mut entry {
        Some(entry) => entry.during(work).await,
        None => work.await,
    };
    let sent = sent.map_err(|status| match fault.get() {
        Some(broken) => status_of(broken),
        None => status,
    });
    if let Some(tally) = &mut tally {
        match &sent {
            Ok(response) => tally.heard(response.headers()),
            Err(status) => tally.ends(status.code()),
        }
    }
    let response = sent?;
    let back = Back {
        limit,
        fault,
        entry,
        tally,
    };
    Ok(outbound::answer(
        response,
        asked,
        back,
        context.deadline,
        worker,
    ))
}

/// An app that answers HTTP/1.1 to HTTP/2 gets the reference's text (golden 22).
fn no_http2(status: Status) -> Status {
    if status.code() == Code::Unavailable && status.message().contains(NOT_HTTP2) {
        return Status::unavailable(preface_text(
            "http2: failed reading the frame payload: http2: frame too large, note that the frame header looked like an HTTP/1.1 header",
        ));
    }
    status
}
