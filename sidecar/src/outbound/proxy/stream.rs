//! Proxied streams: a way to the callee, over which messages then go both ways for as long as they like.
//!
//! Owns when a call is a stream, and what of policies holds for one: attempts until the way is open, another replica
//! where the app knows nothing of it, no longer. What goes over the way is `invocation/messages.rs`.

use http::{HeaderMap, HeaderValue, Response, request::Parts};
use ironside_resiliency::{
    attempts,
    outcome::{End, Failure as Why, Outcome},
};
use ironside_telemetry::metrics::CallKind;
use tonic::{Code, Status};

use super::{Call, answer, status_of, unless_quiet};
use crate::{
    body::Body,
    invocation::{
        grpc,
        messages::{Back, Messages},
        stream::Fault,
    },
    outbound::{
        guard::{self, Attempt, Failure, Limits, ways::Place},
        idle::Idle,
        replay::Replay,
        replicas::Lease,
    },
    peers::PeerKey,
};

/// How often a stream is opened whose callee's sidecar says that the app knows nothing of it.
const OPENINGS: u32 = 8;

/// Whether the caller says that the call is a stream (resiliency-observability 1.9).
pub(super) fn is_declared_stream(headers: &HeaderMap) -> bool {
    let value = headers.get("dapr-stream").and_then(|v| v.to_str().ok());
    let truths = ["y", "yes", "true", "t", "on", "1"];
    value.is_some_and(|value| {
        let value = value.trim();
        truths.iter().any(|truth| value.eq_ignore_ascii_case(truth))
    })
}

// === impl Call ===

impl Call<'_> {
    /// A stream: policies hold until the way to the callee is open, and no longer.
    pub(super) async fn stream(
        self,
        parts: Parts,
        body: Body,
        asked: Option<HeaderValue>,
    ) -> Result<Response<Body>, Status> {
        let limit = self.worker.shared.config.max_message;
        let idle = Idle::of(&self.target, &self.worker.shared.clock);
        let body = match &idle {
            Some(idle) => idle.request(body),
            None => body,
        };
        let (body, fault) = Messages::request(body, limit);
        // Enough for another address, where the first one knows nothing of the call.
        let replay = Replay::new(body, Some(Replay::FIRST));
        let until = self.context.deadline;
        let mut way = Opening {
            place: Place::new(self.choice),
            call: self,
        };
        let metrics = &way.call.worker.shared.metrics;
        metrics.invocation_sent(&way.call.callee.written, CallKind::Streaming);
        let mut openings = 1;
        let (response, debts) = loop {
            let course = way.call.course(&parts, attempts::Body::Kept);
            let opened = guard::run(course, &mut way).await;
            let (key, mut debts) = opened.map_err(|failure| way.call.not_open(failure))?;
            // The way is open: no breaker hears of what follows.
            debts.end_here();
            let sent = way.call.send(&key, parts.clone(), replay.attempt(), until);
            let sent = unless_quiet(idle.as_ref(), sent).await;
            // How long the stream goes on says nothing of how fast its address answers.
            if let Some(lease) = &mut debts.lease {
                lease.respond(stream_outcome(&sent, &fault));
            }
            match sent {
                Ok(response) => {
                    let response = match &idle {
                        Some(idle) => response.map(|body| idle.answer(body)),
                        None => response,
                    };
                    break (response, debts);
                }
                Err(Failure::Unreachable(_) | Failure::NotBegun(_))
                    if openings < OPENINGS && way.place.has_other() && is_whole(&replay) =>
                {
                    openings += 1;
                }
                Err(failure) => {
                    way.call.not_opened(failure.code());
                    return Err(status_of(failure, &fault));
                }
            }
        };
        replay.release();
        let call = way.call;
        let back = Back {
            limit,
            fault,
            entry: None,
            tally: None,
        };
        let mut response = answer(response, asked, back, until, call.worker);
        let body = std::mem::replace(response.body_mut(), crate::body::empty());
        *response.body_mut() = debts.onto_grpc(body, idle);
        Ok(response)
    }

    /// A stream that could not be opened; the only end of streams that is counted.
    fn not_open(&self, failure: Failure) -> Status {
        self.not_opened(failure.code());
        failure.status()
    }

    fn not_opened(&self, code: Code) {
        let (metrics, callee) = (&self.worker.shared.metrics, &self.callee.written);
        metrics.invocation_answered(callee, code as i32, CallKind::Streaming, None);
    }
}

/// Whether another attempt would send the same bytes; the one before sends no more.
fn is_whole(replay: &Replay) -> bool {
    replay.hold();
    !replay.is_gone()
}

/// How an address answered a stream: by the head, or not at all.
pub(super) fn stream_outcome(sent: &Result<Response<Body>, Failure>, fault: &Fault) -> Outcome {
    match sent {
        _ if fault.get().is_some() => Why::Caller.into(),
        Ok(response) => End::Grpc(grpc::number_in(response.headers()).unwrap_or_default()).into(),
        Err(failure) => failure.outcome(),
    }
}

/// See [`Call::stream`].
struct Opening<'a> {
    call: Call<'a>,
    place: Place,
}

// === impl Opening ===

impl Attempt for Opening<'_> {
    type Answer = PeerKey;

    async fn send(&mut self, _: Limits) -> Result<PeerKey, Failure> {
        self.call.open(&mut self.place).await
    }

    fn outcome(&self, _: &PeerKey) -> Outcome {
        End::Grpc(0).into()
    }

    fn can_replay(&self) -> bool {
        true
    }

    fn ended(&mut self, outcome: Outcome, is_answer: bool) {
        // How fast a connection opens says nothing of how fast calls are answered.
        if !is_answer {
            self.place.ended(outcome, is_answer);
        }
    }

    fn has_other(&self) -> bool {
        self.place.has_other()
    }

    fn lease(&mut self) -> Option<Lease> {
        self.place.lease()
    }
}
