//! The ways of an invocation: to another sidecar, to the own app, to an external target.
//!
//! Each looks the target's policies up, keeps the body as long as another attempt may need it, and hands the
//! attempts to [`super::run`]. The hop itself is `send.rs`, the app `channel/`, the outside `external.rs`.

use std::{sync::Arc, time::SystemTime};

use ironside_policy::Verb;
use ironside_resiliency::{
    Id, Target,
    attempts::{self, Route},
    balance::{self, Tried},
    outcome::{End, Failure as Why, Outcome, Path},
};
use ironside_resources::resiliency;
use ironside_telemetry::metrics::CallKind;

use super::{Attempt, Course, Debts, Failure, Limits, Plan, pushback::pushback, run};
use crate::{
    channel::{self, AppChannel, ChannelError},
    invocation::{AppStatus, Invocation, Length, Origin, Reply, context::CallContext, status},
    live::Live,
    outbound::{
        Callee, InvokeError, external,
        idle::Idle,
        replay::Replay,
        replicas::{Choice, Lease, Replicas},
        send,
    },
    worker::Worker,
};

/// Calls a peer.
///
/// # Errors
/// [`InvokeError`] of the last attempt.
pub(crate) async fn peer(
    worker: &Arc<Worker>,
    callee: &Callee,
    mut call: Invocation,
    context: &CallContext,
    live: &Live,
) -> Result<Reply, InvokeError> {
    let target = live.resiliency.target(id_of(callee));
    let choice = choice(&target, &call.headers);
    let idle = watched(worker, &target, &mut call);
    let course = begin(worker, &call, target, Route::Peer, context);
    // Without retries too: an old peer may need the whole of it in one message.
    let replay = take_body(worker, &mut call, true);
    let mut way = Peer {
        worker,
        callee,
        call: &call,
        replay: replay.clone(),
        context,
        place: Place::new(choice),
    };
    let done = run(course, &mut way).await;
    replay.release();
    answer(done.map_err(|failure| failure.of(&callee.app_id))?, idle)
}

/// Calls the own app.
///
/// # Errors
/// [`InvokeError`] of the last attempt.
pub(crate) async fn local(
    worker: &Arc<Worker>,
    callee: &Callee,
    mut call: Invocation,
    context: &CallContext,
    live: &Live,
) -> Result<Reply, InvokeError> {
    let Some(app) = &worker.app else {
        return Err(InvokeError::NoApp);
    };
    let target = live.resiliency.target(id_of(callee));
    let idle = watched(worker, &target, &mut call);
    let course = begin(worker, &call, target, Route::Own, context);
    worker.stamp.identity(&mut call.headers, &callee.header);
    context.trace.take_from(&mut call.headers);
    let path = path_of(&call);
    let mut way = Local {
        worker,
        app,
        once: Once::new(worker, call, course.may_repeat()),
        context,
        live,
        path,
    };
    let done = run(course, &mut way).await;
    way.once.replay.release();
    answer(done.map_err(|failure| failure.of(&callee.app_id))?, idle)
}

/// Calls an external target.
///
/// # Errors
/// [`InvokeError`] of the last attempt.
pub(crate) async fn external(
    worker: &Arc<Worker>,
    destination: external::Destination,
    mut call: Invocation,
    context: &CallContext,
    live: &Live,
) -> Result<Reply, InvokeError> {
    let written = match &destination {
        external::Destination::Endpoint(_, name) => name,
        external::Destination::Url(url) => url.as_str(),
    };
    let target = live.resiliency.target(Id::External(written));
    let idle = watched(worker, &target, &mut call);
    let (key, joint) = match &destination {
        external::Destination::Endpoint(endpoint, _) => (endpoint.base(), ":"),
        external::Destination::Url(_) => (call.method.as_str(), "/"),
    };
    let plan = Plan {
        target,
        method: call.method.as_str(),
        key,
        joint,
        path: path_of(&call),
        route: Route::External,
        verb: verb_of(call.verb),
        body: body_of(&call),
    };
    let course = Course::begin(&worker.shared, plan, context);
    let path = path_of(&call);
    let mut way = Outside {
        worker,
        destination,
        once: Once::new(worker, call, course.may_repeat()),
        context,
        live,
        path,
    };
    let done = run(course, &mut way).await;
    way.once.replay.release();
    let app = &worker.shared.config.app_id;
    answer(done.map_err(|failure| failure.of(app))?, idle)
}

/// The policies of calls to an app.
pub(crate) fn id_of(callee: &Callee) -> Id<'_> {
    Id::App {
        written: &callee.written,
        app: callee.app_id.as_str(),
        namespace: callee.namespace.as_str(),
    }
}

/// How the address of a call is chosen.
pub(crate) fn choice(target: &Target, headers: &http::HeaderMap) -> Choice {
    let affinity = target.session_affinity();
    let value = affinity.and_then(|affinity| headers.get(&*affinity.header));
    Choice {
        detection: target.outlier_detection(),
        tied: value.map(|value| balance::affinity(value.as_bytes())),
    }
}

fn begin(
    worker: &Worker,
    call: &Invocation,
    target: Arc<Target>,
    route: Route,
    context: &CallContext,
) -> Course {
    let plan = Plan {
        target,
        method: call.method.as_str(),
        key: call.method.as_str(),
        joint: ":",
        path: path_of(call),
        route,
        verb: verb_of(call.verb),
        body: body_of(call),
    };
    Course::begin(&worker.shared, plan, context)
}

fn path_of(call: &Invocation) -> Path {
    match call.origin {
        Origin::Http => Path::Http,
        Origin::Grpc => Path::InvokeService,
    }
}

fn body_of(call: &Invocation) -> attempts::Body {
    match call.length {
        Length::Fixed(_) => attempts::Body::Kept,
        Length::Streaming => attempts::Body::Once,
    }
}

/// The verb as policies name it.
fn verb_of(verb: Verb) -> Option<resiliency::Verb> {
    Some(match verb {
        Verb::Get => resiliency::Verb::Get,
        Verb::Head => resiliency::Verb::Head,
        Verb::Post => resiliency::Verb::Post,
        Verb::Put => resiliency::Verb::Put,
        Verb::Delete => resiliency::Verb::Delete,
        Verb::Connect => resiliency::Verb::Connect,
        Verb::Options => resiliency::Verb::Options,
        Verb::Trace => resiliency::Verb::Trace,
        Verb::Patch => resiliency::Verb::Patch,
        Verb::None => return None,
    })
}

fn take_body(worker: &Worker, call: &mut Invocation, may_repeat: bool) -> Replay {
    let body = std::mem::replace(call.body.get_mut(), crate::body::empty());
    let limit = match call.length {
        Length::Fixed(_) if may_repeat => worker.shared.config.max_body,
        // Another address may be asked while nothing of it has left.
        Length::Fixed(_) | Length::Streaming => Some(Replay::FIRST),
    };
    Replay::new(body, limit)
}

/// The call's body, seen on its way where the target has an idle timeout.
fn watched(worker: &Worker, target: &Target, call: &mut Invocation) -> Option<Idle> {
    let idle = Idle::of(target, &worker.shared.clock)?;
    let body = std::mem::replace(call.body.get_mut(), crate::body::empty());
    *call.body.get_mut() = idle.request(body);
    Some(idle)
}

fn answer((mut reply, debts): (Reply, Debts), idle: Option<Idle>) -> Result<Reply, InvokeError> {
    if let Some(idle) = &idle {
        reply.body = idle.answer(reply.body);
    }
    reply.body = debts.onto(reply.body);
    Ok(reply)
}

/// How a reply counts: an HTTP app's status, a gRPC app's code, or for an HTTP caller the status that it stands
/// for.
fn outcome_of(reply: &Reply, path: Path, now: SystemTime) -> Outcome {
    let end = match (&reply.status, path) {
        (AppStatus::Http(0), _) => End::Http(200),
        (AppStatus::Http(status), _) => End::Http(*status),
        (AppStatus::Grpc { code, .. }, Path::Http) => End::Http(status::http_from_code(*code)),
        (AppStatus::Grpc { code, .. }, Path::InvokeService | Path::Proxy) => {
            End::Grpc(*code as u32)
        }
    };
    Outcome {
        pushback: pushback(&reply.headers, &reply.trailers, now),
        ..end.into()
    }
}

/// The addresses of one call.
#[derive(Default)]
pub(crate) struct Place {
    choice: Choice,
    tried: Tried,
    replicas: Option<Arc<Replicas>>,
    lease: Option<Lease>,
    /// An address was forgotten that is well: the call may have gone there twice.
    has_forgotten: bool,
}

// === impl Place ===

impl Place {
    /// No address yet.
    pub(crate) fn new(choice: Choice) -> Self {
        Self {
            choice,
            ..Self::default()
        }
    }

    /// An address for the next attempt, if the app has any that is known; a lease if it has several.
    pub(crate) fn pick(
        &mut self,
        worker: &Worker,
        callee: &Callee,
    ) -> Option<ironside_resolution::Authority> {
        self.lease = None;
        let resolver = &worker.shared.resolver;
        let known = resolver.known(&callee.app_id, &callee.namespace)?;
        if known.len() < 2 {
            // One that several remembered of is one that may be asked again.
            self.replicas = None;
            return known.first().cloned();
        }
        let replicas = worker.shared.fleet.of(callee, &known);
        let (authority, lease) = replicas.pick(&known, self.choice, &mut self.tried)?;
        self.replicas = Some(replicas);
        self.lease = Some(lease);
        Some(authority)
    }

    /// Tells the address how the attempt ended.
    pub(crate) fn ended(&mut self, outcome: Outcome, is_answer: bool) {
        if let Some(lease) = &mut self.lease {
            lease.respond(outcome);
        }
        // Nothing is wrong with the address: whoever is tied to it may go there again. Once, or it would be another one
        // for ever.
        let is_well = outcome.end == End::Failed(Why::NotBegun);
        if is_well && self.replicas.is_some() && !self.has_forgotten {
            self.has_forgotten = true;
            self.tried.forget_last();
        }
        if !is_answer {
            self.lease = None;
        }
    }

    /// Whether an address is left that was not tried.
    pub(crate) fn has_other(&self) -> bool {
        let replicas = self.replicas.as_ref();
        replicas.is_some_and(|replicas| replicas.has_other(&self.tried))
    }

    /// The place at the address, for as long as the answer takes.
    pub(crate) fn lease(&mut self) -> Option<Lease> {
        self.lease.take()
    }
}

struct Peer<'a> {
    worker: &'a Arc<Worker>,
    callee: &'a Callee,
    call: &'a Invocation,
    replay: Replay,
    context: &'a CallContext,
    place: Place,
}

// === impl Peer ===

impl Attempt for Peer<'_> {
    type Answer = Reply;

    async fn send(&mut self, limits: Limits) -> Result<Reply, Failure> {
        let authority = match self.place.pick(self.worker, self.callee) {
            Some(authority) => {
                let now = self.worker.shared.clock.monotonic();
                self.worker.known.found(self.callee, now);
                authority
            }
            None => {
                let found = Box::pin(send::resolve(self.worker, self.callee)).await?;
                // By now there may be more of them.
                let picked = self.place.pick(self.worker, self.callee);
                picked.unwrap_or(found)
            }
        };
        let hop = send::Hop {
            worker: self.worker,
            callee: self.callee,
            key: &self.callee.key(authority),
            context: self.context,
            until: limits.until,
            number: limits.number,
        };
        hop.attempt(self.call, &self.replay).await
    }

    fn outcome(&self, reply: &Reply) -> Outcome {
        outcome_of(reply, path_of(self.call), self.worker.shared.clock.now())
    }

    fn can_replay(&self) -> bool {
        !self.replay.is_gone()
    }

    fn hold(&mut self) {
        self.replay.hold();
    }

    fn ended(&mut self, outcome: Outcome, is_answer: bool) {
        self.place.ended(outcome, is_answer);
    }

    fn has_other(&self) -> bool {
        self.place.has_other()
    }

    fn lease(&mut self) -> Option<Lease> {
        self.place.lease()
    }
}

/// A call that is handed over whole with each attempt.
struct Once {
    call: Option<Invocation>,
    replay: Replay,
    may_repeat: bool,
}

// === impl Once ===

impl Once {
    fn new(worker: &Worker, mut call: Invocation, may_repeat: bool) -> Self {
        let replay = take_body(worker, &mut call, may_repeat);
        Self {
            call: Some(call),
            replay,
            may_repeat,
        }
    }

    /// The call for one attempt; the last one that there can be takes it away.
    fn take(&mut self) -> Result<Invocation, Failure> {
        let gone = || Failure::Caller(InvokeError::Body("the request is gone".to_owned()));
        let mut call = if self.may_repeat {
            self.call.as_ref().map(Invocation::again)
        } else {
            self.call.take()
        }
        .ok_or_else(gone)?;
        *call.body.get_mut() = self.replay.attempt();
        Ok(call)
    }
}

struct Local<'a> {
    worker: &'a Worker,
    app: &'a AppChannel,
    once: Once,
    context: &'a CallContext,
    live: &'a Live,
    path: Path,
}

// === impl Local ===

impl Attempt for Local<'_> {
    type Answer = Reply;

    async fn send(&mut self, limits: Limits) -> Result<Reply, Failure> {
        let call = self.once.take()?;
        let context = self.context.until(limits.until);
        let admission = &self.worker.shared.admission;
        match self.app.deliver(call, &context, self.live, admission).await {
            Ok(reply) => Ok(reply),
            Err(ChannelError::NoConnection(status)) => Ok(channel::grpc::unreached(&status)),
            Err(error) => Err(error.into()),
        }
    }

    fn outcome(&self, reply: &Reply) -> Outcome {
        outcome_of(reply, self.path, self.worker.shared.clock.now())
    }

    fn can_replay(&self) -> bool {
        !self.once.replay.is_gone()
    }

    fn hold(&mut self) {
        self.once.replay.hold();
    }
}

struct Outside<'a> {
    worker: &'a Worker,
    destination: external::Destination,
    once: Once,
    context: &'a CallContext,
    live: &'a Live,
    path: Path,
}

// === impl Outside ===

impl Attempt for Outside<'_> {
    type Answer = Reply;

    async fn send(&mut self, _: Limits) -> Result<Reply, Failure> {
        let call = self.once.take()?;
        let (external, pipeline) = (&self.worker.external, &self.live.app_pipeline);
        let shared = &self.worker.shared;
        let (shown, started) = (self.destination.shown(), shared.clock.monotonic());
        shared.metrics.invocation_sent(&shown, CallKind::Unary);
        let called = external.call(&self.destination, call, self.context, pipeline);
        let reply = called.await.map_err(Failure::from)?;
        let latency = shared.clock.monotonic().since(started);
        let status = reply.status.number();
        shared
            .metrics
            .invocation_answered(&shown, status, CallKind::Unary, Some(latency));
        Ok(reply)
    }

    fn outcome(&self, reply: &Reply) -> Outcome {
        outcome_of(reply, self.path, self.worker.shared.clock.now())
    }

    fn can_replay(&self) -> bool {
        !self.once.replay.is_gone()
    }

    fn hold(&mut self) {
        self.once.replay.hold();
    }
}
