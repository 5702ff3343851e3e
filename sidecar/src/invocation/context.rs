//! What accompanies a call besides its message: trace, baggage, deadline, whether it is an event stream.
//!
//! Owns how trace headers change at each hop (service-invocation 1.7, MEAS of golden 01, 10, 29, 30): with a
//! sampling rate each sidecar adds a span; without one the client's value, or the all-zero one, goes through;
//! with rate 0 nothing is touched.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use ironside_chassis::clock::{Clock, Tick};
use ironside_telemetry::{Sampling, TraceParent};

use crate::{decisions::record::TraceNumber, inbound::authorise::Judged};

use super::headers::{GRPC_TRACE_BIN, TRACEPARENT, TRACESTATE};

/// What accompanies a call.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallContext {
    /// The span of this sidecar.
    pub(crate) trace: CallTrace,
    /// The request's baggage, valid and joined: the response echoes it.
    pub(crate) baggage: Option<HeaderValue>,
    /// When the caller stops waiting.
    pub(crate) deadline: Option<Deadline>,
    /// The client asked for server-sent events.
    pub(crate) event_stream: bool,
    /// For whom policy allowed the call; `None` for calls that are not subject to it.
    pub(crate) judged: Option<Judged>,
}

/// The span of one sidecar in one call, as headers; empty with sampling rate 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallTrace {
    span: Option<Encoded>,
    state: Option<HeaderValue>,
}

#[derive(Debug, Clone)]
struct Encoded {
    text: HeaderValue,
    binary: HeaderValue,
}

impl CallContext {
    /// The same for an attempt that ends at `until`, counted as the clock counts.
    pub(crate) fn until(&self, until: Option<Duration>) -> Self {
        Self {
            deadline: until.map(Deadline::at),
            ..self.clone()
        }
    }
}

impl CallTrace {
    /// The span of this sidecar for a request with these headers.
    pub(crate) fn start(sampling: Sampling, headers: &HeaderMap) -> Self {
        let parent = headers
            .get(TRACEPARENT)
            .and_then(|value| TraceParent::parse_bytes(value.as_bytes()))
            .or_else(|| binary_parent(headers));
        let span = match sampling {
            Sampling::Off => return Self::default(),
            Sampling::PassThrough => parent.unwrap_or(TraceParent::zero()),
            Sampling::ParentBased(_) => match sampling.span(parent.as_ref(), &mut rand::rng()) {
                Some(span) => span,
                None => return Self::default(),
            },
        };
        let state = headers
            .get(TRACESTATE)
            .filter(|value| !value.is_empty())
            .cloned();
        Self {
            span: Encoded::new(span),
            state,
        }
    }

    /// True unless the sampling rate is 0.
    pub(crate) fn is_on(&self) -> bool {
        self.span.is_some()
    }

    /// The trace that the call belongs to, if anybody named one.
    pub(crate) fn id(&self) -> Option<TraceNumber> {
        let span = self.span.as_ref()?;
        TraceNumber::of_parent(span.text.as_bytes())
    }

    /// Tells the callee's sidecar, in the metadata of the hop.
    pub(crate) fn to_hop(&self, headers: &mut HeaderMap) {
        self.to_grpc(headers);
    }

    /// Tells an HTTP app.
    pub(crate) fn to_http_app(&self, headers: &mut HeaderMap) {
        if let Some(span) = &self.span {
            headers.insert(TRACEPARENT, span.text.clone());
        }
    }

    /// Tells a gRPC app, or a gRPC caller.
    pub(crate) fn to_grpc(&self, headers: &mut HeaderMap) {
        if let Some(span) = &self.span {
            headers.insert(TRACEPARENT, span.text.clone());
            headers.insert(GRPC_TRACE_BIN, span.binary.clone());
        }
    }

    /// Tells a proxied call: the client's own headers stay, ours follow.
    pub(crate) fn to_proxied(&self, headers: &mut HeaderMap) {
        if let Some(span) = &self.span {
            headers.append(TRACEPARENT, span.text.clone());
            headers.append(GRPC_TRACE_BIN, span.binary.clone());
        }
    }

    /// Tells an HTTP client, unless the app already did.
    pub(crate) fn to_http_client(&self, headers: &mut HeaderMap) {
        let Some(span) = &self.span else { return };
        if !headers.contains_key(TRACEPARENT) {
            headers.insert(TRACEPARENT, span.text.clone());
        }
        if let Some(state) = &self.state
            && !headers.contains_key(TRACESTATE)
        {
            headers.insert(TRACESTATE, state.clone());
        }
    }

    /// Tells a gRPC client in the head of an error.
    pub(crate) fn to_hop_error(&self, headers: &mut HeaderMap) {
        if let Some(span) = &self.span {
            headers.insert(GRPC_TRACE_BIN, span.binary.clone());
        }
    }
}

impl Encoded {
    fn new(span: TraceParent) -> Option<Self> {
        use base64::Engine as _;
        let binary = base64::engine::general_purpose::STANDARD_NO_PAD.encode(span.to_binary());
        Some(Self {
            text: span.to_string().parse().ok()?,
            binary: binary.parse().ok()?,
        })
    }
}

fn binary_parent(headers: &HeaderMap) -> Option<TraceParent> {
    use base64::Engine as _;
    let text = headers
        .get(GRPC_TRACE_BIN)?
        .to_str()
        .ok()?
        .trim_end_matches('=');
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(text)
        .ok()?;
    TraceParent::from_binary(&bytes)
}

/// A point in time after which nobody waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Tick);

impl Deadline {
    /// `left` from now.
    pub(crate) fn after(left: Duration, clock: &Clock) -> Self {
        Self(Tick::at(
            clock.monotonic().since_start().saturating_add(left),
        ))
    }

    /// At this time, counted as the clock counts.
    pub(crate) const fn at(since_start: Duration) -> Self {
        Self(Tick::at(since_start))
    }

    /// The time, counted as the clock counts.
    pub(crate) const fn since_start(self) -> Duration {
        self.0.since_start()
    }

    /// Time that is left.
    pub(crate) fn left(self, clock: &Clock) -> Duration {
        self.0.since(clock.monotonic())
    }
}
