//! One session in the book: what it was sent, what it answered, and how it stands to an object.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use ironside_proto::discovery::{Ack, ObjectError};

use crate::{
    ACK_LIMIT,
    report::{Ran, Refusal, Sidecar},
    world::{App, Known},
};

/// Longest text of a client that is kept, in bytes.
const MAX_TEXT: usize = 256;

/// One session.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) app: App,
    pub(super) instance: Box<str>,
    pub(super) since: Duration,
    /// The revision of the book at its last change.
    pub(super) changed: u64,
    /// What was sent and not answered, the oldest first.
    pub(super) open: VecDeque<(u64, Generations)>,
    /// What the sidecar made of each object it was sent last.
    pub(super) running: HashMap<Arc<str>, (i64, Outcome)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Applied,
    Rejected { code: Box<str>, message: Box<str> },
}

/// UIDs and generations of one snapshot.
pub(super) type Generations = Vec<(Arc<str>, i64)>;

/// How a sidecar stands to an object.
pub(super) enum Standing<'a> {
    Applied,
    Rejected { code: &'a str, message: &'a str },
    Pending,
    Outdated,
}

// === impl Seat ===

impl Seat {
    /// Returns whether it says anything that was not known.
    pub(super) fn acked(&mut self, ack: Ack) -> bool {
        let Ack {
            snapshot,
            accepted,
            errors,
        } = ack;
        let Some(at) = self.open.iter().position(|(number, _)| *number == snapshot) else {
            return false;
        };
        // What came before it will not be answered any more.
        let Some((_, objects)) = self.open.drain(..=at).next_back() else {
            return false;
        };
        let whole = errors.iter().find(|error| error.uid.is_empty());
        let is_refused = !accepted && (whole.is_some() || errors.is_empty());
        let mut running = HashMap::with_capacity(objects.len());
        for (uid, generation) in objects {
            let own = errors.iter().find(|error| error.uid == *uid);
            let outcome = match (own, is_refused) {
                (Some(error), _) => Outcome::of(error),
                (None, true) => match self.running.get(&uid) {
                    // It runs this generation since an earlier snapshot.
                    Some((known, Outcome::Applied)) if *known == generation => Outcome::Applied,
                    _ => whole.map_or_else(Outcome::unexplained, Outcome::of),
                },
                (None, false) => Outcome::Applied,
            };
            running.insert(uid, (generation, outcome));
        }
        let is_new = self.running != running;
        self.running = running;
        is_new
    }

    pub(super) fn report(&self) -> Sidecar {
        let objects = self.running.iter().map(|(uid, (generation, outcome))| Ran {
            uid: Arc::clone(uid),
            generation: *generation,
            refusal: match outcome {
                Outcome::Applied => None,
                Outcome::Rejected { code, message } => Some(Refusal {
                    code: code.clone(),
                    message: message.clone(),
                }),
            },
        });
        Sidecar {
            app: self.app.clone(),
            instance: self.instance.clone(),
            objects: objects.collect(),
        }
    }

    pub(super) fn standing(&self, known: &Known, now: Duration) -> Standing<'_> {
        match self.running.get(&known.object.uid) {
            Some((generation, outcome)) if *generation == known.object.generation => {
                match outcome {
                    Outcome::Applied => Standing::Applied,
                    Outcome::Rejected { code, message } => Standing::Rejected { code, message },
                }
            }
            _ if now.saturating_sub(known.since.max(self.since)) > ACK_LIMIT => Standing::Outdated,
            _ => Standing::Pending,
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn of(error: &ObjectError) -> Self {
        Self::Rejected {
            code: bounded(&error.code),
            message: bounded(&error.message),
        }
    }

    fn unexplained() -> Self {
        Self::Rejected {
            code: "Refused".into(),
            message: "".into(),
        }
    }
}

/// The start of a client's text, fit to be shown.
fn bounded(text: &str) -> Box<str> {
    let mut kept = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        kept.push(c);
    }
    kept.into()
}
