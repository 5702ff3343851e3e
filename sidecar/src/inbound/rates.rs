//! How fast each caller may call: a token bucket for each identity that was proved.
//!
//! Callers without a certificate share one, because what they say of themselves proves nothing. The table is
//! bounded; the caller that was silent for longest goes first. Part of stage 20, `admit`. Source:
//! resiliency-observability 6.2, row "Rate limiting".

use std::{
    collections::hash_map::RandomState,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hashlink::LruCache;
use ironside_identity::VerifiedPeer;
use ironside_resiliency::TokenBucket;
use ironside_resources::resiliency::RateLimit;

/// Callers with a bucket of their own.
const MAX_CALLERS: usize = 4096;

/// The buckets of all callers.
pub(crate) struct Rates(Mutex<LruCache<Box<str>, TokenBucket, RandomState>>);

// === impl Rates ===

impl Rates {
    /// Takes a token of this caller.
    ///
    /// # Errors
    /// The time until there is one.
    pub(crate) fn take(
        &self,
        limit: RateLimit,
        peer: Option<&VerifiedPeer>,
        now: Duration,
    ) -> Result<(), Duration> {
        let caller = peer.map(|peer| peer.id.to_string()).unwrap_or_default();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another limit is another bucket.
        let known = buckets.get_mut(&*caller);
        if let Some(bucket) = known.filter(|bucket| bucket.limit() == limit) {
            return bucket.take(now);
        }
        let mut bucket = TokenBucket::new(limit);
        let taken = bucket.take(now);
        buckets.insert(caller.into(), bucket);
        taken
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self(Mutex::new(LruCache::with_hasher(
            MAX_CALLERS,
            RandomState::new(),
        )))
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limit(burst: u32) -> RateLimit {
        RateLimit {
            requests_per_second: 1.0,
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let rates = Rates::default();
        let at = Duration::from_secs;
        assert_eq!(rates.take(limit(2), None, at(10)), Ok(()));
        assert_eq!(rates.take(limit(2), None, at(10)), Ok(()));
        let wait = rates.take(limit(2), None, at(10)).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= at(2), "{wait:?}");
        assert_eq!(rates.take(limit(2), None, at(12)), Ok(()));
        // A new limit begins anew.
        assert_eq!(rates.take(limit(1), None, at(12)), Ok(()));
        assert!(rates.take(limit(1), None, at(12)).is_err());
    }
}
