//! The gRPC port: TLS in, HTTP/2 on, one service.
//!
//! Owns accepting connections and their bounds: how many there are, how long one may last, how much it may send
//! before it is read (facts O-S12, K018, K060). What is answered is `ca`'s matter.

pub(crate) mod ca;
pub(crate) mod limit;

use ca::CertificateAuthority;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ironside_chassis::Tasks;
use ironside_chassis::tasks::Group;
use ironside_proto::sentry::ca_server::CaServer;
use ironside_transport::OneSidedTlsServer;
use limit::{Connections, Source};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use tracing::{debug, warn};

/// The logger of the reference for this part.
pub(crate) const SCOPE: &str = "dapr.sentry.server";
/// Connections served at once; clients close theirs after each request.
const MAX_CONNECTIONS: usize = 512;
/// Requests in flight on one connection.
const MAX_STREAMS: u32 = 16;
/// Longest message; a CSR has at most 16 KiB.
const MAX_MESSAGE: usize = 128 * 1024;
/// What a connection may send ahead of being read: with [`MAX_CONNECTIONS`] this bounds the memory.
const WINDOW: u32 = 128 * 1024;
/// Longest list of request headers.
const MAX_HEADERS: u32 = 16 * 1024;
/// A request that has not arrived whole, and been answered, in this time is given up.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// A connection that is older is asked to end.
const MAX_AGE: Duration = Duration::from_secs(300);
/// After that it has so long to finish what it is doing.
const DRAIN: Duration = Duration::from_secs(5);
/// Silent connections are pinged after this time, and closed if they don't answer in as much.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Pause after a failed accept (no descriptors left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection on which nothing is asked for so long is asked to end: its slot is for somebody who does.
const SILENCE: Duration = Duration::from_secs(10);

/// Requests of one connection.
#[derive(Debug, Default)]
struct Asked {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A request under way; it ends with the value, answered or not.
struct UnderWay(Arc<Asked>);

/// What all connections share.
pub(crate) struct Server {
    tls: OneSidedTlsServer,
    service: CaServer<CertificateAuthority>,
    slots: Arc<Semaphore>,
    sources: Connections,
    streams: Group,
    stop: CancellationToken,
}

// === impl Server ===

impl Server {
    /// Makes a server whose connections end when `tasks` is cancelled.
    pub(crate) fn new(
        tls: OneSidedTlsServer,
        ca: CertificateAuthority,
        tasks: &Tasks,
    ) -> Arc<Self> {
        Arc::new(Self {
            tls,
            service: CaServer::new(ca).max_decoding_message_size(MAX_MESSAGE),
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            sources: Connections::default(),
            streams: tasks.group("grpc-stream"),
            stop: tasks.token(),
        })
    }

    /// Accepts connections until the owner's end.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, connections: Group) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = accept(&listener, &self.slots) => accepted,
            };
            match accepted {
                Ok((tcp, source, slot)) => {
                    let Some(counted) = self.sources.open(source) else {
                        debug!(target: SCOPE, "connection refused: too many of this address");
                        continue;
                    };
                    let server = Arc::clone(&self);
                    connections.spawn(async move {
                        server.connection(tcp, source).await;
                        drop((counted, slot));
                    });
                }
                Err(cause) => {
                    warn!(target: SCOPE, err = %cause, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, source: Source) {
        let stream = tokio::select! {
            () = self.stop.cancelled() => return,
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
        let asked = Arc::new(Asked::default());
        let counted = Arc::clone(&asked);
        let service = service_fn(move |request| {
            let (server, under_way) = (Arc::clone(&server), UnderWay::begin(Arc::clone(&counted)));
            async move {
                let answer = server.answer(request, source).await;
                drop(under_way);
                answer
            }
        });
        let connection = http2::Builder::new(self.streams.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(MAX_AGE) => {}
            () = asked.silence() => {}
            ended = connection.as_mut() => return tell_end(ended),
        }
        connection.as_mut().graceful_shutdown();
        if let Ok(ended) = tokio::time::timeout(DRAIN, connection).await {
            tell_end(ended);
        }
    }

    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        source: Source,
    ) -> Result<Response<tonic::body::Body>, Infallible> {
        request.extensions_mut().insert(source);
        let answer = self.service.clone().call(request);
        let Ok(response) = tokio::time::timeout(REQUEST_LIMIT, answer).await else {
            return Ok(
                tonic::Status::deadline_exceeded("the request took too long to arrive").into_http(),
            );
        };
        let mut response = response?;
        as_the_reference_codes(&mut response);
        Ok(response)
    }
}

// === impl Asked ===

impl Asked {
    /// Returns when nothing was under way for [`SILENCE`], and at most as long again.
    async fn silence(&self) {
        loop {
            let before = self.begun.load(Ordering::Relaxed);
            tokio::time::sleep(SILENCE).await;
            let is_same = self.begun.load(Ordering::Relaxed) == before;
            if is_same && self.ended.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

// === impl UnderWay ===

impl UnderWay {
    fn begin(asked: Arc<Asked>) -> Self {
        asked.begun.fetch_add(1, Ordering::Relaxed);
        Self(asked)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, Source, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (tcp, address) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    Ok((tcp, address.ip().into(), slot))
}

/// tonic calls a message that is too large OutOfRange (11), grpc-go ResourceExhausted (8); nothing else here is
/// out of range (fact K018).
fn as_the_reference_codes<B>(response: &mut Response<B>) {
    const CODE: &str = "grpc-status";
    if response
        .headers()
        .get(CODE)
        .is_some_and(|code| code == "11")
    {
        response
            .headers_mut()
            .insert(CODE, HeaderValue::from_static("8"));
    }
}

fn tell_end(ended: hyper::Result<()>) {
    if let Err(cause) = ended {
        debug!(target: SCOPE, err = %cause, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who asks now and then stays; who does not, and who stops, goes.
    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection() {
        let asked = Arc::new(Asked::default());
        let mut silence = pin!(asked.silence());
        for _ in 0..5 {
            // Given up by its client, as when the stream is reset: nobody waits for its end.
            let given_up = UnderWay::begin(Arc::clone(&asked));
            let quiet = tokio::time::timeout(SILENCE * 9 / 10, silence.as_mut());
            assert!(quiet.await.is_err(), "a request is under way");
            drop(given_up);
        }
        let quiet = tokio::time::timeout(SILENCE * 2, silence.as_mut());
        assert!(quiet.await.is_ok());
        let never = Asked::default();
        let quiet = tokio::time::timeout(SILENCE * 2, never.silence());
        assert!(quiet.await.is_ok());
    }
}
