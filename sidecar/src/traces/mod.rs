//! Spans: what is known of a call while it goes on, and who is told when it has ended.
//!
//! A call that is sampled, in a process that exports, has a [`Recording`]; every other call has none and pays
//! nothing. Ended spans wait in one bounded [`queue`] for the exporters, which run on the control thread:
//! `export.rs` makes batches, `sender.rs` sends them. Refuses to decide what is sampled: telemetry does.

pub(crate) mod attributes;
pub(crate) mod export;
mod otlp;
pub(crate) mod queue;
pub(crate) mod recording;
mod sender;
pub(crate) mod settings;
mod stdout;

pub(crate) use queue::Queue;
pub(crate) use recording::Recording;
pub(crate) use settings::Export;
