//! gRPC proxying, the caller's half: any method of any service, to the app that the metadata names.
//!
//! Owns service-invocation 3 as the API port shows it. Messages pass untouched and unparsed, in all four stream
//! kinds; only their sizes are looked at. What the callee's app knows nothing of goes to another replica: its first
//! bytes are kept until the answer begins. The callee's half is `inbound/proxy.rs`.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts,
    uri::PathAndQuery,
};
use http_body::Body as _;
use http_body_util::{BodyExt as _, StreamBody};
use ironside_resiliency::{
    Target as Policies, attempts,
    outcome::{End, Failure as Why, Outcome, Path},
};
use ironside_resolution::{Target, TargetError};
use ironside_telemetry::{metrics::CallKind, span::keys, without_user};
use tonic::{Code, Status};

use super::{
    Callee, InvokeError,
    guard::{self, Attempt, Course, Failure, Limits, reason::unavailable, ways, ways::Place},
    plan::{self, Route},
    replay::Replay,
    replicas::{Choice, Lease},
};
use crate::{
    body::{Body, BodyError},
    inbound,
    invocation::{
        chunks::PREFIX,
        context::{CallContext, Deadline},
        grpc,
        headers::{self, API_TOKEN, APP_ID, BAGGAGE, CALLEE_APP_ID},
        messages::{self, Back, Messages},
        stream::Fault,
        tally::Tally,
        undelivered,
    },
    live::Live,
    peers::{PeerError, PeerKey},
    traces::attributes::PREVIOUS_ATTEMPTS,
    worker::Worker,
};

/// How often a stream is opened whose callee's sidecar says that the app knows nothing of it.
const OPENINGS: u32 = 8;

/// Serves one call of the API port that no service of ours knows.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    request: Request<Body>,
    mut context: CallContext,
) -> Response<Body> {
    context.deadline =
        grpc::timeout(request.headers()).map(|left| Deadline::after(left, &worker.shared.clock));
    let baggage = context.baggage.clone();
    match bounded(worker, context, |context| forward(worker, request, context)).await {
        Ok(mut response) => {
            if let Some(baggage) = baggage {
                response.headers_mut().append(BAGGAGE, baggage);
            }
            response
        }
        Err(status) => grpc::error(&status),
    }
}

/// Runs a call for as long as its caller waits.
pub(crate) async fn bounded<F>(
    worker: &Worker,
    context: CallContext,
    call: impl FnOnce(CallContext) -> F,
) -> Result<Response<Body>, Status>
where
    F: Future<Output = Result<Response<Body>, Status>>,
{
    match context.deadline {
        Some(deadline) => tokio::time::timeout(deadline.left(&worker.shared.clock), call(context))
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("context deadline exceeded"))?,
        None => call(context).await,
    }
}

async fn forward(
    worker: &Arc<Worker>,
    request: Request<Body>,
    context: CallContext,
) -> Result<Response<Body>, Status> {
    check_path(request.uri().path())?;
    grpc::check_names(request.headers())?;
    let target = target(request.headers(), context.trace.is_on())?;
    if let Some(span) = &context.span {
        span.set(keys::SERVER_ADDRESS, &without_user(&target));
    }
    let live = worker.shared.live();
    let unknown = |error: TargetError| Status::unknown(error.to_string());
    match plan::route(worker, &live, Target::parse(&target).map_err(unknown)?).map_err(unknown)? {
        Route::Local(_) => {
            inbound::proxy::deliver(worker, None, request, &context, inbound::proxy::Leg::Own).await
        }
        Route::Peer(callee) => remote(worker, &callee, request, &context, &live).await,
        Route::Url(url) => Err(Status::unknown(format!("invalid app id {}", url.as_str()))),
        Route::Endpoint(..) => Err(Status::unknown(format!(
            "{target} is an HTTPEndpoint: gRPC calls go to apps"
        ))),
    }
}

/// The app that the metadata names.
pub(crate) fn target(headers: &HeaderMap, tracing: bool) -> Result<Box<str>, Status> {
    let named = headers.get(CALLEE_APP_ID).or_else(|| headers.get(APP_ID));
    let Some(named) = named else {
        return Err(Status::unknown(if tracing {
            "cannot proxy request: missing dapr-callee-app-id or dapr-app-id metadata"
        } else {
            "failed to proxy request: required metadata dapr-callee-app-id or dapr-app-id not found"
        }));
    };
    Ok(String::from_utf8_lossy(named.as_bytes()).into())
}

/// A method name has a service and a method, in the one spelling that policy judges (security B15, B16).
pub(crate) fn check_path(path: &str) -> Result<(), Status> {
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains('/');
    match path.strip_prefix('/').and_then(|rest| rest.split_once('/')) {
        Some((service, method)) if segment(service) && segment(method) => Ok(()),
        Some(_) | None => Err(Status::unimplemented(format!(
            "malformed method name: {path:?}"
        ))),
    }
}

async fn remote(
    worker: &Arc<Worker>,
    callee: &Callee,
    request: Request<Body>,
    context: &CallContext,
    live: &Live,
) -> Result<Response<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let asked = parts.headers.get(header::CONTENT_TYPE).cloned();
    let is_stream = is_declared_stream(&parts.headers);
    let target = live.resiliency.target(ways::id_of(callee));
    let choice = ways::choice(&target, &parts.headers);
    parts.headers.remove(APP_ID);
    parts.headers.remove(API_TOKEN);
    worker.stamp.proxied(&mut parts.headers, &callee.header);
    context.trace.take_from(&mut parts.headers);
    context.trace.to_grpc(&mut parts.headers);
    // An app that nobody knows fails at once, without any policy (resiliency-observability 1.9).
    let resolver = &worker.shared.resolver;
    if resolver.known(&callee.app_id, &callee.namespace).is_none() {
        let found = resolver.resolve(&callee.app_id, &callee.namespace).await;
        found.map_err(|error| Status::unknown(error.to_string()))?;
    }
    let call = Call {
        worker,
        callee,
        target,
        choice,
        context,
    };
    if is_stream {
        call.stream(parts, body, asked).await
    } else {
        call.whole(parts, body, asked).await
    }
}

/// Whether the caller says that the call is a stream (resiliency-observability 1.9).
fn is_declared_stream(headers: &HeaderMap) -> bool {
    let value = headers.get("dapr-stream").and_then(|v| v.to_str().ok());
    let truths = ["y", "yes", "true", "t", "on", "1"];
    value.is_some_and(|value| {
        let value = value.trim();
        truths.iter().any(|truth| value.eq_ignore_ascii_case(truth))
    })
}

/// A call that goes to another sidecar.
struct Call<'a> {
    worker: &'a Arc<Worker>,
    callee: &'a Callee,
    target: Arc<Policies>,
    choice: Choice,
    context: &'a CallContext,
}

// === impl Call ===

impl Call<'_> {
    fn course(&self, parts: &Parts, body: attempts::Body) -> Course {
        let method = parts.uri.path();
        let plan = guard::Plan {
            target: Arc::clone(&self.target),
            method,
            key: method,
            joint: ":",
            path: Path::Proxy,
            route: attempts::Route::Peer,
            verb: None,
            body,
        };
        Course::begin(&self.worker.shared, plan, self.context)
    }

    /// A call whose policies hold from its first message to its status.
    async fn whole(
        self,
        parts: Parts,
        body: Body,
        asked: Option<HeaderValue>,
    ) -> Result<Response<Body>, Status> {
        let limit = self.worker.shared.config.max_message;
        let may_retry = self.target.rules(parts.uri.path(), None).may_retry();
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
            tally: None,
        };
        let done = guard::run(course, &mut way).await;
        replay.release();
        let (Answered { response, .. }, debts) = done.map_err(Failure::status)?;
        let back = Back {
            limit,
            fault,
            entry: None,
            tally: way.tally.take(),
        };
        let until = way.until.map(Deadline::at);
        let mut response = answer(response, asked, back, until, way.call.worker);
        let body = std::mem::replace(response.body_mut(), crate::body::empty());
        *response.body_mut() = debts.onto_grpc(body);
        Ok(response)
    }

    /// A stream: policies hold until the way to the callee is open, and no longer.
    async fn stream(
        self,
        parts: Parts,
        body: Body,
        asked: Option<HeaderValue>,
    ) -> Result<Response<Body>, Status> {
        let limit = self.worker.shared.config.max_message;
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
            let sent = sent.await;
            // How long the stream goes on says nothing of how fast its address answers.
            if let Some(lease) = &mut debts.lease {
                lease.respond(stream_outcome(&sent, &fault));
            }
            match sent {
                Ok(response) => break (response, debts),
                Err(Failure::Unreachable(_))
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
        *response.body_mut() = debts.onto_grpc(body);
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

    /// An address, with a connection that proved who is there; asked and dialled once more if nobody is
    /// (service-invocation 3, reconnect).
    async fn open(&self, place: &mut Place) -> Result<PeerKey, Failure> {
        let resolver = &self.worker.shared.resolver;
        let mut last = Status::unavailable("no connection");
        for _ in 0..2 {
            let authority = match place.pick(self.worker, self.callee) {
                Some(authority) => authority,
                None => {
                    let found = resolver
                        .resolve(&self.callee.app_id, &self.callee.namespace)
                        .await
                        .map_err(Failure::Unresolved)?;
                    let picked = place.pick(self.worker, self.callee);
                    picked.unwrap_or(found)
                }
            };
            let key = self.callee.key(authority);
            match self.worker.peers.ready(&key).await {
                Ok(()) => return Ok(key),
                Err(error) => {
                    resolver.failed(&key.authority);
                    last = unavailable(error);
                }
            }
            if place.has_other() {
                break;
            }
        }
        Err(Failure::Unreachable(last))
    }

    async fn send(
        &self,
        key: &PeerKey,
        mut parts: Parts,
        body: Body,
        until: Option<Deadline>,
    ) -> Result<Response<Body>, Failure> {
        let path = parts.uri.path_and_query().cloned();
        let path = path.unwrap_or(PathAndQuery::from_static("/"));
        parts.uri = crate::channel::http::uri("http", key.authority.as_str(), path.as_str())?;
        set_hop(&mut parts, self.worker, until);
        let request = Request::from_parts(parts, body);
        let resolver = &self.worker.shared.resolver;
        let mut response = match self.worker.peers.send(key, request).await {
            Ok(response) => response,
            Err(error) => {
                resolver.failed(&key.authority);
                return Err(match error {
                    PeerError::Dial(_) | PeerError::Unsent(_) => {
                        Failure::Unreachable(unavailable(error))
                    }
                    PeerError::Silent | PeerError::Lost(_) => Failure::Lost(unavailable(error)),
                });
            }
        };
        if undelivered::take(response.headers_mut())
            && let Some(status) = grpc::status_in(response.headers())
        {
            // The app at this address is gone.
            resolver.failed(&key.authority);
            self.worker
                .shared
                .fleet
                .left_by(self.callee, &key.authority);
            return Err(Failure::Unreachable(status));
        }
        Ok(response)
    }
}

/// Whether another attempt would send the same bytes; the one before sends no more.
fn is_whole(replay: &Replay) -> bool {
    replay.hold();
    !replay.is_gone()
}

/// How an address answered a stream: by the head, or not at all.
fn stream_outcome(sent: &Result<Response<Body>, Failure>, fault: &Fault) -> Outcome {
    match sent {
        _ if fault.get().is_some() => Why::Caller.into(),
        Ok(response) => End::Grpc(grpc::number_in(response.headers()).unwrap_or_default()).into(),
        Err(failure) => failure.outcome(),
    }
}

/// The status of a failure, or of what broke the request.
fn status_of(failure: Failure, fault: &Fault) -> Status {
    match fault.get() {
        Some(broken) => messages::status_of(broken),
        None => failure.status(),
    }
}

/// A response, and the code that is known of it: 0 while it goes on.
struct Answered {
    response: Response<Body>,
    code: u32,
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
            return peek(response).await.map_err(|failure| self.blamed(failure));
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
            pushback: ways::pushback(headers, headers),
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
async fn peek(response: Response<Body>) -> Result<Answered, Failure> {
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

/// Metadata that belongs to the next hop.
pub(crate) fn set_hop(parts: &mut Parts, worker: &Worker, deadline: Option<Deadline>) {
    let headers = &mut parts.headers;
    if headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|value| value == grpc::CONTENT_TYPE)
    {
        headers.insert(header::CONTENT_TYPE, grpc::CONTENT_TYPE_PROTO);
    }
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::HOST);
    if let Some(deadline) = deadline {
        headers.insert(
            "grpc-timeout",
            grpc::timeout_value(deadline.left(&worker.shared.clock)),
        );
    }
    parts.version = http::Version::HTTP_2;
    parts.extensions.clear();
}

/// A peer's or an app's answer as the caller gets it.
pub(crate) fn answer(
    response: Response<Body>,
    asked: Option<HeaderValue>,
    back: Back,
    deadline: Option<Deadline>,
    worker: &Worker,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    // The caller hears the subtype that it speaks.
    if parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
        && let Some(asked) = asked
    {
        parts.headers.insert(header::CONTENT_TYPE, asked);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    // A word between sidecars, whoever says it.
    undelivered::take(&mut parts.headers);
    parts.extensions.clear();
    headers::strip_connection(&mut parts.headers);
    let left = deadline.map(|deadline| deadline.left(&worker.shared.clock));
    Response::from_parts(parts, Messages::response(body, back, left))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body::Frame;

    use super::*;

    /// Fact: service-invocation 3, golden 22; security K172.
    #[test]
    fn a_method_name_has_two_segments() {
        for (path, ok) in [
            ("/greet.G/Hi", true),
            ("/greet.G/..Hi", true),
            ("greet.G/Hi", false),
            ("//greet.G/Hi", false),
            ("/greet.G//Hi", false),
            ("/greet.G/Hi/", false),
            ("/greet.G/A/../Hi", false),
            ("/greet.G/./Hi", false),
            ("/greet.G/..", false),
            ("/../Hi", false),
            ("/a/b/Hi", false),
            ("/greet.G/", false),
            ("/greet.G", false),
            ("/", false),
            ("", false),
            ("*", false),
        ] {
            assert_eq!(check_path(path).is_ok(), ok, "{path}");
        }
        assert_eq!(
            check_path("/greet.G").unwrap_err().message(),
            r#"malformed method name: "/greet.G""#
        );
    }

    fn answered(frames: Vec<Result<Frame<Bytes>, BodyError>>) -> Response<Body> {
        let frames = futures_util::stream::iter(frames);
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    fn trailers(status: Option<&'static str>) -> Frame<Bytes> {
        let status = status.map(HeaderValue::from_static);
        let fields = status.map(|status| (HeaderName::from_static("grpc-status"), status));
        Frame::trailers(fields.into_iter().collect())
    }

    /// resiliency-observability 1.9: an answer that breaks before its first message is no success.
    #[tokio::test]
    async fn an_answer_without_message_and_status_is_lost() {
        for frames in [vec![], vec![Err(BodyError::Cut)], vec![Ok(trailers(None))]] {
            let peeked = peek(answered(frames)).await;
            assert!(matches!(peeked, Err(Failure::Lost(_))));
        }
        for (frames, code) in [
            (vec![Ok(trailers(Some("0")))], 0),
            (vec![Ok(trailers(Some("14")))], 14),
            (
                vec![Ok(Frame::data(Bytes::from("m"))), Err(BodyError::Cut)],
                0,
            ),
        ] {
            assert_eq!(peek(answered(frames)).await.unwrap().code, code);
        }
        // What is no gRPC goes on as it is.
        let mut other = answered(vec![]);
        *other.status_mut() = StatusCode::BAD_GATEWAY;
        assert!(peek(other).await.is_ok());
    }

    /// resiliency-observability 6.2: an address is judged by the head of a stream.
    #[test]
    fn a_stream_counts_by_its_head() {
        let fault = Fault::default();
        let mut response = answered(vec![]);
        let outcome = |sent: Result<Response<Body>, Failure>| stream_outcome(&sent, &fault).end;
        let status = HeaderValue::from_static("14");
        response.headers_mut().insert("grpc-status", status);
        assert_eq!(outcome(Ok(response)), End::Grpc(14));
        assert_eq!(outcome(Ok(answered(vec![]))), End::Grpc(0));
        let lost = Failure::Lost(Status::unavailable("EOF"));
        assert_eq!(outcome(Err(lost)), End::Failed(Why::Lost));
    }

    #[test]
    fn the_callee_key_wins_and_its_absence_is_said() {
        let mut headers = HeaderMap::new();
        assert_eq!(
            target(&headers, true).unwrap_err().message(),
            "cannot proxy request: missing dapr-callee-app-id or dapr-app-id metadata"
        );
        headers.insert(APP_ID, HeaderValue::from_static("a"));
        assert_eq!(target(&headers, true).unwrap().as_ref(), "a");
        headers.insert(CALLEE_APP_ID, HeaderValue::from_static("b"));
        assert_eq!(target(&headers, true).unwrap().as_ref(), "b");
    }
}
