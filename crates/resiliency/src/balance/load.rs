//! How loaded an address is: a moving average of latency that jumps up and sinks slowly, times the calls under
//! way.

use std::time::Duration;

/// Time in which an old latency loses most of its weight. Source: resiliency-observability 6.2.
const DECAY: f64 = 10.0;
/// Latency of an address that nothing is known of. Source: resiliency-observability 6.2.
const SEED: f64 = 0.03;

#[derive(Debug)]
pub(super) struct Load {
    /// Seconds.
    latency: f64,
    updated: Duration,
    pending: u32,
}

// === impl Load ===

impl Load {
    pub(super) fn begin(&mut self) {
        self.pending = self.pending.saturating_add(1);
    }

    pub(super) fn end(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }

    pub(super) fn pending(&self) -> u64 {
        self.pending.into()
    }

    pub(super) fn record(&mut self, now: Duration, latency: Duration) {
        let (latency, weight) = (latency.as_secs_f64(), self.weight(now));
        self.latency = if latency > self.latency {
            latency
        } else {
            self.latency * weight + latency * (1.0 - weight)
        };
        self.updated = self.updated.max(now);
    }

    /// Without calls the average sinks to nothing, so that an address that was slow once gets another chance.
    pub(super) fn cost(&self, now: Duration) -> f64 {
        self.latency * self.weight(now) * (f64::from(self.pending) + 1.0)
    }

    /// The share of the old average that is left.
    fn weight(&self, now: Duration) -> f64 {
        let age = now.saturating_sub(self.updated).as_secs_f64();
        (-age / DECAY).exp()
    }
}

impl Default for Load {
    fn default() -> Self {
        Self {
            latency: SEED,
            updated: Duration::ZERO,
            pending: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_jumps_up_and_sinks_slowly() {
        let mut load = Load::default();
        assert!((load.cost(at(0)) - 0.03).abs() < 1e-9);
        load.record(at(0), at(5));
        assert!((load.cost(at(0)) - 5.0).abs() < 1e-9);
        load.record(at(10), Duration::from_millis(10));
        let expected = 5.0 * (-1.0_f64).exp() + 0.01 * (1.0 - (-1.0_f64).exp());
        assert!((load.cost(at(10)) - expected).abs() < 1e-9);
        load.begin();
        assert!((load.cost(at(10)) - 2.0 * expected).abs() < 1e-9);
        load.end();
        load.end();
        assert_eq!(load.pending(), 0);
        assert!(load.cost(at(200)) < 1e-6);
    }

    #[test]
    fn times_out_of_order_do_no_harm() {
        let mut load = Load::default();
        load.record(at(10), at(1));
        load.record(at(5), Duration::from_millis(1));
        assert!(load.cost(at(7)) <= 1.0);
    }
}
