//! The little gRPC that the demo speaks: two messages and their frames.
//!
//! Written out by hand, because the sample stands for an app that knows nothing of this project: plain HTTP/2, the
//! `Greeter` of every gRPC tutorial, no shared code with the sidecar.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;

/// Unary: one greeting.
pub(super) const SAY_HELLO: &str = "/helloworld.Greeter/SayHello";
/// Both sides stream: a greeting for every name.
pub(super) const SAY_HELLO_STREAM: &str = "/helloworld.Greeter/SayHelloStream";
/// The content type of gRPC.
pub(super) const GRPC: &str = "application/grpc";

/// Bytes before each message: a flag and the length.
const PREFIX: usize = 5;
/// The largest message that is taken; names are short.
const LARGEST: usize = 64 << 10;
/// Field 1 as a string, in the messages of both directions.
const FIELD: u8 = 0x0a;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The body broke off.
    #[error("the stream broke: {0}")]
    Broken(String),
    /// Not what was agreed on.
    #[error("not a message of the Greeter")]
    Garbled,
}

/// Reads message after message from a body.
pub(super) struct Messages<B> {
    body: B,
    buffer: BytesMut,
    /// The trailers, once the body has ended.
    pub trailers: Option<http::HeaderMap>,
}

/// A message with its frame: one string in field 1.
pub(super) fn frame(text: &str) -> Bytes {
    let mut message = BytesMut::new();
    message.put_u8(FIELD);
    put_varint(&mut message, text.len());
    message.put_slice(text.as_bytes());
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    frame.freeze()
}

fn put_varint(to: &mut BytesMut, mut value: usize) {
    while value > 0x7f {
        to.put_u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    to.put_u8(u8::try_from(value).unwrap_or(0));
}

fn text(mut message: Bytes) -> Result<String, WireError> {
    if message.is_empty() {
        // A string that is empty is not written at all.
        return Ok(String::new());
    }
    if message.try_get_u8() != Ok(FIELD) {
        return Err(WireError::Garbled);
    }
    let mut length = 0usize;
    for shift in [0u32, 7, 14] {
        let byte = message.try_get_u8().map_err(|_short| WireError::Garbled)?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if length != message.len() {
        return Err(WireError::Garbled);
    }
    String::from_utf8(message.into()).map_err(|_other| WireError::Garbled)
}

// === impl Messages ===

impl<B> Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// Reads the messages of this body.
    pub(super) fn of(body: B) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            trailers: None,
        }
    }

    /// The text of the next message; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<String>, WireError> {
        loop {
            if let Some(message) = self.take()? {
                return text(message).map(Some);
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| WireError::Broken(error.to_string()))?;
            match frame.into_data() {
                Ok(data) => self.buffer.put(data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [flag, a, b, c, d] = *prefix;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d]))
            .map_err(|_large| WireError::Garbled)?;
        if flag != 0 || length > LARGEST {
            return Err(WireError::Garbled);
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    async fn read(bytes: Bytes) -> Vec<Result<Option<String>, String>> {
        let mut messages = Messages::of(Full::new(bytes));
        let mut seen = Vec::new();
        loop {
            let next = messages.next().await.map_err(|error| error.to_string());
            let ended = !matches!(next, Ok(Some(_)));
            seen.push(next);
            if ended {
                return seen;
            }
        }
    }

    #[tokio::test]
    async fn messages_come_back_as_they_went() {
        let long = "x".repeat(300);
        let bytes = [frame("Ada"), frame(""), frame(&long)].concat();
        let expected = [
            Ok(Some("Ada".to_owned())),
            Ok(Some(String::new())),
            Ok(Some(long)),
            Ok(None),
        ];
        assert_eq!(read(bytes.into()).await, expected);
    }

    #[tokio::test]
    async fn garbage_is_refused() {
        for bytes in [
            &b"\x01\0\0\0\0"[..],
            b"\0\xff\xff\xff\xff",
            b"\0\0\0\0\x02\x12\x00",
            b"\0\0\0\0\x03\x0a\x09x",
        ] {
            let seen = read(Bytes::copy_from_slice(bytes)).await;
            assert_eq!(seen, [Err("not a message of the Greeter".to_owned())]);
        }
    }
}
