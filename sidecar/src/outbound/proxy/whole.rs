//! Proxied calls whose policies hold from the first message to the status.
//!
//! Owns what is kept of such a call so that it can be made again, and the look at the head of an answer: until its
//! first message or its status has gone on to the caller, another attempt may take its place.

use std::{pin::Pin, time::Duration};

use futures_util::StreamExt as _;
use http::{HeaderName, HeaderValue, Response, StatusCode, request::Parts};
use http_body::Body as _;
use http_body_util::{BodyExt as _, StreamBody};
use ironside_resiliency::{
    attempts,
    outcome::{End, Failure as Why, Outcome},
};
use tonic::{Code, Status};

use super::{Call, answer, unless_quiet};
use crate::{
    body::{Body, BodyError},
    invocation::{
        chunks::PREFIX,
        context::Deadline,
        grpc,
        messages::{self, Back, Messages},
        stream::Fault,
        tally::Tally,
    },
    outbound::{
        InvokeError,
        guard::{self, Attempt, Failure, Limits, pushback::pushback, ways::Place},
        idle::Idle,
        replay::Replay,
        replicas::Lease,
    },
    traces::attributes::PREVIOUS_ATTEMPTS,
};

// === impl Call ===

impl Call<'_> {
    /// A call whose policies hold from its first message to its status.
    pub(super) async fn whole(
        self,
        parts: Parts,
        body: Body,
        asked: Option<HeaderValue>,
    ) -> Result<Response<Body>, Status> {
        let limit = self.worker.shared.config.max_message;
        let may_retry = self.target.rules(parts.uri.path(), None).may_retry();
        let idle = Idle::of(&self.target, &self.worker.shared.clock);
        let body = match &idle {
            Some(idle) => idle.request(body),
            None => body,
        };
        // What may be sent again is one message: whether more will follow cannot be known.
        let (body, fault) = if may_retry {
            Messages::single(body, limit)
        } else {
            Messages::request(body, limit)
        };
        let (room, kind) = if may_retry {
            let room = limit.saturating_add(PREFIX) as u64;
            (room, attempts::Body::Kept)
        } else {
            // Enough for another address, where the first one knows nothing of the call.
            (Replay::FIRST, attempts::Body::Once)
        };
        let replay = Replay::new(body, Some(room));
        let course = self.course(&parts, kind);
        let mut way = Whole {
            place: Place::new(self.choice),
            call: self,
            parts,
            replay: replay.clone(),
            fault: fault.clone(),
            until: None,
            may_retry,
            idle,
            tally: None,
        };
        let done = guard::run(course, &mut way).await;
        replay.release();
        let (Answered { response, .. }, debts) = done.map_err(Failure::status)?;
        let idle = way.idle;
        let response = match &idle {
            Some(idle) => response.map(|body| idle.answer(body)),
            None => response,
        };
        let back = Back {
            limit,
            fault,
            entry: None,
            tally: way.tally.take(),
        };
        let until = way.until.map(Deadline::at);
        let mut response = answer(response, asked, back, until, way.call.worker);
        let body = std::mem::replace(response.body_mut(), crate::body::empty());
        *response.body_mut() = debts.onto_grpc(body, idle);
        Ok(response)
    }
}

/// A response, and the code that is known of it: 0 while it goes on.
pub(super) struct Answered {
    response: Response<Body>,
    pub(super) code: u32,
}

/// See [`Call::whole`].
struct Whole<'a> {
    call: Call<'a>,
    parts: Parts,
    replay: Replay,
    fault: Fault,
    place: Place,
    until: Option<Duration>,
    may_retry: bool,
    idle: Option<Idle>,
    /// The attempt under way, or the one whose answer the caller gets.
    tally: Option<Tally>,
}

// === impl Whole ===

impl Whole<'_> {
    async fn attempt(&mut self, limits: Limits) -> Result<Answered, Failure> {
        let Limits { until, number } = limits;
        self.until = until;
        let key = self.call.open(&mut self.place).await?;
        let body = self.replay.attempt();
        let mut parts = self.parts.clone();
        if number > 1 {
            // How often it was tried before (gRFC A6).
            let before = HeaderValue::from(number - 1);
            parts.headers.insert(PREVIOUS_ATTEMPTS, before);
        }
        let sent = self.call.send(&key, parts, body, until.map(Deadline::at));
        let response = match sent.await {
            Ok(response) => response,
            Err(failure) => return Err(self.blamed(failure)),
        };
        if self.may_retry {
            let peeked = unless_quiet(self.idle.as_ref(), peek(response)).await;
            return peeked.map_err(|failure| self.blamed(failure));
        }
        let code = grpc::number_in(response.headers()).unwrap_or_default();
        Ok(Answered { response, code })
    }

    /// A failure, unless it is the caller's own.
    fn blamed(&self, failure: Failure) -> Failure {
        match self.fault.get() {
            Some(broken) => {
                let status = messages::status_of(broken);
                Failure::Caller(InvokeError::Hop(Box::new(status)))
            }
            None => failure,
        }
    }
}

impl Attempt for Whole<'_> {
    type Answer = Answered;

    async fn send(&mut self, limits: Limits) -> Result<Answered, Failure> {
        // One that was given up is counted as it ended.
        self.tally = None;
        self.tally = Some(Tally::sent(
            &self.call.worker.shared,
            &self.call.callee.written,
        ));
        let sent = self.attempt(limits).await;
        if let Some(tally) = &mut self.tally {
            match &sent {
                // What follows may still end otherwise.
                Ok(answered) => match answered.code {
                    0 => tally.heard(answered.response.headers()),
                    code => tally.ends(i32::try_from(code).map_or(Code::Unknown, Code::from)),
                },
                Err(failure) => tally.ends(failure.code()),
            }
        }
        sent
    }

    fn outcome(&self, answer: &Answered) -> Outcome {
        if self.fault.get().is_some() {
            return Why::Caller.into();
        }
        let headers = answer.response.headers();
        Outcome {
            pushback: pushback(headers, headers, self.call.worker.shared.clock.now()),
            ..End::Grpc(answer.code).into()
        }
    }

    fn can_replay(&self) -> bool {
        !self.replay.is_gone()
    }

    fn hold(&mut self) {
        self.replay.hold();
    }

    fn ended(&mut self, outcome: Outcome, is_answer: bool) {
        if outcome.end == End::Failed(Why::Timeout)
            && let Some(tally) = &mut self.tally
        {
            tally.ends(Code::DeadlineExceeded);
        }
        self.place.ended(outcome, is_answer);
    }

    fn has_other(&self) -> bool {
        self.place.has_other()
    }

    fn lease(&mut self) -> Option<Lease> {
        self.place.lease()
    }
}

/// Waits for the first message or the status: while neither has gone on to the caller, the call may be repeated.
///
/// # Errors
/// [`Failure::Lost`] if the answer breaks before either.
pub(super) async fn peek(response: Response<Body>) -> Result<Answered, Failure> {
    let (mut parts, mut body) = response.into_parts();
    let code = grpc::number_in(&parts.headers);
    // What does not answer in gRPC has no message to wait for.
    let code = code.or((parts.status != StatusCode::OK).then_some(0));
    if let Some(code) = code {
        let response = Response::from_parts(parts, body);
        return Ok(Answered { response, code });
    }
    let no_status = || Failure::Lost(messages::status_of(&BodyError::Cut));
    let mut code = 0;
    let first = match body.frame().await {
        Some(Ok(frame)) => frame,
        Some(Err(error)) => return Err(Failure::Lost(messages::status_of(&error))),
        None => return Err(no_status()),
    };
    if let Some(trailers) = first.trailers_ref() {
        let Some(number) = grpc::number_in(trailers) else {
            return Err(no_status());
        };
        code = number;
        let pushback = trailers.get("grpc-retry-pushback-ms");
        if let Some(pushback) = pushback.filter(|_| code != 0) {
            let name = HeaderName::from_static("grpc-retry-pushback-ms");
            parts.headers.insert(name, pushback.clone());
        }
    }
    let first = futures_util::stream::iter([Ok(first)]);
    let rest = futures_util::stream::poll_fn(move |cx| Pin::new(&mut body).poll_frame(cx));
    let body = StreamBody::new(first.chain(rest)).boxed_unsync();
    let response = Response::from_parts(parts, body);
    Ok(Answered { response, code })
}
