//! The span of a call that goes on.
//!
//! Whoever learns something about the call says it here; the end is said once, and a recording that nobody ends
//! ends when it is dropped. A lock is held for the time of one such word: only the call itself speaks.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use ironside_chassis::Tick;
use ironside_telemetry::{
    Span, SpanId, TraceParent, TraceState,
    span::{Kind, Status, keys},
};

use super::Queue;

/// A span that has not ended.
pub(crate) struct Recording {
    /// `None` once it has ended.
    open: Mutex<Option<Span>>,
    began: Tick,
    queue: Arc<Queue>,
}

/// What a span is called when it begins.
pub(crate) struct Beginning<'a> {
    /// Trace, own id, flags.
    pub(crate) context: TraceParent,
    /// The span above.
    pub(crate) parent: Option<SpanId>,
    /// What vendors added.
    pub(crate) state: Option<&'a str>,
    /// Its first name.
    pub(crate) name: &'a str,
    /// Its side.
    pub(crate) kind: Kind,
}

// === impl Recording ===

impl Recording {
    /// Begins now.
    pub(crate) fn begin(beginning: Beginning<'_>, queue: &Arc<Queue>) -> Arc<Self> {
        let Beginning {
            context,
            parent,
            state,
            name,
            kind,
        } = beginning;
        let clock = queue.clock();
        let start = clock.now();
        let span = Span {
            context,
            parent,
            state: state.map(Into::into),
            name: ironside_telemetry::span::cut(name).into(),
            kind,
            start,
            end: start,
            attributes: Vec::new(),
            events: Vec::new(),
            status: Status::Unset,
        };
        Arc::new(Self {
            open: Mutex::new(Some(span)),
            began: clock.monotonic(),
            queue: Arc::clone(queue),
        })
    }

    fn with(&self, tell: impl FnOnce(&mut Span)) {
        // A span is whole after any interrupted change.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(span) = open.as_mut() {
            tell(span);
        }
    }

    /// Gives it a better name.
    pub(crate) fn rename(&self, name: &str) {
        self.with(|span| span.name = ironside_telemetry::span::cut(name).into());
    }

    /// Sets an attribute.
    pub(crate) fn set(&self, key: impl Into<Cow<'static, str>>, value: &str) {
        self.with(|span| span.set(key, value));
    }

    /// Notes what happened now.
    pub(crate) fn event(&self, name: &'static str, attributes: &[(&'static str, &str)]) {
        let at = self.queue.clock().now();
        self.with(|span| span.event(name, at, attributes));
    }

    /// Says what vendors added to the trace, learned later.
    ///
    /// As it is sent on: beside a parent, and not too long (resiliency-observability 2.2).
    pub(crate) fn state(&self, state: &TraceState) {
        self.with(|span| {
            if span.parent.is_some() {
                span.state = state.sendable().map(Into::into);
            }
        });
    }

    /// It failed with an HTTP status, or succeeded.
    pub(crate) fn http_status(&self, code: u16, reason: Option<&str>) {
        let text = code.to_string();
        self.with(|span| {
            span.set(keys::STATUS_CODE, &text);
            span.set(keys::HTTP_STATUS, &text);
            if code >= 400 {
                span.set(keys::ERROR_TYPE, &text);
            }
            span.status = Status::of_http(code, reason);
        });
    }

    /// It ended with a gRPC status.
    pub(crate) fn grpc_status(&self, code: tonic::Code, message: &str) {
        self.with(|span| {
            span.set(keys::RPC_GRPC_STATUS, &(code as i32).to_string());
            if code != tonic::Code::Ok {
                span.set(keys::ERROR_TYPE, &format!("{code:?}"));
                span.status = Status::Error(ironside_telemetry::span::cut(message).into());
            }
        });
    }

    /// It has ended.
    pub(crate) fn end(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut span) = open.take() else { return };
        drop(open);
        span.end = span.start + self.queue.clock().monotonic().since(self.began);
        self.queue.push(span);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, SystemTime};

    use ironside_chassis::Clock;
    use ironside_telemetry::{TraceId, metrics::Metrics};

    use super::*;
    use crate::traces::queue;

    pub(in crate::traces) fn span() -> Span {
        Span {
            context: TraceParent {
                trace_id: TraceId([0xab; 16]),
                span_id: SpanId([1; 8]),
                flags: ironside_telemetry::Flags::sampled(true),
            },
            parent: Some(SpanId([2; 8])),
            state: None,
            name: "CallLocal/b/m".into(),
            kind: Kind::Client,
            start: SystemTime::UNIX_EPOCH,
            end: SystemTime::UNIX_EPOCH + Duration::from_millis(1),
            attributes: vec![("k".into(), "v".into())],
            events: Vec::new(),
            status: Status::Unset,
        }
    }

    /// A span ends once, with what was said before: also when it is only dropped.
    #[test]
    fn a_recording_ends_once() {
        let (clock, hand) = Clock::manual(SystemTime::UNIX_EPOCH);
        let (queue, mut waiting) = queue::new(&Arc::new(Metrics::disabled()), &clock);
        let beginning = || Beginning {
            context: TraceParent::zero(),
            parent: None,
            state: Some("a=b"),
            name: "first",
            kind: Kind::Server,
        };
        let recording = Recording::begin(beginning(), &queue);
        hand.advance(Duration::from_secs(2));
        recording.rename("second");
        recording.set("k", "v");
        recording.event("retry", &[("cause", "x")]);
        recording.http_status(404, Some("Not Found"));
        recording.end();
        recording.set("late", "v");
        drop(recording);
        let span = waiting.try_recv().unwrap();
        assert_eq!(&*span.name, "second");
        assert_eq!(span.end.duration_since(span.start).unwrap().as_secs(), 2);
        assert_eq!((span.get("k"), span.get("late")), (Some("v"), None));
        assert_eq!(span.get("dapr.status_code"), Some("404"));
        assert_eq!(span.events.len(), 1);
        assert!(waiting.try_recv().is_err());
        drop(Recording::begin(beginning(), &queue));
        assert_eq!(&*waiting.try_recv().unwrap().name, "first");
    }

    /// Resiliency-observability 2.2: beside a parent only, and not longer than what is sent on.
    #[test]
    fn a_state_that_comes_later_is_bounded() {
        let (clock, _hand) = Clock::manual(SystemTime::UNIX_EPOCH);
        let (queue, mut waiting) = queue::new(&Arc::new(Metrics::disabled()), &clock);
        let parent = Some(SpanId([2; 8]));
        let long = format!("a={0},b={0},c={0}", "x".repeat(200));
        for (parent, text, want) in [
            (parent, "a=b", Some("a=b")),
            (None, "a=b", None),
            (parent, &long, None),
        ] {
            let beginning = Beginning {
                context: TraceParent::zero(),
                parent,
                state: None,
                name: "n",
                kind: Kind::Server,
            };
            let recording = Recording::begin(beginning, &queue);
            recording.state(&TraceState::parse(text).unwrap());
            drop(recording);
            assert_eq!(waiting.try_recv().unwrap().state.as_deref(), want, "{text}");
        }
        assert_eq!(TraceState::parse(&"a=b,".repeat(1 << 20)), None);
    }

    /// Fact: resiliency-observability T-21.
    #[test]
    fn a_grpc_error_is_one_with_its_message() {
        let metrics = Arc::new(Metrics::disabled());
        let (queue, mut waiting) = queue::new(&metrics, &Clock::system());
        for (code, want) in [
            (tonic::Code::Ok, Status::Unset),
            (tonic::Code::NotFound, Status::Error("no such".into())),
        ] {
            let beginning = Beginning {
                context: TraceParent::zero(),
                parent: None,
                state: None,
                name: "n",
                kind: Kind::Client,
            };
            let recording = Recording::begin(beginning, &queue);
            recording.grpc_status(code, "no such");
            drop(recording);
            let span = waiting.try_recv().unwrap();
            assert_eq!(span.status, want);
            let number = (code as i32).to_string();
            assert_eq!(span.get(keys::RPC_GRPC_STATUS), Some(&*number));
        }
    }
}
