//! One connection: what is spoken on it, how long it may stay, how it ends.
//!
//! Owns the protocol settings of all three servers, the count of open streams ([`StreamGuard`]), the idle
//! limit of gRPC connections, the drain (GOAWAY or `Connection: close`, then the streams finish) and the rule
//! for a peer whose certificate runs out (K086). Refuses to look at requests.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use hyper::server::conn::http2;
use hyper_util::{
    rt::TokioTimer,
    server::{conn::auto, graceful::GracefulConnection},
};
use tokio_util::sync::CancellationToken;

use crate::peers::connection::{CONNECTION_WINDOW, MAX_STREAMS, STREAM_WINDOW};

use super::{
    lease::{Lease, Verdict},
    opening::{Counted, Opening},
};

#[cfg(test)]
mod tests;

/// Time for a request head, from its first byte (process-interface 2.3), and for the first byte of all.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent HTTP/2 connection is pinged after so long (service-invocation 2.1).
const KEEPALIVE: Duration = Duration::from_secs(10);
/// And has so long to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A gRPC connection without streams is told to go after so long (service-invocation 2.1).
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(3 * 60);
/// How often idleness is looked at; the limit is exceeded by at most this.
const IDLE_TICK: Duration = Duration::from_secs(15);
/// Streams that one connection of a peer may have open: all its calls share one (decision 0004). A client has
/// [`MAX_STREAMS`]; one stream costs up to 60 KB, and further requests wait at the client.
const MAX_PEER_STREAMS: u32 = 10_000;
/// HTTP/2 frames we accept.
const FRAME: u32 = 64 << 10;
/// The read buffer flag counts for gRPC a thousandfold in the reference (H11), which clients rely on.
const GRPC_HEADER_FACTOR: usize = 1024;
/// Bounds on what that gives.
const GRPC_HEADER_RANGE: std::ops::RangeInclusive<usize> = (4 << 20)..=(16 << 20);
/// Fields of one HTTP/1.1 head when a larger head than the default is asked for; up to 100 need no allocation.
const MANY_FIELDS: usize = 1024;
/// The default read buffer.
const DEFAULT_READ_BUFFER: usize = 4096;

/// Open streams of one connection, how many there ever were, and what came in between them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    traffic: Option<Arc<Traffic>>,
    opening: Opening,
    open: AtomicUsize,
    ever: AtomicU64,
}

/// Streams of a whole process: how many there ever were, and those that its end still waits for.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Of those that were opened since [`Traffic::depart`].
    late: AtomicUsize,
    ever: AtomicU64,
    is_departing: AtomicBool,
}

/// An open stream; the response body holds it, or whatever drops the request.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    streams: Arc<Streams>,
    is_late: bool,
}

/// Which protocols the HTTP API speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum H2c {
    /// HTTP/1.1 and HTTP/2 by prior knowledge.
    PriorKnowledge,
    /// HTTP/1.1 only (`DAPR_HTTP_DISABLE_H2C`, and the public port).
    Off,
}

/// What ends a connection besides its peer.
pub(crate) struct Life {
    /// The process drains.
    pub(crate) drain: CancellationToken,
    /// Its streams.
    pub(crate) streams: Arc<Streams>,
    /// How long it may be without any; `None` for ever.
    pub(crate) idle: Option<Duration>,
    /// How long its peer's certificate lets it stay; `None` without one.
    pub(crate) lease: Option<Lease>,
}

/// Serves a connection until it ends, by itself or by its [`Life`].
pub(crate) async fn drive<C: GracefulConnection>(
    connection: C,
    life: Life,
) -> Result<(), C::Error> {
    let Life {
        drain,
        streams,
        idle,
        mut lease,
    } = life;
    let mut connection = pin!(connection);
    let mut drained = pin!(drain.cancelled());
    let mut silence = pin!(tokio::time::sleep(HEAD_TIMEOUT));
    let mut slowness = pin!(streams.slow_head());
    let mut idleness = pin!(idle_after(&streams, idle));
    let (mut opened, mut going) = (false, false);
    loop {
        let go = tokio::select! {
            // What the connection read is judged after it has dealt with it.
            biased;
            ended = connection.as_mut() => return ended,
            () = slowness.as_mut() => return Ok(()),
            () = drained.as_mut(), if !going => true,
            () = idleness.as_mut(), if !going => true,
            () = silence.as_mut(), if !opened => {
                if !streams.opening.is_over() && !streams.ever_opened() {
                    return Ok(());
                }
                opened = true;
                false
            }
            verdict = verdict(&mut lease, &streams) => match verdict {
                Verdict::Close => return Ok(()),
                Verdict::GoAway => true,
            },
        };
        if go && !going {
            going = true;
            connection.as_mut().graceful_shutdown();
        }
    }
}

async fn idle_after(streams: &Arc<Streams>, limit: Option<Duration>) {
    match limit {
        Some(limit) => streams.idle_for(limit).await,
        None => std::future::pending().await,
    }
}

async fn verdict(lease: &mut Option<Lease>, streams: &Streams) -> Verdict {
    match lease {
        Some(lease) => lease.next(streams).await,
        None => std::future::pending().await,
    }
}

// === impl Traffic ===

impl Traffic {
    /// The process is about to end: streams that are open by now are left to the drain.
    pub(crate) fn depart(&self) {
        self.is_departing.store(true, Ordering::Relaxed);
    }

    /// True if any stream is open that began since [`Self::depart`].
    pub(crate) fn is_busy(&self) -> bool {
        self.late.load(Ordering::Relaxed) > 0
    }

    /// Streams that were ever opened.
    pub(crate) fn ever(&self) -> u64 {
        self.ever.load(Ordering::Relaxed)
    }
}

// === impl Streams ===

impl Streams {
    /// Streams of a connection that count for the process, too.
    pub(crate) fn within(traffic: &Arc<Traffic>) -> Self {
        Self {
            traffic: Some(Arc::clone(traffic)),
            ..Self::default()
        }
    }

    /// `io`, whose bytes count here.
    pub(crate) fn count<S>(&self, io: S) -> Counted<S> {
        self.opening.count(io)
    }

    /// Counts one more open stream.
    pub(crate) fn open(self: &Arc<Self>) -> StreamGuard {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.ever.fetch_add(1, Ordering::Relaxed);
        let mut is_late = false;
        if let Some(traffic) = &self.traffic {
            traffic.ever.fetch_add(1, Ordering::Relaxed);
            is_late = traffic.is_departing.load(Ordering::Relaxed);
            if is_late {
                traffic.late.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.opening.head_done();
        StreamGuard {
            streams: Arc::clone(self),
            is_late,
        }
    }

    /// True if any stream is open.
    pub(crate) fn is_busy(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// True if there ever was a stream.
    fn ever_opened(&self) -> bool {
        self.ever.load(Ordering::Relaxed) > 0
    }

    /// Waits until an HTTP/1.1 head has been under way for too long.
    ///
    /// A kept connection may be silent for ever, as in the reference; the library's own limit counts that
    /// silence, so it is off. Whole heads, the common case, never reach the timer: bytes are read, and streams
    /// opened, while the connection is polled, which happens before this is.
    async fn slow_head(&self) {
        let mut limit = pin!(None);
        std::future::poll_fn(|cx| {
            if self.is_busy() || !self.opening.is_head_under_way() {
                limit.set(None);
                return Poll::Pending;
            }
            if limit.is_none() {
                limit.set(Some(tokio::time::sleep(HEAD_TIMEOUT)));
            }
            match limit.as_mut().as_pin_mut() {
                Some(limit) => limit.poll(cx),
                None => Poll::Pending,
            }
        })
        .await;
    }

    /// Waits until there has been no stream for `limit`.
    async fn idle_for(&self, limit: Duration) {
        let (mut seen, mut idle) = (self.ever.load(Ordering::Relaxed), Duration::ZERO);
        while idle < limit {
            let tick = IDLE_TICK.min(limit);
            tokio::time::sleep(tick).await;
            let ever = self.ever.load(Ordering::Relaxed);
            idle = if self.is_busy() || ever != seen {
                Duration::ZERO
            } else {
                idle + tick
            };
            seen = ever;
        }
    }
}

// === impl StreamGuard ===

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let Self { streams, is_late } = self;
        streams.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(traffic) = streams.traffic.as_ref().filter(|_| *is_late) {
            traffic.late.fetch_sub(1, Ordering::Relaxed);
        }
        // What came in so far was the request's body.
        streams.opening.head_done();
    }
}

/// How the HTTP API is spoken: HTTP/1.1, and HTTP/2 by prior knowledge. `Upgrade: h2c` is no request of ours.
pub(crate) fn http_api<E: Clone>(executor: E, read_buffer: usize, h2c: H2c) -> auto::Builder<E> {
    let buffer = super::limit::library_buffer(read_buffer);
    let mut builder = auto::Builder::new(executor);
    builder
        .http1()
        .title_case_headers(true)
        .header_read_timeout(None)
        .max_buf_size(buffer);
    if read_buffer > DEFAULT_READ_BUFFER {
        builder.http1().max_headers(MANY_FIELDS);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(u32::try_from(buffer).unwrap_or(u32::MAX))
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    match h2c {
        H2c::PriorKnowledge => builder,
        H2c::Off => builder.http1_only(),
    }
}

/// How gRPC is spoken between sidecars.
pub(crate) fn internal<E>(executor: E, read_buffer: usize) -> http2::Builder<E> {
    let mut builder = grpc(executor, read_buffer);
    builder.max_concurrent_streams(MAX_PEER_STREAMS);
    builder
}

/// How gRPC is spoken on the API port.
pub(crate) fn grpc<E>(executor: E, read_buffer: usize) -> http2::Builder<E> {
    let (least, most) = GRPC_HEADER_RANGE.into_inner();
    let headers = read_buffer
        .saturating_mul(GRPC_HEADER_FACTOR)
        .clamp(least, most);
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(u32::try_from(headers).unwrap_or(u32::MAX))
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}
