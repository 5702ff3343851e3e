//! `POST /v1.0/shutdown` and gRPC `Shutdown`: an app ends its sidecar.
//!
//! Owns [`ShutdownHandle`], over which any data thread asks, and the meaning of `dapr-force-shutdown`.
//! Refuses to own what follows: `app.rs` drains, or exits with 1.

use http::HeaderMap;
use tokio::sync::watch;
use tracing::info;

/// Header and metadata key that asks for an end without drain.
const FORCE: &str = "dapr-force-shutdown";

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Drain, then exit 0. Not delayed by block-shutdown.
    Graceful,
    /// Exit 1 without drain.
    Forced,
}

/// Ends the process on request. Clones ask the same process.
#[derive(Debug, Clone)]
pub(crate) struct ShutdownHandle(watch::Sender<Option<Asked>>);

/// Where requests for an end arrive.
#[derive(Debug)]
pub(crate) struct ShutdownRequests(watch::Receiver<Option<Asked>>);

/// A handle and its other end.
pub(crate) fn channel() -> (ShutdownHandle, ShutdownRequests) {
    let (sender, receiver) = watch::channel(None);
    (ShutdownHandle(sender), ShutdownRequests(receiver))
}

// === impl ShutdownHandle ===

impl ShutdownHandle {
    /// Asks for the end in the way the headers say. A forced end is never softened again.
    pub(crate) fn request(&self, headers: &HeaderMap) {
        let forced = headers
            .get(FORCE)
            .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"true"));
        info!(target: "dapr.api", "Shutdown requested via API");
        self.0.send_if_modified(|asked| match (*asked, forced) {
            (_, true) => asked.replace(Asked::Forced) != Some(Asked::Forced),
            (None, false) => asked.replace(Asked::Graceful).is_none(),
            (Some(_), false) => false,
        });
    }
}

// === impl ShutdownRequests ===

impl ShutdownRequests {
    /// Waits for the next request; pending for ever once nobody can ask.
    pub(crate) async fn next(&mut self) -> Asked {
        loop {
            if self.0.changed().await.is_err() {
                return std::future::pending().await;
            }
            if let Some(asked) = *self.0.borrow_and_update() {
                return asked;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(FORCE.parse().unwrap(), value.parse().unwrap())])
    }

    #[tokio::test]
    async fn force_is_true_in_any_case_and_wins() {
        let (handle, mut requests) = channel();
        handle.request(&HeaderMap::new());
        assert_eq!(requests.next().await, Asked::Graceful);
        handle.request(&headers("TRUE"));
        assert_eq!(requests.next().await, Asked::Forced);
        handle.request(&headers("false"));
        assert_eq!(*requests.0.borrow(), Some(Asked::Forced));
    }

    #[tokio::test]
    async fn other_values_of_the_header_do_not_force() {
        for value in ["", "1", "yes", "false"] {
            let (handle, mut requests) = channel();
            handle.request(&headers(value));
            assert_eq!(requests.next().await, Asked::Graceful, "{value:?}");
        }
    }
}
