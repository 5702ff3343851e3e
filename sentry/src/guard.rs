//! What keeps the authority in effect the right one: the watch on its files, and the eye on its end.
//!
//! Owns fact O-S8 (a changed issuer is verified and swapped in place, a bad one is reported and the old one kept) and
//! fact O-S11 (warnings below 30 days, health lost below one). Listeners and connections never notice.

use crate::authority::{Authority, AuthorityError};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};
use ironside_chassis::Clock;
use ironside_chassis::health::Target;
use ironside_transport::{FileWatch, Utc};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The logger of the reference.
const SCOPE: &str = "dapr.sentry";
/// The files count as written when they have been quiet for so long (the reference collects changes for 2 s).
pub(crate) const SETTLE: Duration = Duration::from_secs(2);
/// The end of the authority is looked at this often.
const LOOK: Duration = Duration::from_secs(60);
/// How often a person is warned, in looks.
const LOOKS_PER_WARNING: u32 = 60;
const DAY: Duration = Duration::from_secs(86_400);

/// Why there is no authority in the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the issuer credentials are gone")]
    Gone,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// How far the end of the authority is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Far,
    /// Below 30 days: a person should act.
    Near,
    /// Below one day: what is issued now lives shorter than it should.
    Here,
}

/// Reads and verifies what is in the store.
///
/// # Errors
/// [`LoadError`] says what is missing or does not fit.
pub(crate) fn load(store: &Store, now: SystemTime) -> Result<Authority, LoadError> {
    let texts = store.read()?.ok_or(LoadError::Gone)?;
    Ok(Authority::from_pem(
        &texts.root,
        &texts.issuer,
        &texts.key,
        now,
    )?)
}

/// Swaps the authority whenever its files change into another good one; for ever.
pub(crate) async fn follow_files(
    mut files: FileWatch,
    store: Store,
    publish: watch::Sender<Arc<Authority>>,
    metrics: Metrics,
    clock: Clock,
) {
    loop {
        files.changed().await;
        metrics.issuer_changed.inc();
        warn!(target: SCOPE, "Issuer credentials changed; reloading");
        match load(&store, clock.now()) {
            Ok(authority) => {
                publish.send_replace(Arc::new(authority));
                info!(target: SCOPE, "CA certificate key pair ready");
            }
            Err(cause) => {
                metrics.reload_failed.inc();
                error!(target: SCOPE, "Issuer credentials cannot be used, the old ones stay in effect: {cause}");
            }
        }
    }
}

/// Shows the end of the authority in metrics, log and health; for ever.
pub(crate) async fn watch_expiry(
    mut authority: watch::Receiver<Arc<Authority>>,
    health: Target,
    metrics: Metrics,
    clock: Clock,
) {
    let mut looks = 0_u32;
    loop {
        let current = Arc::clone(&authority.borrow_and_update());
        metrics.show_expiry(
            current.issuer_not_after(),
            current.bundle().earliest_expiry(),
        );
        let ends = current.issuer_not_after().min(current.anchors_not_after());
        let end = End::of(clock.now(), ends);
        match end {
            End::Far | End::Near => health.ready(),
            End::Here => health.not_ready(),
        }
        if end != End::Far && looks.is_multiple_of(LOOKS_PER_WARNING) {
            warn!(target: SCOPE, "The certificate authority expires on: {}; replace it before", Utc(ends));
        }
        looks = looks.wrapping_add(1);
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            Ok(()) = authority.changed() => looks = 0,
        }
    }
}

// === impl End ===

impl End {
    fn of(now: SystemTime, ends: SystemTime) -> Self {
        match ends.duration_since(now).unwrap_or_default() {
            left if left < DAY => Self::Here,
            left if left < 30 * DAY => Self::Near,
            _ => Self::Far,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fact: security.md O-S11.
    #[test]
    fn the_end_comes_nearer() {
        let now = SystemTime::UNIX_EPOCH + 1000 * DAY;
        let hour = DAY / 24;
        assert_eq!(End::of(now, now + 31 * DAY), End::Far);
        assert_eq!(End::of(now, now + 30 * DAY - hour), End::Near);
        assert_eq!(End::of(now, now + DAY), End::Near);
        assert_eq!(End::of(now, now + DAY - hour), End::Here);
        assert_eq!(End::of(now, now - DAY), End::Here);
    }
}
