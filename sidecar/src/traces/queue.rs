//! Spans that have ended and wait for the exporters: one bounded queue for the process.
//!
//! Whoever ends a span never waits: a span that finds no room is counted and gone.

use std::sync::Arc;

use ironside_chassis::Clock;
use ironside_telemetry::{
    Span,
    metrics::{Metrics, SpanExporter, SpanLoss},
};
use tokio::sync::mpsc;

/// Spans that may wait (resiliency-observability 2.6).
pub(super) const ROOM: usize = 2048;

/// Where spans go when they end.
#[derive(Debug)]
pub(crate) struct Queue {
    spans: mpsc::Sender<Span>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// A queue and its other end.
pub(crate) fn new(metrics: &Arc<Metrics>, clock: &Clock) -> (Arc<Queue>, mpsc::Receiver<Span>) {
    let (spans, waiting) = mpsc::channel(ROOM);
    let queue = Queue {
        spans,
        metrics: Arc::clone(metrics),
        clock: clock.clone(),
    };
    (Arc::new(queue), waiting)
}

// === impl Queue ===

impl Queue {
    /// What spans are timed by.
    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Takes a span that has ended, or counts it.
    pub(super) fn push(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.metrics
                .spans_dropped(SpanExporter::All, SpanLoss::QueueFull, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use ironside_telemetry::metrics::Settings;

    use super::*;
    use crate::traces::recording::tests::span;

    #[test]
    fn a_full_queue_drops_and_counts() {
        let metrics = Arc::new(Metrics::new("a", Settings::default()));
        let (queue, mut waiting) = new(&metrics, &Clock::system());
        (0..ROOM + 3).for_each(|_| queue.push(span()));
        let line = "dapr_runtime_trace_spans_dropped_total{exporter=\"all\",reason=\"queue_full\",app_id=\"a\"} 3";
        let text = metrics.exposition();
        let has = |line: &str| text.lines().any(|have| same(have, line));
        assert!(has(line), "{text}");
        let mut kept = 0;
        while waiting.try_recv().is_ok() {
            kept += 1;
        }
        assert_eq!(kept, ROOM);
    }

    /// Labels may stand in any order.
    fn same(left: &str, right: &str) -> bool {
        let parts = |line: &str| {
            let mut parts: Vec<String> = line
                .split(['{', ',', '}'])
                .map(|part| part.trim().to_owned())
                .collect();
            parts.sort();
            parts
        };
        parts(left) == parts(right)
    }
}
