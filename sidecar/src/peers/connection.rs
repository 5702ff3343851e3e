//! One HTTP/2 connection that we dialled: to a peer's sidecar or to a gRPC app.
//!
//! Owns the window and keepalive settings of dialled connections, the count of open streams, and what is known
//! of a request that failed: whether it can have reached the other side.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use ironside_chassis::{
    clock::{Clock, Tick},
    tasks::Group,
};
use ironside_identity::VerifiedPeer;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{DialError, severable::Severable};

use crate::{
    body::{Body, BodyError},
    invocation::headers::MAX_NAMES,
};

const LOG: &str = "dapr.runtime.grpc.internal";

/// Flow-control window of one stream, in bytes: what a reader that stalls can make us hold for it.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// Streams that one connection may have open at once (the reference's pool has the same number).
pub(crate) const MAX_STREAMS: u32 = 2048;
/// Flow-control window of a connection, in bytes: the sum of its streams', so that readers that stall never
/// block the rest (benchmarks 11).
pub(crate) const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// Largest HTTP/2 frame that we take, in bytes.
pub(crate) const FRAME_SIZE: u32 = 64 * 1024;
/// Idle time before a keepalive ping (service-invocation 4.4).
pub(crate) const PING_AFTER: Duration = Duration::from_secs(10);
/// How long a ping may stay unanswered (service-invocation 4.4).
pub(crate) const PING_LIMIT: Duration = Duration::from_secs(5);
/// Largest head that the other side may answer with, in bytes: a status message can be long.
const HEADER_LIST: u32 = 1024 * 1024;
/// Bytes that wait in one stream for the other side's window.
pub(crate) const SEND_BUFFER: usize = 256 * 1024;

/// A byte stream whose other end is known.
#[derive(Debug)]
pub(crate) struct Dialled<S> {
    /// The stream.
    pub(crate) io: S,
    /// Who is at the other end; `None` without mTLS.
    pub(crate) peer: Option<VerifiedPeer>,
    /// Generation of our own identity that opened it.
    pub(crate) generation: u64,
}

/// A connection that takes requests.
pub(crate) struct Connection {
    send: http2::SendRequest<Body>,
    activity: Arc<Activity>,
    peer: Option<VerifiedPeer>,
    generation: u64,
    clock: Clock,
}

/// Open streams and since when there are none.
#[derive(Debug)]
pub(crate) struct Activity {
    answered: AtomicBool,
    streams: AtomicUsize,
    idle_since: Mutex<Tick>,
}

impl Activity {
    /// Streams that are open now.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }
}

/// Why a request got no response.
#[derive(Debug)]
pub(crate) enum SendError {
    /// It never left: it comes back for another connection.
    Unsent(Box<Request<Body>>, String),
    /// It left, and the other side said that it did nothing with it.
    Refused(String),
    /// It may have arrived.
    Lost(String),
    /// It was answered, with more than is taken.
    Unfit(String),
}

impl Connection {
    /// Shakes hands over HTTP/2 and runs the connection as a task until it ends or `expired` does.
    ///
    /// # Errors
    /// [`DialError::Preface`].
    pub(crate) async fn open<S>(
        dialled: Dialled<S>,
        clock: &Clock,
        tasks: &Group,
        expired: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Arc<Self>, DialError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Dialled {
            io,
            peer,
            generation,
        } = dialled;
        let (io, link) = Severable::new(io);
        let (send, connection) = http2::Builder::new(TaskExecutor(tasks.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_SIZE)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEADER_LIST)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_LIMIT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| DialError::Preface {
                cause: cause_of(&error),
            })?;
        tasks.spawn(async move {
            // The stream's own task tells its users what went wrong.
            if let Err(error) = connection.await {
                tracing::debug!(target: LOG, err = %error, "dialled connection ended");
            }
        });
        tasks.spawn(async move {
            tokio::select! {
                () = expired => {
                    tracing::debug!(target: LOG, "dialled connection closed: its peer's certificate expired");
                    link.sever.cancel();
                }
                () = link.gone.cancelled() => {}
            }
        });
        let activity = Arc::new(Activity {
            answered: AtomicBool::new(false),
            streams: AtomicUsize::new(0),
            idle_since: Mutex::new(clock.monotonic()),
        });
        Ok(Arc::new(Self {
            send,
            activity,
            peer,
            generation,
            clock: clock.clone(),
        }))
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> Option<&VerifiedPeer> {
        self.peer.as_ref()
    }

    /// Streams that are open now.
    pub(crate) fn streams(&self) -> usize {
        self.activity.streams()
    }

    /// True once the other end has answered anything.
    pub(crate) fn has_answered(&self) -> bool {
        self.activity.answered.load(Ordering::Relaxed)
    }

    /// What goes on, for longer than the pool holds the connection.
    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// True once no request can be sent.
    pub(crate) fn is_closed(&self) -> bool {
        self.send.is_closed()
    }

    /// True if a new call may use it: open, of the present generation, its peer's certificate valid.
    pub(crate) fn is_fit(&self, generation: u64, now: SystemTime) -> bool {
        !self.is_closed()
            && self.generation == generation
            && self.peer.as_ref().is_none_or(|peer| peer.not_after > now)
    }

    /// Time without open streams; `None` while there are some.
    pub(crate) fn idle_for(&self, now: Tick) -> Option<Duration> {
        if self.streams() > 0 {
            return None;
        }
        let since = *self
            .activity
            .idle_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Some(now.since(since))
    }

    /// Sends a request; the stream counts as open until the response body is dropped.
    ///
    /// # Errors
    /// [`SendError`] says whether the request can have arrived.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, SendError> {
        let mut send = self.send.clone();
        let stream = StreamGuard::new(&self.activity, &self.clock);
        if let Err(error) = send.ready().await {
            return Err(SendError::Unsent(Box::new(request), cause_of(&error)));
        }
        match send.try_send_request(request).await {
            Ok(response) => {
                self.activity.answered.store(true, Ordering::Relaxed);
                let found = response.headers().keys_len();
                if found > MAX_NAMES {
                    return Err(SendError::Unfit(format!(
                        "{found} names in the head of the answer, at most {MAX_NAMES} are taken"
                    )));
                }
                Ok(response.map(|body| {
                    Counted {
                        body,
                        _stream: stream,
                    }
                    .boxed_unsync()
                }))
            }
            Err(mut failed) => {
                let unsent = failed.take_message();
                let error = failed.into_error();
                let cause = cause_of(&error);
                match unsent {
                    Some(request) => Err(SendError::Unsent(Box::new(request), cause)),
                    None if was_refused(&error) => Err(SendError::Refused(cause)),
                    None => Err(SendError::Lost(cause)),
                }
            }
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("streams", &self.streams())
            .finish_non_exhaustive()
    }
}

/// What hyper says when the other end answers something else than HTTP/2.
pub(crate) const NOT_HTTP2: &str = "frame with invalid size";

/// True if HTTP/2 says that the stream was not processed, or if the other end does not speak it.
fn was_refused(error: &hyper::Error) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            // A stream that ends with the other side's farewell is one that it did not take up any more.
            let is_farewell = h2.is_go_away() && h2.is_remote();
            return match h2.reason() {
                Some(h2::Reason::REFUSED_STREAM | h2::Reason::FRAME_SIZE_ERROR) => true,
                Some(h2::Reason::NO_ERROR) => is_farewell,
                Some(_) | None => false,
            };
        }
        next = cause.source();
    }
    false
}

/// The innermost cause of a hyper error, in a line.
pub(crate) fn cause_of(error: &hyper::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    let text = deepest
        .downcast_ref::<std::io::Error>()
        .map_or_else(|| deepest.to_string(), super::io_text);
    // The TLS library explains at length, with an address, that the other end just went.
    if text.contains("close_notify") {
        "EOF".to_owned()
    } else {
        text
    }
}

/// Runs hyper's own futures as tasks that somebody owns.
#[derive(Clone)]
pub(crate) struct TaskExecutor(pub(crate) Group);

impl<F> hyper::rt::Executor<F> for TaskExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.spawn(async move {
            future.await;
        });
    }
}

/// Counts a stream as open for as long as it lives.
struct StreamGuard {
    activity: Arc<Activity>,
    clock: Clock,
}

impl StreamGuard {
    fn new(activity: &Arc<Activity>, clock: &Clock) -> Self {
        activity.streams.fetch_add(1, Ordering::Relaxed);
        Self {
            activity: Arc::clone(activity),
            clock: clock.clone(),
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if self.activity.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self
                .activity
                .idle_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = self.clock.monotonic();
        }
    }
}

/// A response body that keeps its stream counted.
struct Counted {
    body: Incoming,
    _stream: StreamGuard,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let has_too_many = |trailers: &HeaderMap| trailers.keys_len() > MAX_NAMES;
        Poll::Ready(match frame {
            Some(Ok(frame)) if frame.trailers_ref().is_some_and(has_too_many) => {
                Some(Err(BodyError::Malformed("too many names in trailers")))
            }
            frame => frame.map(|frame| frame.map_err(BodyError::Connection)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
