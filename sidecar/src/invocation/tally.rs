//! What is counted of a proxied call, on either side: that it came, and when it ends with which code.
//!
//! A call without status ended because its caller went away. Which calls are counted is decided where they are
//! made. Source: resiliency-observability 3.2.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use ironside_chassis::Tick;
use ironside_telemetry::metrics::CallKind;
use tonic::Code;

use super::{grpc, headers};
use crate::worker::Shared;

/// A proxied call that is counted when it ends: at the latest when this is dropped.
pub(crate) struct Tally {
    shared: Arc<Shared>,
    side: Side,
    code: Option<i32>,
}

enum Side {
    Caller { callee: Box<str>, started: Tick },
    Callee { caller: Box<str> },
}

// === impl Tally ===

impl Tally {
    /// An attempt that begins now.
    pub(crate) fn sent(shared: &Arc<Shared>, callee: &str) -> Self {
        shared.metrics.invocation_sent(callee, CallKind::Unary);
        let side = Side::Caller {
            callee: callee.into(),
            started: shared.clock.monotonic(),
        };
        Self {
            shared: Arc::clone(shared),
            side,
            code: None,
        }
    }

    /// A peer's call that was let in.
    pub(crate) fn received(shared: &Arc<Shared>, headers: &HeaderMap) -> Self {
        let caller = caller_of(headers);
        shared.metrics.invocation_received(&caller);
        Self {
            shared: Arc::clone(shared),
            side: Side::Callee { caller },
            code: None,
        }
    }

    /// The code that headers or trailers hold, if any.
    pub(crate) fn heard(&mut self, headers: &HeaderMap) {
        if let Some(code) = grpc::number_in(headers) {
            self.code = i32::try_from(code).ok();
        }
    }

    /// The call ends with this code.
    pub(crate) fn ends(&mut self, code: Code) {
        self.code = Some(code as i32);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled as i32);
        let metrics = &self.shared.metrics;
        match &self.side {
            Side::Caller { callee, started } => {
                let latency = self.shared.clock.monotonic().since(*started);
                metrics.invocation_answered(callee, code, CallKind::Unary, Some(latency));
            }
            Side::Callee { caller } => metrics.invocation_replied(caller, code),
        }
    }
}

/// Who calls, as series name it.
pub(crate) fn caller_of(headers: &HeaderMap) -> Box<str> {
    let named = headers.get(headers::CALLER_APP_ID);
    named
        .and_then(|value: &HeaderValue| value.to_str().ok())
        .unwrap_or("unknown")
        .into()
}
