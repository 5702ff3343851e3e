//! Is a trace recorded, and what does the next hop see?
//!
//! Owns the meaning of `samplingRate`: off, passing contexts on untouched, or
//! parent-based with a ratio for roots. Whether spans are exported is not
//! known here. Source: resiliency-observability 2.1.

use std::fmt;

use rand::Rng;

use crate::trace_context::{TraceId, TraceParent};

/// Share of root traces that is recorded when a rate is absent or unreadable.
pub const DEFAULT_RATIO: f64 = 0.0001;

/// What is done with trace contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// Rate 0: headers are headers; nothing is read, made or checked, baggage included.
    Off,
    /// No rate and no exporter: contexts are passed on as they came, baggage is checked.
    PassThrough,
    /// Each hop is a span; roots are recorded with this share.
    ParentBased(f64),
}

/// Whether somebody receives spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exporter {
    /// At least one exporter is configured.
    Configured,
    /// None is.
    Absent,
}

// === impl Sampling ===

impl Sampling {
    /// Reads a `samplingRate` as written; absent and empty are the same.
    #[must_use]
    pub fn new(rate: Option<&str>, exporter: Exporter) -> Self {
        let rate = rate.unwrap_or_default();
        if rate.is_empty() && exporter == Exporter::Absent {
            return Self::PassThrough;
        }
        match rate.parse::<f64>() {
            Ok(0.0) => Self::Off,
            Ok(ratio) if !ratio.is_nan() => Self::ParentBased(ratio),
            Ok(_) | Err(_) => Self::ParentBased(DEFAULT_RATIO),
        }
    }

    /// Returns whether requests go through the tracing stage, which also checks baggage.
    #[must_use]
    pub fn is_installed(self) -> bool {
        self != Self::Off
    }

    /// Returns the context of this hop's span below `incoming`, or of a new trace.
    ///
    /// `None` when there is no span: the incoming headers then go on as they are.
    pub fn span(self, incoming: Option<&TraceParent>, rng: &mut impl Rng) -> Option<TraceParent> {
        let Self::ParentBased(ratio) = self else {
            return None;
        };
        if let Some(parent) = incoming {
            return Some(parent.child(rng));
        }
        let root = TraceParent::root(false, rng);
        let sampled = is_within(root.trace_id, ratio);
        Some(TraceParent::root_of(root.trace_id, sampled, rng))
    }
}

/// Decides by the trace id, so that every hop that must decide comes to the same answer.
fn is_within(trace_id: TraceId, ratio: f64) -> bool {
    let [.., a, b, c, d, e, f, g, h] = trace_id.0;
    let draw = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
    // Both sides lie on a scale of 2^63; the draw is below it for every id.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio is not exact to the last bit"
    )]
    let share = draw as f64 / (1_u64 << 63) as f64;
    share < ratio
}

impl fmt::Display for Sampling {
    /// Writes the sampler as the start line of the log names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = match self {
            Self::Off => 0.0,
            Self::PassThrough => DEFAULT_RATIO,
            Self::ParentBased(ratio) => ratio.clamp(0.0, 1.0),
        };
        f.write_str("ParentBased{root:TraceIDRatioBased{")?;
        write_go_float(f, ratio)?;
        f.write_str(
            "},remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,\
             localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}",
        )
    }
}

/// Writes a number of 0..=1 as Go's `%g`: with an exponent below 0.0001.
fn write_go_float(f: &mut fmt::Formatter<'_>, number: f64) -> fmt::Result {
    if number == 0.0 || number >= 1e-4 {
        return write!(f, "{number}");
    }
    let text = format!("{number:e}");
    match text.split_once("e-") {
        Some((digits, power)) => write!(f, "{digits}e-{power:0>2}"),
        None => f.write_str(&text),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    fn rng() -> SmallRng {
        SmallRng::seed_from_u64(11)
    }

    /// Fact: resiliency-observability 2.1, every row.
    #[test]
    fn rates_are_read_as_the_reference_reads_them() {
        use Exporter::{Absent, Configured};
        use Sampling::{Off, ParentBased, PassThrough};
        let table = [
            (None, Absent, PassThrough),
            (Some(""), Absent, PassThrough),
            (None, Configured, ParentBased(0.0001)),
            (Some(""), Configured, ParentBased(0.0001)),
            (Some("0"), Absent, Off),
            (Some("0.0"), Configured, Off),
            (Some("-0"), Configured, Off),
            (Some("1"), Absent, ParentBased(1.0)),
            (Some("0.5"), Configured, ParentBased(0.5)),
            (Some("1e-3"), Absent, ParentBased(0.001)),
            (Some("2"), Absent, ParentBased(2.0)),
            (Some("-1"), Absent, ParentBased(-1.0)),
            (Some("abc"), Absent, ParentBased(0.0001)),
            (Some("NaN"), Absent, ParentBased(0.0001)),
            (Some(" 1"), Absent, ParentBased(0.0001)),
        ];
        for (rate, exporter, want) in table {
            assert_eq!(Sampling::new(rate, exporter), want, "{rate:?} {exporter:?}");
        }
    }

    #[test]
    fn only_rate_zero_takes_the_stage_away() {
        assert!(!Sampling::Off.is_installed());
        assert!(Sampling::PassThrough.is_installed());
        assert!(Sampling::ParentBased(-1.0).is_installed());
    }

    #[test]
    fn without_spans_nothing_is_made() {
        let parent = TraceParent::root(true, &mut rng());
        for sampling in [Sampling::Off, Sampling::PassThrough] {
            assert_eq!(sampling.span(None, &mut rng()), None);
            assert_eq!(sampling.span(Some(&parent), &mut rng()), None);
        }
    }

    #[test]
    fn the_parent_decides_whatever_the_ratio() {
        for ratio in [-1.0, 0.0001, 1.0] {
            for sampled in [true, false] {
                let parent = TraceParent::root(sampled, &mut rng());
                let span = Sampling::ParentBased(ratio)
                    .span(Some(&parent), &mut SmallRng::seed_from_u64(2))
                    .unwrap();
                assert_eq!(span.trace_id, parent.trace_id);
                assert_ne!(span.span_id, parent.span_id);
                assert_eq!(span.is_sampled(), sampled);
            }
        }
    }

    /// Fact: resiliency-observability T-40.
    #[test]
    fn roots_are_recorded_in_about_the_given_share() {
        let mut rng = rng();
        let mut recorded = |ratio: f64| {
            let roots = (0..1000).filter_map(|_| Sampling::ParentBased(ratio).span(None, &mut rng));
            roots.filter(TraceParent::is_sampled).count()
        };
        assert_eq!(recorded(1.0), 1000);
        assert_eq!(recorded(2.0), 1000);
        assert_eq!(recorded(-1.0), 0);
        assert!((400..600).contains(&recorded(0.5)));
        assert!(recorded(0.0001) < 10);
    }

    #[test]
    fn one_trace_gets_one_answer() {
        let mut rng = rng();
        for _ in 0..100 {
            let root = Sampling::ParentBased(0.5).span(None, &mut rng).unwrap();
            assert_eq!(is_within(root.trace_id, 0.5), root.is_sampled());
        }
    }

    /// Fact: golden 35, the start line.
    #[test]
    fn the_sampler_is_described_in_the_reference_words() {
        let table = [
            (Sampling::PassThrough, "0.0001"),
            (Sampling::ParentBased(1.0), "1"),
            (Sampling::ParentBased(7.0), "1"),
            (Sampling::ParentBased(0.5), "0.5"),
            (Sampling::ParentBased(-1.0), "0"),
            (Sampling::Off, "0"),
            (Sampling::ParentBased(0.000_01), "1e-05"),
            (Sampling::ParentBased(0.000_000_000_012_5), "1.25e-11"),
        ];
        for (sampling, ratio) in table {
            let want = format!(
                "ParentBased{{root:TraceIDRatioBased{{{ratio}}},remoteParentSampled:AlwaysOnSampler,\
                 remoteParentNotSampled:AlwaysOffSampler,localParentSampled:AlwaysOnSampler,\
                 localParentNotSampled:AlwaysOffSampler}}"
            );
            assert_eq!(sampling.to_string(), want);
        }
    }
}
