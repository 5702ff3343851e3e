//! Paths, targets, and what the head of an answer says.

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use ironside_resiliency::outcome::{End, Failure as Why};

use super::{stream::stream_outcome, whole::peek, *};
use crate::{body::BodyError, invocation::stream::Fault};

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

fn answered(frames: Vec<Result<Frame<Bytes>, BodyError>>) -> Response<Body> {
    let frames = futures_util::stream::iter(frames);
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn trailers(status: Option<&'static str>) -> Frame<Bytes> {
    let status = status.map(HeaderValue::from_static);
    let fields = status.map(|status| (HeaderName::from_static("grpc-status"), status));
    Frame::trailers(fields.into_iter().collect())
}

/// resiliency-observability 1.9: an answer that breaks before its first message is no success.
#[tokio::test]
async fn an_answer_without_message_and_status_is_lost() {
    for frames in [vec![], vec![Err(BodyError::Cut)], vec![Ok(trailers(None))]] {
        let peeked = peek(answered(frames)).await;
        assert!(matches!(peeked, Err(Failure::Lost(_))));
    }
    for (frames, code) in [
        (vec![Ok(trailers(Some("0")))], 0),
        (vec![Ok(trailers(Some("14")))], 14),
        (
            vec![Ok(Frame::data(Bytes::from("m"))), Err(BodyError::Cut)],
            0,
        ),
    ] {
        assert_eq!(peek(answered(frames)).await.unwrap().code, code);
    }
    // What is no gRPC goes on as it is.
    let mut other = answered(vec![]);
    *other.status_mut() = StatusCode::BAD_GATEWAY;
    assert!(peek(other).await.is_ok());
}

/// resiliency-observability 6.2: an address is judged by the head of a stream.
#[test]
fn a_stream_counts_by_its_head() {
    let fault = Fault::default();
    let mut response = answered(vec![]);
    let outcome = |sent: Result<Response<Body>, Failure>| stream_outcome(&sent, &fault).end;
    let status = HeaderValue::from_static("14");
    response.headers_mut().insert("grpc-status", status);
    assert_eq!(outcome(Ok(response)), End::Grpc(14));
    assert_eq!(outcome(Ok(answered(vec![]))), End::Grpc(0));
    let lost = Failure::Lost(Status::unavailable("EOF"));
    assert_eq!(outcome(Err(lost)), End::Failed(Why::Lost));
    // One that was quiet up to its limit says nothing of its address.
    let quiet = Failure::Idle(Status::deadline_exceeded("quiet"));
    assert_eq!(outcome(Err(quiet)), End::Failed(Why::Idle));
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
