//! gRPC proxying, the caller's half: any method of any service, to the app that the metadata names.
//!
//! Owns service-invocation 3 as the API port shows it. Messages pass untouched and unparsed, in all four stream
//! kinds; only their sizes are looked at. What the callee's app knows nothing of goes to another replica: its first
//! bytes are kept until the answer begins. Streams are `proxy/stream.rs`, other calls `proxy/whole.rs`; the callee's
//! half is `inbound/proxy.rs`.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, header, request::Parts, uri::PathAndQuery};
use ironside_resiliency::{Target as Policies, attempts, outcome::Path};
use ironside_resolution::{Target, TargetError};
use ironside_telemetry::{span::keys, without_user};
use tonic::Status;

use super::{
    Callee,
    guard::{self, Course, Failure, reason::unavailable, ways, ways::Place},
    idle::Idle,
    plan::{self, Route},
    replicas::Choice,
    send,
};
use crate::{
    body::Body,
    inbound,
    invocation::{
        context::{CallContext, Deadline},
        grpc,
        headers::{self, API_TOKEN, APP_ID, BAGGAGE, CALLEE_APP_ID},
        messages::{self, Back, Messages},
        stream::Fault,
        undelivered::{self, Cause},
    },
    live::Live,
    peers::{PeerError, PeerKey},
    worker::Worker,
};

mod stream;
#[cfg(test)]
mod tests;
mod whole;

/// Serves one call of the API port that no service of ours knows.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    request: Request<Body>,
    mut context: CallContext,
) -> Response<Body> {
    context.deadline =
        grpc::timeout(request.headers()).map(|left| Deadline::after(left, &worker.shared.clock));
    let baggage = context.baggage.clone();
    match bounded(worker, context, |context| forward(worker, request, context)).await {
        Ok(mut response) => {
            if let Some(baggage) = baggage {
                response.headers_mut().append(BAGGAGE, baggage);
            }
            response
        }
        Err(status) => grpc::error(&status),
    }
}

/// Runs a call for as long as its caller waits.
pub(crate) async fn bounded<F>(
    worker: &Worker,
    context: CallContext,
    call: impl FnOnce(CallContext) -> F,
) -> Result<Response<Body>, Status>
where
    F: Future<Output = Result<Response<Body>, Status>>,
{
    match context.deadline {
        Some(deadline) => tokio::time::timeout(deadline.left(&worker.shared.clock), call(context))
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("context deadline exceeded"))?,
        None => call(context).await,
    }
}

async fn forward(
    worker: &Arc<Worker>,
    request: Request<Body>,
    context: CallContext,
) -> Result<Response<Body>, Status> {
    check_path(request.uri().path())?;
    grpc::check_values(request.headers())?;
    let target = target(request.headers(), context.trace.is_on())?;
    if let Some(span) = &context.span {
        span.set(keys::SERVER_ADDRESS, &without_user(&target));
    }
    let live = worker.shared.live();
    let unknown = |error: TargetError| Status::unknown(error.to_string());
    match plan::route(worker, &live, Target::parse(&target).map_err(unknown)?).map_err(unknown)? {
        Route::Local(_) => {
            inbound::proxy::deliver(worker, None, request, &context, inbound::proxy::Leg::Own).await
        }
        Route::Peer(callee) => remote(worker, &callee, request, &context, &live).await,
        Route::Url(url) => Err(Status::unknown(format!("invalid app id {}", url.as_str()))),
        Route::Endpoint(..) => Err(Status::unknown(format!(
            "{target} is an HTTPEndpoint: gRPC calls go to apps"
        ))),
    }
}

/// The app that the metadata names.
pub(crate) fn target(headers: &HeaderMap, tracing: bool) -> Result<Box<str>, Status> {
    let named = headers.get(CALLEE_APP_ID).or_else(|| headers.get(APP_ID));
    let Some(named) = named else {
        return Err(Status::unknown(if tracing {
            "cannot proxy request: missing dapr-callee-app-id or dapr-app-id metadata"
        } else {
            "failed to proxy request: required metadata dapr-callee-app-id or dapr-app-id not found"
        }));
    };
    Ok(String::from_utf8_lossy(named.as_bytes()).into())
}

/// A method name has a service and a method, in the one spelling that policy judges (security B15, B16).
pub(crate) fn check_path(path: &str) -> Result<(), Status> {
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains('/');
    match path.strip_prefix('/').and_then(|rest| rest.split_once('/')) {
        Some((service, method)) if segment(service) && segment(method) => Ok(()),
        Some(_) | None => Err(Status::unimplemented(format!(
            "malformed method name: {path:?}"
        ))),
    }
}

async fn remote(
    worker: &Arc<Worker>,
    callee: &Callee,
    request: Request<Body>,
    context: &CallContext,
    live: &Live,
) -> Result<Response<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let asked = parts.headers.get(header::CONTENT_TYPE).cloned();
    let is_stream = stream::is_declared_stream(&parts.headers);
    let target = live.resiliency.target(ways::id_of(callee));
    let choice = ways::choice(&target, &parts.headers);
    parts.headers.remove(APP_ID);
    parts.headers.remove(API_TOKEN);
    worker.stamp.proxied(&mut parts.headers, &callee.header);
    context.trace.take_from(&mut parts.headers);
    context.trace.to_grpc(&mut parts.headers);
    // An app that nobody knows fails at once, without any policy (resiliency-observability 1.9).
    let resolver = &worker.shared.resolver;
    if resolver.known(&callee.app_id, &callee.namespace).is_none() {
        let found = resolver.resolve(&callee.app_id, &callee.namespace).await;
        found.map_err(|error| Status::unknown(error.to_string()))?;
    }
    let call = Call {
        worker,
        callee,
        target,
        choice,
        context,
    };
    if is_stream {
        call.stream(parts, body, asked).await
    } else {
        call.whole(parts, body, asked).await
    }
}

/// A call that goes to another sidecar.
struct Call<'a> {
    worker: &'a Arc<Worker>,
    callee: &'a Callee,
    target: Arc<Policies>,
    choice: Choice,
    context: &'a CallContext,
}

// === impl Call ===

impl Call<'_> {
    fn course(&self, parts: &Parts, body: attempts::Body) -> Course {
        let method = parts.uri.path();
        let plan = guard::Plan {
            target: Arc::clone(&self.target),
            method,
            key: method,
            joint: ":",
            path: Path::Proxy,
            route: attempts::Route::Peer,
            verb: None,
            body,
        };
        Course::begin(&self.worker.shared, plan, self.context)
    }

    /// An address, with a connection that proved who is there; asked and dialled once more if nobody is
    /// (service-invocation 3, reconnect).
    async fn open(&self, place: &mut Place) -> Result<PeerKey, Failure> {
        let resolver = &self.worker.shared.resolver;
        let mut last = Status::unavailable("no connection");
        for _ in 0..2 {
            let authority = match place.pick(self.worker, self.callee) {
                Some(authority) => authority,
                None => {
                    let found = resolver
                        .resolve(&self.callee.app_id, &self.callee.namespace)
                        .await
                        .map_err(Failure::Unresolved)?;
                    let picked = place.pick(self.worker, self.callee);
                    picked.unwrap_or(found)
                }
            };
            let key = self.callee.key(authority);
            match self.worker.peers.ready(&key).await {
                Ok(()) => return Ok(key),
                Err(error) => {
                    let error = PeerError::Dial(error);
                    send::blame(self.worker, &key, &error);
                    last = unavailable(error);
                }
            }
            if place.has_other() {
                break;
            }
        }
        Err(Failure::Unreachable(last))
    }

    async fn send(
        &self,
        key: &PeerKey,
        mut parts: Parts,
        body: Body,
        until: Option<Deadline>,
    ) -> Result<Response<Body>, Failure> {
        let path = parts.uri.path_and_query().cloned();
        let path = path.unwrap_or(PathAndQuery::from_static("/"));
        parts.uri = crate::channel::http::uri("http", key.authority.as_str(), path.as_str())?;
        set_hop(&mut parts, self.worker, until);
        let request = Request::from_parts(parts, body);
        let mut response = match self.worker.peers.send(key, request).await {
            Ok(response) => response,
            Err(error) => {
                send::blame(self.worker, key, &error);
                return Err(match error {
                    PeerError::Dial(_) | PeerError::Unsent(_) => {
                        Failure::Unreachable(unavailable(error))
                    }
                    PeerError::Silent | PeerError::Lost(_) => Failure::Lost(unavailable(error)),
                    PeerError::Unfit(_) => Failure::Unfit(unavailable(error)),
                });
            }
        };
        if let Some(cause) = undelivered::take(response.headers_mut())
            && let Some(status) = grpc::status_in(response.headers())
        {
            return Err(match cause {
                Cause::ConnectionClosed => Failure::NotBegun(status),
                Cause::AppGone => {
                    let shared = &self.worker.shared;
                    shared.resolver.broke(&key.authority);
                    shared.fleet.left_by(self.callee, &key.authority);
                    Failure::Unreachable(status)
                }
            });
        }
        Ok(response)
    }
}

/// The work, unless nothing passes for too long meanwhile.
async fn unless_quiet<T>(
    idle: Option<&Idle>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match idle {
        Some(idle) => match idle.during(work).await {
            Ok(done) => done,
            Err(quiet) => Err(Failure::Idle(messages::status_of(&quiet))),
        },
        None => work.await,
    }
}

/// The status of a failure, or of what broke the request.
fn status_of(failure: Failure, fault: &Fault) -> Status {
    match fault.get() {
        Some(broken) => messages::status_of(broken),
        None => failure.status(),
    }
}

/// Metadata that belongs to the next hop.
pub(crate) fn set_hop(parts: &mut Parts, worker: &Worker, deadline: Option<Deadline>) {
    let headers = &mut parts.headers;
    if headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|value| value == grpc::CONTENT_TYPE)
    {
        headers.insert(header::CONTENT_TYPE, grpc::CONTENT_TYPE_PROTO);
    }
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::HOST);
    if let Some(deadline) = deadline {
        headers.insert(
            "grpc-timeout",
            grpc::timeout_value(deadline.left(&worker.shared.clock)),
        );
    }
    parts.version = http::Version::HTTP_2;
    parts.extensions.clear();
}

/// A peer's or an app's answer as the caller gets it.
pub(crate) fn answer(
    response: Response<Body>,
    asked: Option<HeaderValue>,
    back: Back,
    deadline: Option<Deadline>,
    worker: &Worker,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    // The caller hears the subtype that it speaks.
    if parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
        && let Some(asked) = asked
    {
        parts.headers.insert(header::CONTENT_TYPE, asked);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    // A word between sidecars, whoever says it.
    undelivered::take(&mut parts.headers);
    parts.extensions.clear();
    headers::strip_connection(&mut parts.headers);
    let left = deadline.map(|deadline| deadline.left(&worker.shared.clock));
    Response::from_parts(parts, Messages::response(body, back, left))
}
