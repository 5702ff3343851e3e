//! The `tracing` layer that turns events into lines.
//!
//! Decides with the threshold, collects fields, hands the line to the sink.
//! Spans carry nothing into lines and are not enabled at all.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::level::{FATAL, Level, Threshold};
use super::line::{Format, Line, Stamp};
use super::sink::Sink;
use crate::Clock;

/// How long a fatal line may take to be written before the process ends.
const FATAL_LIMIT: Duration = Duration::from_secs(2);

/// Writes events as lines.
pub(super) struct LogLayer {
    format: Format,
    stamp: Stamp,
    zone: TimeZone,
    clock: Clock,
    threshold: Arc<Threshold>,
    sink: Arc<Sink>,
}

/// The fields of one event, split into the message and the rest.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

// === impl LogLayer ===

impl LogLayer {
    pub(super) fn new(
        format: Format,
        stamp: Stamp,
        threshold: Arc<Threshold>,
        sink: Arc<Sink>,
    ) -> Self {
        Self {
            format,
            stamp,
            zone: TimeZone::system(),
            clock: Clock::system(),
            threshold,
            sink,
        }
    }

    fn write(&self, level: Level, scope: &str, fields: Fields) {
        let line = Line {
            time: self.clock.now(),
            level,
            scope,
            message: fields.message,
            fields: fields.others,
        };
        let lost = self
            .sink
            .push(&line.render(self.format, &self.stamp, &self.zone));
        if lost > 0 {
            self.report_lost(lost);
        }
    }

    fn report_lost(&self, lost: u64) {
        let fields = Fields {
            message: "log lines were dropped: the reader of the log was too slow".to_owned(),
            others: vec![("dropped", lost.into())],
        };
        self.write(Level::Warn, "dapr.runtime", fields);
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_span() {
            Interest::never()
        } else {
            // The level changes while the process runs.
            Interest::sometimes()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        metadata.is_event() && self.threshold.passes(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.threshold.hint())
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = Level::of(event.metadata());
        self.write(level, event.metadata().target(), fields);
        if level == Level::Fatal {
            self.sink.flush(FATAL_LIMIT);
        }
    }
}

// === impl Fields ===

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            (FATAL, _) => {}
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string().into());
    }
}
