//! Whether an address is used, left out, or on probe.
//!
//! After too many failures in a row, or too few successes in a window, it is out for a time that doubles with
//! each return; then one call shows how it is. Source: resiliency-observability 6.2, row "Outlier ejection".

use std::time::Duration;

use ironside_resources::resiliency::OutlierDetection;
use rand::Rng;

use crate::outcome::Health as Signal;

/// Share by which a time out is shortened or lengthened at random. Source: resiliency-observability 6.2.
const JITTER: f64 = 0.5;

/// When addresses are left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    detection: OutlierDetection,
    /// Whether bad answers count; connections that fail always do.
    counts_answers: bool,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    state: State,
    /// Failures in a row.
    failures: u32,
    /// Times out in a row.
    times: u32,
    window: Window,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Ready,
    Out {
        until: Duration,
    },
    Probing,
}

#[derive(Debug, Default)]
struct Window {
    started: Duration,
    calls: u32,
    successes: u32,
}

/// A change of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is left out.
    Ejected {
        /// Why.
        reason: Ejection,
        /// How long.
        time: Duration,
    },
    /// It is used again.
    Restored,
}

/// Why an address is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ejection {
    /// It could not be reached several times in a row.
    Connect,
    /// It failed several times in a row.
    Consecutive,
    /// Too few calls succeeded.
    SuccessRate,
}

// === impl Ejection ===

impl Ejection {
    /// Returns its word in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Consecutive => "consecutive",
            Self::SuccessRate => "success_rate",
        }
    }
}

// === impl Bounds ===

impl Bounds {
    pub(super) fn new(detection: Option<OutlierDetection>) -> Self {
        Self {
            detection: detection.unwrap_or_default(),
            counts_answers: detection.is_some(),
        }
    }

    /// Whether one more may be left out of `count`: at most a share, at least one unless the share is none,
    /// and never the last.
    pub(super) fn can_eject(&self, ejected: usize, count: usize) -> bool {
        let percent = usize::from(self.detection.max_ejection_percent);
        let share = (count * percent / 100).max(usize::from(percent > 0));
        ejected < share.min(count.saturating_sub(1))
    }

    fn time_out(&self, times: u32, rng: &mut impl Rng) -> Duration {
        let doubled = 2_u32.checked_pow(times).unwrap_or(u32::MAX);
        let time = self.detection.min_ejection.saturating_mul(doubled);
        let chance: f64 = rng.random();
        let factor = 1.0 + JITTER * (2.0 * chance - 1.0);
        let time = time.min(self.detection.max_ejection).mul_f64(factor);
        time.min(self.detection.max_ejection)
    }
}

// === impl Health ===

impl Health {
    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    pub(super) fn is_probing(&self) -> bool {
        self.state == State::Probing
    }

    /// Whether its time out is over and nothing shows yet how it is.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        matches!(self.state, State::Out { until } if until <= now)
    }

    pub(super) fn is_usable(&self, now: Duration) -> bool {
        self.is_ready() || self.is_due(now)
    }

    /// A call begins; returns whether it is the probe.
    pub(super) fn begin(&mut self, now: Duration) -> bool {
        let is_probe = self.is_due(now);
        if is_probe {
            self.state = State::Probing;
        }
        is_probe
    }

    /// The probe showed nothing: the next call is one.
    pub(super) fn postpone(&mut self, now: Duration) {
        if self.is_probing() {
            self.state = State::Out { until: now };
        }
    }

    pub(super) fn observe(
        &mut self,
        now: Duration,
        signal: Signal,
        bounds: &Bounds,
        can_eject: bool,
        rng: &mut impl Rng,
    ) -> Option<Event> {
        let is_failure = match signal {
            Signal::Unknown => {
                self.postpone(now);
                return None;
            }
            Signal::Unreachable => true,
            Signal::Bad => bounds.counts_answers,
            Signal::Good => false,
        };
        self.failures = if is_failure {
            self.failures.saturating_add(1)
        } else {
            0
        };
        match self.state {
            State::Probing if is_failure => {
                let reason = reason_of(signal);
                Some(self.eject(now, reason, bounds, rng))
            }
            State::Probing => {
                self.state = State::Ready;
                self.times = 0;
                self.window = Window::default();
                Some(Event::Restored)
            }
            // Calls that began before it was left out; nobody waits for them.
            State::Out { .. } => None,
            State::Ready => {
                let rate = self.window.count(now, is_failure, bounds);
                let reason = self.too_many(signal, bounds).or(rate)?;
                can_eject.then(|| self.eject(now, reason, bounds, rng))
            }
        }
    }

    fn too_many(&self, signal: Signal, bounds: &Bounds) -> Option<Ejection> {
        let most = bounds.detection.consecutive_failures?;
        (self.failures >= most.get()).then(|| reason_of(signal))
    }

    fn eject(
        &mut self,
        now: Duration,
        reason: Ejection,
        bounds: &Bounds,
        rng: &mut impl Rng,
    ) -> Event {
        let time = bounds.time_out(self.times, rng);
        self.times = self.times.saturating_add(1);
        self.failures = 0;
        self.window = Window::default();
        self.state = State::Out {
            until: now.saturating_add(time),
        };
        Event::Ejected { reason, time }
    }
}

const fn reason_of(signal: Signal) -> Ejection {
    match signal {
        Signal::Unreachable => Ejection::Connect,
        Signal::Good | Signal::Bad | Signal::Unknown => Ejection::Consecutive,
    }
}

// === impl Window ===

impl Window {
    /// Counts a call; says so when too few of the window succeeded.
    fn count(&mut self, now: Duration, is_failure: bool, bounds: &Bounds) -> Option<Ejection> {
        let OutlierDetection {
            success_rate_threshold,
            window,
            min_requests,
            ..
        } = bounds.detection;
        let threshold = success_rate_threshold?;
        if now.saturating_sub(self.started) >= window {
            *self = Self {
                started: now,
                ..Self::default()
            };
        }
        self.calls = self.calls.saturating_add(1);
        self.successes = self.successes.saturating_add(u32::from(!is_failure));
        let rate = f64::from(self.successes) / f64::from(self.calls);
        let is_low = self.calls >= min_requests && rate < threshold;
        is_low.then_some(Ejection::SuccessRate)
    }
}
