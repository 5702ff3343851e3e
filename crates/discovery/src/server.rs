//! The server's end: one task a stream, and one state of the world for all of them.
//!
//! Owns sessions and what bounds them in time. Connections and their certificates are the owner's, who hands
//! over requests that carry a [`VerifiedPeer`]; a request without one is refused, whatever it says. A client
//! that does not read holds back nobody: its snapshot is made when it can take it, and after a while it is cut.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{Stream, stream};
use http::Request as HttpRequest;
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ironside_identity::VerifiedPeer;
use ironside_proto::{
    discovery::{
        WatchRequest, WatchResponse,
        access_control_discovery_server::{AccessControlDiscovery, AccessControlDiscoveryServer},
    },
    google::protobuf::Timestamp,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service as _;
use tracing::{debug, warn};

use crate::{
    COALESCE, HEARTBEAT, MAX_REQUEST, MAX_RESPONSE, ObjectStatus, Totals, World,
    book::{Book, Bounds, Counts},
    report::{Cursor, News},
    session::{Heard, Look, Pace, Session, Step},
    world::{App, Indexed},
};

#[cfg(test)]
mod tests;

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
/// Longest time between two looks at the peer's certificate.
const LOOK: Duration = Duration::from_secs(30);

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

/// One stream under way.
struct Conversation {
    shared: Arc<Shared>,
    app: App,
    not_after: SystemTime,
    session: Session,
    seat: Seated,
    world: watch::Receiver<Arc<Indexed>>,
    out: mpsc::Sender<Result<WatchResponse, Status>>,
}

/// A place in the book, given back when dropped.
struct Seated {
    shared: Arc<Shared>,
    seat: u64,
}

/// What one turn of a conversation waits for.
enum Event {
    Request(Result<Option<WatchRequest>, Status>),
    World,
    Time,
    Room,
    Stuck,
    Gone,
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

async fn converse(
    shared: Arc<Shared>,
    app: App,
    not_after: SystemTime,
    mut requests: Streaming<WatchRequest>,
    out: mpsc::Sender<Result<WatchResponse, Status>>,
) -> Result<(), Status> {
    let first = tokio::time::timeout(shared.settings.hello_limit, requests.message()).await;
    let first = first.map_err(|_elapsed| Status::deadline_exceeded("no hello"))??;
    let Some(first) = first else {
        return Ok(());
    };
    let Settings {
        coalesce,
        heartbeat,
        ..
    } = shared.settings;
    let pace = Pace {
        coalesce,
        heartbeat,
    };
    let (session, instance) = Session::begin(first, pace, shared.now())?;
    let seat = Seated::take(&shared, &app, &instance)?;
    debug!(target: LOG, "{instance} of {}/{} watches", app.namespace, app.app_id);
    let mut conversation = Conversation {
        world: shared.world.subscribe(),
        app,
        not_after,
        session,
        seat,
        out,
        shared,
    };
    conversation.world.mark_changed();
    conversation.run(requests).await
}

// === impl Conversation ===

impl Conversation {
    async fn run(&mut self, mut requests: Streaming<WatchRequest>) -> Result<(), Status> {
        // When it became impossible to write.
        let mut stuck: Option<Duration> = None;
        loop {
            if (self.shared.time.wall)() >= self.not_after {
                return Err(Status::unavailable(
                    "the certificate of the client has expired",
                ));
            }
            let now = self.shared.now();
            let step = self.session.step(now);
            let wants_room = !matches!(step, Step::Wait(_));
            let limit = self.shared.settings.write_limit;
            let wait = match step {
                Step::Wait(until) => until.saturating_sub(now).min(LOOK),
                Step::Look | Step::Beat => (*stuck.get_or_insert(now) + limit).saturating_sub(now),
            };
            let event = tokio::select! {
                biased;
                () = self.out.closed() => Event::Gone,
                request = requests.message() => Event::Request(request),
                changed = self.world.changed() => match changed {
                    Ok(()) => Event::World,
                    Err(_closed) => Event::Gone,
                },
                room = self.out.reserve(), if wants_room => match room {
                    // The room stays ours: nobody else writes here.
                    Ok(_permit) => Event::Room,
                    Err(_closed) => Event::Gone,
                },
                () = tokio::time::sleep(wait) => if wants_room { Event::Stuck } else { Event::Time },
            };
            match event {
                Event::Request(Ok(Some(request))) => self.hear(request)?,
                Event::Request(Ok(None)) | Event::Gone => return Ok(()),
                Event::Request(Err(status)) => return Err(status),
                Event::World => self.session.changed(self.shared.now()),
                Event::Time => {}
                Event::Room => {
                    stuck = None;
                    self.write(step)?;
                }
                Event::Stuck => {
                    return Err(Status::aborted("the client does not read"));
                }
            }
        }
    }

    fn hear(&mut self, request: WatchRequest) -> Result<(), Status> {
        let now = self.shared.now();
        match self.session.hear(request, now)? {
            Heard::Ack(ack) => {
                for error in &ack.errors {
                    warn!(
                        target: LOG,
                        "a sidecar of {}/{} refuses {:?}: {:?}",
                        self.app.namespace, self.app.app_id, error.uid, error.code
                    );
                }
                self.shared.edit(|book| book.acked(self.seat.seat, ack));
            }
            Heard::Stats(stats) => self.shared.book().counted(self.seat.seat, stats, now),
            Heard::Nothing => {}
        }
        Ok(())
    }

    /// Writes what is due; there is room for it.
    fn write(&mut self, step: Step) -> Result<(), Status> {
        let now = self.shared.now();
        let response = match step {
            Step::Wait(_) => return Ok(()),
            Step::Beat => self.session.beat(now),
            Step::Look => {
                let world = Arc::clone(&self.world.borrow_and_update());
                if !world.is_known {
                    self.session.skip();
                    return Ok(());
                }
                let mut view = world.view(&self.app);
                let confirmed = self.shared.doubts.borrow().confirmed;
                if self.session.doubts(&world, &self.app, confirmed) {
                    view.synced = false;
                    let since = Some(self.session.begun());
                    self.shared.doubts.send_if_modified(|doubts| {
                        let is_later = doubts.since < since;
                        doubts.since = doubts.since.max(since);
                        is_later
                    });
                }
                if view.size() > self.shared.settings.max_snapshot {
                    warn!(
                        target: LOG,
                        "the objects for {}/{} have {} bytes together: nothing is sent until they have less",
                        self.app.namespace, self.app.app_id, view.size()
                    );
                    self.session.skip();
                    return Ok(());
                }
                match self.session.look(view, now) {
                    Look::Send(response) => response,
                    Look::Same => return Ok(()),
                    Look::Behind => {
                        return Err(Status::unavailable(
                            "this replica has not seen what the sidecar has seen",
                        ));
                    }
                }
            }
        };
        if response.snapshot > 0
            && let Some((number, view)) = self.session.last()
        {
            self.shared.book().sent(self.seat.seat, number, view);
        }
        let response = WatchResponse {
            sent_at: Some(timestamp((self.shared.time.wall)())),
            ..response
        };
        // There is room; a client that went meanwhile is noticed in the next turn.
        let _gone = self.out.try_send(Ok(response));
        Ok(())
    }
}

// === impl Seated ===

impl Seated {
    fn take(shared: &Arc<Shared>, app: &App, instance: &str) -> Result<Self, Status> {
        let now = shared.now();
        let seat = shared.edit(|book| book.enter(app.clone(), instance, now));
        let seat = seat.map_err(|_full| Status::resource_exhausted("too many streams"))?;
        let shared = Arc::clone(shared);
        Ok(Self { shared, seat })
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.shared.edit(|book| book.leave(self.seat));
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

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}
