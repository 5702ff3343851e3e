//! The only place that asks what time it is.
//!
//! A [`Clock`] is handed down from `main`; decisions take instants as
//! arguments. [`Clock::system`] follows tokio's clock for the monotonic part,
//! so a test with paused time sees it stand still. [`Clock::manual`] is moved
//! by hand. Sleeping is not a clock's business: use `tokio::time::sleep`.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// A point on the monotonic scale of one process: the time since its clock was first read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(Duration);

/// Tells the time, by the wall and monotonically. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(ManualClock),
}

/// The hand that moves a [`Clock::manual`]; both time scales move together.
#[derive(Clone, Debug)]
pub struct ManualClock {
    start: SystemTime,
    elapsed_nanos: Arc<AtomicU64>,
}

// === impl Tick ===

impl Tick {
    /// The first instant of the scale.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// Returns the instant that lies `since_start` after the first one.
    #[must_use]
    pub const fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// Returns the time since the first instant of the scale.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Returns the time from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

impl Sub for Tick {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

// === impl Clock ===

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until its hand moves it; for tests.
    #[must_use]
    pub fn manual(start: SystemTime) -> (Self, ManualClock) {
        let hand = ManualClock {
            start,
            elapsed_nanos: Arc::default(),
        };
        (Self(Source::Manual(hand.clone())), hand)
    }

    /// Returns the wall-clock time (UTC).
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the clock")]
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            Source::System => SystemTime::now(),
            Source::Manual(hand) => hand.start + hand.elapsed(),
        }
    }

    /// Returns the monotonic time of this process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the clock")]
    pub fn monotonic(&self) -> Tick {
        static ORIGIN: OnceLock<tokio::time::Instant> = OnceLock::new();
        match &self.0 {
            Source::System => {
                let now = tokio::time::Instant::now();
                Tick(now.saturating_duration_since(*ORIGIN.get_or_init(|| now)))
            }
            Source::Manual(hand) => Tick(hand.elapsed()),
        }
    }
}

// === impl ManualClock ===

impl ManualClock {
    /// Moves both scales forward by `step`.
    pub fn advance(&self, step: Duration) {
        let nanos = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        self.elapsed_nanos.fetch_add(nanos, Ordering::SeqCst);
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_nanos.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let (clock, hand) = Clock::manual(SystemTime::UNIX_EPOCH);
        let copy = clock.clone();
        assert_eq!(clock.now(), SystemTime::UNIX_EPOCH);
        hand.advance(Duration::from_secs(90));
        assert_eq!(copy.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(90));
        assert_eq!(copy.monotonic(), Tick::at(Duration::from_secs(90)));
    }

    #[test]
    fn monotonic_time_never_goes_back() {
        let clock = Clock::system();
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
        assert_eq!(
            Tick::ZERO - Tick::at(Duration::from_secs(1)),
            Duration::ZERO
        );
    }

    #[tokio::test(start_paused = true)]
    async fn paused_time_holds_the_system_clock() {
        let clock = Clock::system();
        let first = clock.monotonic();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.monotonic() - first, Duration::from_secs(3600));
    }
}
