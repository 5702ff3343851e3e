//! When to ask for the next SVID, and how long to wait after a failure.
//!
//! Arithmetic on instants, nothing else: the caller brings the clock, the randomness and the asking. The rules are
//! fact O-C3; they differ from the reference, which loops without a pause when the certificate's life is shorter
//! than the allowed clock skew (security 2.3).

use rand::Rng;
use std::time::{Duration, SystemTime};

/// Share of the life from receipt to NotAfter that passes before renewal.
const SHARE: f64 = 0.5;
/// Jitter on that share, either way.
const JITTER: f64 = 0.1;
/// No two attempts are closer than this.
const MIN_GAP: Duration = Duration::from_secs(5);

/// Pauses between failed attempts: doubling from `first` to `longest`, each shortened by up to a quarter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

/// Returns the instant at which an SVID received at `received` should be renewed.
///
/// It lies at half of what is left of its life, 10 % sooner or later, and never sooner than 5 s after receipt.
/// # Source
/// Fact O-C3.
pub fn renew_at(received: SystemTime, not_after: SystemTime, rng: &mut impl Rng) -> SystemTime {
    let life = not_after.duration_since(received).unwrap_or_default();
    let share = SHARE * rng.random_range(1.0 - JITTER..=1.0 + JITTER);
    received + life.mul_f64(share).max(MIN_GAP)
}

// === impl Backoff ===

impl Backoff {
    /// The pauses of a renewal: 1 s to 60 s (fact O-C3).
    #[must_use]
    pub fn renewal() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// The pauses at start: 250 ms to 5 s, so that a sidecar is up within 10 s after Sentry is (fact K075).
    #[must_use]
    pub fn start() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(5))
    }

    /// The pauses of a stream from the control plane: 0.5 s to 30 s (security 4.8).
    #[must_use]
    pub fn stream() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(30))
    }

    fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// Returns how long to wait after one more failure.
    pub fn pause(&mut self, rng: &mut impl Rng) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause.mul_f64(rng.random_range(0.75..=1.0))
    }

    /// Starts over: something succeeded.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::time::UNIX_EPOCH;

    const SEC: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(86_400);

    fn after(life: Duration, seed: u64) -> Duration {
        let received = UNIX_EPOCH + 1000 * DAY;
        let at = renew_at(
            received,
            received + life,
            &mut SmallRng::seed_from_u64(seed),
        );
        at.duration_since(received).unwrap()
    }

    #[test]
    fn renewal_lies_at_half_of_the_life_left() {
        for seed in 0..200 {
            let at = after(DAY, seed);
            assert!(at >= DAY.mul_f64(0.45) && at <= DAY.mul_f64(0.55), "{at:?}");
        }
        assert_ne!(after(DAY, 1), after(DAY, 2), "jitter");
    }

    /// Fact: security.md K080. With a skew of 15 minutes the reference renews 200 times a second here.
    #[test]
    fn short_lives_do_not_loop() {
        for seed in 0..200 {
            let at = after(30 * SEC, seed);
            assert!(at >= SEC.mul_f64(13.5) && at <= SEC.mul_f64(16.5), "{at:?}");
            assert_eq!(after(3 * SEC, seed), MIN_GAP);
        }
    }

    #[test]
    fn an_expired_certificate_is_renewed_after_the_least_pause() {
        let received = UNIX_EPOCH + DAY;
        let at = renew_at(received, UNIX_EPOCH, &mut SmallRng::seed_from_u64(0));
        assert_eq!(at, received + MIN_GAP);
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut backoff = Backoff::renewal();
        for longest in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = backoff.pause(&mut rng);
            assert!(
                pause <= longest * SEC && pause >= (longest * SEC).mul_f64(0.75),
                "{pause:?} {longest}"
            );
        }
        backoff.reset();
        assert!(backoff.pause(&mut rng) <= SEC);
    }

    proptest! {
        #[test]
        fn renewal_is_never_before_receipt(received in 0u64..1 << 40, life in 0u64..1 << 36, seed: u64) {
            let received = UNIX_EPOCH + Duration::from_secs(received);
            let at = renew_at(received, received + Duration::from_secs(life), &mut SmallRng::seed_from_u64(seed));
            prop_assert!(at >= received + MIN_GAP);
        }
    }
}
