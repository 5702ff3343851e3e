//! A word between our own sidecars: the app knows nothing of this call.
//!
//! In a cluster a sidecar outlives its app for a moment, while its callers still know the pod: a call that finds the
//! app's port closed did nothing. Nor did one for which a connection was chosen that the app had closed meanwhile. The
//! caller may make such a call again, whatever it was; other peers ignore the word.

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{
    Status,
    metadata::{MetadataMap, MetadataValue},
};

const NAME: &str = "ironside-undelivered";
const UNDELIVERED: HeaderName = HeaderName::from_static(NAME);
/// What the word is where the app itself may be well.
const CLOSED: &str = "closed";

/// What kept a call from the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nobody takes connections.
    AppGone,
    /// One connection ended.
    ConnectionClosed,
}

/// A status that says it.
pub(crate) fn marked(mut status: Status, cause: Cause) -> Status {
    let word = MetadataValue::from_static(match cause {
        Cause::AppGone => "1",
        Cause::ConnectionClosed => CLOSED,
    });
    status.metadata_mut().insert(NAME, word);
    status
}

/// Says in the head of an answer what its status says.
pub(crate) fn mark(headers: &mut HeaderMap, status: &Status) {
    let word = status.metadata().get(NAME);
    let word = word.and_then(|word| HeaderValue::from_bytes(word.as_encoded_bytes()).ok());
    if let Some(word) = word {
        headers.insert(UNDELIVERED, word);
    }
}

/// True if the callee's sidecar said it.
pub(crate) fn is_marked(headers: &HeaderMap) -> bool {
    headers.contains_key(UNDELIVERED)
}

/// True if a status says that one connection ended, and nothing against the app.
pub(crate) fn is_of_connection(metadata: &MetadataMap) -> bool {
    metadata.get(NAME).is_some_and(|word| word == CLOSED)
}

/// Takes the word off an answer; true if it was there.
pub(crate) fn take(headers: &mut HeaderMap) -> bool {
    headers.remove(UNDELIVERED).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_that_says_it_is_marked() {
        let mut headers = HeaderMap::new();
        let plain = Status::internal("no");
        mark(&mut headers, &plain);
        assert!(!is_marked(&headers));
        mark(&mut headers, &marked(plain.clone(), Cause::AppGone));
        assert!(!is_of_connection(&MetadataMap::from_headers(
            headers.clone()
        )));
        mark(&mut headers, &marked(plain, Cause::ConnectionClosed));
        assert!(is_of_connection(&MetadataMap::from_headers(
            headers.clone()
        )));
        assert!(is_marked(&headers));
        assert!(take(&mut headers));
        assert!(!take(&mut headers));
    }
}
