//! Families whose exposition is the reference's.
//!
//! The client library ends counters in `_total`; the reference has counters
//! that do not, so [`Count`] writes its name as it was registered. Label names
//! belong to the family, so that a series cannot be made with others; rules of the configuration change their
//! values on the way ([`super::relabel`]).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use super::DEFAULT_LATENCY_BUCKETS_MS;
use super::bounded::Overflow;
use super::relabel::{FamilyRules, Rules};

/// Bounds of size histograms in bytes: resiliency-observability 3.1.
const SIZE_BUCKETS: [f64; 13] = [
    1024.0,
    2048.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// Bounds of the number of attempts: resiliency-observability 6.3.
const ATTEMPTS: [f64; 7] = [1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 13.0];
/// The counter of values that share a series.
const OVERFLOW: &str = "runtime_metrics_overflow_total";

type Labels = Vec<(&'static str, String)>;

/// A counter; clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(Arc<AtomicU64>);

/// Counters of one name.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    family: Family<Labels, Count>,
    labels: &'static [&'static str],
    rules: FamilyRules,
}

/// A number without labels that is not exposed before it is known.
#[derive(Clone, Debug)]
pub(super) struct Latest {
    value: Arc<AtomicU64>,
    kind: MetricType,
}

/// A number that is not known; no real one comes near.
const UNKNOWN: u64 = u64::MAX;

/// Histograms of one name.
#[derive(Clone, Debug)]
pub(super) struct Histograms {
    family: Family<Labels, Histogram, Bounds>,
    labels: &'static [&'static str],
    rules: FamilyRules,
}

/// The upper bounds of a histogram.
#[derive(Clone, Debug)]
pub(super) struct Bounds(Arc<[f64]>);

/// The two sets of bounds.
#[derive(Debug)]
pub(super) struct Buckets {
    latency: Bounds,
    size: Bounds,
}

/// What a histogram measures.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measure {
    Latency,
    Size,
    Attempts,
}

/// Registers families in one registry.
pub(super) struct Families<'a> {
    registry: &'a mut Registry,
    buckets: &'a Buckets,
    rules: &'a Rules,
    overflow: Counts,
}

// === impl Count ===

impl Count {
    pub(super) fn inc(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TypedMetric for Count {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Count {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        // A gauge's line has the plain name; the type line still says counter.
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

// === impl Latest ===

impl Latest {
    pub(super) fn set(&self, value: u64) {
        self.value.store(value.min(UNKNOWN - 1), Ordering::Relaxed);
    }

    pub(super) fn add(&self, more: u64) {
        let sum = |now: u64| {
            let known = if now == UNKNOWN { 0 } else { now };
            Some(known.saturating_add(more).min(UNKNOWN - 1))
        };
        // The closure never declines.
        let _before = self
            .value
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }
}

impl EncodeMetric for Latest {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match self.value.load(Ordering::Relaxed) {
            UNKNOWN => Ok(()),
            value => encoder.encode_gauge(&value),
        }
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }
}

// === impl Counts ===

impl Counts {
    /// Returns the series with these label values, in the order of the label names.
    pub(super) fn series(&self, values: &[&str]) -> Count {
        let labels = zip(self.labels, values, &self.rules);
        self.family.get_or_create_owned(&labels)
    }

    /// What the rules make of label values.
    pub(super) const fn rules(&self) -> &FamilyRules {
        &self.rules
    }

    /// A family that no exposition shows.
    #[cfg(test)]
    pub(super) fn unregistered(labels: &'static [&'static str]) -> Self {
        Self {
            family: Family::default(),
            labels,
            rules: FamilyRules::default(),
        }
    }
}

// === impl Histograms ===

impl Histograms {
    /// Returns the series with these label values, in the order of the label names.
    pub(super) fn series(&self, values: &[&str]) -> Histogram {
        let labels = zip(self.labels, values, &self.rules);
        self.family.get_or_create_owned(&labels)
    }

    /// What the rules make of label values.
    pub(super) const fn rules(&self) -> &FamilyRules {
        &self.rules
    }
}

fn zip(names: &'static [&'static str], values: &[&str], rules: &FamilyRules) -> Labels {
    debug_assert_eq!(names.len(), values.len());
    let pairs = names.iter().zip(values);
    pairs
        .map(|(name, value)| (*name, rules.apply(name, value).into_owned()))
        .collect()
}

// === impl Bounds ===

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

// === impl Buckets ===

impl Buckets {
    pub(super) fn new(latency_ms: &[u64]) -> Self {
        let latency = if latency_ms.is_empty() {
            &DEFAULT_LATENCY_BUCKETS_MS
        } else {
            latency_ms
        };
        let mut latency = latency.to_vec();
        latency.sort_unstable();
        latency.dedup();
        #[expect(
            clippy::cast_precision_loss,
            reason = "bounds are far below 2^52 milliseconds"
        )]
        let latency = latency.iter().map(|bound| *bound as f64).collect();
        Self {
            latency: Bounds(latency),
            size: Bounds(SIZE_BUCKETS.into()),
        }
    }
}

// === impl Families ===

impl<'a> Families<'a> {
    /// Registers in `registry`; values without room are counted in `overflow`.
    pub(super) const fn new(
        registry: &'a mut Registry,
        buckets: &'a Buckets,
        rules: &'a Rules,
        overflow: Counts,
    ) -> Self {
        Self {
            registry,
            buckets,
            rules,
            overflow,
        }
    }

    /// Registers the counter of values that found no series.
    pub(super) fn overflow(registry: &mut Registry) -> Counts {
        let family = Family::default();
        registry.register(
            OVERFLOW,
            "Observations whose labels share a series because their family has no more room",
            family.clone(),
        );
        Counts {
            family,
            labels: &["metric"],
            rules: FamilyRules::default(),
        }
    }

    /// What a family says when it has no series left.
    pub(super) fn governor(&self, family: &'static str) -> Overflow {
        Overflow::new(self.overflow.clone(), family)
    }

    /// Registers a counter; the library ends `help` with a full stop.
    pub(super) fn counts(
        &mut self,
        name: &str,
        help: &str,
        labels: &'static [&'static str],
    ) -> Counts {
        let family = Family::default();
        self.registry.register(name, help, family.clone());
        Counts {
            family,
            labels,
            rules: self.rules.of(name),
        }
    }

    /// Registers a histogram.
    pub(super) fn histograms(
        &mut self,
        measure: Measure,
        name: &str,
        help: &str,
        labels: &'static [&'static str],
    ) -> Histograms {
        let bounds = match measure {
            Measure::Latency => self.buckets.latency.clone(),
            Measure::Size => self.buckets.size.clone(),
            Measure::Attempts => Bounds(ATTEMPTS.into()),
        };
        let family = Family::new_with_constructor(bounds);
        self.registry.register(name, help, family.clone());
        Histograms {
            family,
            labels,
            rules: self.rules.of(name),
        }
    }

    /// Registers a number without labels.
    pub(super) fn latest(&mut self, kind: MetricType, name: &str, help: &str) -> Latest {
        let value = Arc::new(AtomicU64::new(UNKNOWN));
        let latest = Latest { value, kind };
        self.registry.register(name, help, latest.clone());
        latest
    }

    /// Registers a gauge.
    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
    ) -> Family<Vec<(&'static str, String)>, Gauge> {
        let family = Family::default();
        self.registry.register(name, help, family.clone());
        family
    }
}
