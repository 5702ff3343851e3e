//! What is heard of one kind over one connection.
//!
//! Owns the order of list and stream, so that no edit is missed in between: an operator of ours begins the stream
//! with a snapshot; one of the reference sends nothing on connect, so its objects are listed once the stream was
//! asked for, and again from time to time. A kind that the operator does not know has no objects. Keeps no state:
//! what is heard goes to `operator.rs`. Source: kubernetes 3.9, 7.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use ironside_proto::operator::ResourceEventType;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::link::{Event, Link, Updates};
use crate::sources::cluster::Kind;

/// How long the answer to a stream may take before objects are listed: an operator of the reference sends none.
const HEAD_PATIENCE: Duration = Duration::from_secs(1);
/// How often a Configuration that is not there is asked for again.
const MISSING_AGAIN: Duration = Duration::from_secs(5);

/// Something that was heard.
#[derive(Debug)]
pub(super) enum Heard {
    /// These are all objects of the kind.
    All(Kind, Vec<Bytes>),
    /// This object is new or another one.
    Changed(Kind, Bytes),
    /// This object is gone.
    Gone(Kind, Bytes),
    /// There is no Configuration of the name that was asked for.
    Missing,
    /// The operator does not tell of changes of this kind.
    Untold(Kind),
}

/// Why a kind is no longer followed.
#[derive(Debug)]
pub(super) struct Lost {
    /// The kind.
    pub(super) kind: Kind,
    /// What the operator said.
    pub(super) status: Option<Status>,
}

/// Follows one kind until the stream or the connection ends.
pub(super) struct Follower {
    /// The connection.
    pub(super) link: Link,
    /// Which kind.
    pub(super) kind: Kind,
    /// Name of the Configuration; of another kind there are all.
    pub(super) configuration: Option<Box<str>>,
    /// Where to tell.
    pub(super) heard: mpsc::Sender<Heard>,
    /// How often objects are listed where no snapshot says that the stream is complete.
    pub(super) relist: Duration,
}

enum Next {
    Event(Result<Option<Event>, Status>),
    Opened(Box<Result<Updates, Status>>),
    Again,
}

// === impl Follower ===

impl Follower {
    /// Follows.
    pub(super) async fn run(mut self) -> Lost {
        let kind = self.kind;
        match self.follow().await {
            Ok(()) => Lost { kind, status: None },
            Err(status) => Lost {
                kind,
                status: Some(status),
            },
        }
    }

    async fn follow(&mut self) -> Result<(), Status> {
        let mut opening = pin!(self.link.clone().updates(self.kind));
        let head = tokio::time::timeout(HEAD_PATIENCE, opening.as_mut()).await;
        let (mut updates, mut is_opening) = match head {
            Ok(opened) => (self.opened(opened).await?, false),
            Err(_elapsed) => (None, true),
        };
        let is_told = updates.as_ref().is_some_and(|updates| updates.has_snapshot);
        // The name is known, so that one call tells more than a stream that depends on the pod's annotation.
        let mut again = if self.kind == Kind::Configuration {
            self.configuration().await?
        } else if is_told && let Some(updates) = &mut updates {
            if !self.snapshot(updates).await? {
                return Ok(());
            }
            Duration::MAX
        } else {
            self.list().await?
        };
        loop {
            let next = tokio::select! {
                event = next(&mut updates) => Next::Event(event),
                opened = opening.as_mut(), if is_opening => Next::Opened(Box::new(opened)),
                () = pause(again) => Next::Again,
            };
            match next {
                Next::Event(event) => match event? {
                    Some(event) => self.event(event).await,
                    None => return Ok(()),
                },
                Next::Opened(opened) => {
                    is_opening = false;
                    updates = self.opened(*opened).await?;
                }
                Next::Again if self.kind == Kind::Configuration => {
                    again = self.configuration().await?;
                }
                Next::Again => again = self.list().await?,
            }
        }
    }

    /// What came of asking for the stream; one that the operator does not have is no reason to end.
    async fn opened(&self, opened: Result<Updates, Status>) -> Result<Option<Updates>, Status> {
        match opened {
            Ok(updates) => Ok(Some(updates)),
            Err(status) if status.code() == Code::Unimplemented => {
                self.tell(Heard::Untold(self.kind)).await;
                Ok(None)
            }
            Err(status) => Err(status),
        }
    }

    /// Reads the snapshot at the beginning of a stream; false if the stream ended in it.
    async fn snapshot(&self, updates: &mut Updates) -> Result<bool, Status> {
        let mut all = Vec::new();
        while let Some(Event { what, object }) = updates.next().await? {
            match what {
                ResourceEventType::Unknown if object.is_empty() => {
                    self.tell(Heard::All(self.kind, all)).await;
                    return Ok(true);
                }
                ResourceEventType::Created | ResourceEventType::Updated => all.push(object),
                ResourceEventType::Unknown | ResourceEventType::Deleted => {}
            }
        }
        Ok(false)
    }

    /// Lists; says when to do it again.
    async fn list(&mut self) -> Result<Duration, Status> {
        let all = match self.link.list(self.kind).await {
            Ok(all) => all,
            Err(status) if status.code() == Code::Unimplemented => Vec::new(),
            Err(status) => return Err(status),
        };
        self.tell(Heard::All(self.kind, all)).await;
        Ok(self.relist)
    }

    /// Asks for the Configuration; says when to do it again.
    async fn configuration(&mut self) -> Result<Duration, Status> {
        let Some(name) = self.configuration.clone() else {
            self.tell(Heard::All(self.kind, Vec::new())).await;
            return Ok(Duration::MAX);
        };
        match self.link.configuration(&name).await {
            // An empty answer is how the reference says it.
            Ok(object) if object.is_empty() => {}
            Ok(object) => {
                self.tell(Heard::Changed(self.kind, object)).await;
                return Ok(self.relist);
            }
            Err(status) if is_not_found(&status) => {}
            Err(status) => return Err(status),
        }
        self.tell(Heard::Missing).await;
        Ok(MISSING_AGAIN)
    }

    async fn event(&self, event: Event) {
        let Event { what, object } = event;
        let kind = self.kind;
        match what {
            ResourceEventType::Created | ResourceEventType::Updated => {
                self.tell(Heard::Changed(kind, object)).await;
            }
            ResourceEventType::Deleted => self.tell(Heard::Gone(kind, object)).await,
            ResourceEventType::Unknown => {}
        }
    }

    async fn tell(&self, heard: Heard) {
        // Whoever listens is gone only when the process ends.
        let _ended = self.heard.send(heard).await;
    }
}

async fn next(updates: &mut Option<Updates>) -> Result<Option<Event>, Status> {
    match updates {
        Some(updates) => updates.next().await,
        None => std::future::pending().await,
    }
}

async fn pause(duration: Duration) {
    if duration == Duration::MAX {
        std::future::pending().await
    } else {
        tokio::time::sleep(duration).await;
    }
}

/// The reference's operator answers Unknown, with the words of the API server.
fn is_not_found(status: &Status) -> bool {
    match status.code() {
        Code::NotFound => true,
        Code::Unknown => status.message().contains("not found"),
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}
