//! Length-prefixed gRPC messages and header lists.

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Names and values in the order of the wire; binary values stay in their base64 text.
pub type Headers = Vec<(String, String)>;

/// Puts the five-byte prefix before a message.
#[must_use]
pub fn encode(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    framed.into()
}

/// Cuts messages out of the data of a stream.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    ahead: Vec<u8>,
}

impl Decoder {
    /// The next message; `None` at the end of the stream; an error is a reset or a broken connection.
    pub(super) async fn next(
        &mut self,
        stream: &mut RecvStream,
    ) -> Result<Option<Vec<u8>>, h2::Error> {
        loop {
            if let Some(message) = self.cut() {
                return Ok(Some(message));
            }
            let Some(data) = stream.data().await else {
                return Ok(None);
            };
            let data = data?;
            stream.flow_control().release_capacity(data.len())?;
            self.ahead.extend_from_slice(&data);
        }
    }

    fn cut(&mut self) -> Option<Vec<u8>> {
        let prefix: [u8; 4] = self.ahead.get(1..5)?.try_into().ok()?;
        let length = usize::try_from(u32::from_be_bytes(prefix)).ok()?;
        let end = length.checked_add(5)?;
        let message = self.ahead.get(5..end)?.to_vec();
        self.ahead.drain(..end);
        Some(message)
    }
}

/// Reads a header map as a list.
pub(super) fn list(map: &HeaderMap) -> Headers {
    map.iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}

/// Writes a list into a header map; what is no legal header is left out.
pub(super) fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let legal = pairs.iter().filter_map(|(name, value)| {
        Some((
            HeaderName::from_bytes(name.as_bytes()).ok()?,
            HeaderValue::from_str(value).ok()?,
        ))
    });
    let mut map = HeaderMap::new();
    for (name, value) in legal {
        map.append(name, value);
    }
    map
}

/// The first value of `name` in a list.
#[must_use]
pub fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// All values of `name` in a list.
#[must_use]
pub fn values<'a>(headers: &'a Headers, name: &str) -> Vec<&'a str> {
    headers
        .iter()
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
        .collect()
}
