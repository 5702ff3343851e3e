//! A span that has ended: what exporters send.
//!
//! Owns names and kinds, the attribute keys of the sheet, the text of a failed HTTP status, and the bounds of
//! one span. Refuses clocks, queues and wire formats: `zipkin.rs` has one of them. Source:
//! resiliency-observability 2.3, 2.4, 6.3.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::trace_context::{SpanId, TraceParent};

/// Name of the instrumentation scope: resiliency-observability 2.4.
pub const SCOPE: &str = "dapr-diagnostics";
/// Attributes of one span or event at most; what follows is left out. The SDKs' default.
pub const MAX_ATTRIBUTES: usize = 128;
/// Events of one span at most. The SDKs' default.
pub const MAX_EVENTS: usize = 128;
/// Bytes of one value at most; the rest is cut. A queue of spans is bounded in bytes by it.
pub const MAX_VALUE: usize = 4096;

/// Bytes of one key at most, where it is made of a name that a client chose; the rest is cut.
pub const MAX_KEY: usize = 256;

/// Keys of attributes.
pub mod keys {
    /// What is called: `ServiceInvocation`.
    pub const RPC_SERVICE: &str = "rpc.service";
    /// How: `grpc`.
    pub const RPC_SYSTEM: &str = "rpc.system";
    /// Number of a gRPC status.
    pub const RPC_GRPC_STATUS: &str = "rpc.grpc.status_code";
    /// The target as the caller wrote it.
    pub const PEER_NAME: &str = "net.peer.name";
    /// The API that was used: `http` or `grpc`.
    pub const PROTOCOL: &str = "dapr.protocol";
    /// The call of the API.
    pub const API: &str = "dapr.api";
    /// Status of an HTTP answer.
    pub const STATUS_CODE: &str = "dapr.status_code";
    /// The method on the app, at the callee.
    pub const INVOKE_METHOD: &str = "dapr.invoke_method";
    /// Which attempt a callee's span is, from 1.
    pub const ATTEMPT: &str = "dapr.resiliency.attempt";
    /// How many attempts a caller's span had.
    pub const ATTEMPTS: &str = "dapr.resiliency.attempts";
    /// How its retries ended.
    pub const OUTCOME: &str = "dapr.resiliency.outcome";
    /// Verb of an HTTP request.
    pub const HTTP_METHOD: &str = "http.request.method";
    /// Status of an HTTP answer, as conventions call it.
    pub const HTTP_STATUS: &str = "http.response.status_code";
    /// Request target, without its query.
    pub const URL: &str = "url.full";
    /// The app that is called.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// Address of the app that calls.
    pub const CLIENT_ADDRESS: &str = "client.address";
    /// Its port.
    pub const CLIENT_PORT: &str = "client.port";
    /// What failed.
    pub const ERROR_TYPE: &str = "error.type";
}

/// An attribute: key and value.
pub type Attribute = (Cow<'static, str>, Box<str>);

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The caller's.
    Client,
    /// The callee's.
    Server,
}

/// How a span ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Well, or nobody said.
    #[default]
    Unset,
    /// Badly: why.
    Error(Box<str>),
}

/// What happened during a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub name: &'static str,
    /// When.
    pub at: SystemTime,
    /// More of it.
    pub attributes: Vec<Attribute>,
}

/// A span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Trace, own id and flags.
    pub context: TraceParent,
    /// Id of the span above.
    pub parent: Option<SpanId>,
    /// What vendors added, as it is sent on.
    pub state: Option<Box<str>>,
    /// Its name.
    pub name: Box<str>,
    /// Its side.
    pub kind: Kind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What is known of it.
    pub attributes: Vec<Attribute>,
    /// What happened.
    pub events: Vec<Event>,
    /// How it ended.
    pub status: Status,
}

/// Who makes spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// `service.name`.
    pub service: Box<str>,
    /// Everything else.
    pub attributes: Vec<(Box<str>, Box<str>)>,
}

// === impl Span ===

impl Span {
    /// Sets an attribute; an empty value is none, and the last one of a key counts.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: &str) {
        put(&mut self.attributes, key.into(), value);
    }

    /// Adds an event, while there is room.
    pub fn event(
        &mut self,
        name: &'static str,
        at: SystemTime,
        attributes: &[(&'static str, &str)],
    ) {
        if self.events.len() >= MAX_EVENTS {
            return;
        }
        let mut all = Vec::with_capacity(attributes.len());
        for (key, value) in attributes {
            put(&mut all, Cow::Borrowed(key), value);
        }
        self.events.push(Event {
            name,
            at,
            attributes: all,
        });
    }

    /// The value of an attribute.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(have, _)| have == key);
        found.map(|(_, value)| &**value)
    }
}

fn put(attributes: &mut Vec<Attribute>, key: Cow<'static, str>, value: &str) {
    if value.is_empty() {
        return;
    }
    let value = Box::from(cut(value));
    let key = match key {
        Cow::Owned(mut key) => {
            key.truncate(key.floor_char_boundary(MAX_KEY));
            Cow::Owned(key)
        }
        fixed @ Cow::Borrowed(_) => fixed,
    };
    if let Some((_, have)) = attributes.iter_mut().find(|(have, _)| *have == key) {
        *have = value;
    } else if attributes.len() < MAX_ATTRIBUTES {
        attributes.push((key, value));
    }
}

/// A text of at most [`MAX_VALUE`] bytes.
#[must_use]
pub fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_VALUE))
        .unwrap_or(text)
}

// === impl Status ===

impl Status {
    /// What an HTTP status means: errors from 400 on, with the reason that belongs to the number.
    #[must_use]
    pub fn of_http(code: u16, reason: Option<&str>) -> Self {
        if code < 400 {
            return Self::Unset;
        }
        let reason = reason.unwrap_or("Unknown");
        Self::Error(format!("Code({code}): {reason}").into())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trace_context::{Flags, TraceId};

    pub(crate) fn span() -> Span {
        let start = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_123);
        Span {
            context: TraceParent {
                trace_id: TraceId([0xab; 16]),
                span_id: SpanId([1; 8]),
                flags: Flags::sampled(true),
            },
            parent: Some(SpanId([2; 8])),
            state: None,
            name: "CallLocal/b/m".into(),
            kind: Kind::Client,
            start,
            end: start + Duration::from_micros(42),
            attributes: Vec::new(),
            events: Vec::new(),
            status: Status::Unset,
        }
    }

    /// Fact: resiliency-observability 2.3, T-19, T-20.
    #[test]
    fn http_statuses_from_400_are_errors() {
        for (code, reason, want) in [
            (200, Some("OK"), None),
            (302, Some("Found"), None),
            (399, None, None),
            (404, Some("Not Found"), Some("Code(404): Not Found")),
            (499, None, Some("Code(499): Unknown")),
        ] {
            let want = want.map_or(Status::Unset, |text| Status::Error(text.into()));
            assert_eq!(Status::of_http(code, reason), want);
        }
    }

    #[test]
    fn attributes_are_bounded_and_never_empty() {
        let mut span = span();
        span.set("a", "");
        assert_eq!(span.attributes, []);
        span.set("a", "1");
        span.set("a", "2");
        assert_eq!(span.get("a"), Some("2"));
        span.set("long", &"é".repeat(MAX_VALUE));
        assert_eq!(span.get("long").map(str::len), Some(MAX_VALUE));
        span.set("é".repeat(MAX_KEY), "v");
        let keys = span.attributes.iter().map(|(key, _)| key.len());
        assert_eq!(keys.max(), Some(MAX_KEY));
        for number in 0..2 * MAX_ATTRIBUTES {
            span.set(format!("k{number}"), "v");
            span.event("e", span.start, &[("k", "v"), ("none", "")]);
        }
        assert_eq!(span.attributes.len(), MAX_ATTRIBUTES);
        assert_eq!(span.events.len(), MAX_EVENTS);
        assert_eq!(span.events[0].attributes.len(), 1);
    }
}
