//! What became of spans.
//!
//! Two families of our own: the reference counts neither. Exporters and reasons are words of this program, so
//! the series are a handful.

use super::family::{Counts, Families};

/// Who was to send a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanExporter {
    /// All of them: it did not come as far as one.
    All,
    /// Zipkin.
    Zipkin,
    /// OTLP.
    Otlp,
    /// The log.
    Stdout,
}

/// Why a span was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanLoss {
    /// Too many waited.
    QueueFull,
    /// The collector did not take it.
    ExportFailed,
    /// Nobody receives spans any more.
    NoExporter,
}

#[derive(Debug)]
pub(super) struct TraceFamilies {
    exported: Counts,
    dropped: Counts,
}

// === impl SpanExporter ===

impl SpanExporter {
    /// Its name in series and lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Zipkin => "zipkin",
            Self::Otlp => "otlp",
            Self::Stdout => "stdout",
        }
    }
}

// === impl SpanLoss ===

impl SpanLoss {
    const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ExportFailed => "export_failed",
            Self::NoExporter => "no_exporter",
        }
    }
}

// === impl TraceFamilies ===

impl TraceFamilies {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        Self {
            exported: families.counts(
                "runtime_trace_spans_exported_total",
                "The number of spans that a collector took",
                &["exporter"],
            ),
            dropped: families.counts(
                "runtime_trace_spans_dropped_total",
                "The number of spans that were recorded and not exported",
                &["exporter", "reason"],
            ),
        }
    }

    pub(super) fn exported(&self, exporter: SpanExporter, spans: u64) {
        self.exported.series(&[exporter.as_str()]).add(spans);
    }

    pub(super) fn dropped(&self, exporter: SpanExporter, why: SpanLoss, spans: u64) {
        let labels = [exporter.as_str(), why.as_str()];
        self.dropped.series(&labels).add(spans);
    }
}
