//! A word between our own sidecars: the app knows nothing of this call.
//!
//! In a cluster a sidecar outlives its app for a moment, while its callers still know the pod: a call that finds the
//! app's port closed did nothing. Nor did one for which a connection was chosen that the app had closed meanwhile. The
//! caller may make such a call again, whatever it was; other peers ignore the word.

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Status, metadata::MetadataValue};

const NAME: &str = "ironside-undelivered";
const UNDELIVERED: HeaderName = HeaderName::from_static(NAME);
/// The word where nobody takes connections.
const GONE: &str = "1";
/// The word where the app itself may be well.
const CLOSED: &str = "closed";

/// What kept a call from the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nobody takes connections.
    AppGone,
    /// One connection ended.
    ConnectionClosed,
}

// === impl Cause ===

impl Cause {
    const fn word(self) -> &'static str {
        match self {
            Self::AppGone => GONE,
            Self::ConnectionClosed => CLOSED,
        }
    }

    /// A word that a later version may have is the older one: nothing arrived.
    fn of(word: &HeaderValue) -> Self {
        if word == CLOSED {
            Self::ConnectionClosed
        } else {
            Self::AppGone
        }
    }
}

/// A status that says it.
pub(crate) fn marked(mut status: Status, cause: Cause) -> Status {
    let word = MetadataValue::from_static(cause.word());
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

/// What the callee's sidecar said in the head of its answer.
pub(crate) fn cause(headers: &HeaderMap) -> Option<Cause> {
    headers.get(UNDELIVERED).map(Cause::of)
}

/// Takes the word off an answer.
pub(crate) fn take(headers: &mut HeaderMap) -> Option<Cause> {
    headers.remove(UNDELIVERED).as_ref().map(Cause::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_that_says_it_is_marked() {
        let mut headers = HeaderMap::new();
        let plain = Status::internal("no");
        mark(&mut headers, &plain);
        assert_eq!(cause(&headers), None);
        for said in [Cause::AppGone, Cause::ConnectionClosed] {
            mark(&mut headers, &marked(plain.clone(), said));
            assert_eq!(cause(&headers), Some(said));
        }
        assert_eq!(take(&mut headers), Some(Cause::ConnectionClosed));
        assert_eq!(take(&mut headers), None);
        headers.insert(UNDELIVERED, HeaderValue::from_static("later"));
        assert_eq!(cause(&headers), Some(Cause::AppGone));
    }
}
