//! gRPC over HTTP/2 by hand: one message in, one message out, statuses.
//!
//! The sidecar's own RPCs are few and their answers carry trailers and details that a generated server does not
//! let through, so they are framed here. Owns nothing of what the messages mean.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message;
use tonic::{Code, Status};

use super::{
    chunks::{self, PREFIX},
    headers::MAX_NAMES,
};
use crate::body::{self, Body, BodyError};

/// Content type of a gRPC answer.
pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
/// Content type of the calls that proxies make.
pub(crate) const CONTENT_TYPE_PROTO: HeaderValue =
    HeaderValue::from_static("application/grpc+proto");

/// Where a status has its details.
const DETAILS: &str = "grpc-status-details-bin";
/// What they are written in; some peers leave the padding off.
const DETAILS_TEXT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A unary request or response as it comes in.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// A message that came in one frame stays the slice it is.
    slices: Vec<Bytes>,
    head: BytesMut,
    size: usize,
    trailers: Option<HeaderMap>,
}

// === impl Gathered ===

impl Gathered {
    /// Takes a frame.
    ///
    /// # Errors
    /// ResourceExhausted for a message above `limit` bytes, Internal for more than one.
    pub(crate) fn push(&mut self, frame: Frame<Bytes>, limit: usize) -> Result<(), Status> {
        match frame.into_data() {
            Ok(data) => {
                let missing = data.len().min(PREFIX - self.head.len());
                self.head
                    .extend_from_slice(data.get(..missing).unwrap_or_default());
                self.size += data.len();
                check_size(&self.head, self.size, limit)?;
                self.slices.push(data);
            }
            Err(frame) => self.trailers = frame.into_trailers().ok(),
        }
        Ok(())
    }

    /// The message, if there is one, and the trailers.
    ///
    /// # Errors
    /// Internal for less than a message, Unimplemented for a compressed one.
    pub(crate) fn finish(self) -> Result<(Option<Bytes>, Option<HeaderMap>), Status> {
        if self.size == 0 {
            return Ok((None, self.trailers));
        }
        let bytes = match <[Bytes; 1]>::try_from(self.slices) {
            Ok([only]) => only,
            Err(several) => several.concat().into(),
        };
        Ok((Some(strip_prefix(bytes)?), self.trailers))
    }

    /// The message of a unary request.
    ///
    /// # Errors
    /// Those of [`Self::finish`], and Internal if there is no message.
    pub(crate) fn message(self) -> Result<Bytes, Status> {
        let (message, _) = self.finish()?;
        message.ok_or_else(|| Status::internal("no message in a unary call"))
    }
}

/// Reads a unary request or response: its message, if there is one, and its trailers.
///
/// # Errors
/// ResourceExhausted above `limit` bytes, Internal for a body that holds no whole message, Unimplemented for a
/// compressed one.
pub(crate) async fn read_unary(
    body: Body,
    limit: usize,
) -> Result<(Option<Bytes>, Option<HeaderMap>), Status> {
    read(body, limit).await?.finish()
}

/// Reads the message of a unary request.
///
/// # Errors
/// Those of [`read_unary`], and Internal if there is no message.
pub(crate) async fn read_message(body: Body, limit: usize) -> Result<Bytes, Status> {
    read(body, limit).await?.message()
}

async fn read(mut body: Body, limit: usize) -> Result<Gathered, Status> {
    let mut gathered = Gathered::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| from_body_error(&error))?;
        gathered.push(frame, limit)?;
    }
    Ok(gathered)
}

fn check_size(head: &[u8], so_far: usize, limit: usize) -> Result<(), Status> {
    let Some([_, a, b, c, d]) = head.first_chunk::<PREFIX>() else {
        return Ok(());
    };
    let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    if size > limit {
        return Err(Status::resource_exhausted(format!(
            "grpc: received message larger than max ({size} vs. {limit})"
        )));
    }
    if so_far > PREFIX + size {
        return Err(Status::internal("more than one message in a unary call"));
    }
    Ok(())
}

fn strip_prefix(mut bytes: Bytes) -> Result<Bytes, Status> {
    let Some([compressed, a, b, c, d]) = bytes.first_chunk::<PREFIX>().copied() else {
        return Err(Status::internal("no message in a unary call"));
    };
    if compressed != 0 {
        return Err(Status::unimplemented(
            "compressed messages are not supported here: send identity",
        ));
    }
    let payload = bytes.split_off(PREFIX);
    if payload.len() != u32::from_be_bytes([a, b, c, d]) as usize {
        return Err(Status::internal("unexpected EOF"));
    }
    Ok(payload)
}

/// What a broken body means to a gRPC caller.
pub(crate) fn from_body_error(error: &BodyError) -> Status {
    match error {
        BodyError::TooLarge | BodyError::MessageTooLarge { .. } => {
            Status::resource_exhausted(error.to_string())
        }
        BodyError::Peer { code, message } => Status::new(*code, message.as_ref()),
        BodyError::Denied(status) => Status::clone(status),
        BodyError::SecondMessage => Status::failed_precondition(error.to_string()),
        BodyError::Deadline | BodyError::Idle(_) => Status::deadline_exceeded(error.to_string()),
        BodyError::Connection(_) | BodyError::Cut => Status::unavailable(error.to_string()),
        BodyError::Sequence { .. }
        | BodyError::LateRequest
        | BodyError::LateResponse
        | BodyError::Malformed(_) => Status::internal(error.to_string()),
    }
}

/// Decodes a message of a unary call.
///
/// # Errors
/// Internal, in the words of the gRPC library of the reference.
pub(crate) fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes)
        .map_err(|error| Status::internal(format!("grpc: error unmarshalling request: {error}")))
}

/// Trailers that say `status`, details included.
pub(crate) fn status_trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(4);
    // Percent-encoding makes every message a legal header value.
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
        .entry("grpc-message")
        .or_insert(HeaderValue::from_static(""));
    trailers
}

/// An answer that is only a status.
pub(crate) fn error(status: &Status) -> Response<Body> {
    error_with(status, HeaderMap::new())
}

/// An answer that is only a status, with more headers.
pub(crate) fn error_with(status: &Status, headers: HeaderMap) -> Response<Body> {
    let mut all = headers;
    all.extend(status_trailers(status));
    head(all, body::empty())
}

/// An answer of initial metadata, perhaps a message, and a status with trailing metadata.
pub(crate) fn answer(
    initial: HeaderMap,
    message: Option<Bytes>,
    status: &Status,
    trailing: HeaderMap,
) -> Response<Body> {
    let mut trailers = trailing;
    trailers.extend(status_trailers(status));
    let data = message.map(|bytes| Ok(Frame::data(bytes)));
    let frames = data
        .into_iter()
        .chain([Ok::<_, BodyError>(Frame::trailers(trailers))]);
    head(
        initial,
        StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())).boxed_unsync(),
    )
}

/// A unary answer with one message and OK.
pub(crate) fn unary(message: &impl Message) -> Response<Body> {
    answer(
        HeaderMap::new(),
        Some(chunks::message(message)),
        &Status::new(Code::Ok, ""),
        HeaderMap::new(),
    )
}

fn head(headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

/// The status that a finished call carries in its trailers or, without a body, in its headers.
pub(crate) fn status_in(headers: &HeaderMap) -> Option<Status> {
    let is_broken = |details: &HeaderValue| DETAILS_TEXT.decode(details.as_bytes()).is_err();
    if !headers.get(DETAILS).is_some_and(is_broken) {
        return Status::from_header_map(headers);
    }
    // The reader below would panic.
    let mut whole = headers.clone();
    whole.remove(DETAILS);
    Status::from_header_map(&whole)
}

/// The same as the number that stands there, which need not be one that gRPC knows.
pub(crate) fn number_in(headers: &HeaderMap) -> Option<u32> {
    let value = headers.get("grpc-status")?.to_str().ok()?;
    // What is no number is Unknown.
    Some(value.parse().unwrap_or(2))
}

/// Drops the status from metadata that is forwarded; encoded details stay, for they are the app's own bytes.
pub(crate) fn without_status(mut headers: HeaderMap) -> HeaderMap {
    for name in ["grpc-status", "grpc-message"] {
        headers.remove(name);
    }
    headers
}

/// Refuses a call with more values of metadata than any legitimate one has.
///
/// # Errors
/// ResourceExhausted, naming the bound.
pub(crate) fn check_values(headers: &HeaderMap) -> Result<(), Status> {
    match headers.len() {
        0..=MAX_NAMES => Ok(()),
        found => Err(Status::resource_exhausted(format!(
            "{found} metadata values, at most {MAX_NAMES} are taken"
        ))),
    }
}

/// Reads `grpc-timeout`.
///
/// Source: the gRPC wire protocol: up to eight digits and a unit of `H M S m u n`.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<std::time::Duration> {
    use std::time::Duration;
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value.saturating_mul(3600)),
        "M" => Duration::from_secs(value.saturating_mul(60)),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// Writes `grpc-timeout` in the finest unit that eight digits hold.
pub(crate) fn timeout_value(left: std::time::Duration) -> HeaderValue {
    const MAX: u128 = 99_999_999;
    let text = [
        (left.as_nanos(), 'n'),
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
    ]
    .into_iter()
    .find(|(value, _)| *value <= MAX)
    .map_or_else(
        || format!("{}S", u128::from(left.as_secs()).min(MAX)),
        |(value, unit)| format!("{value}{unit}"),
    );
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("99999999S"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_message_is_read_whole_or_refused() {
        let wire = |bytes: &'static [u8]| body::full(Bytes::from_static(bytes));
        assert_eq!(
            read_message(wire(b"\0\0\0\0\x02ab"), 2).await.unwrap(),
            "ab"
        );
        for (bytes, limit, code) in [
            (b"\0\0\0\0\x03abc".as_slice(), 2, Code::ResourceExhausted),
            (b"\0\0\0\0\x03ab", 9, Code::Internal),
            (b"\0\0\0", 9, Code::Internal),
            (b"", 9, Code::Internal),
            (b"\x01\0\0\0\0", 9, Code::Unimplemented),
            (b"\0\0\0\0\x01abc", 9, Code::Internal),
        ] {
            assert_eq!(
                read_message(wire(bytes), limit).await.unwrap_err().code(),
                code,
                "{bytes:?}"
            );
        }
    }

    /// An app writes what it likes.
    #[test]
    fn details_that_cannot_be_read_are_left_out() {
        for (text, details) in [
            ("CAkSBmZwIG1zZw", true),
            ("CAkSBmZwIG1zZw==", true),
            ("%%", false),
            ("CAk$", false),
            ("a", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", HeaderValue::from_static("9"));
            headers.insert("grpc-message", HeaderValue::from_static("no"));
            headers.insert(DETAILS, HeaderValue::from_static(text));
            let status = status_in(&headers).unwrap();
            assert_eq!(
                (status.code(), status.message()),
                (Code::FailedPrecondition, "no")
            );
            assert_eq!(!status.details().is_empty(), details, "{text}");
        }
    }

    #[test]
    fn timeouts_survive() {
        for (text, duration) in [
            ("1S", 1000),
            ("100m", 100),
            ("2M", 120_000),
            ("1H", 3_600_000),
        ] {
            let headers =
                HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]);
            assert_eq!(timeout(&headers), Some(Duration::from_millis(duration)));
        }
        for bad in ["", "S", "1", "-1S", "123456789S", "1x"] {
            let headers =
                HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), bad.parse().unwrap())]);
            assert_eq!(timeout(&headers), None, "{bad}");
        }
        assert_eq!(timeout_value(Duration::from_millis(999)), "999000u");
        assert_eq!(timeout_value(Duration::from_secs(600)), "600000m");
        assert_eq!(timeout_value(Duration::from_secs(1_000_000)), "1000000S");
    }
}
