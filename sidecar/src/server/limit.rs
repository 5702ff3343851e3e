//! Stage 2, `limit`: how large a head and a body may be.
//!
//! Owns the arithmetic of `--read-buffer-size` for both protocols, the 431 answer, and [`Limited`], the
//! request body that ends with [`BodyError::TooLarge`] instead of carrying one byte too many. A declared
//! length over the limit fails before the first byte, so an app never sees part of such a request. Refuses
//! to own gRPC message limits, which count messages, not bodies.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Version, header, request::Parts};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::body::{self, Body, BodyError};

/// What HTTP/1.1 allows on top of the read buffer; the reference's library adds it (service-invocation 1.1).
const HTTP1_SLACK: usize = 4096;
/// The same for HTTP/2, where sizes are counted as in RFC 9113 6.5.2.
const HTTP2_SLACK: usize = 320;
/// What RFC 9113 6.5.2 adds to each field.
const HTTP2_FIELD_OVERHEAD: usize = 32;

/// True if the head of a request is larger than `read_buffer` allows.
pub(crate) fn head_too_large(head: &Parts, read_buffer: usize) -> bool {
    if head.version == Version::HTTP_2 {
        return http2_size(head) > read_buffer.saturating_add(HTTP2_SLACK);
    }
    http1_size(head) > read_buffer.saturating_add(HTTP1_SLACK)
}

/// The largest head that may pass, with room to spare: what the HTTP library is told, so that the refusal is
/// ours and readable.
pub(crate) fn library_buffer(read_buffer: usize) -> usize {
    /// Enough to read a head that is over the limit and to answer it.
    const ROOM: usize = 64 * 1024;
    read_buffer.saturating_add(HTTP1_SLACK).saturating_add(ROOM)
}

/// Bytes of the request line, all fields and the empty line.
fn http1_size(head: &Parts) -> usize {
    let target = head.uri.path_and_query().map_or(1, |pq| pq.as_str().len());
    let line = head.method.as_str().len() + 1 + target + " HTTP/1.1\r\n".len();
    let fields: usize = head
        .headers
        .iter()
        .map(|(n, v)| n.as_str().len() + 2 + v.len() + 2)
        .sum();
    line + fields + 2
}

fn http2_size(head: &Parts) -> usize {
    let target = head.uri.path_and_query().map_or(1, |pq| pq.as_str().len());
    let pseudo = [
        (":method".len(), head.method.as_str().len()),
        (":scheme".len(), head.uri.scheme_str().map_or(4, str::len)),
        (
            ":authority".len(),
            head.uri.authority().map_or(0, |a| a.as_str().len()),
        ),
        (":path".len(), target),
    ];
    let fields = head
        .headers
        .iter()
        .map(|(n, v)| (n.as_str().len(), v.len()));
    pseudo
        .into_iter()
        .chain(fields)
        .map(|(n, v)| n + v + HTTP2_FIELD_OVERHEAD)
        .sum()
}

/// The answer to a head that is too large; the connection ends with it.
///
/// # Source
/// golden 11, last exchange: no trace header, no `Content-Length`.
pub(crate) fn head_refused(version: Version) -> Response<Body> {
    let mut answer = Response::new(body::full("431 Request Header Fields Too Large"));
    *answer.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if version != Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// A request body that carries at most so many bytes.
#[derive(Debug)]
pub(crate) struct Limited<B> {
    inner: B,
    left: u64,
}

/// Makes the body of a connection one of ours, bounded by `max` bytes; `None` is no bound.
pub(crate) fn bounded(incoming: Incoming, max: Option<u64>) -> Body {
    use http_body_util::BodyExt as _;
    match max {
        Some(_) if incoming.is_end_stream() => body::empty(),
        Some(max) => Limited {
            inner: incoming,
            left: max,
        }
        .boxed_unsync(),
        None => body::incoming(incoming),
    }
}

// === impl Limited ===

impl<B> HttpBody for Limited<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.inner.size_hint().lower() > this.left {
            return Poll::Ready(Some(Err(BodyError::TooLarge)));
        }
        let frame = match std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(err)) => return Poll::Ready(Some(Err(err.into()))),
            Some(Ok(frame)) => frame,
        };
        let size = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(left) = this.left.checked_sub(size) else {
            return Poll::Ready(Some(Err(BodyError::TooLarge)));
        };
        this.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    fn head(version: Version, field: usize) -> Parts {
        let request = Request::get("/v1.0/invoke/appb/method/x")
            .version(version)
            .header("host", "localhost:3001")
            .header("x-big", "y".repeat(field));
        request.body(()).unwrap().into_parts().0
    }

    /// Fact: service-invocation 1.1, "Max request header".
    #[test]
    fn the_default_passes_8000_and_refuses_8300() {
        for (field, refused) in [(10, false), (8000, false), (8300, true)] {
            assert_eq!(
                head_too_large(&head(Version::HTTP_11, field), 4096),
                refused,
                "{field}"
            );
        }
        for (field, refused) in [(10, false), (4100, false), (4500, true)] {
            assert_eq!(
                head_too_large(&head(Version::HTTP_2, field), 4096),
                refused,
                "{field}"
            );
        }
    }

    #[test]
    fn http1_size_counts_what_the_wire_carries() {
        let wire =
            "GET /v1.0/invoke/appb/method/x HTTP/1.1\r\nhost: localhost:3001\r\nx-big: yyy\r\n\r\n";
        assert_eq!(http1_size(&head(Version::HTTP_11, 3)), wire.len());
    }

    async fn read(chunks: &[usize], max: u64) -> (usize, Result<(), BodyError>) {
        let frames = chunks
            .iter()
            .map(|n| Ok::<_, BodyError>(Frame::data(Bytes::from(vec![b'x'; *n]))));
        let stream = StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>()));
        let mut body = Limited {
            inner: stream,
            left: max,
        };
        let mut total = 0;
        loop {
            match body.frame().await {
                None => return (total, Ok(())),
                Some(Err(err)) => return (total, Err(err)),
                Some(Ok(frame)) => total += frame.data_ref().map_or(0, Bytes::len),
            }
        }
    }

    #[tokio::test]
    async fn a_body_is_whole_or_an_error_never_cut() {
        assert!(matches!(read(&[4, 4], 8).await, (8, Ok(()))));
        assert!(matches!(
            read(&[4, 5], 8).await,
            (4, Err(BodyError::TooLarge))
        ));
        assert!(matches!(read(&[9], 8).await, (0, Err(BodyError::TooLarge))));
        assert!(matches!(read(&[], 0).await, (0, Ok(()))));
    }

    #[tokio::test]
    async fn a_declared_length_over_the_limit_fails_before_the_first_byte() {
        let inner = Full::new(Bytes::from_static(b"123456789")).map_err(|_| BodyError::Cut);
        let mut body = Limited { inner, left: 8 };
        assert!(matches!(body.frame().await, Some(Err(BodyError::TooLarge))));
    }
}
