//! A word between our own sidecars: the app knows nothing of this call.
//!
//! In a cluster a sidecar outlives its app for a moment, while its callers still know the pod. A call that finds the
//! app's port closed did nothing, so its caller may make it elsewhere, whatever it was; other peers ignore the word.

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Status, metadata::MetadataValue};

const NAME: &str = "ironside-undelivered";
const UNDELIVERED: HeaderName = HeaderName::from_static(NAME);

/// A status that says it.
pub(crate) fn marked(mut status: Status) -> Status {
    let one = MetadataValue::from_static("1");
    status.metadata_mut().insert(NAME, one);
    status
}

/// Says in the head of an answer what its status says.
pub(crate) fn mark(headers: &mut HeaderMap, status: &Status) {
    if status.metadata().contains_key(NAME) {
        headers.insert(UNDELIVERED, HeaderValue::from_static("1"));
    }
}

/// True if the callee's sidecar said it.
pub(crate) fn is_marked(headers: &HeaderMap) -> bool {
    headers.contains_key(UNDELIVERED)
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
        mark(&mut headers, &marked(plain));
        assert!(is_marked(&headers));
        assert!(take(&mut headers));
        assert!(!take(&mut headers));
    }
}
