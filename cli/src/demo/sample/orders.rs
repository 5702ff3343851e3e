//! The HTTP app: takes orders, and streams ticks.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;

use super::Answer;

/// Answers one request.
pub(super) async fn answer(request: Request<Incoming>) -> Answer {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    match (method, path.as_str()) {
        (Method::POST, "/orders") => {
            let caller = request
                .headers()
                .get("dapr-caller-app-id")
                .and_then(|value| value.to_str().ok())
                .unwrap_or("nobody in particular")
                .to_owned();
            match request.into_body().collect().await {
                Ok(body) => accepted(&caller, &body.to_bytes()),
                Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
            }
        }
        (Method::GET, "/ticks") => ticks(),
        (Method::GET, "/healthz") => text(StatusCode::OK, String::new()),
        _ => text(StatusCode::NOT_FOUND, format!("there is no {path}")),
    }
}

fn accepted(caller: &str, order: &Bytes) -> Answer {
    let body = serde_json::json!({ "accepted": true, "from": caller, "bytes": order.len() });
    let answer = Response::builder().header(header::CONTENT_TYPE, "application/json");
    finish(answer.body(Full::new(Bytes::from(body.to_string())).boxed_unsync()))
}

/// Five events, each in a chunk of its own.
fn ticks() -> Answer {
    let chunks = (1..=5)
        .map(|tick| Ok::<_, Infallible>(Frame::data(Bytes::from(format!("data: {tick}\n\n")))));
    let answer = Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
    finish(answer.body(StreamBody::new(stream::iter(chunks)).boxed_unsync()))
}

fn text(status: StatusCode, text: String) -> Answer {
    finish(
        Response::builder()
            .status(status)
            .body(Full::new(Bytes::from(text)).boxed_unsync()),
    )
}

fn finish(answer: http::Result<Answer>) -> Answer {
    answer.unwrap_or_else(|error| {
        Response::new(Full::new(Bytes::from(error.to_string())).boxed_unsync())
    })
}
