//! What accompanies a call besides its message: trace, baggage, deadline, whether it is an event stream.
//!
//! Owns how trace headers change at each hop (resiliency-observability 2.1, 2.2, 2.5): with a sampling rate each
//! sidecar is a span, and whoever comes next is told of the innermost one, once; without one the client's context
//! goes through, or one that nobody records; with rate 0 nothing is touched.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue};
use ironside_chassis::clock::{Clock, Tick};
use ironside_telemetry::{Sampling, TraceParent, TraceState};

use crate::{decisions::record::TraceNumber, inbound::authorise::Judged, traces::Recording};

use super::headers::{GRPC_TRACE_BIN, TRACEPARENT, TRACESTATE};

/// What accompanies a call.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallContext {
    /// The span of this sidecar, as the next hop hears of it.
    pub(crate) trace: CallTrace,
    /// The same where it is recorded.
    pub(crate) span: Option<Arc<Recording>>,
    /// The request's baggage, valid and joined: the response echoes it.
    pub(crate) baggage: Option<HeaderValue>,
    /// When the caller stops waiting.
    pub(crate) deadline: Option<Deadline>,
    /// The client asked for server-sent events.
    pub(crate) event_stream: bool,
    /// For whom policy allowed the call; `None` for calls that are not subject to it.
    pub(crate) judged: Option<Judged>,
}

/// The span of one sidecar in one call, as the next hop hears of it; nothing with sampling rate 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallTrace {
    mode: Mode,
    span: TraceParent,
    state: Option<HeaderValue>,
}

/// What happens to trace headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    /// They are headers like others.
    #[default]
    Off,
    /// The context goes on as it came; there is one, so that all of a call is one trace.
    PassThrough,
    /// The context is a span of this sidecar, which takes the place of what came from an app.
    Edge,
    /// The same, below a span of another sidecar: what it sent beside has been looked at.
    Hop,
}

/// The parent of this sidecar's span: what came with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Over HTTP: `traceparent`.
    Http,
    /// Over gRPC: `grpc-trace-bin`, else `traceparent`.
    Grpc,
    /// From another sidecar, over gRPC.
    Sidecar,
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
    /// The span of this sidecar for a request with these headers, and the span above it.
    pub(crate) fn start(
        sampling: Sampling,
        headers: &HeaderMap,
        from: Source,
    ) -> (Self, Option<TraceParent>) {
        let mode = match (sampling, from) {
            (Sampling::Off, _) => return (Self::default(), None),
            (Sampling::PassThrough, _) => Mode::PassThrough,
            (Sampling::ParentBased(_), Source::Http | Source::Grpc) => Mode::Edge,
            (Sampling::ParentBased(_), Source::Sidecar) => Mode::Hop,
        };
        let parent = match from {
            Source::Http => text_parent(headers),
            Source::Grpc | Source::Sidecar => {
                binary_parent(headers).or_else(|| text_parent(headers))
            }
        };
        let mut rng = rand::rng();
        let span = sampling.span(parent.as_ref(), &mut rng);
        let span = span.or(parent.filter(TraceParent::is_valid));
        let span = span.unwrap_or_else(|| TraceParent::root(false, &mut rng));
        let trace = Self {
            mode,
            span,
            state: state(mode, headers, parent.is_some()),
        };
        (trace, parent)
    }

    /// True unless the sampling rate is 0.
    pub(crate) fn is_on(&self) -> bool {
        self.mode != Mode::Off
    }

    /// True where each hop is a span.
    pub(crate) fn has_span(&self) -> bool {
        matches!(self.mode, Mode::Edge | Mode::Hop)
    }

    /// The context that goes on.
    pub(crate) const fn span(&self) -> TraceParent {
        self.span
    }

    /// What vendors added.
    pub(crate) fn state(&self) -> Option<&str> {
        self.state.as_ref()?.to_str().ok()
    }

    /// The trace that the call belongs to.
    pub(crate) fn id(&self) -> Option<TraceNumber> {
        self.is_on()
            .then(|| TraceNumber::of_parent(&self.span.to_text()))
            .flatten()
    }

    /// Takes trace headers away whose place this sidecar's span takes.
    pub(crate) fn take_from(&self, headers: &mut HeaderMap) {
        if !self.is_on() {
            return;
        }
        headers.remove(TRACEPARENT);
        headers.remove(GRPC_TRACE_BIN);
        if self.mode == Mode::Edge {
            headers.remove(TRACESTATE);
            if let Some(state) = &self.state {
                headers.insert(TRACESTATE, state.clone());
            }
        }
    }

    /// Tells the callee's sidecar, in the metadata of the hop.
    pub(crate) fn to_hop(&self, headers: &mut HeaderMap) {
        self.to_grpc(headers);
    }

    /// Tells an HTTP app.
    pub(crate) fn to_http_app(&self, headers: &mut HeaderMap) {
        if self.is_on() {
            headers.insert(TRACEPARENT, self.text());
        }
    }

    /// Tells a gRPC app, a gRPC caller, or another sidecar: in place of what is there.
    pub(crate) fn to_grpc(&self, headers: &mut HeaderMap) {
        if self.is_on() {
            headers.insert(TRACEPARENT, self.text());
            headers.insert(GRPC_TRACE_BIN, self.binary());
        }
    }

    /// Tells an HTTP client, unless the app already did.
    pub(crate) fn to_http_client(&self, headers: &mut HeaderMap) {
        if !self.is_on() {
            return;
        }
        if !headers.contains_key(TRACEPARENT) {
            headers.insert(TRACEPARENT, self.text());
        }
        if let Some(state) = &self.state
            && !headers.contains_key(TRACESTATE)
        {
            headers.insert(TRACESTATE, state.clone());
        }
    }

    /// Tells a gRPC client in the head of an error.
    pub(crate) fn to_hop_error(&self, headers: &mut HeaderMap) {
        if self.is_on() {
            headers.insert(GRPC_TRACE_BIN, self.binary());
        }
    }

    fn text(&self) -> HeaderValue {
        // Hexadecimal digits and hyphens are a legal value.
        HeaderValue::from_bytes(&self.span.to_text()).unwrap_or(EMPTY)
    }

    fn binary(&self) -> HeaderValue {
        use base64::Engine as _;
        let mut text = [0; BINARY_TEXT];
        let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
        let length = engine.encode_slice(self.span.to_binary(), &mut text);
        let text = text.get(..length.unwrap_or_default());
        HeaderValue::from_bytes(text.unwrap_or_default()).unwrap_or(EMPTY)
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");
/// Bytes of the binary form in base64.
const BINARY_TEXT: usize = 40;

/// What vendors added to the trace. Where this sidecar has a span it is checked, and sent only beside a context
/// that the caller sent, too (resiliency-observability 2.2); elsewhere it is a header.
fn state(mode: Mode, headers: &HeaderMap, has_parent: bool) -> Option<HeaderValue> {
    let value = headers.get(TRACESTATE).filter(|value| !value.is_empty())?;
    match mode {
        Mode::Off => None,
        Mode::PassThrough => Some(value.clone()),
        Mode::Edge | Mode::Hop if !has_parent => None,
        Mode::Edge | Mode::Hop => {
            let lines: Option<Vec<&str>> = headers
                .get_all(TRACESTATE)
                .iter()
                .map(|line| line.to_str().ok())
                .collect();
            let state = TraceState::parse(&lines?.join(","))?;
            HeaderValue::from_str(state.sendable()?).ok()
        }
    }
}

fn text_parent(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse_bytes(headers.get(TRACEPARENT)?.as_bytes())
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

#[cfg(test)]
mod tests;
