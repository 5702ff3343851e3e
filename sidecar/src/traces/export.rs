//! From the queue to the collectors.
//!
//! One task makes batches of what waits and hands each to every exporter; each exporter is a task with room for
//! a few batches, so that a slow one holds up neither calls nor the others. What finds no room, or is not taken,
//! is counted. Follows the Configuration: other exporters take over with the next batch, the old ones send what
//! they have. At the end of the process what waits is sent once more.

use std::{sync::Arc, time::Duration};

use ironside_chassis::Tasks;
use ironside_telemetry::{
    Span,
    metrics::{Metrics, SpanExporter, SpanLoss},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Export, queue, sender::Sender, stdout};
use crate::live::Live;

/// Spans that are sent together (resiliency-observability 2.6).
const BATCH: usize = 512;
/// Longest time that a span waits for others (resiliency-observability 2.6).
const PATIENCE: Duration = Duration::from_secs(5);
/// Batches that wait for one exporter: as many spans as the queue holds, and those that wait for others to fill a
/// batch. At the end of the process they all come at once.
const WAITING: usize = queue::ROOM.div_ceil(BATCH) + 1;
/// Time for one batch, attempts and pauses together (resiliency-observability 2.6).
const LIMIT: Duration = Duration::from_secs(30);
/// Attempts at one batch.
const ATTEMPTS: u32 = 3;
/// The first pause between them; later ones are twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(500);
/// Scope of lines about exporters.
const LOG: &str = "dapr.runtime.trace";

/// What exporting needs.
pub(crate) struct Parts {
    /// Spans that have ended.
    pub(crate) spans: mpsc::Receiver<Span>,
    /// Says where they go.
    pub(crate) live: watch::Receiver<Arc<Live>>,
    /// Counts them.
    pub(crate) metrics: Arc<Metrics>,
    /// Owner of exporters and their connections.
    pub(crate) tasks: Tasks,
}

/// The exporters in force.
struct Lanes {
    export: Option<Arc<Export>>,
    all: Vec<Lane>,
}

/// One exporter.
struct Lane {
    name: SpanExporter,
    batches: mpsc::Sender<Arc<[Span]>>,
}

/// Exports until `tasks` are cancelled, then what is left.
pub(crate) async fn run(parts: Parts) {
    let Parts {
        mut spans,
        mut live,
        metrics,
        tasks,
    } = parts;
    let stop = tasks.token();
    let mut lanes = Lanes::none();
    lanes.follow(&live, &tasks, &metrics).await;
    let mut batch: Vec<Span> = Vec::new();
    let mut due = std::pin::pin!(tokio::time::sleep(PATIENCE));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Ok(()) = live.changed() => {
                lanes.send(&mut batch, &metrics);
                lanes.follow(&live, &tasks, &metrics).await;
            }
            Some(span) = spans.recv() => {
                if batch.is_empty() {
                    due.set(tokio::time::sleep(PATIENCE));
                }
                batch.push(span);
                if batch.len() >= BATCH {
                    lanes.send(&mut batch, &metrics);
                }
            }
            () = &mut due, if !batch.is_empty() => lanes.send(&mut batch, &metrics),
        }
    }
    lanes.finish(&mut spans, batch, &metrics);
}

// === impl Lanes ===

impl Lanes {
    fn none() -> Self {
        Self {
            export: None,
            all: Vec::new(),
        }
    }

    /// Makes the exporters that are wanted now, unless they are there.
    async fn follow(
        &mut self,
        live: &watch::Receiver<Arc<Live>>,
        tasks: &Tasks,
        metrics: &Arc<Metrics>,
    ) {
        let wanted = live.borrow().export.clone();
        if self.export == wanted {
            return;
        }
        let mut all = Vec::new();
        if let Some(export) = wanted.as_deref() {
            let group = tasks.group("trace-connection");
            let resource = || export.resource.clone();
            if let Some(uri) = &export.zipkin {
                let sender = Sender::zipkin(uri.clone(), resource(), &group).await;
                all.push(Lane::begin(Target::Zipkin(sender), tasks, metrics));
            }
            if let Some(otlp) = &export.otlp {
                let sender = Sender::otlp(otlp.clone(), resource(), &group).await;
                all.push(Lane::begin(Target::Otlp(sender), tasks, metrics));
            }
            if export.stdout {
                all.push(Lane::begin(Target::Stdout, tasks, metrics));
            }
        }
        // The ones before end when they have sent what they hold.
        *self = Self {
            export: wanted,
            all,
        };
    }

    /// Hands all that waits to all, in a batch begun already and others.
    fn finish(&self, spans: &mut mpsc::Receiver<Span>, mut batch: Vec<Span>, metrics: &Metrics) {
        while let Ok(span) = spans.try_recv() {
            batch.push(span);
            if batch.len() >= BATCH {
                self.send(&mut batch, metrics);
            }
        }
        self.send(&mut batch, metrics);
    }

    /// Hands the batch to all.
    fn send(&self, batch: &mut Vec<Span>, metrics: &Metrics) {
        if batch.is_empty() {
            return;
        }
        let batch: Arc<[Span]> = std::mem::take(batch).into();
        if self.all.is_empty() {
            // They were begun when somebody received them.
            metrics.spans_dropped(SpanExporter::All, SpanLoss::NoExporter, batch.len() as u64);
        }
        for lane in &self.all {
            if lane.batches.try_send(Arc::clone(&batch)).is_err() {
                metrics.spans_dropped(lane.name, SpanLoss::QueueFull, batch.len() as u64);
            }
        }
    }
}

// === impl Lane ===

impl Lane {
    fn begin(target: Target, tasks: &Tasks, metrics: &Arc<Metrics>) -> Self {
        let (batches, waiting) = mpsc::channel(WAITING);
        let lane = Self {
            name: target.name(),
            batches,
        };
        let run = lane_task(target, waiting, Arc::clone(metrics), tasks.token());
        tasks.spawn("trace-exporter", run);
        lane
    }
}

/// Where a lane leads.
enum Target {
    Zipkin(Sender),
    Otlp(Sender),
    Stdout,
}

impl Target {
    const fn name(&self) -> SpanExporter {
        match self {
            Self::Zipkin(_) => SpanExporter::Zipkin,
            Self::Otlp(_) => SpanExporter::Otlp,
            Self::Stdout => SpanExporter::Stdout,
        }
    }
}

async fn lane_task(
    target: Target,
    mut waiting: mpsc::Receiver<Arc<[Span]>>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let name = target.name();
    let mut is_failing = false;
    while let Some(batch) = waiting.recv().await {
        let spans = batch.len() as u64;
        let sent = match &target {
            Target::Zipkin(sender) | Target::Otlp(sender) => {
                tokio::time::timeout(LIMIT, send(sender, &batch, &stop))
                    .await
                    .unwrap_or_else(|_elapsed| Err(format!("no answer within {LIMIT:?}")))
            }
            Target::Stdout => {
                stdout::write(&batch);
                Ok(())
            }
        };
        match sent {
            Ok(()) => {
                metrics.spans_exported(name, spans);
                if std::mem::replace(&mut is_failing, false) {
                    info!(target: LOG, exporter = name.as_str(), "spans are delivered again");
                }
            }
            Err(cause) => {
                metrics.spans_dropped(name, SpanLoss::ExportFailed, spans);
                if !std::mem::replace(&mut is_failing, true) {
                    warn!(
                        target: LOG,
                        exporter = name.as_str(),
                        err = %cause,
                        "spans cannot be delivered: they are dropped until the collector takes them"
                    );
                }
            }
        }
    }
}

/// Sends a batch, more than once if that may help; while the process ends only once.
async fn send(sender: &Sender, batch: &[Span], stop: &CancellationToken) -> Result<(), String> {
    let encoded = sender.encode(batch);
    let mut pause = PAUSE;
    let mut attempt = 1;
    loop {
        let refused = match sender.send(encoded.clone()).await {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        if attempt == ATTEMPTS || !refused.may_repeat || stop.is_cancelled() {
            return Err(refused.to_string());
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
        (attempt, pause) = (attempt + 1, pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use ironside_telemetry::metrics::Settings;

    use super::*;
    use crate::traces::recording::tests::span;

    fn metrics() -> Metrics {
        Metrics::new("a", Settings::default())
    }

    /// A collector that takes all of it loses nothing at the end, however much waited.
    #[test]
    fn a_full_queue_is_sent_whole_at_the_end() {
        let metrics = Arc::new(metrics());
        let (queue, mut spans) = queue::new(&metrics, &ironside_chassis::Clock::system());
        (0..queue::ROOM).for_each(|_| queue.push(span()));
        let begun = vec![span(); BATCH - 1];
        let (batches, mut taken) = mpsc::channel(WAITING);
        let mut lanes = Lanes::none();
        lanes.all.push(Lane {
            name: SpanExporter::Otlp,
            batches,
        });
        lanes.finish(&mut spans, begun, &metrics);
        let mut count = 0;
        while let Ok(batch) = taken.try_recv() {
            count += batch.len();
        }
        assert_eq!(count, queue::ROOM + BATCH - 1);
        let text = metrics.exposition();
        assert!(!text.contains("trace_spans_dropped_total{"), "{text}");
    }

    #[test]
    fn spans_that_nobody_receives_any_more_are_counted() {
        let metrics = metrics();
        Lanes::none().send(&mut vec![span(); 3], &metrics);
        let text = metrics.exposition();
        let mut lines = text.lines();
        let is_counted =
            |line: &str| line.contains("reason=\"no_exporter\"") && line.ends_with(" 3");
        assert!(lines.any(is_counted), "{text}");
    }
}
