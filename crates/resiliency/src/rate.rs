//! A token bucket: so many a second, so many at once.
//!
//! Kept as the one instant at which the bucket would be full again, so a bucket is two words and taking a token
//! is a comparison. Source: resiliency-observability 6.2, row "Rate limiting".

use std::time::Duration;

use ironside_resources::resiliency::RateLimit;

/// The tokens of a target, or of a caller.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    limit: RateLimit,
    /// Time between two tokens.
    interval: Duration,
    /// When it is full again.
    full: Duration,
}

// === impl TokenBucket ===

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(limit: RateLimit) -> Self {
        // Rounded up, so that the rate is never exceeded.
        let interval = Duration::from_secs_f64(1.0 / limit.requests_per_second);
        let interval = interval.saturating_add(Duration::from_nanos(1));
        Self {
            limit,
            interval,
            full: Duration::ZERO,
        }
    }

    /// How it was defined.
    #[must_use]
    pub const fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time until there is one.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let spare = self.limit.burst.get() - 1;
        let earliest = self
            .full
            .saturating_sub(self.interval.saturating_mul(spare));
        if now < earliest {
            return Err(earliest.saturating_sub(now));
        }
        self.full = self.full.max(now).saturating_add(self.interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    fn bucket(requests_per_second: f64, burst: u32) -> TokenBucket {
        TokenBucket::new(RateLimit {
            requests_per_second,
            burst: NonZeroU32::new(burst).unwrap(),
        })
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = bucket(10.0, 3);
        for _ in 0..3 {
            assert_eq!(bucket.take(at(1000)), Ok(()));
        }
        let wait = bucket.take(at(1000)).unwrap_err();
        assert_eq!(wait.as_millis(), 100);
        assert!(bucket.take(at(1050)).is_err());
        assert_eq!(bucket.take(at(1101)), Ok(()));
        assert!(bucket.take(at(1102)).is_err());
        for _ in 0..3 {
            assert_eq!(bucket.take(at(60_000)), Ok(()));
        }
        assert!(bucket.take(at(60_000)).is_err());
    }

    proptest! {
        /// In any span there are at most the burst and what came in since.
        #[test]
        fn the_rate_is_never_exceeded(
            rate in 0.01_f64..500.0,
            burst in 1_u32..20,
            steps in prop::collection::vec(0_u64..200, 1..300),
        ) {
            let mut bucket = bucket(rate, burst);
            let (mut now, mut taken) = (0, Vec::new());
            for step in steps {
                now += step;
                if bucket.take(at(now)).is_ok() {
                    taken.push(now);
                }
            }
            for (first, start) in taken.iter().enumerate() {
                for (last, end) in taken.iter().enumerate().skip(first) {
                    let span = (end - start) as f64 / 1000.0;
                    let bound = f64::from(burst) + span * rate;
                    prop_assert!((last - first + 1) as f64 <= bound + 1e-6);
                }
            }
        }

        #[test]
        fn waiting_as_long_as_told_is_enough(rate in 0.01_f64..500.0, burst in 1_u32..20, tries in 1_u32..50) {
            let (mut bucket, mut now) = (bucket(rate, burst), Duration::ZERO);
            for _ in 0..tries {
                if let Err(wait) = bucket.take(now) {
                    now += wait;
                    prop_assert_eq!(bucket.take(now), Ok(()));
                }
            }
        }
    }
}
