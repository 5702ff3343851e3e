//! Attempts of a call: what is tried again, and what the caller sees at the end.
//!
//! Drives [`ironside_resiliency::attempts::Attempts`] for every way of making a call ([`Attempt`]): it sends when
//! it may, for as long as it may, waits as told, and tells breakers and addresses how it went, the caller's
//! going away included. Whatever is decided is decided there; whatever is sent is sent by `ways.rs` and
//! `proxy.rs`. Resolution happens inside an attempt, so that another one may go elsewhere. Stage 11, `guard`.

use std::{pin::pin, sync::Arc, time::Duration};

use ironside_identity::AppId;
use ironside_resiliency::{
    Target,
    attempts::{Attempts, Body, Call, Go, Refused, Route, Step, Stop},
    outcome::{End, Failure as Why, Outcome, Path},
};
use ironside_resources::resiliency::Verb;
use ironside_telemetry::{span::keys, without_user};
use tonic::{Code, Status};

pub(crate) mod pushback;
pub(crate) mod reason;
mod tail;
mod voice;
pub(crate) mod ways;

pub(crate) use tail::Debts;

use super::{InvokeError, replicas::Lease};
use crate::{
    channel::ChannelError,
    invocation::context::{CallContext, Deadline},
    resolve::ResolveError,
    traces::Recording,
    worker::Shared,
};
use voice::{Operation, Taken, Voice};

/// One way of making a call.
pub(crate) trait Attempt {
    /// What comes of it.
    type Answer: Send;

    /// Tries once.
    fn send(
        &mut self,
        limits: Limits,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;

    /// How an answer counts.
    fn outcome(&self, answer: &Self::Answer) -> Outcome;

    /// Whether another attempt would send the same bytes.
    fn can_replay(&self) -> bool;

    /// Stops what the attempt before still sends: an answer may come before the whole request has left.
    fn hold(&mut self) {}

    /// Told how the attempt ended; `is_answer` says whether its answer may go to the caller.
    fn ended(&mut self, outcome: Outcome, is_answer: bool) {
        let _ = (outcome, is_answer);
    }

    /// Whether an address is left that was not tried.
    fn has_other(&self) -> bool {
        false
    }

    /// The place at the callee's address, which the answer holds until it ends.
    fn lease(&mut self) -> Option<Lease> {
        None
    }
}

/// Bounds of one attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// When it is given up, counted as the clock counts.
    pub(crate) until: Option<Duration>,
    /// Which one it is, from 1.
    pub(crate) number: u32,
}

/// What a call is, before its first attempt.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// Its policies.
    pub(crate) target: Arc<Target>,
    /// The method that they are for; for HTTP without leading slash.
    pub(crate) method: &'a str,
    /// What its breaker is for: the method, or the URL of an HTTPEndpoint.
    pub(crate) key: &'a str,
    /// What stands between target and key where both are named.
    pub(crate) joint: &'static str,
    /// How it is made.
    pub(crate) path: Path,
    /// Where it goes.
    pub(crate) route: Route,
    /// Its verb.
    pub(crate) verb: Option<Verb>,
    /// Its body.
    pub(crate) body: Body,
}

/// A call under way: its attempts, and what is told of them.
///
/// Dropped before its end, its caller went away.
pub(crate) struct Course {
    shared: Arc<Shared>,
    attempts: Attempts,
    voice: Voice,
    path: Path,
    /// Key of the breaker, where a line may need it.
    key: Box<str>,
    joint: &'static str,
    span: Option<Arc<Recording>>,
    is_over: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The peer was not reached: nothing of the request left.
    Unreachable(Status),
    /// The peer is well; its app's connection had ended before anything of the request was sent on it.
    NotBegun(Status),
    /// The connection broke under way.
    Lost(Status),
    /// Nobody knows where the app listens.
    Unresolved(ResolveError),
    /// The caller's own part of it broke.
    Caller(InvokeError),
    /// The limit of the attempt passed.
    Timeout,
    /// Nothing passed in either direction for too long.
    Idle(Status),
    /// It was answered, with more than is taken.
    Unfit(Status),
    /// It was not sent.
    Refused(Refused),
    /// The built-in retries were used up.
    Exhausted {
        /// How many.
        retries: u32,
        /// The last failure.
        last: Status,
    },
    /// Anything else.
    Final(InvokeError),
}

/// Makes the attempts of a call.
///
/// # Errors
/// [`Failure`] of the last one, or why there was none.
pub(crate) async fn run<A: Attempt>(
    mut course: Course,
    way: &mut A,
) -> Result<(A::Answer, Debts), Failure> {
    loop {
        let now = course.now();
        let go = course.attempts.admit(now);
        course.notice();
        let (result, until) = match go {
            Go::Refused(refused) => {
                course.is_over = true;
                course.tell_span("refused");
                return Err(course.failed(Failure::Refused(refused)));
            }
            Go::TimedOut => (Err(Failure::Timeout), None),
            Go::Send { until, number } => {
                let sending = pin!(way.send(Limits { until, number }));
                let result = match until {
                    Some(until) => tokio::time::timeout(until.saturating_sub(now), sending)
                        .await
                        .unwrap_or(Err(Failure::Timeout)),
                    None => sending.await,
                };
                (result, until)
            }
        };
        if !way.can_replay() {
            course.attempts.body_is_gone();
        }
        let outcome = match &result {
            Ok(answer) => way.outcome(answer),
            Err(failure) => failure.outcome(),
        };
        way.ended(outcome, result.is_ok());
        let left = until.map(|until| until.saturating_sub(course.now()));
        let result = match result {
            Ok(answer) if outcome.is_success(course.path) => {
                let debts = course.succeed(outcome, left, way.lease());
                return Ok((answer, debts));
            }
            failed => failed,
        };
        let outcome = Outcome {
            elsewhere: way.has_other(),
            ..outcome
        };
        match course.fail(outcome, result.as_ref().err()) {
            Some(pause) => {
                way.hold();
                // Until then it read on, and may have read more than is kept.
                if !way.can_replay() {
                    course.forgo(outcome);
                    return course.give_up(result, outcome, left, way.lease());
                }
                // What the callee still says of this attempt is of no use to anybody.
                drop(result);
                drop(way.lease());
                if pause > Duration::ZERO {
                    tokio::time::sleep(pause).await;
                }
            }
            None => return course.give_up(result, outcome, left, way.lease()),
        }
    }
}

// === impl Course ===

impl Course {
    /// A call that begins now.
    pub(crate) fn begin(shared: &Arc<Shared>, plan: Plan<'_>, context: &CallContext) -> Self {
        let Plan {
            target,
            method,
            key,
            joint,
            path,
            route,
            verb,
            body,
        } = plan;
        let now = shared.clock.monotonic().since_start();
        let call = Call {
            path,
            route,
            verb,
            body,
            deadline: context.deadline.map(Deadline::since_start),
        };
        let mut attempts = Attempts::begin_keyed(target, method, key, call, now);
        let state = attempts.breaker_state(now);
        let rules = attempts.rules();
        let is_named = rules.breakers.is_some() || rules.retry.is_some();
        let key = if is_named { rules.breaker_key(key) } else { "" };
        let voice = Voice::begin(&shared.metrics, attempts.target(), rules, state);
        let mut course = Self {
            shared: Arc::clone(shared),
            key: key.into(),
            attempts,
            voice,
            path,
            joint,
            span: context.span.clone(),
            is_over: false,
        };
        course.notice();
        course
    }

    /// Whether a failure may be followed by another attempt, other than at another address.
    pub(crate) fn may_repeat(&self) -> bool {
        self.attempts.may_repeat()
    }

    /// Says how a success ended whose breaker had not heard of it.
    pub(crate) fn settle(mut self: Box<Self>, outcome: Outcome) {
        let now = self.now();
        // It went on to the caller: nothing follows.
        let _end = self.attempts.next(now, outcome, &mut rand::rng());
        self.is_over = true;
        self.notice();
    }

    fn succeed(mut self, head: Outcome, left: Option<Duration>, lease: Option<Lease>) -> Debts {
        self.attempts.commit();
        self.tell_span("success");
        let metrics = &self.shared.metrics;
        let (sent, rules) = (self.attempts.sent(), self.attempts.rules());
        let operation = self.operation();
        let balance = self.attempts.target().budget_balance(self.now());
        self.voice.ended(
            metrics,
            Stop::Success,
            Taken { sent, balance },
            rules,
            operation,
        );
        let has_breaker = rules.breakers.is_some();
        self.is_over = !has_breaker;
        let unsettled = has_breaker.then(|| Box::new(self));
        Debts {
            unsettled,
            left,
            head,
            lease,
        }
    }

    /// The pause before another attempt; `None` if there is none.
    fn fail(&mut self, outcome: Outcome, failure: Option<&Failure>) -> Option<Duration> {
        if matches!(outcome.end, End::Failed(Why::Timeout))
            && self.attempts.rules().timeout.is_some()
        {
            self.voice.timed_out();
        }
        let now = self.now();
        let step = self.attempts.next(now, outcome, &mut rand::rng());
        self.notice();
        let operation = Operation {
            target: self.attempts.target().written(),
            key: &self.key,
            joint: self.joint,
        };
        match step {
            Step::Wait { pause, level, .. } => {
                let cause = || failure.map_or_else(|| answer_text(outcome), Failure::text);
                if let Some(span) = &self.span {
                    let failed = self.attempts.sent().to_string();
                    span.event("retry", &[("attempt", &failed), ("cause", &cause())]);
                }
                self.voice.waits(pause, level, operation, cause);
                Some(pause)
            }
            Step::Stop(stop) => {
                self.is_over = true;
                self.tell_span(voice::word_of(stop));
                let (sent, rules) = (self.attempts.sent(), self.attempts.rules());
                let metrics = &self.shared.metrics;
                let balance = self.attempts.target().budget_balance(now);
                self.voice
                    .ended(metrics, stop, Taken { sent, balance }, rules, operation);
                None
            }
        }
    }

    /// Another attempt was due, and cannot be made.
    fn forgo(&mut self, outcome: Outcome) {
        let now = self.now();
        self.attempts.body_is_gone();
        let _stop = self.attempts.next(now, outcome, &mut rand::rng());
        self.is_over = true;
        self.notice();
    }

    fn give_up<T>(
        self,
        result: Result<T, Failure>,
        head: Outcome,
        left: Option<Duration>,
        lease: Option<Lease>,
    ) -> Result<(T, Debts), Failure> {
        let answer = match (result, self.attempts.built_in_exhausted()) {
            (Ok(answer), _) => answer,
            (
                Err(Failure::Unreachable(last) | Failure::NotBegun(last) | Failure::Lost(last)),
                Some(retries),
            ) => {
                return Err(self.failed(Failure::Exhausted { retries, last }));
            }
            (Err(failure), _) => return Err(self.failed(failure)),
        };
        let debts = Debts {
            unsettled: None,
            left,
            head,
            lease,
        };
        Ok((answer, debts))
    }

    /// Counts a call without answer.
    fn failed(&self, failure: Failure) -> Failure {
        if let Some(reason) = failure.reason() {
            let shown = without_user(self.attempts.target().written());
            self.shared.metrics.invocation_failed(&shown, reason);
        }
        failure
    }

    /// Says on the caller's span how its attempts ended (resiliency-observability 6.3).
    fn tell_span(&self, outcome: &'static str) {
        if let Some(span) = &self.span {
            span.set(keys::ATTEMPTS, &self.attempts.sent().to_string());
            span.set(keys::OUTCOME, outcome);
        }
    }

    /// Tells of a breaker that went over to another state.
    fn notice(&mut self) {
        if let Some(change) = self.attempts.take_change() {
            self.voice.changed(change, self.operation());
        }
    }

    fn operation(&self) -> Operation<'_> {
        Operation {
            target: self.attempts.target().written(),
            key: &self.key,
            joint: self.joint,
        }
    }

    fn now(&self) -> Duration {
        self.shared.clock.monotonic().since_start()
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        if !self.is_over {
            let now = self.now();
            self.attempts.abandon(now);
            self.notice();
        }
    }
}

fn is_deadline(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded && status.message() == "context deadline exceeded"
}

fn answer_text(outcome: Outcome) -> String {
    match outcome.end {
        End::Http(status) => format!("received non-successful status code: {status}"),
        End::Grpc(code) => format!("received code {code}"),
        End::Failed(_) => String::new(),
    }
}

// === impl Failure ===

impl Failure {
    /// How it counts.
    pub(crate) fn outcome(&self) -> Outcome {
        let why = match self {
            Self::Unreachable(_) => Why::Unreachable,
            Self::NotBegun(_) => Why::NotBegun,
            Self::Lost(_) | Self::Exhausted { .. } => Why::Lost,
            Self::Unresolved(_) => Why::Unresolved,
            Self::Caller(_) => Why::Caller,
            Self::Timeout | Self::Refused(_) => Why::Timeout,
            Self::Idle(_) => Why::Idle,
            Self::Unfit(_) => Why::Unfit,
            Self::Final(InvokeError::Deadline) => Why::Timeout,
            Self::Final(InvokeError::Hop(hop)) if hop.code() == Code::PermissionDenied => {
                Why::Denied
            }
            Self::Final(InvokeError::Hop(hop)) if hop.code() == Code::DeadlineExceeded => {
                Why::Timeout
            }
            Self::Final(_) => Why::Other,
        };
        why.into()
    }

    /// What an invocation of `app` says of it.
    pub(crate) fn of(self, app: &AppId) -> InvokeError {
        match self {
            Self::Unreachable(status)
            | Self::NotBegun(status)
            | Self::Lost(status)
            | Self::Idle(status)
            | Self::Unfit(status) => InvokeError::Hop(Box::new(status)),
            Self::Unresolved(error) => InvokeError::Resolve(error),
            // The callee heard of the same limit and was first.
            Self::Final(InvokeError::Hop(hop)) if is_deadline(&hop) => InvokeError::Deadline,
            Self::Caller(error) | Self::Final(error) => error,
            Self::Timeout | Self::Refused(Refused::Deadline) => InvokeError::Deadline,
            Self::Refused(Refused::Breaker(refusal)) => InvokeError::Breaker(refusal),
            Self::Refused(Refused::Rate(wait)) => InvokeError::RateLimited { wait },
            Self::Exhausted { retries, last } => InvokeError::Exhausted {
                app: app.clone(),
                retries,
                last: Box::new(last),
            },
        }
    }

    /// What a gRPC caller gets whose call is passed on.
    pub(crate) fn status(self) -> Status {
        match self {
            Self::Unreachable(status)
            | Self::NotBegun(status)
            | Self::Lost(status)
            | Self::Idle(status)
            | Self::Unfit(status) => status,
            Self::Exhausted { last, .. } => last,
            Self::Unresolved(error) => Status::unknown(error.to_string()),
            Self::Caller(InvokeError::Hop(status)) | Self::Final(InvokeError::Hop(status)) => {
                *status
            }
            Self::Caller(error) | Self::Final(error) => Status::unknown(error.to_string()),
            Self::Timeout | Self::Refused(Refused::Deadline) => {
                Status::deadline_exceeded("context deadline exceeded")
            }
            Self::Refused(Refused::Breaker(refusal)) => Status::unknown(refusal.to_string()),
            Self::Refused(Refused::Rate(wait)) => {
                Status::resource_exhausted(InvokeError::RateLimited { wait }.to_string())
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Unreachable(status)
            | Self::NotBegun(status)
            | Self::Lost(status)
            | Self::Idle(status)
            | Self::Unfit(status) => crate::invocation::status::one_line(status),
            Self::Exhausted { last, .. } => crate::invocation::status::one_line(last),
            Self::Unresolved(error) => error.to_string(),
            Self::Caller(error) | Self::Final(error) => error.to_string(),
            Self::Timeout | Self::Refused(_) => InvokeError::Deadline.to_string(),
        }
    }
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        Self::Final(error.into())
    }
}
