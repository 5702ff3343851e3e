//! What the app's own port answers over gRPC.
//!
//! Any method echoes the messages of its stream as they come, without knowing their type; the metadata come back as
//! JSON in `sample-metadata`. `Slow` waits first (`sample-ms`), `Fail` ends with a status (`sample-status`). The
//! callbacks by which a sidecar delivers HTTP calls and asks for health are answered as an app of the reference would.

use std::{convert::Infallible, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use ironside_proto::dapr::proto::{common::v1::InvokeRequest, common::v1::InvokeResponse};
use prost::Message as _;
use serde_json::json;

use crate::{
    answer::{Body, named},
    state::State,
};

/// Flag and length before each message.
const PREFIX: usize = 5;

/// Whether a request is a call of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Answers a call.
pub(crate) async fn answer(state: &State, request: Request<Incoming>) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let method = head.uri.path().rsplit('/').next().unwrap_or_default();
    let about = json!({
        "app": state.name(),
        "pod": state.pod(),
        "path": head.uri.path(),
        "metadata": named(&head.headers),
    });
    match method {
        "OnInvoke" => {
            let sent = body.collect().await?.to_bytes();
            let answered = invoked(&sent, &about.to_string())?;
            Ok(response(single(answered), &about.to_string()))
        }
        "HealthCheck" => Ok(response(single(framed(&[])), &about.to_string())),
        "Fail" => {
            let status = number(&head.headers, "sample-status").unwrap_or(2);
            let mut response = response(single(Bytes::new()), &about.to_string());
            // Trailers alone: no message was sent.
            *response.body_mut() = crate::answer::full(Bytes::new());
            let name = HeaderName::from_static("grpc-status");
            response.headers_mut().insert(name, status.into());
            Ok(response)
        }
        _ => {
            if method == "Slow" {
                let span = number(&head.headers, "sample-ms").unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(span)).await;
            }
            let echo = body.map_err(anyhow::Error::new).with_trailers(finished());
            Ok(response(echo.boxed_unsync(), &about.to_string()))
        }
    }
}

fn response(body: Body, about: &str) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    // Metadata that were not plain text are left out rather than sent broken.
    if let Ok(about) = HeaderValue::from_str(about) {
        headers.insert(HeaderName::from_static("sample-metadata"), about);
    }
    response
}

fn single(framed: Bytes) -> Body {
    Full::new(framed)
        .with_trailers(finished())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

async fn finished<E>() -> Option<Result<HeaderMap, E>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Some(Ok(trailers))
}

/// The answer to a call that a sidecar delivers: what was sent comes back, with its own type.
fn invoked(sent: &Bytes, about: &str) -> Result<Bytes> {
    let request = InvokeRequest::decode(message(sent)?).context("InvokeRequest")?;
    let response = InvokeResponse {
        content_type: if request.content_type.is_empty() {
            "application/json".to_owned()
        } else {
            request.content_type
        },
        data: match request.data {
            Some(data) if !data.value.is_empty() => Some(data),
            Some(_) | None => Some(ironside_proto::google::protobuf::Any {
                type_url: String::new(),
                value: about.as_bytes().to_vec().into(),
            }),
        },
    };
    Ok(framed(&response.encode_to_vec()))
}

/// A message with its prefix.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len().saturating_add(PREFIX));
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// The first message of a body.
fn message(body: &Bytes) -> Result<Bytes> {
    let mut rest = body.clone();
    match next(&mut rest)? {
        Some(message) => Ok(message),
        None => bail!("the body ends inside its message"),
    }
}

/// Takes the next whole message off `rest`; none while it is incomplete.
pub(crate) fn next(rest: &mut Bytes) -> Result<Option<Bytes>> {
    let Some((prefix, _)) = rest.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let [flag, length @ ..] = *prefix;
    if flag != 0 {
        bail!("compressed messages are not for this app");
    }
    let length = usize::try_from(u32::from_be_bytes(length))?;
    let whole = length.saturating_add(PREFIX);
    if rest.len() < whole {
        return Ok(None);
    }
    let mut message = rest.split_to(whole);
    Ok(Some(message.split_off(PREFIX)))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_off_one_by_one() {
        let mut rest = BytesMut::from(&framed(b"one")[..]);
        rest.extend_from_slice(&framed(b""));
        rest.extend_from_slice(&framed(b"three")[..6]);
        let mut rest = rest.freeze();
        assert_eq!(next(&mut rest).unwrap().unwrap(), "one");
        assert_eq!(next(&mut rest).unwrap().unwrap(), "");
        assert_eq!(next(&mut rest).unwrap(), None, "half a message");
        assert_eq!(rest.len(), 6);
    }

    #[test]
    fn compressed_messages_are_refused() {
        let mut rest = Bytes::from_static(&[1, 0, 0, 0, 0]);
        assert!(next(&mut rest).is_err());
    }
}
