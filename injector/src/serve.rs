//! The HTTPS port: TLS in, one path, a review in and its answer out.
//!
//! Owns the contract of kubernetes 2.4 and the bounds: how many connections there are, in all and of one address, how
//! long a request may take to arrive, how much of all of them is held at once. Anybody may connect, so nothing is set
//! aside for what is only announced, and nobody waits behind somebody else: a request that finds no room is told so,
//! and the API server does what its failure policy says. At the end new connections are still served for a moment,
//! because whoever sends them learns late that this instance is going; each answer over HTTP/1.1, which API servers
//! speak to webhooks, ends its connection; then everything under way is answered. What is answered is decided in
//! `admission`.

use crate::admission::caller::Callers;
use crate::admission::review::Question;
use crate::admission::{Moment, decide};
use crate::metrics::Metrics;
use crate::patch::settings::Settings;
use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use ironside_chassis::args::GoDuration;
use ironside_chassis::tasks::Group;
use ironside_chassis::{Clock, Tasks};
use ironside_cluster::{Guest, Guests, Limits, Recorder, Visit};
use ironside_transport::{AnchorsRx, OneSidedTlsServer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

const SCOPE: &str = "dapr.injector.service";
/// The path of reviews.
const PATH: &str = "/mutate";
const JSON: &str = "application/json";
/// Longest body. The API server takes objects of about half as much.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// Connections served at once, and what of bodies is held. An API server sends one review at a time over each
/// connection and has 200 changes under way unless told otherwise: a burst of pods comes over as many connections, and
/// over some that it dialled for reviews which then found another.
const LIMITS: Limits = Limits {
    connections: 512,
    connections_each: 400,
    bytes: 48 * 1024 * 1024,
    bytes_each: 12 * 1024 * 1024,
    // Some reviews of pods, which have a few KiB.
    bytes_least: 32 * 1024,
};
const _: () = assert!(LIMITS.shared() >= 2 * LIMITS.bytes_each);
/// What a client may send on a connection before it is read, in HTTP/2.
const WINDOW: u32 = 64 * 1024;
/// The same in HTTP/1.1, where a head must fit in it.
const BUFFER: usize = 32 * 1024;
/// Reviews under way on one connection.
const MAX_STREAMS: u32 = 4;
/// Bytes of the head of one.
const MAX_HEADERS: u32 = 8 * 1024;
/// A request that has not arrived whole in this time is given up.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Its body has so long to arrive.
const BODY_LIMIT: Duration = Duration::from_secs(2);
/// After the end was asked for, new connections are served for so long.
const LINGER: Duration = Duration::from_secs(2);
/// After that a connection has so long to finish what it is doing, and over HTTP/1.1 to be used once more.
const DRAIN: Duration = Duration::from_millis(2500);
/// A connection that was told to end is closed for reading so long after: who began to write over HTTP/2 before it
/// heard of that would be cut off in the middle; like this it hears that it may ask again.
const FAREWELL: Duration = Duration::from_millis(500);
/// Pause after a failed accept (no descriptors left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What answers reviews.
pub(crate) struct Webhook {
    pub(crate) settings: Settings,
    pub(crate) callers: Callers,
    pub(crate) anchors: AnchorsRx,
    pub(crate) mtls: watch::Receiver<bool>,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

/// What all connections share.
pub(crate) struct Server {
    tls: OneSidedTlsServer,
    webhook: Webhook,
    guests: Guests,
    streams: Group,
    stop: CancellationToken,
    /// Set when connections are to end.
    drain: CancellationToken,
}

/// A request that is no review, and what it is told.
struct Rejection {
    status: StatusCode,
    reason: &'static str,
    text: String,
}

// === impl Server ===

impl Server {
    /// Makes a server that ends some time after `tasks` is cancelled.
    pub(crate) fn new(tls: OneSidedTlsServer, webhook: Webhook, tasks: &Tasks) -> Arc<Self> {
        Arc::new(Self {
            tls,
            webhook,
            guests: Guests::new(LIMITS),
            streams: tasks.group("webhook-stream"),
            stop: tasks.token(),
            drain: CancellationToken::new(),
        })
    }

    /// Accepts connections until a moment after the owner's end.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, connections: Group) {
        let serving = async {
            loop {
                match accept(&listener).await {
                    Ok((tcp, from)) => {
                        let Some(guest) = self.guests.connect(from.ip()) else {
                            debug!(target: SCOPE, peer = %from, "too many connections");
                            continue;
                        };
                        let server = Arc::clone(&self);
                        connections.spawn(async move { server.connection(tcp, guest).await });
                    }
                    Err(cause) => {
                        warn!(target: SCOPE, err = %cause, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        let end = async {
            self.stop.cancelled().await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            () = serving => {}
            () = end => {}
        }
        drop(listener);
        self.drain.cancel();
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, guest: Arc<Guest>) {
        // Who is in the middle of a handshake at the end is served: cut off there, its review would fail.
        let mut late = pin!(async {
            self.drain.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        });
        let stream = tokio::select! {
            () = late.as_mut() => return,
            () = guest.lost() => return,
            stream = self.tls.accept(tcp) => stream,
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(cause) => {
                debug!(target: SCOPE, err = %cause, "connection refused");
                return;
            }
        };
        let server = Arc::clone(&self);
        let visited = Arc::clone(&guest);
        let service = service_fn(move |request| {
            let (server, visit) = (Arc::clone(&server), visited.visit());
            async move {
                let is_old = request.version() < Version::HTTP_2;
                let mut response = server.answer(request, visit).await;
                if is_old && server.stop.is_cancelled() {
                    // The next review goes to another instance, and none is on its way when the connection ends.
                    let close = header::HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            }
        });
        // What is spoken is known, so that a farewell can be said before the first request is read.
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let builder = Builder::new(self.streams.clone());
        let mut builder = if is_http2 {
            builder.http2_only()
        } else {
            builder.http1_only()
        };
        builder
            .http1()
            .timer(TokioTimer::new())
            .max_buf_size(BUFFER)
            .header_read_timeout(REQUEST_LIMIT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .keep_alive_interval(Some(REQUEST_LIMIT))
            .keep_alive_timeout(REQUEST_LIMIT);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = connection.as_mut() => return tell_end(ended),
            // Over HTTP/1.1 only an answer can say that no further one comes: who asks until the end still gets one.
            () = late.as_mut() => return,
            () = self.drain.cancelled(), if is_http2 => {}
            () = guest.over() => {}
        }
        connection.as_mut().graceful_shutdown();
        let ended = tokio::select! {
            ended = tokio::time::timeout(DRAIN, connection.as_mut()) => ended,
            () = late => return,
        };
        if let Ok(ended) = ended {
            // The socket is closed with the connection; somebody may wait for the place.
            tokio::select! {
                () = tokio::time::sleep(FAREWELL) => {}
                () = guest.lost() => {}
            }
            tell_end(ended);
        }
    }

    /// Answers one request, whatever it is.
    async fn answer(&self, request: Request<Incoming>, visit: Visit) -> Response<Full<Bytes>> {
        if request.uri().path() != PATH {
            return reply(StatusCode::NOT_FOUND, "404 page not found");
        }
        let metrics = &self.webhook.metrics;
        let _flight = metrics.fly();
        let start = self.webhook.clock.monotonic();
        metrics.requests.inc();
        let limit = limit(request.uri());
        let answer = tokio::time::timeout(limit, self.review(request, visit)).await;
        let answer = answer.unwrap_or_else(|_elapsed| {
            let text = format!("the review did not arrive whole within {limit:?}");
            Err(Rejection::new(StatusCode::REQUEST_TIMEOUT, "timeout", text))
        });
        metrics.took(self.webhook.clock.monotonic().since(start));
        match answer {
            Ok(text) => {
                let mut response = Response::new(Full::new(Bytes::from(text)));
                let json = header::HeaderValue::from_static(JSON);
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(Rejection {
                status,
                reason,
                text,
            }) => {
                metrics.count_rejected(reason);
                debug!(target: SCOPE, "request rejected: {text}");
                reply(status, &text)
            }
        }
    }

    async fn review(
        &self,
        request: Request<Incoming>,
        mut visit: Visit,
    ) -> Result<Vec<u8>, Rejection> {
        let (head, body) = request.into_parts();
        let body = tokio::time::timeout(BODY_LIMIT, read(body, &mut visit)).await;
        let body = body.map_err(|_elapsed| {
            let text = format!("the review did not arrive whole within {BODY_LIMIT:?}");
            Rejection::new(StatusCode::REQUEST_TIMEOUT, "timeout", text)
        })??;
        if body.is_empty() {
            return Err(Rejection::new(
                StatusCode::BAD_REQUEST,
                "empty",
                "empty body",
            ));
        }
        let kind = head.headers.get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != JSON) {
            let text = format!("invalid Content-Type, expect `{JSON}`");
            return Err(Rejection::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media_type",
                text,
            ));
        }
        let question = Question::read(&body).map_err(|cause| {
            Rejection::new(StatusCode::BAD_REQUEST, "malformed", cause.to_string())
        })?;
        self.webhook.judge(&question).map_err(|cause| {
            let text = format!("the answer cannot be written: {cause}");
            Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, "response", text)
        })
    }
}

/// Reads the body, for which room is taken as it arrives.
async fn read(mut body: Incoming, visit: &mut Visit) -> Result<BytesMut, Rejection> {
    let most = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
    if body.size_hint().lower() > most {
        return Err(Rejection::too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // As the reference says of a body that breaks off.
        let frame = frame
            .map_err(|_broken| Rejection::new(StatusCode::BAD_REQUEST, "empty", "empty body"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > MAX_BODY {
            return Err(Rejection::too_large());
        }
        if !visit.hold(data.len()) {
            let text = "too much of other reviews is held; try again";
            return Err(Rejection::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no_room",
                text,
            ));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

/// The API server says how long it waits.
fn limit(uri: &Uri) -> Duration {
    let pairs = uri.query().unwrap_or_default().split('&');
    let mut said = pairs.filter_map(|pair| pair.strip_prefix("timeout="));
    let said = said.find_map(|text| text.parse::<GoDuration>().ok()?.to_std());
    said.filter(|said| !said.is_zero())
        .map_or(REQUEST_LIMIT, |said| said.min(REQUEST_LIMIT))
}

async fn accept(listener: &TcpListener) -> std::io::Result<(TcpStream, SocketAddr)> {
    let (tcp, from) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    Ok((tcp, from))
}

fn tell_end(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(cause) = ended {
        debug!(target: SCOPE, err = %cause, "connection ended");
    }
}

fn reply(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

// === impl Webhook ===

impl Webhook {
    fn judge(&self, question: &Question) -> serde_json::Result<Vec<u8>> {
        let anchors = self.anchors.borrow().as_ref().map(|bundle| bundle.to_pem());
        let verdict = decide(
            &question.request,
            &Moment {
                settings: &self.settings,
                callers: &self.callers,
                trust_anchors: anchors.as_deref(),
                mtls: *self.mtls.borrow(),
            },
        );
        let answer = question.answer(&verdict);
        if let Err(cause) = &answer {
            error!(target: SCOPE, err = %cause, "the answer cannot be written");
            self.metrics.count_failed(&verdict.app_id, "response");
        }
        self.metrics.count(&verdict);
        verdict.tell(&question.request.namespace);
        if let Some((subject, news)) = verdict.event {
            self.recorder.tell(subject, news);
        }
        answer
    }
}

// === impl Rejection ===

impl Rejection {
    fn new(status: StatusCode, reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            text: text.into(),
        }
    }

    fn too_large() -> Self {
        let text = format!("a review has at most {MAX_BODY} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
    }
}

impl crate::admission::Verdict {
    /// Says in the log what became of a pod that asked for a sidecar.
    fn tell(&self, namespace: &str) {
        use crate::admission::{Answer, Outcome};
        let (app, outcome) = (&self.app_id, self.outcome.as_str());
        match (&self.answer, self.outcome) {
            (Answer::Patch(_), _) => info!(
                target: SCOPE,
                { app.id = %app, namespace, warnings = self.warnings.len() },
                "Sidecar injector succeeded injection for app '{app}'"
            ),
            (Answer::Deny(cause), _) => error!(
                target: SCOPE,
                { app.id = %app, namespace },
                "Sidecar injector failed to inject for app '{app}'. Error: {cause}"
            ),
            (Answer::Allow, Outcome::CallerNotAllowed) => warn!(
                target: SCOPE,
                { app.id = %app, namespace },
                "Pod not injected: {}",
                self.warnings.join("; ")
            ),
            (Answer::Allow, _) => debug!(target: SCOPE, namespace, outcome, "Pod passed"),
        }
    }
}
