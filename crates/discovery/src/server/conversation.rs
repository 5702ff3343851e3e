//! One stream under way: what it hears, what it says, and when it ends.
//!
//! Owns the turns of a session, its place in the book while it lasts, and the bounds in time of a client that says
//! nothing or takes nothing. What is said is the session's decision; who may begin one is the server's.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ironside_proto::{
    discovery::{WatchRequest, WatchResponse},
    google::protobuf::Timestamp,
};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};
use tracing::{debug, warn};

use super::{LOG, Settings, Shared};
use crate::{
    session::{Heard, Look, Pace, Session, Step},
    world::{App, Indexed},
};

/// Longest time between two looks at the peer's certificate.
const LOOK: Duration = Duration::from_secs(30);

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

/// Serves one stream to its end.
pub(super) async fn converse(
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

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}
