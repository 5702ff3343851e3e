//! Service invocation over the HTTP API: a request becomes an invocation, a reply becomes a response.
//!
//! Owns the stages `target` and `method` for HTTP clients (8, 9), and how a reply is framed for them: successes
//! stream, errors of a request that could have been repeated are buffered (service-invocation 1.9, 1.10).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header, request::Parts,
};
use http_body::Frame;
use http_body_util::BodyExt as _;
use ironside_policy::{Method, Verb, clean};
use ironside_resolution::form;
use tonic::Code;

use super::InvokeError;
use crate::{
    api::error::{ApiError, ErrorCode},
    body::{self, Body, BodyError},
    channel::http::{EVENT_STREAM, PROTOBUF},
    invocation::{
        AppStatus, Invocation, Length, Origin, Reply,
        context::{CallContext, Deadline},
        headers::{self, APP_ID, BAGGAGE, MAX_NAMES},
        status,
    },
    traces::attributes,
    worker::Worker,
};

/// Category of the error codes of invocation: resiliency-observability 3.3.
const CATEGORY: &str = "service-invocation";
/// Bytes of an app's error body that are held back to state their exact length; a longer one streams.
const ERROR_BUFFER: usize = 4 * 1024 * 1024;

/// Serves one request of the HTTP API that is an invocation.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    request: Request<Body>,
    mut context: CallContext,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    if parts.headers.len() > MAX_NAMES {
        return refuse(worker, too_many_names().response(), &context);
    }
    context.event_stream = is_event_stream(&parts.headers);
    let left = headers::take_timeout(&mut parts.headers);
    context.deadline = left.map(|left| Deadline::after(left, &worker.shared.clock));
    let client = Client {
        version: parts.version,
        head_only: parts.method == http::Method::HEAD,
    };
    let (target, method) = match find(&parts) {
        Ok(found) => found,
        Err(error) => return refuse(worker, error.response(), &context),
    };
    if let Some(span) = &context.span {
        attributes::invoked(span, &target, &method);
    }
    match answer(worker, &target, method, parts, body, &context, client).await {
        Ok(response) => response,
        Err(error) => refuse(worker, refusal(&target, &error), &context),
    }
}

/// An error of this API, which is counted.
fn refuse(worker: &Worker, response: Response<Body>, context: &CallContext) -> Response<Body> {
    count_error(worker);
    finish(response, context)
}

fn count_error(worker: &Worker) {
    let code = ErrorCode::DirectInvoke.as_str();
    worker.shared.metrics.error_answered(CATEGORY, code);
}

/// What matters of the client when its answer is framed.
#[derive(Debug, Clone, Copy)]
struct Client {
    version: Version,
    head_only: bool,
}

async fn answer(
    worker: &Arc<Worker>,
    target: &str,
    method: Box<str>,
    parts: Parts,
    body: Body,
    context: &CallContext,
    client: Client,
) -> Result<Response<Body>, InvokeError> {
    let method = Method::parse(&method)?;
    let call = invocation(method, parts, body, worker.shared.config.max_body)?;
    let length = call.length;
    let reply = super::invoke(worker, target, call, context).await?;
    // As in the reference, an answer that no client takes for a success is an error of the invocation.
    if length != Length::Streaming && matches!(reply.status, AppStatus::Http(1..200 | 400..)) {
        count_error(worker);
    }
    render(reply, context, length, client).await
}

fn too_many_names() -> ApiError {
    ApiError::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ErrorCode::DirectInvoke,
        format!("more than {MAX_NAMES} header values"),
    )
}

/// What `failed to invoke` says to an HTTP client.
fn failure(target: &str, error: &InvokeError) -> ApiError {
    ApiError::new(
        error.http_status(),
        ErrorCode::DirectInvoke,
        format!("failed to invoke, id: {target}, err: {error}"),
    )
}

/// The same as an answer; one that is too early says when to come again.
fn refusal(target: &str, error: &InvokeError) -> Response<Body> {
    let mut response = failure(target, error).response();
    if let InvokeError::RateLimited { wait } = error {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// True for an `Accept` of exactly `text/event-stream`.
fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|value| {
        value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(EVENT_STREAM.as_bytes())
    })
}

/// Target and cleaned, still unchecked method of a request.
fn find(parts: &Parts) -> Result<(Box<str>, Box<str>), ApiError> {
    let path = form::decode_path(parts.uri.path()).map_err(|error| {
        let text = format!("{error} in the request path: write a percent sign as %25");
        ApiError::new(StatusCode::BAD_REQUEST, ErrorCode::DirectInvoke, text)
    })?;
    let request = form::Request {
        path: &path,
        app_id: parts.headers.get(APP_ID).map(HeaderValue::as_bytes),
        authorization: parts
            .headers
            .get(header::AUTHORIZATION)
            .map(HeaderValue::as_bytes),
    };
    let found = form::find(request).ok_or_else(ApiError::no_target)?;
    let method = clean(found.method);
    Ok((found.target.into(), method.trim_start_matches('/').into()))
}

fn invocation(
    method: Method,
    mut parts: Parts,
    body: Body,
    max_body: Option<u64>,
) -> Result<Invocation, InvokeError> {
    let declared = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let length = match declared {
        Some(length) => Length::Fixed(length),
        None if http_body::Body::is_end_stream(&body) => Length::Fixed(0),
        None => Length::Streaming,
    };
    if let (Length::Fixed(length), Some(limit)) = (length, max_body)
        && length > limit
    {
        return Err((&BodyError::TooLarge).into());
    }
    let verb = Verb::from_http(parts.method.as_str());
    let content_type = parts
        .headers
        .get(header::CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default();
    headers::take_client_headers(&mut parts.headers);
    Ok(Invocation {
        method,
        verb,
        has_http: true,
        query: parts.uri.query().unwrap_or_default().into(),
        origin: Origin::Http,
        headers: parts.headers,
        pseudo: Vec::new(),
        content_type: content_type.into(),
        type_url: "".into(),
        length,
        body: body.into(),
    })
}

/// Frames a reply for an HTTP client. Stage 23, `respond`.
async fn render(
    reply: Reply,
    context: &CallContext,
    length: Length,
    client: Client,
) -> Result<Response<Body>, InvokeError> {
    let streams = reply.streams() || length == Length::Streaming;
    let Reply {
        status,
        headers,
        trailers: _,
        content_type,
        type_url,
        body,
    } = reply;
    let (code, body, fallback) = match status {
        AppStatus::Http(code) if (200..400).contains(&code) => (code, body, None),
        AppStatus::Http(0) => (200, body, None),
        AppStatus::Http(code) => (code, body, (!streams).then_some(JSON)),
        AppStatus::Grpc { code: Code::Ok, .. } => (200, body, None),
        AppStatus::Grpc {
            code,
            message,
            details,
        } => {
            let json = status::error_json(code, &message, &details);
            (status::http_from_code(code), body::full(json), Some(TEXT))
        }
    };
    let mut headers = headers::rename_grpc_for_http(headers);
    headers::strip_for_http(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONTENT_TYPE);
    if let Some(value) = content_type_of(&content_type, &type_url).or(fallback) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    let event_stream = context.event_stream && (200..300).contains(&code);
    if event_stream {
        event_stream_headers(&mut headers, client.version);
    }
    let body = if client.head_only || matches!(code, 204 | 304) {
        body::empty()
    } else if event_stream {
        unsized_body(None, body)
    } else if streams {
        started(body).await?
    } else {
        buffered(body).await?
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code)
        .map_err(|_none| InvokeError::Body(format!("app answered with status {code}")))?;
    if response.status().canonical_reason().is_none()
        && let Ok(reason) =
            hyper::ext::ReasonPhrase::try_from(format!("status code {code}").into_bytes())
    {
        response.extensions_mut().insert(reason);
    }
    *response.headers_mut() = headers;
    Ok(finish(response, context))
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

fn content_type_of(content_type: &str, type_url: &str) -> Option<HeaderValue> {
    if !type_url.is_empty() {
        return Some(PROTOBUF);
    }
    if content_type.is_empty() {
        return None;
    }
    HeaderValue::from_str(content_type).ok()
}

fn event_stream_headers(headers: &mut HeaderMap, version: Version) {
    headers.insert(header::CONTENT_TYPE, EVENT_STREAM);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    }
}

/// Trace and baggage, as every answer of the API has them.
pub(crate) fn finish(mut response: Response<Body>, context: &CallContext) -> Response<Body> {
    context.trace.to_http_client(response.headers_mut());
    if let Some(baggage) = &context.baggage {
        response.headers_mut().insert(BAGGAGE, baggage.clone());
    }
    response
}

/// A body whose first bytes are there, or which is known to be empty.
async fn started(mut body: Body) -> Result<Body, InvokeError> {
    loop {
        match body
            .frame()
            .await
            .transpose()
            .map_err(|error| InvokeError::from(&error))?
        {
            None => return Ok(body::empty()),
            Some(frame) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(unsized_body(Some(data), body)),
                Err(_trailers) => {}
            },
        }
    }
}

/// A body in one piece with its exact length, or a stream if it is longer than [`ERROR_BUFFER`].
async fn buffered(mut body: Body) -> Result<Body, InvokeError> {
    let mut slices: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while let Some(frame) = body
        .frame()
        .await
        .transpose()
        .map_err(|error| InvokeError::from(&error))?
    {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        size += data.len();
        slices.push(data);
        if size > ERROR_BUFFER {
            return Ok(unsized_body(Some(join(slices)), body));
        }
    }
    Ok(body::full(join(slices)))
}

fn join(slices: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(slices) {
        Ok([only]) => only,
        Err(several) => several
            .into_iter()
            .fold(BytesMut::new(), |mut all, next| {
                all.extend_from_slice(&next);
                all
            })
            .freeze(),
    }
}

/// A body whose length nobody states; trailers of the app end here.
fn unsized_body(first: Option<Bytes>, rest: Body) -> Body {
    Unsized {
        first,
        rest,
        broken: None,
    }
    .boxed_unsync()
}

/// A body that is sent as it comes. When it breaks, what came before the break is flushed first: the client
/// gets those bytes and then sees the cut.
struct Unsized {
    first: Option<Bytes>,
    rest: Body,
    broken: Option<BodyError>,
}

impl http_body::Body for Unsized {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match ready!(Pin::new(&mut self.rest).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(Err(error)) => {
                    self.broken = Some(error);
                    // The connection writes out what it holds while the body is not ready.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                other => return Poll::Ready(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, headers: &[(&'static str, &'static str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// Fact: service-invocation 1.4 and 1.5.
    #[test]
    fn targets_and_methods_are_found() {
        for (uri, headers, target, method) in [
            ("/v1.0/invoke/appb/method/foo", &[][..], "appb", "foo"),
            ("/v1.0//invoke//appB/method//foo", &[], "appB", "foo"),
            ("/v1.0/invoke/appb/method/", &[], "appb", ""),
            ("/v1.0/invoke/appb/method/a//b/../c/", &[], "appb", "a/c"),
            (
                "/v1.0/invoke/appb/method/admin%2F..%2Fpublic",
                &[],
                "appb",
                "public",
            ),
            (
                "/v1.0/invoke/appb/method/public%23%2F..%2Fadmin",
                &[],
                "appb",
                "admin",
            ),
            ("///foo", &[("dapr-app-id", "appB")], "appB", "foo"),
            (
                "/v1.0/invoke/appC/method/x",
                &[("dapr-app-id", "appB")],
                "appB",
                "v1.0/invoke/appC/method/x",
            ),
        ] {
            let (found, path) = find(&parts(uri, headers)).unwrap();
            assert_eq!((found.as_ref(), path.as_ref()), (target, method), "{uri}");
        }
    }

    #[test]
    fn only_the_exact_accept_is_an_event_stream() {
        for (accept, expected) in [
            ("text/event-stream", true),
            (" Text/Event-Stream ", true),
            ("text/event-stream, */*", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(is_event_stream(&headers), expected, "{accept}");
        }
    }

    #[tokio::test]
    async fn an_error_body_states_its_length_and_an_empty_success_none() {
        use http_body::Body as _;
        assert_eq!(
            buffered(body::full("abc"))
                .await
                .unwrap()
                .size_hint()
                .exact(),
            Some(3)
        );
        assert!(started(body::empty()).await.unwrap().is_end_stream());
        assert_eq!(
            started(body::full("abc"))
                .await
                .unwrap()
                .size_hint()
                .exact(),
            None
        );
    }
}
