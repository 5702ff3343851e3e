//! The end of a sidecar in a cluster, before its listeners close.
//!
//! A pod's end is known everywhere only a moment after it began: peers still find it, and where app and sidecar are
//! stopped together, the app's last calls are still to come. Owns how long all of that is served: until no call began
//! for a moment and the app is gone, within half of the grace period, so that the last of these calls has as long
//! again. What was open before is not waited for here. Connected peers are sent elsewhere meanwhile (`depart`).
//! Source: kubernetes 2.13, 7.

use std::time::Duration;

use tracing::info;

use super::LOG;
use crate::{channel::health, worker::Shared};

/// So long nothing may have been called.
const QUIET: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at the app's port.
const KNOCK: Duration = Duration::from_millis(250);
/// Without a grace period's end, this is the longest.
const LONGEST: Duration = Duration::from_millis(2500);

/// The longest that is lingered: the rest of the grace period is for calls under way.
pub(super) fn limit(grace: Option<Duration>) -> Duration {
    grace.map_or(LONGEST, |grace| grace / 2)
}

/// Returns when nothing is called any more, or after `limit`.
pub(super) async fn until_quiet(shared: &Shared, limit: Duration) {
    shared.traffic.depart();
    let began = shared.clock.monotonic();
    let (mut seen, mut quiet_since) = (shared.traffic.ever(), began);
    loop {
        tokio::time::sleep(LOOK).await;
        let now = shared.clock.monotonic();
        if now - began >= limit {
            info!(target: LOG, "callers have had {limit:?} to go");
            return;
        }
        let ever = shared.traffic.ever();
        if shared.traffic.is_busy() || ever != seen {
            (seen, quiet_since) = (ever, now);
            continue;
        }
        if now - quiet_since < QUIET {
            continue;
        }
        match &shared.config.app {
            // It may call as long as it lives.
            Some(app) if health::is_listening(app).await => tokio::time::sleep(KNOCK).await,
            Some(_) | None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_grace_period_is_left() {
        assert_eq!(
            limit(Some(Duration::from_secs(5))),
            Duration::from_millis(2500)
        );
        assert_eq!(limit(Some(Duration::ZERO)), Duration::ZERO);
        assert_eq!(limit(None), LONGEST);
    }
}
