//! The gRPC app: greets by name, once or for as long as names come.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;

use super::super::wire::{GRPC, Messages, SAY_HELLO, SAY_HELLO_STREAM, frame};
use super::Answer;

/// The gRPC status of a call that went well.
const OK: &str = "0";
/// The gRPC status of a message that makes no sense.
const INVALID_ARGUMENT: &str = "3";
/// The gRPC status of a method that is not there.
const UNIMPLEMENTED: &str = "12";

/// Where a call stands.
enum Step {
    Reading(Messages<Incoming>),
    Trailers(&'static str),
    Done,
}

/// Answers one call.
pub(super) async fn answer(request: Request<Incoming>) -> Answer {
    // One name or many: the reply to each leaves before the next is read.
    let first = match request.uri().path() {
        SAY_HELLO | SAY_HELLO_STREAM => Step::Reading(Messages::of(request.into_body())),
        _ => Step::Trailers(UNIMPLEMENTED),
    };
    let body = StreamBody::new(stream::unfold(first, advance)).boxed_unsync();
    let mut answer = Response::new(body);
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(GRPC));
    answer
}

async fn advance(step: Step) -> Option<(Result<Frame<Bytes>, Infallible>, Step)> {
    match step {
        Step::Reading(mut messages) => match messages.next().await {
            Ok(Some(name)) => {
                let reply = Frame::data(frame(&format!("Hello {name}")));
                Some((Ok(reply), Step::Reading(messages)))
            }
            Ok(None) => Some((Ok(trailers(OK)), Step::Done)),
            Err(_garbled) => Some((Ok(trailers(INVALID_ARGUMENT)), Step::Done)),
        },
        Step::Trailers(status) => Some((Ok(trailers(status)), Step::Done)),
        Step::Done => None,
    }
}

fn trailers(status: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    Frame::trailers(trailers)
}
