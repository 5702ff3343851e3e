//! An HTTP app: one request out, one response in.
//!
//! Owns how an invocation becomes an HTTP request (service-invocation 1.5, 1.7, 5.1) and a response becomes a
//! reply (1.9). The pool keeps connections warm; redirects are never followed. Stage 22, `deliver`.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderValue, Request, Response, StatusCode, Uri, header, request::Parts, uri::PathAndQuery,
};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioTimer,
};
use ironside_chassis::{clock::Clock, secret::Secret, tasks::Group};
use ironside_policy::{Method, Verb};
use ironside_telemetry::metrics::{HttpCalled, Metrics};
use tonic::Status;

mod failure;
mod framing;
#[cfg(test)]
mod tests;

pub(crate) use failure::send_error;

use failure::title;
use framing::{Framing, framing};

use super::{ChannelError, deadline::Deadline, expect::AwaitContinue, stale::StaleCheck, url};
use crate::{
    body::{self, Body},
    config::{AppProtocol, AppTarget},
    invocation::{
        AppStatus, Invocation, Origin, Reply,
        context::CallContext,
        headers::{self, API_TOKEN},
    },
    live::Live,
    middleware::Pipeline,
    peers::connection::TaskExecutor,
};

/// Idle connections to the app that are kept (service-invocation 5.1).
const IDLE_CONNECTIONS: usize = 64;
/// How long one is kept (service-invocation 5.1).
const IDLE_LIMIT: Duration = Duration::from_secs(90);
/// Bound of TCP and TLS to the app together (service-invocation 5.1 names it for gRPC apps).
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Fields that the app's response head may have.
const MAX_HEADERS: usize = 1024;
/// Room for the app's response head, in bytes (H27: larger than the reference's).
const READ_BUFFER: usize = 1024 * 1024;

/// A client of the app: it gives up on a connection after [`CONNECT_LIMIT`], and begins no request on a closed one.
pub(crate) type AppClient = Client<Deadline<StaleCheck<HttpsConnector<HttpConnector>>>, Body>;

/// An app that speaks HTTP.
pub(crate) struct HttpApp {
    client: AppClient,
    base: Base,
    token: Option<Secret<Box<str>>>,
    meter: Meter,
}

/// Counts requests to the app.
pub(crate) struct Meter {
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// Scheme and authority of all requests.
struct Base {
    scheme: &'static str,
    authority: Box<str>,
}

impl HttpApp {
    /// Prepares the client; nothing is dialled yet.
    pub(crate) fn new(
        target: &AppTarget,
        token: Option<Secret<Box<str>>>,
        tasks: &Group,
        meter: Meter,
    ) -> Self {
        let scheme = if target.protocol == AppProtocol::Https {
            "https"
        } else {
            "http"
        };
        Self {
            client: client(tasks, target.protocol == AppProtocol::H2c),
            base: Base {
                scheme,
                authority: format!("{}:{}", target.address, target.port).into(),
            },
            token,
            meter,
        }
    }

    /// Sends the call and returns the app's answer as soon as its head is there.
    ///
    /// # Errors
    /// [`ChannelError`] if there is no answer.
    pub(crate) async fn call(
        &self,
        call: Invocation,
        context: &CallContext,
        live: &Live,
    ) -> Result<Reply, ChannelError> {
        if !call.has_http {
            return Err(ChannelError::MissingExtension);
        }
        if matches!(call.verb, Verb::None | Verb::Connect) {
            return Err(ChannelError::Verb);
        }
        let verb = call.verb;
        let mut request = self.request(call, context).await?;
        if let Some(token) = &self.token {
            set_token(request.headers_mut(), token);
        }
        if live.inbound.deadline_header {
            let left = context.deadline.map(|at| at.left(&self.meter.clock));
            headers::tell_timeout(request.headers_mut(), left);
        }
        let judge = |method: &Method| match &context.judged {
            Some(judged) => judged.again(context.trace.id(), method.as_str(), verb),
            None => Ok(()),
        };
        around(
            &live.app_pipeline,
            request,
            |parts| rejudge(parts, judge),
            |request| self.send(request, verb),
        )
        .await
    }

    async fn send(
        &self,
        mut request: Request<Body>,
        verb: Verb,
    ) -> Result<Response<Body>, ChannelError> {
        AwaitContinue::apply(&mut request);
        let url = request.uri().clone();
        let measured = self
            .meter
            .around(request, |request| self.client.request(request));
        let response = measured
            .await
            .map_err(|error| send_error(verb, &url.to_string(), &error, &self.base.authority))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(ChannelError::Send {
                verb: title(verb),
                url: url.to_string().into(),
                cause: "the app answered 101 Switching Protocols, which no call asks for".into(),
            });
        }
        Ok(response.map(incoming))
    }

    async fn request(
        &self,
        call: Invocation,
        context: &CallContext,
    ) -> Result<Request<Body>, ChannelError> {
        let Base { scheme, authority } = &self.base;
        let line = url::path_and_query("", call.method.as_str(), &call.query).map_err(|cause| {
            ChannelError::Url {
                url: format!(
                    "{scheme}://{authority}/{}",
                    call.method.as_str().trim_start_matches('/')
                )
                .into(),
                cause,
            }
        })?;
        let uri = uri(scheme, authority, &line)?;
        build(call, context, uri).await
    }
}

impl Meter {
    /// What counts with these.
    pub(crate) fn new(clock: &Clock, metrics: &Arc<Metrics>) -> Self {
        Self {
            clock: clock.clone(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Sends a request and counts it when the head of its answer is there; a failure counts as a 500.
    pub(crate) async fn around<B, F, E>(
        &self,
        request: Request<Body>,
        send: impl FnOnce(Request<Body>) -> F,
    ) -> Result<Response<B>, E>
    where
        F: Future<Output = Result<Response<B>, E>>,
    {
        let (verb, uri) = (request.method().clone(), request.uri().clone());
        let sent_bytes = length(request.headers()).unwrap_or(0);
        let started = self.clock.monotonic();
        let result = send(request).await;
        let answer = result.as_ref().ok();
        self.metrics.http_called(&HttpCalled {
            verb: verb.as_str(),
            path: uri.path(),
            status: answer.map_or(500, |answer| answer.status().as_u16()),
            latency: self.clock.monotonic().since(started),
            sent_bytes,
            received_bytes: answer.and_then(|answer| length(answer.headers())),
        });
        result
    }
}

/// The length that a head declares.
fn length(headers: &http::HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

/// A client for the app or for external targets.
pub(crate) fn client(tasks: &Group, h2c: bool) -> AppClient {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let builder = HttpsConnectorBuilder::new();
    let connector = match super::tls::app_config(&[]) {
        Ok(config) => builder.with_tls_config(config),
        // Unreachable while the provider is compiled in; verification is the safe side of a defect.
        Err(_no_versions) => builder.with_tls_config(fallback_config()),
    };
    let connector = connector.https_or_http().enable_http1().wrap_connector(tcp);
    Client::builder(TaskExecutor(tasks.clone()))
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_LIMIT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http1_title_case_headers(true)
        .http1_max_buf_size(READ_BUFFER)
        .http1_max_headers(MAX_HEADERS)
        .http2_only(h2c)
        .http2_initial_stream_window_size(crate::peers::connection::STREAM_WINDOW)
        .http2_initial_connection_window_size(crate::peers::connection::CONNECTION_WINDOW)
        .build(Deadline::new(
            StaleCheck::new(connector, !h2c),
            CONNECT_LIMIT,
        ))
}

fn fallback_config() -> rustls::ClientConfig {
    rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

/// Runs a pipeline around a request: its handlers may answer, rewrite the path, or change the response. A path that
/// they rewrote is shown to `rewritten`.
pub(crate) async fn around<F>(
    pipeline: &Pipeline,
    request: Request<Body>,
    rewritten: impl FnOnce(&mut Parts) -> Result<(), ChannelError>,
    send: impl FnOnce(Request<Body>) -> F,
) -> Result<Reply, ChannelError>
where
    F: Future<Output = Result<Response<Body>, ChannelError>>,
{
    if pipeline.is_empty() {
        return Ok(reply(send(request).await?));
    }
    let (mut parts, body) = request.into_parts();
    let before = parts.uri.path().to_owned();
    if let Err(answer) = pipeline.request(&mut parts).await {
        return Ok(reply(pipeline.response(answer)));
    }
    if parts.uri.path() != before {
        rewritten(&mut parts)?;
    }
    let response = send(Request::from_parts(parts, pipeline.request_body(body))).await?;
    Ok(reply(pipeline.response(response)))
}

/// The method that a path is, which a handler may have made.
///
/// # Errors
/// [`ChannelError::Method`] if it is none.
pub(crate) fn method_of(parts: &Parts) -> Result<Method, ChannelError> {
    let decoded = percent_encoding::percent_decode_str(parts.uri.path()).decode_utf8_lossy();
    Ok(Method::parse(&decoded)?)
}

/// What a handler made of the path must be a method that the caller may call, and the app gets what was judged: not
/// another spelling of it.
fn rejudge(
    parts: &mut Parts,
    judge: impl FnOnce(&Method) -> Result<(), Status>,
) -> Result<(), ChannelError> {
    let method = method_of(parts)?;
    judge(&method).map_err(|status| ChannelError::Denied(Box::new(status)))?;
    let failed = |cause: Box<str>| ChannelError::Url {
        url: parts.uri.to_string().into(),
        cause,
    };
    let mut line = url::path_and_query("", method.as_str(), "").map_err(failed)?;
    if let Some(query) = parts.uri.query() {
        line.push('?');
        line.push_str(query);
    }
    let line: PathAndQuery = line
        .parse()
        .map_err(|error: http::uri::InvalidUri| failed(error.to_string().into()))?;
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(line);
    parts.uri = Uri::from_parts(uri).map_err(|error| ChannelError::Url {
        url: parts.uri.to_string().into(),
        cause: error.to_string().into(),
    })?;
    Ok(())
}

/// Puts a URI together.
pub(crate) fn uri(scheme: &str, authority: &str, line: &str) -> Result<Uri, ChannelError> {
    let failed = |cause: String| ChannelError::Url {
        url: format!("{scheme}://{authority}{line}").into(),
        cause: cause.into(),
    };
    let line: PathAndQuery = line
        .parse()
        .map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(line)
        .build()
        .map_err(|error| failed(error.to_string()))
}

/// Turns an invocation into a request to `uri`.
pub(crate) async fn build(
    call: Invocation,
    context: &CallContext,
    uri: Uri,
) -> Result<Request<Body>, ChannelError> {
    let Invocation {
        method: _,
        verb,
        has_http: _,
        query: _,
        origin,
        mut headers,
        pseudo,
        content_type,
        type_url,
        length,
        body,
    } = call;
    let declared = headers.get(header::CONTENT_LENGTH).cloned();
    headers::strip_for_http(&mut headers);
    let mut headers = if origin == Origin::Grpc {
        headers::rename_grpc_for_http(headers)
    } else {
        headers
    };
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONTENT_TYPE);
    if !type_url.is_empty() {
        headers.insert(header::CONTENT_TYPE, PROTOBUF);
    } else if let Ok(value) = HeaderValue::from_str(&content_type)
        && !content_type.is_empty()
    {
        headers.insert(header::CONTENT_TYPE, value);
    }
    for (name, value) in pseudo {
        headers.append(name, value);
    }
    if context.event_stream {
        headers.insert(header::ACCEPT, EVENT_STREAM);
    }
    context.trace.to_http_app(&mut headers);
    let (framing, body) = framing(verb, declared, length, body.into_inner()).await?;
    match framing {
        Framing::None => {}
        Framing::Exact(length) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // Said in words: the HTTP library sends no body of unknown length with GET and HEAD unless told so.
        Framing::Chunked => {
            headers.insert(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
        }
    }
    let mut request = Request::new(body);
    *request.method_mut() = http_method(verb);
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Content type of data that has a `type_url`.
pub(crate) const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
/// Content type of an event stream.
pub(crate) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

fn http_method(verb: Verb) -> http::Method {
    match verb {
        Verb::Get => http::Method::GET,
        Verb::Head => http::Method::HEAD,
        Verb::Put => http::Method::PUT,
        Verb::Delete => http::Method::DELETE,
        Verb::Options => http::Method::OPTIONS,
        Verb::Trace => http::Method::TRACE,
        Verb::Patch => http::Method::PATCH,
        Verb::Post | Verb::None | Verb::Connect => http::Method::POST,
    }
}

/// Gives the app its token.
pub(crate) fn set_token(headers: &mut http::HeaderMap, token: &Secret<Box<str>>) {
    if let Ok(mut value) = HeaderValue::from_str(token.expose()) {
        value.set_sensitive(true);
        headers.insert(API_TOKEN, value);
    }
}

/// A body of the app's connection.
pub(crate) fn incoming(body: Incoming) -> Body {
    body::incoming(body)
}

/// Turns a response into a reply.
pub(crate) fn reply(response: Response<Body>) -> Reply {
    let (mut parts, body) = response.into_parts();
    headers::strip_for_http(&mut parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH);
    let content_type = parts
        .headers
        .get(header::CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default();
    Reply {
        status: AppStatus::Http(parts.status.as_u16()),
        headers: parts.headers,
        trailers: http::HeaderMap::new(),
        content_type: content_type.into(),
        type_url: "".into(),
        body,
    }
}
