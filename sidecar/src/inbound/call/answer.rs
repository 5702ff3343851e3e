//! What a peer's sidecar gets: the reply as a stream or whole, or the status that says why there is none.

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body_util::BodyExt as _;
use tonic::{Code, Status};

use crate::{
    body::{Body, BodyError},
    channel::ChannelError,
    invocation::{
        AppStatus, Reply, chunks,
        context::CallTrace,
        grpc,
        stream::{Ending, Outgoing},
        undelivered, wire,
    },
};

pub(super) fn channel_status(error: &ChannelError) -> Status {
    if let ChannelError::Denied(status) = error {
        return Status::clone(status);
    }
    if matches!(error, ChannelError::Body(BodyError::MessageTooLarge { .. })) {
        return Status::resource_exhausted(error.to_string());
    }
    Status::internal(format!("error invoking app channel: {error}"))
}

/// A refusal: headers with our span, then the status.
pub(super) fn refusal(status: &Status, trace: &CallTrace) -> Response<Body> {
    let mut headers = HeaderMap::new();
    trace.to_hop_error(&mut headers);
    undelivered::mark(&mut headers, status);
    grpc::answer(headers, None, status, HeaderMap::new())
}

/// A reply as an internal stream.
pub(super) fn streamed(reply: Reply) -> Response<Body> {
    let Reply {
        status,
        headers,
        trailers,
        content_type,
        type_url,
        body,
    } = reply;
    let message = wire::response(
        &status,
        &headers,
        &trailers,
        &content_type,
        &type_url,
        Bytes::new(),
    );
    let (outgoing, _fault) = Outgoing::new(&message, body, Ending::Response);
    let mut response = Response::new(outgoing.boxed());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, grpc::CONTENT_TYPE);
    response
}

/// A reply as one message.
pub(super) async fn whole(
    reply: Reply,
    limit: usize,
    trace: &CallTrace,
) -> Result<Response<Body>, Status> {
    let Reply {
        status,
        headers,
        trailers,
        content_type,
        type_url,
        body,
    } = reply;
    let data = http_body_util::Limited::new(body, limit)
        .collect()
        .await
        .map_err(|error| match error.downcast_ref::<BodyError>() {
            Some(broken) => channel_status(&ChannelError::NoAnswer(broken.to_string().into())),
            None => {
                Status::resource_exhausted(format!("response body is larger than {limit} bytes"))
            }
        })?;
    let data = match &status {
        AppStatus::Grpc { code, .. } if *code != Code::Ok => Bytes::new(),
        AppStatus::Grpc { .. } | AppStatus::Http(_) => data.to_bytes(),
    };
    let message = wire::response(&status, &headers, &trailers, &content_type, &type_url, data);
    let mut initial = HeaderMap::new();
    trace.to_hop_error(&mut initial);
    Ok(grpc::answer(
        initial,
        Some(chunks::message(&message)),
        &Status::new(Code::Ok, ""),
        HeaderMap::new(),
    ))
}
