//! Events: what a program did, told where `kubectl describe` shows it.
//!
//! Owns their bounds. Whoever has something to tell never waits: it goes into a short queue, and what does not fit is
//! counted and dropped. One task writes them, at most twenty a second; what repeats is written as a series of one
//! Event (`events.k8s.io/v1`). An API server that refuses is reported in the log once.

use crate::{SCOPE, explain};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder as Writer, Reporter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::warn;

/// What waits to be written.
const QUEUE: usize = 256;
/// Pause between two writes, which also bounds what the writer remembers of the last minutes.
const PAUSE: Duration = Duration::from_millis(50);
/// One write takes no longer.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest note that the API server takes, in bytes.
const MAX_NOTE: usize = 1024;

/// Takes what is to be told. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Told>,
    dropped: Arc<AtomicU64>,
}

/// The object that an Event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for objects of the cluster.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Identity, without which `kubectl describe` does not find the Event.
    pub uid: String,
}

/// Whether somebody should act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether somebody should act.
    pub kind: Kind,
    /// Why, as one word in camel case.
    pub reason: &'static str,
    /// What was done, as one word in camel case.
    pub action: &'static str,
    /// The sentence for people; what is longer than 1024 bytes is cut.
    pub note: String,
}

#[derive(Debug)]
struct Told {
    subject: Subject,
    news: News,
}

// === impl Recorder ===

impl Recorder {
    /// Makes the queue, and the task that writes what is in it: it ends when the last clone is gone.
    ///
    /// `program` is the controller of the Events, `instance` the pod's name.
    pub fn new(
        client: Client,
        program: &str,
        instance: &str,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let reporter = Reporter {
            controller: program.to_owned(),
            instance: Some(instance.to_owned()),
        };
        let writer = Writer::new(client, reporter);
        let recorder = Self {
            queue,
            dropped: Arc::default(),
        };
        (recorder, write(writer, waiting))
    }

    /// Tells `news` of `subject`, now or soon.
    pub fn tell(&self, subject: Subject, news: News) {
        if self.queue.try_send(Told { subject, news }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many were dropped because too many waited.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

async fn write(writer: Writer, mut waiting: mpsc::Receiver<Told>) {
    let mut pace = tokio::time::interval(PAUSE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = None;
    while let Some(Told { subject, news }) = waiting.recv().await {
        pace.tick().await;
        let (event, reference) = (news.into(), subject.into());
        let written = tokio::time::timeout(LIMIT, writer.publish(&event, &reference)).await;
        let cause = match written {
            Ok(Ok(())) => None,
            Ok(Err(cause)) => Some(explain(&cause)),
            Err(_elapsed) => Some(format!("the API server did not answer within {LIMIT:?}")),
        };
        if let Some(cause) = cause
            .as_ref()
            .filter(|cause| trouble.as_ref() != Some(*cause))
        {
            warn!(target: SCOPE, "Cannot write an Event: {cause}");
        }
        trouble = cause;
    }
}

// === impl Subject ===

impl From<Subject> for ObjectReference {
    fn from(subject: Subject) -> Self {
        let Subject {
            api_version,
            kind,
            namespace,
            name,
            uid,
        } = subject;
        let some = |text: String| (!text.is_empty()).then_some(text);
        Self {
            api_version: some(api_version),
            kind: some(kind),
            namespace: some(namespace),
            name: some(name),
            uid: some(uid),
            ..Self::default()
        }
    }
}

// === impl News ===

impl From<News> for Event {
    fn from(news: News) -> Self {
        let News {
            kind,
            reason,
            action,
            mut note,
        } = news;
        note.truncate(note.floor_char_boundary(MAX_NOTE));
        Self {
            type_: match kind {
                Kind::Normal => EventType::Normal,
                Kind::Warning => EventType::Warning,
            },
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        }
    }
}
