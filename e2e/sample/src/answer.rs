//! What the app's own port answers over HTTP.
//!
//! Any path is echoed, so that a test may call methods of any name; a few first segments do something else. gRPC
//! requests are `grpc`'s.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};

use crate::{grpc, state::State};

/// A body of either kind.
pub(crate) type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// The longest that `/slow` and `/stream` wait for one step.
const PATIENCE: Duration = Duration::from_secs(600);

/// Answers a request to the app.
pub(crate) async fn answer(
    state: State,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let count = state.count(&path);
    let outcome = if grpc::is_grpc(request.headers()) {
        grpc::answer(&state, request).await
    } else {
        http(&state, request, count).await
    };
    Ok(outcome.unwrap_or_else(|error| {
        let text = json!({"error": format!("{error:#}")});
        with_status(StatusCode::BAD_REQUEST, &text)
    }))
}

async fn http(state: &State, request: Request<Incoming>, count: u64) -> Result<Response<Body>> {
    let uri = request.uri().clone();
    let mut segments = uri.path().trim_start_matches('/').split('/');
    let first = segments.next().unwrap_or_default();
    match first {
        "healthz" => Ok(reply(&json!({"healthy": true}))),
        "count" => Ok(reply(&json!({"count": count}))),
        "slow" => {
            let span = Duration::from_millis(number(&uri, "ms"));
            tokio::time::sleep(span.min(PATIENCE)).await;
            echo(state, request).await
        }
        "status" => {
            let code = segments.next().unwrap_or_default();
            let status = StatusCode::from_bytes(code.as_bytes())?;
            Ok(with_status(status, &json!({"status": status.as_u16()})))
        }
        "stream" => Ok(lines(&uri)),
        "upload" => {
            let mut body = request.into_body();
            let mut bytes: u64 = 0;
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    bytes = bytes.saturating_add(u64::try_from(data.len())?);
                }
            }
            Ok(reply(&json!({"bytes": bytes})))
        }
        _ => echo(state, request).await,
    }
}

async fn echo(state: &State, request: Request<Incoming>) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(reply(&json!({
        "app": state.name(),
        "pod": state.pod(),
        "version": format!("{:?}", head.version),
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": named(&head.headers),
        "body": String::from_utf8_lossy(&body),
    })))
}

/// Headers by name; values of one name in their order.
pub(crate) fn named(headers: &HeaderMap) -> BTreeMap<&str, Vec<String>> {
    let mut named: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        named.entry(name.as_str()).or_default().push(value);
    }
    named
}

/// `count` numbered lines, `ms` apart.
fn lines(uri: &Uri) -> Response<Body> {
    let last = number(uri, "count");
    let pause = Duration::from_millis(number(uri, "ms")).min(PATIENCE);
    let stream = stream::unfold(1_u64, move |line| async move {
        if line > last {
            return None;
        }
        if line > 1 {
            tokio::time::sleep(pause).await;
        }
        let frame = Frame::data(Bytes::from(format!("{line}\n")));
        Some((Ok::<_, anyhow::Error>(frame), line.saturating_add(1)))
    });
    Response::new(StreamBody::new(stream).boxed_unsync())
}

/// A number of the query; 0 if it is not there.
fn number(uri: &Uri, name: &str) -> u64 {
    let query = uri.query().unwrap_or_default();
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0)
}

/// A JSON answer.
pub(crate) fn reply(value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string().into()));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// The same with a status.
pub(crate) fn with_status(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = reply(value);
    *response.status_mut() = status;
    response
}

/// A body that is all there.
pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}
