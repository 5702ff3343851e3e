//! The HTTP API: one request, stage by stage.
//!
//! Reads as the list of service-invocation 1.2: `limit`, `observe`, `cors`, `authenticate`, `pipeline`,
//! `access_log`, then the route. Plain functions, each wrapping the next, so that the whole way is one future
//! without boxed layers (decision 0002). Refuses to own any stage: each has its file.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::{
    access_log, api_token,
    conn::Streams,
    limit,
    observe::{self, Observed, Record},
};
use crate::{
    api::{Route, blocks::BlockCall, decisions, health, metadata, reply, routing_path},
    body::{self, Body},
    invocation::context::CallContext,
    live::Live,
    middleware::ClientAddress,
    outbound,
    worker::{Shared, Worker},
};

/// Largest value that is kept by `PUT /v1.0/metadata/{key}`, and largest body a refused block looks at.
const SMALL_BODY: usize = 4 << 20;

/// Answers one request of the API port.
pub(crate) async fn handle(
    worker: Arc<Worker>,
    from: Option<SocketAddr>,
    streams: Arc<Streams>,
    request: Request<Incoming>,
) -> Result<Response<Observed>, Infallible> {
    let open = streams.open();
    let config = &worker.shared.config;
    let (mut head, incoming) = request.into_parts();
    if limit::head_too_large(&head, config.read_buffer) {
        return Ok(Observed::unrecorded(
            limit::head_refused(head.version),
            open,
        ));
    }
    let body = limit::bounded(incoming, config.max_body);
    let mut record = Record::http(&worker.shared, &head, open);
    if let Some(address) = from {
        head.extensions.insert(ClientAddress(address));
    }
    let live = worker.shared.live();
    let response = observed(&worker, &live, head, body, &mut record).await;
    Ok(record.finish(response))
}

/// Stage 3: trace and baggage, on every answer.
async fn observed(
    worker: &Arc<Worker>,
    live: &Live,
    head: Parts,
    body: Body,
    record: &mut Record,
) -> Response<Body> {
    let context = match observe::http_context(&worker.shared, live, &head, record) {
        Ok(context) => context,
        Err(refusal) => return refusal,
    };
    let response = cors(worker, live, head, body, context.clone()).await;
    outbound::http::finish(response, &context)
}

/// Stage 4.
async fn cors(
    worker: &Arc<Worker>,
    live: &Live,
    head: Parts,
    body: Body,
    context: CallContext,
) -> Response<Body> {
    if let Some(answer) = live.cors.preflight(&head) {
        return answer;
    }
    let origin = live.cors.origin(&head.headers);
    let mut response = authenticated(worker, live, head, body, context).await;
    origin.mark(response.headers_mut());
    response
}

/// Stage 5.
async fn authenticated(
    worker: &Arc<Worker>,
    live: &Live,
    mut head: Parts,
    body: Body,
    context: CallContext,
) -> Response<Body> {
    let token = worker.shared.config.api_token.as_ref();
    if token.is_some()
        && !api_token::is_exempt(&head.method, head.uri.path())
        && api_token::authenticate(token, &mut head.headers).is_err()
    {
        return reply::plain(StatusCode::UNAUTHORIZED, "invalid api token");
    }
    piped(worker, live, head, body, context).await
}

/// Stage 6. The route is that of the path as it came in: a handler changes what an invocation reads, not
/// which API answers.
async fn piped(
    worker: &Arc<Worker>,
    live: &Live,
    mut head: Parts,
    body: Body,
    context: CallContext,
) -> Response<Body> {
    let method = head.method.clone();
    let came_in = head.uri.clone();
    let path = routing_path(came_in.path());
    let route = Route::find(&method, &path, &live.api);
    if live.http_pipeline.is_empty() {
        return logged(worker, live, route, head, body, context).await;
    }
    if let Err(answer) = live.http_pipeline.request(&mut head).await {
        return live.http_pipeline.response(answer);
    }
    let body = live.http_pipeline.request_body(body);
    live.http_pipeline
        .response(logged(worker, live, route, head, body, context).await)
}

/// Stage 7.
async fn logged(
    worker: &Arc<Worker>,
    live: &Live,
    route: Route<'_>,
    head: Parts,
    body: Body,
    context: CallContext,
) -> Response<Body> {
    let line = access_log::http_line(&live.access_log, &route, &head);
    let mut response = routed(worker, live, route, head, body, context).await;
    if let Some(line) = line {
        response.extensions_mut().insert(line);
    }
    response
}

async fn routed(
    worker: &Arc<Worker>,
    live: &Live,
    route: Route<'_>,
    head: Parts,
    body: Body,
    context: CallContext,
) -> Response<Body> {
    match route {
        Route::Invoke => {
            outbound::http::serve(worker, Request::from_parts(head, body), context).await
        }
        Route::Healthz
        | Route::Outbound
        | Route::Metadata
        | Route::SetMetadata(_)
        | Route::Decisions
        | Route::Shutdown
        | Route::Block(_)
        | Route::Nothing => own(&worker.shared, live, route, head, body).await,
    }
}

/// The routes that the sidecar answers itself.
async fn own(
    shared: &Shared,
    live: &Live,
    route: Route<'_>,
    head: Parts,
    body: Body,
) -> Response<Body> {
    match route {
        Route::Healthz => health::healthz(
            &shared.health,
            shared.config.app_id.as_str(),
            head.uri.query(),
        ),
        Route::Outbound => health::outbound(&shared.outbound),
        Route::Metadata => reply::json(
            StatusCode::OK,
            metadata::json(&shared.config, live, &shared.metadata),
        ),
        Route::SetMetadata(key) => set_metadata(shared, key, body).await,
        Route::Decisions => decisions::list(shared, &head.extensions),
        Route::Shutdown => {
            shared.shutdown.request(&head.headers);
            reply::no_content()
        }
        Route::Block(call) => block(call, &head, body).await,
        Route::Invoke | Route::Nothing => reply::page_not_found(),
    }
}

async fn set_metadata(shared: &Shared, key: &str, body: Body) -> Response<Body> {
    let key = percent_encoding::percent_decode_str(key)
        .decode_utf8_lossy()
        .into_owned();
    match whole(body).await {
        Ok(value) => {
            let value = String::from_utf8_lossy(&value).into_owned();
            match shared.metadata.set(key, value) {
                Ok(()) => reply::no_content(),
                Err(cause) => reply::error(
                    StatusCode::BAD_REQUEST,
                    "ERR_MALFORMED_REQUEST",
                    &cause.to_string(),
                ),
            }
        }
        Err(cause) => {
            let message = format!("failed to read request body: {cause}");
            reply::error(StatusCode::BAD_REQUEST, "ERR_BODY_READ", &message)
        }
    }
}

async fn block(call: BlockCall<'_>, head: &Parts, body: Body) -> Response<Body> {
    let body = if call.reads_body() {
        whole(body).await.unwrap_or_default()
    } else {
        Bytes::new()
    };
    call.answer(&head.method, &body)
}

async fn whole(body: Body) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    Limited::new(body, SMALL_BODY)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
}

/// Answers one request of the public port: health and metadata, observed but nothing else.
pub(crate) async fn handle_public(
    shared: Arc<Shared>,
    streams: Arc<Streams>,
    request: Request<Incoming>,
) -> Result<Response<Observed>, Infallible> {
    let open = streams.open();
    let (head, incoming) = request.into_parts();
    if limit::head_too_large(&head, shared.config.read_buffer) {
        return Ok(Observed::unrecorded(
            limit::head_refused(head.version),
            open,
        ));
    }
    let mut record = Record::http(&shared, &head, open);
    let response = public(&shared, head, body::incoming(incoming), &mut record).await;
    Ok(record.finish(response))
}

async fn public(shared: &Shared, head: Parts, body: Body, record: &mut Record) -> Response<Body> {
    let live = shared.live();
    let context = match observe::http_context(shared, &live, &head, record) {
        Ok(context) => context,
        Err(refusal) => return refusal,
    };
    let came_in = head.uri.clone();
    let path = routing_path(came_in.path());
    let route = Route::find_public(&head.method, &path, &live.api);
    let response = own(shared, &live, route, head, body).await;
    outbound::http::finish(response, &context)
}
