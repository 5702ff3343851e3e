//! Where spans go: what Configuration and environment say, checked.
//!
//! Values only; `sources/traces.rs` makes them, `export.rs` acts on them. Header values are secrets as often as
//! not and print nothing.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use ironside_telemetry::span::Resource;

/// Time for one export where nobody says another (resiliency-observability 2.6).
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// The exporters of this process; at least one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Export {
    /// Who makes the spans.
    pub(crate) resource: Resource,
    /// Zipkin's URL.
    pub(crate) zipkin: Option<Uri>,
    /// An OTLP collector.
    pub(crate) otlp: Option<Otlp>,
    /// Whether spans go to the log.
    pub(crate) stdout: bool,
}

/// An OTLP collector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Otlp {
    /// Full URL of the call.
    pub(crate) uri: Uri,
    /// How it is called.
    pub(crate) wire: Wire,
    /// What goes with every call; marked as sensitive.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Time for one call.
    pub(crate) timeout: Duration,
}

/// How an OTLP collector is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    Http,
}
