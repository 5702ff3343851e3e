//! How things are measured and spelled.
//!
//! Trace context and baggage in and out of their wire forms, the sampling
//! decision, spans and their form for Zipkin, the metric families with their labels and buckets, the names of
//! log fields, and the quoting that error texts share. All pure: exporters,
//! listeners and clocks are elsewhere, randomness comes in as an argument.

pub mod baggage;
pub mod fields;
pub mod metrics;
mod quote;
pub mod sampling;
pub mod span;
pub mod trace_context;
mod trace_state;
mod url_user;
pub mod zipkin;

pub use quote::{Escaped, Quoted, escaped, is_printable, quoted};
pub use sampling::Sampling;
pub use span::Span;
pub use trace_context::{Flags, SpanId, TraceId, TraceParent};
pub use trace_state::TraceState;
pub use url_user::without_user;
