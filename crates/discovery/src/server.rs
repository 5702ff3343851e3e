//! The server's end: one task a stream, and one state of the world for all of them.
//!
//! Owns sessions and what bounds them in time. Connections and their certificates are the owner's, who hands
//! over requests that carry a [`VerifiedPeer`]; a request without one is refused, whatever it says. A client
//! that does not read holds back nobody: its snapshot is made when it can take it, and after a while it is cut.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::{Stream, stream};
use http::Request as HttpRequest;
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ironside_identity::VerifiedPeer;
use ironside_proto::discovery::{
    WatchRequest, WatchResponse,
    access_control_discovery_server::{AccessControlDiscovery, AccessControlDiscoveryServer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service as _;
use tracing::debug;

use crate::{
    COALESCE, HEARTBEAT, MAX_REQUEST, MAX_RESPONSE, ObjectStatus, Totals, World,
    book::{Book, Bounds, Counts},
    report::{Cursor, News},
    world::{App, Indexed},
};

mod conversation;
#[cfg(test)]
mod tests;

use conversation::converse;

/// Scope of this part's lines.
const LOG: &str = "dapr.operator.accesscontrol";
/// Streams on one connection; a sidecar has one.
const MAX_STREAMS: u32 = 4;
/// What a connection may send ahead of being read.
const WINDOW: u32 = 256 * 1024;
/// Longest list of request headers, in bytes.
const MAX_HEADERS: u32 = 16 * 1024;
/// Silent connections are pinged after this time, and closed if they do not answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A task, for whoever owns tasks.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How a server behaves. The defaults are those of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Changes within so long are one.
    pub coalesce: Duration,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// A client says Hello within this time.
    pub hello_limit: Duration,
    /// A client that takes nothing for so long is cut.
    pub write_limit: Duration,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Of these, sessions of one app.
    pub max_sessions_of_app: usize,
    /// Larger snapshots are not sent: no sidecar would take one.
    pub max_snapshot: usize,
}

/// The time: a scale that only goes forward, and the wall clock for `sent_at` and certificates.
#[derive(Clone)]
pub struct Time {
    /// Time since any fixed point.
    pub monotonic: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// The present.
    pub wall: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

/// The service. Clones are the same one.
#[derive(Clone)]
pub struct Discovery(Arc<Shared>);

struct Shared {
    settings: Settings,
    time: Time,
    tasks: Arc<dyn Executor<Task> + Send + Sync>,
    stop: CancellationToken,
    world: watch::Sender<Arc<Indexed>>,
    doubts: watch::Sender<Doubts>,
    book: Mutex<Book>,
    /// The revision of the book.
    sessions: watch::Sender<u64>,
}

/// What sidecars know that the world does not, in instants of the monotonic time.
#[derive(Clone, Copy, Debug, Default)]
struct Doubts {
    /// The beginning of the last session that knew more.
    since: Option<Duration>,
    /// Everything that was there at this instant is in the world.
    confirmed: Option<Duration>,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            coalesce: COALESCE,
            heartbeat: HEARTBEAT,
            hello_limit: Duration::from_secs(10),
            write_limit: Duration::from_secs(30),
            max_sessions: 20_000,
            max_sessions_of_app: 2_000,
            max_snapshot: MAX_RESPONSE / 2,
        }
    }
}

// === impl Discovery ===

impl Discovery {
    /// A service that knows nothing yet: it sends heartbeats until the first world is published. Its tasks run
    /// on `tasks` and end with `stop`.
    #[must_use]
    pub fn new(
        settings: Settings,
        time: Time,
        tasks: Arc<dyn Executor<Task> + Send + Sync>,
        stop: CancellationToken,
    ) -> Self {
        let bounds = Bounds {
            sessions: settings.max_sessions,
            of_one_app: settings.max_sessions_of_app,
        };
        Self(Arc::new(Shared {
            settings,
            time,
            tasks,
            stop,
            world: watch::Sender::default(),
            doubts: watch::Sender::default(),
            book: Mutex::new(Book::new(bounds)),
            sessions: watch::Sender::default(),
        }))
    }

    /// Replaces everything that is distributed. A later world must not be older than the one before it.
    pub fn publish(&self, world: World) {
        let now = self.0.now();
        let indexed = Indexed::new(world, &self.0.world.borrow(), now);
        self.0.book().forget(&indexed);
        self.0.world.send_replace(Arc::new(indexed));
    }

    /// Waits until a sidecar knows an object that was not published. It was removed, or this replica lags: that is
    /// told by [`Discovery::confirm`] only, and until then nothing is taken from this sidecar (fact K208).
    ///
    /// Whoever waits here reads the source, publishes, confirms, and waits again; not more often than the source can
    /// bear, for what sidecars say they know may be invented.
    pub async fn doubted(&self) {
        let mut doubts = self.0.doubts.subscribe();
        // This value holds the sender.
        let _closed = doubts
            .wait_for(|doubts| doubts.since > doubts.confirmed)
            .await;
    }

    /// Says that the last world holds everything that the source held at `since`, an instant of the service's
    /// monotonic time: it comes from a whole read of the source itself, not of a cache, that began then or later.
    pub fn confirm(&self, since: Duration) {
        self.0.doubts.send_modify(|doubts| {
            doubts.confirmed = doubts.confirmed.max(Some(since));
        });
        // The same objects may mean something else now.
        self.0.world.send_modify(|_same| ());
    }

    /// How each object stands with the sidecars.
    #[must_use]
    pub fn status(&self) -> Vec<ObjectStatus> {
        let world = Arc::clone(&self.0.world.borrow());
        self.0.book().status(&world, self.0.now())
    }

    /// How the sidecars stand.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let world = Arc::clone(&self.0.world.borrow());
        self.0.book().totals(&world, self.0.now())
    }

    /// What became known of sessions since the last time that this cursor was shown.
    pub fn news(&self, cursor: &mut Cursor) -> News {
        self.0.book().news(cursor)
    }

    /// Follows the number of changes of sessions.
    #[must_use]
    pub fn sessions(&self) -> watch::Receiver<u64> {
        self.0.sessions.subscribe()
    }

    /// What each object decided in the last hour, by UID, if it did.
    #[must_use]
    pub fn last_hour(&self) -> HashMap<Arc<str>, Counts> {
        self.0.book().last_hour(self.0.now())
    }

    /// The service, for a port that serves others too. Who asks is the [`VerifiedPeer`] among the extensions of
    /// the request.
    #[must_use]
    pub fn service(&self) -> AccessControlDiscoveryServer<Self> {
        AccessControlDiscoveryServer::new(self.clone())
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(MAX_RESPONSE)
    }

    /// Serves a connection that speaks nothing else, until it ends or the service does. `peer` is who proved to
    /// be at the other end.
    ///
    /// # Errors
    /// Why the connection broke.
    pub async fn serve_connection<S>(&self, io: S, peer: Option<VerifiedPeer>) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = self.service();
        let answer = service_fn(move |mut request: HttpRequest<Incoming>| {
            if let Some(peer) = peer.clone() {
                request.extensions_mut().insert(peer);
            }
            service.clone().call(request)
        });
        let mut builder = http2::Builder::new(Spawn(Arc::clone(&self.0.tasks)));
        let connection = builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .serve_connection(TokioIo::new(io), answer);
        tokio::select! {
            () = self.0.stop.cancelled() => Ok(()),
            ended = connection => ended,
        }
    }
}

#[tonic::async_trait]
impl AccessControlDiscovery for Discovery {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let peer = request.extensions().get::<VerifiedPeer>();
        // The words of the operator's other services (security 2.5).
        let peer = peer.ok_or_else(|| Status::permission_denied("failed to determine identity"))?;
        let (app, not_after) = (app_of(peer), peer.not_after);
        let (out, mut responses) = mpsc::channel(1);
        let (shared, requests) = (Arc::clone(&self.0), request.into_inner());
        self.0.tasks.execute(Box::pin(async move {
            let stop = shared.stop.clone();
            let last = out.clone();
            let conversation = pin!(converse(shared, app, not_after, requests, out));
            let ended = tokio::select! {
                () = stop.cancelled() => Err(Status::unavailable("the operator is shutting down")),
                ended = conversation => ended,
            };
            if let Err(status) = ended {
                debug!(target: LOG, "a stream ends: {}", status.message());
                // Whoever does not read will not read this either.
                let _full = last.try_send(Err(status));
            }
        }));
        let responses = stream::poll_fn(move |cx| responses.poll_recv(cx));
        Ok(Response::new(Box::pin(responses)))
    }
}

fn app_of(peer: &VerifiedPeer) -> App {
    App {
        namespace: peer.id.namespace().clone(),
        app_id: peer.id.app_id().clone(),
    }
}

// === impl Shared ===

impl Shared {
    fn now(&self) -> Duration {
        (self.time.monotonic)()
    }

    /// Changes the book, and says so.
    fn edit<R>(&self, change: impl FnOnce(&mut Book) -> R) -> R {
        let (result, revision) = {
            let mut book = self.book();
            (change(&mut book), book.revision())
        };
        self.sessions.send_if_modified(|told| {
            let is_later = *told < revision;
            *told = (*told).max(revision);
            is_later
        });
        result
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Every entry of the book is whole.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner's executor, as hyper takes one.
#[derive(Clone)]
struct Spawn(Arc<dyn Executor<Task> + Send + Sync>);

impl<F> Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.execute(Box::pin(future));
    }
}
