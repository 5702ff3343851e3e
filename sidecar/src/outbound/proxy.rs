//! gRPC proxying, the caller's half: any method of any service, to the app that the metadata names.
//!
//! Owns service-invocation 3 as the API port shows it. Messages pass untouched and unparsed, in all four stream
//! kinds; only their sizes are looked at. The callee's half is `inbound/proxy.rs`.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, header, request::Parts, uri::PathAndQuery};
use ironside_resolution::{Authority, Target, TargetError};
use tonic::Status;

use super::{
    Callee,
    plan::{self, Route},
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
    },
    worker::Worker,
};

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
    grpc::check_names(request.headers())?;
    let target = target(request.headers(), context.trace.is_on())?;
    let live = worker.shared.live();
    let unknown = |error: TargetError| Status::unknown(error.to_string());
    match plan::route(worker, &live, Target::parse(&target).map_err(unknown)?).map_err(unknown)? {
        Route::Local(_) => {
            inbound::proxy::deliver(worker, None, request, &context, inbound::proxy::Leg::Own).await
        }
        Route::Peer(callee) => remote(worker, &callee, request, &context).await,
        Route::Url(url) => Err(Status::unknown(format!("invalid app id {}", url.as_str()))),
        Route::Endpoint(_) => Err(Status::unknown(format!(
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
) -> Result<Response<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let asked = parts.headers.get(header::CONTENT_TYPE).cloned();
    let limit = worker.shared.config.max_message;
    let (body, fault) = Messages::request(body, limit);
    parts.headers.remove(APP_ID);
    parts.headers.remove(API_TOKEN);
    worker.stamp.proxied(&mut parts.headers, &callee.header);
    context.trace.to_proxied(&mut parts.headers);
    set_hop(&mut parts, worker, context);
    let response = send(worker, callee, parts, body, &fault).await?;
    let back = Back {
        limit,
        fault,
        entry: None,
    };
    Ok(answer(response, asked, back, context, worker))
}

/// Where the callee listens; asked and dialled once more if nobody is there (service-invocation 3, reconnect).
async fn find(worker: &Arc<Worker>, callee: &Callee) -> Result<Authority, Status> {
    let resolver = &worker.shared.resolver;
    let mut last = Status::unavailable("no connection");
    for _ in 0..2 {
        let authority = resolver
            .resolve(&callee.app_id, &callee.namespace)
            .await
            .map_err(|error| Status::unknown(error.to_string()))?;
        match worker.peers.ready(&callee.key(authority.clone())).await {
            Ok(()) => return Ok(authority),
            Err(error) => {
                resolver.failed(&authority);
                last = Status::unavailable(error.to_string());
            }
        }
    }
    Err(last)
}

/// Finds the peer and sends the call.
async fn send(
    worker: &Arc<Worker>,
    callee: &Callee,
    mut parts: Parts,
    body: Body,
    fault: &Fault,
) -> Result<Response<Body>, Status> {
    let resolver = &worker.shared.resolver;
    let authority = find(worker, callee).await?;
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or(PathAndQuery::from_static("/"));
    parts.uri = crate::channel::http::uri("http", authority.as_str(), path.as_str())
        .map_err(|error| Status::internal(error.to_string()))?;
    let key = callee.key(authority);
    let sent = worker
        .peers
        .send(&key, Request::from_parts(parts, body))
        .await;
    sent.map_err(|error| {
        if let Some(broken) = fault.get() {
            return messages::status_of(broken);
        }
        resolver.failed(&key.authority);
        Status::unavailable(error.to_string())
    })
}

/// Metadata that belongs to the next hop.
pub(crate) fn set_hop(parts: &mut Parts, worker: &Worker, context: &CallContext) {
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
    if let Some(deadline) = context.deadline {
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
    context: &CallContext,
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
    parts.extensions.clear();
    headers::strip_connection(&mut parts.headers);
    let left = context
        .deadline
        .map(|deadline| deadline.left(&worker.shared.clock));
    Response::from_parts(parts, Messages::response(body, back, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fact: service-invocation 3, golden 22; security K172.
    #[test]
    fn a_method_name_has_two_segments() {
        for (path, ok) in [
            ("/greet.G/Hi", true),
            ("/greet.G/..Hi", true),
            ("greet.G/Hi", false),
            ("//greet.G/Hi", false),
            ("/greet.G//Hi", false),
            ("/greet.G/Hi/", false),
            ("/greet.G/A/../Hi", false),
            ("/greet.G/./Hi", false),
            ("/greet.G/..", false),
            ("/../Hi", false),
            ("/a/b/Hi", false),
            ("/greet.G/", false),
            ("/greet.G", false),
            ("/", false),
            ("", false),
            ("*", false),
        ] {
            assert_eq!(check_path(path).is_ok(), ok, "{path}");
        }
        assert_eq!(
            check_path("/greet.G").unwrap_err().message(),
            r#"malformed method name: "/greet.G""#
        );
    }

    #[test]
    fn the_callee_key_wins_and_its_absence_is_said() {
        let mut headers = HeaderMap::new();
        assert_eq!(
            target(&headers, true).unwrap_err().message(),
            "cannot proxy request: missing dapr-callee-app-id or dapr-app-id metadata"
        );
        headers.insert(APP_ID, HeaderValue::from_static("a"));
        assert_eq!(target(&headers, true).unwrap().as_ref(), "a");
        headers.insert(CALLEE_APP_ID, HeaderValue::from_static("b"));
        assert_eq!(target(&headers, true).unwrap().as_ref(), "b");
    }
}
