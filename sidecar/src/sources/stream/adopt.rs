//! What a snapshot means: which objects are in force after it, and what is wrong with the rest.
//!
//! Pure. Owns the rules F6 to F9 and F13 of security 4.6. A snapshot is taken whole or not at all; within one
//! that is taken, an object that cannot be used keeps its last good generation, and without one denies
//! everything in its scope. Nothing is ever left out because it is not understood.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use ironside_discovery::{MAX_OBJECTS, STALE, TOO_LARGE};
use ironside_identity::Namespace;
use ironside_policy::Refused;
use ironside_proto::discovery::{ObjectError, WatchResponse};
use ironside_resources::{AccessControl, access_control::decode_json};
use serde_json::Value;

use super::Streamed;

#[cfg(test)]
mod tests;

/// Longest UID, in bytes; those of Kubernetes have 36.
const MAX_UID: usize = 128;
/// Longest message of an error, in bytes.
const MAX_MESSAGE: usize = 512;
/// Most bytes of all errors of an Ack. The operator takes a request of 256 KiB; a longer one would end the stream.
const MAX_ERRORS: usize = 128 * 1024;
/// What an error has on the wire beside its texts, generously.
const ERROR_FRAME: usize = 32;
/// Code of the error that stands for those that are not named.
const MORE: &str = "MoreErrors";

/// All that was learnt from snapshots.
#[derive(Debug, Clone)]
pub(super) struct Adopted {
    namespace: Namespace,
    objects: BTreeMap<Box<str>, Known>,
    deny_by_default: bool,
    /// A complete snapshot came: before that, nothing is known.
    has_arrived: bool,
    number: u64,
}

/// An object by its UID.
#[derive(Debug, Clone)]
struct Known {
    /// The newest generation that was seen, usable or not.
    generation: i64,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// The newest generation that is good.
    Good(Arc<AccessControl>),
    /// An older one, because the newest is not.
    Outdated(Arc<AccessControl>),
    /// None is: it denies in its scope.
    Bad(Refused),
    /// Of another namespace: not for this app (fact M10).
    Foreign,
}

/// What is in force.
#[derive(Debug)]
pub(crate) struct Held {
    /// Number of the snapshot.
    pub(crate) snapshot: u64,
    /// Objects of the own namespace.
    pub(crate) objects: Vec<AccessControl>,
    /// Objects that deny everything in their scope.
    pub(crate) refused: Vec<Refused>,
    /// Those of `objects` whose newest generation cannot be used: `namespace/name`.
    pub(crate) outdated: Vec<Box<str>>,
    /// Deny where no object applies (fact M8).
    pub(crate) deny_by_default: bool,
}

/// Why a snapshot is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// F7
    #[error("its objects have {size} bytes together, more than {MAX_OBJECTS}")]
    TooLarge {
        /// Bytes.
        size: usize,
    },
    /// F7
    #[error("{0}")]
    Malformed(String),
    /// F8
    #[error(
        "AccessControl {uid} has generation {got}, and {known} was seen: the operator is behind"
    )]
    Stale {
        /// The object.
        uid: Box<str>,
        /// What came.
        got: i64,
        /// What was seen.
        known: i64,
    },
    /// A number that does not increase.
    #[error("its number {got} does not follow {last}")]
    Number {
        /// What came.
        got: u64,
        /// The last one.
        last: u64,
    },
}

/// What distribution needs to know of an object whose content may be unusable.
struct Envelope {
    uid: Box<str>,
    generation: i64,
    namespace: Option<String>,
    name: String,
    scopes: Vec<String>,
}

// === impl Adopted ===

impl Adopted {
    /// Nothing is known yet.
    pub(super) fn new(namespace: Namespace) -> Self {
        Self {
            namespace,
            objects: BTreeMap::new(),
            deny_by_default: false,
            has_arrived: false,
            number: 0,
        }
    }

    /// True once a complete snapshot was taken.
    pub(super) fn has_arrived(&self) -> bool {
        self.has_arrived
    }

    /// True if objects stand between callers and the app.
    pub(super) fn guards(&self) -> bool {
        let mut states = self.objects.values();
        self.deny_by_default || states.any(|known| !matches!(known.state, State::Foreign))
    }

    /// Generations by UID, for a Hello.
    pub(super) fn seen(&self) -> HashMap<String, i64> {
        let all = self.objects.iter();
        all.map(|(uid, known)| (uid.to_string(), known.generation))
            .collect()
    }

    /// The UID of the object with this `namespace/name`.
    pub(super) fn uid_of(&self, name: &str) -> Option<&str> {
        let (namespace, name) = name.split_once('/')?;
        let is_it = |known: &Known| match &known.state {
            State::Good(object) | State::Outdated(object) => {
                object.namespace == namespace && object.name == name
            }
            State::Bad(_) | State::Foreign => false,
        };
        let found = self.objects.iter().find(|(_, known)| is_it(known));
        found.map(|(uid, _)| &**uid)
    }

    /// What is in force; `None` before the first complete snapshot.
    pub(super) fn held(&self) -> Option<Arc<Held>> {
        if !self.has_arrived {
            return None;
        }
        let (mut objects, mut refused, mut outdated) = (Vec::new(), Vec::new(), Vec::new());
        for known in self.objects.values() {
            match &known.state {
                State::Outdated(object) => {
                    outdated.push(format!("{}/{}", object.namespace, object.name).into());
                    objects.push(AccessControl::clone(object));
                }
                State::Good(object) => objects.push(AccessControl::clone(object)),
                State::Bad(object) => refused.push(object.clone()),
                State::Foreign => {}
            }
        }
        Some(Arc::new(Held {
            snapshot: self.number,
            objects,
            refused,
            outdated,
            deny_by_default: self.deny_by_default,
        }))
    }

    /// The state for whoever publishes rules.
    pub(super) fn streamed(&self, is_expired: bool) -> Streamed {
        match self.held() {
            Some(held) if is_expired => Streamed::Expired(held),
            Some(held) => Streamed::Held(held),
            None => Streamed::Pending,
        }
    }

    /// What is known after a snapshot, and what is wrong with single objects of it.
    ///
    /// # Errors
    /// [`Refusal`]: then nothing of it is taken.
    pub(super) fn take(
        &self,
        response: &WatchResponse,
    ) -> Result<(Self, Vec<ObjectError>), Refusal> {
        let size = response.objects.iter().map(|json| json.len()).sum();
        if size > MAX_OBJECTS {
            return Err(Refusal::TooLarge { size });
        }
        let mut next = Self {
            number: response.snapshot,
            has_arrived: self.has_arrived || response.synced,
            ..self.clone()
        };
        let (mut errors, mut present) = (Vec::new(), HashSet::new());
        for json in &response.objects {
            let envelope = Envelope::read(json)?;
            if !present.insert(envelope.uid.clone()) {
                let text = format!("AccessControl {} comes twice", envelope.uid);
                return Err(Refusal::Malformed(text));
            }
            let before = self.objects.get(&envelope.uid);
            envelope.check_age(before)?;
            let known = self.judge(&envelope, json, before, &mut errors);
            next.objects.insert(envelope.uid, known);
        }
        // Fact F9: what is missing was removed only if nothing is missing.
        if response.synced {
            next.objects.retain(|uid, _| present.contains(uid));
            next.deny_by_default = response.default_action.eq_ignore_ascii_case("deny");
        }
        Ok((next, errors))
    }

    /// One object (facts F6, F13).
    fn judge(
        &self,
        envelope: &Envelope,
        json: &[u8],
        before: Option<&Known>,
        errors: &mut Vec<ObjectError>,
    ) -> Known {
        let generation = envelope.generation;
        let is_foreign = |namespace: &str| namespace != self.namespace.as_str();
        if envelope.namespace.as_deref().is_some_and(is_foreign) {
            let text = format!("it is not of namespace {}", self.namespace);
            errors.push(envelope.error("Namespace", text));
            let state = State::Foreign;
            return Known { generation, state };
        }
        let cause = match decode_json(json) {
            Ok(object) => {
                let state = State::Good(Arc::new(object));
                return Known { generation, state };
            }
            Err(cause) => cause,
        };
        errors.push(envelope.error(cause.reason(), cause));
        let state = match before.map(|known| &known.state) {
            Some(State::Good(last) | State::Outdated(last)) => State::Outdated(Arc::clone(last)),
            Some(State::Bad(_) | State::Foreign) | None => State::Bad(Refused {
                name: format!("{}/{}", self.namespace, envelope.name).into(),
                scopes: envelope.scopes.clone(),
            }),
        };
        Known { generation, state }
    }
}

// === impl Refusal ===

impl Refusal {
    /// What the operator is told.
    pub(super) fn report(&self) -> ObjectError {
        let code = match self {
            Self::TooLarge { .. } => TOO_LARGE,
            Self::Malformed(_) | Self::Number { .. } => "Malformed",
            Self::Stale { .. } => STALE,
        };
        ObjectError {
            uid: String::new(),
            generation: 0,
            code: code.to_owned(),
            message: bounded(self),
        }
    }

    /// True if another stream, perhaps to another replica, may bring what this one does not.
    pub(super) fn ends_stream(&self) -> bool {
        match self {
            Self::Stale { .. } | Self::Number { .. } => true,
            Self::TooLarge { .. } | Self::Malformed(_) => false,
        }
    }
}

// === impl Envelope ===

impl Envelope {
    fn read(json: &[u8]) -> Result<Self, Refusal> {
        let malformed = |what: &str| Refusal::Malformed(format!("an object {what}"));
        let value: Value = serde_json::from_slice(json)
            .map_err(|error| malformed(&format!("is no JSON: {error}")))?;
        let metadata = value.get("metadata").unwrap_or(&Value::Null);
        let text = |name: &str| metadata.get(name).and_then(Value::as_str);
        let uid = text("uid").filter(|uid| (1..=MAX_UID).contains(&uid.len()));
        let uid = uid.ok_or_else(|| malformed("has no usable metadata.uid"))?;
        let generation = metadata.get("generation").and_then(Value::as_i64);
        let generation = generation.ok_or_else(|| malformed("has no metadata.generation"))?;
        Ok(Self {
            uid: uid.into(),
            generation,
            namespace: text("namespace").map(Into::into),
            name: text("name").unwrap_or_default().to_owned(),
            scopes: value.get("scopes").map(scopes).unwrap_or_default(),
        })
    }

    /// Fact F8.
    fn check_age(&self, before: Option<&Known>) -> Result<(), Refusal> {
        match before {
            Some(known) if known.generation > self.generation => Err(Refusal::Stale {
                uid: self.uid.clone(),
                got: self.generation,
                known: known.generation,
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn error(&self, code: &str, message: impl fmt::Display) -> ObjectError {
        ObjectError {
            uid: self.uid.to_string(),
            generation: self.generation,
            code: code.to_owned(),
            message: bounded(message),
        }
    }
}

/// Scopes of an odd shape mean all apps: what cannot be read must not let anybody through.
fn scopes(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = list.iter().map(|item| item.as_str().map(Into::into));
    texts.collect::<Option<_>>().unwrap_or_default()
}

/// Errors as they fit into an Ack: the first ones, and one in the place of the rest. It names no object, as one of a
/// snapshot as a whole: whatever is not named may be among the rest.
pub(super) fn abridged(mut errors: Vec<ObjectError>) -> Vec<ObjectError> {
    let mut size = 0;
    let fits = |error: &&ObjectError| {
        size += error.uid.len() + error.code.len() + error.message.len() + ERROR_FRAME;
        size <= MAX_ERRORS
    };
    let kept = errors.iter().take_while(fits).count();
    let more = errors.len() - kept;
    if more > 0 {
        errors.truncate(kept);
        errors.push(ObjectError {
            uid: String::new(),
            generation: 0,
            code: MORE.to_owned(),
            message: format!(
                "{more} more objects cannot be used; the log of the sidecar names them"
            ),
        });
    }
    errors
}

fn bounded(message: impl fmt::Display) -> String {
    let mut text = message.to_string();
    let end = (0..=MAX_MESSAGE.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}
