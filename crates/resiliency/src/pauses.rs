//! The pauses between attempts: constant or growing, with jitter.
//!
//! Source: resiliency-observability 1.3. Chance is an argument.

use std::time::Duration;

use ironside_resources::resiliency::{Backoff, RetryPolicy};
use rand::Rng;

/// Pause of retries that have neither limit nor pause: what no manifest can mean is full speed.
const SHORTEST: Duration = Duration::from_millis(1);

/// Where a call stands in the pauses of its policy.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pauses {
    /// The next interval, before jitter; none before the first.
    interval: Option<Duration>,
}

// === impl Pauses ===

impl Pauses {
    pub(crate) fn next(&mut self, policy: &RetryPolicy, rng: &mut impl Rng) -> Duration {
        let interval = match policy.backoff {
            Backoff::Constant(pause) => pause,
            Backoff::Exponential {
                initial,
                multiplier,
                max_interval,
            } => {
                let interval = self.interval.unwrap_or(initial);
                // The cap is for the next one: the first is what it is.
                self.interval = Some(times(interval, multiplier).min(max_interval));
                interval
            }
        };
        let pause = if policy.jitter > 0.0 {
            let chance: f64 = rng.random();
            times(interval, 1.0 + policy.jitter * (2.0 * chance - 1.0))
        } else {
            interval
        };
        if policy.max_retries.is_none() && policy.backoff.is_busy() {
            return pause.max(SHORTEST);
        }
        pause
    }
}

fn times(span: Duration, factor: f64) -> Duration {
    let nanos = span.as_secs_f64() * factor;
    Duration::try_from_secs_f64(nanos).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    fn exponential(max_interval: u64) -> RetryPolicy {
        RetryPolicy {
            backoff: Backoff::Exponential {
                initial: Duration::from_millis(500),
                multiplier: 1.5,
                max_interval: Duration::from_millis(max_interval),
            },
            jitter: 0.5,
            ..RetryPolicy::default()
        }
    }

    ///
    #[test]
    fn constant_pauses_are_exact() {
        let (mut pauses, mut rng) = (Pauses::default(), SmallRng::seed_from_u64(1));
        for _ in 0..3 {
            let pause = pauses.next(&RetryPolicy::default(), &mut rng);
            assert_eq!(pause, Duration::from_secs(5));
        }
    }

    ///
    #[test]
    fn exponential_pauses_lie_where_the_sheet_says() {
        let mut rng = SmallRng::seed_from_u64(7);
        let bounds = [(0.25, 0.75), (0.375, 1.125), (0.5625, 1.6875)];
        let mut reach = [(f64::MAX, 0.0_f64); 3];
        for _ in 0..2000 {
            let mut pauses = Pauses::default();
            for ((low, high), reach) in bounds.iter().zip(&mut reach) {
                let pause = pauses.next(&exponential(60_000), &mut rng).as_secs_f64();
                assert!((*low..=*high).contains(&pause), "{pause}");
                *reach = (reach.0.min(pause), reach.1.max(pause));
            }
        }
        for ((low, high), reach) in bounds.iter().zip(reach) {
            assert!(reach.0 < low * 1.02 && reach.1 > high * 0.98, "{reach:?}");
        }
    }

    #[test]
    fn the_cap_is_for_the_interval_before_jitter() {
        let (mut pauses, mut rng) = (Pauses::default(), SmallRng::seed_from_u64(3));
        let policy = exponential(1000);
        let longest = (0..1000).map(|_| pauses.next(&policy, &mut rng)).max();
        let longest = longest.unwrap().as_secs_f64();
        assert!((1.4..=1.5).contains(&longest), "{longest}");
    }

    #[test]
    fn retries_without_limit_are_never_at_full_speed() {
        let mut rng = SmallRng::seed_from_u64(3);
        let busy = RetryPolicy {
            backoff: Backoff::Constant(Duration::ZERO),
            ..RetryPolicy::default()
        };
        assert_eq!(Pauses::default().next(&busy, &mut rng), SHORTEST);
        let limited = RetryPolicy {
            max_retries: Some(3),
            ..busy
        };
        assert_eq!(Pauses::default().next(&limited, &mut rng), Duration::ZERO);
    }
}
