//! The Secret that holds the authority, and the ConfigMap in which others find its roots.
//!
//! Owns fact O-S9 for a cluster: a complete Secret is used, an empty one is filled, a partial one is an error that
//! names what is missing, and the ConfigMap is made what the Secret says, never the other way round. State and keys
//! are one object, so a change is whole by nature; it is made from the revision that was read, so of several Sentries
//! one makes it and the others find it (decision 0006). The objects themselves are the chart's to create.

mod changes;
mod jwt;

pub(crate) use jwt::JwtSecret;

use super::image::Image;
use super::{Changes, Found, Later, Store, StoreError, Stored, Texts, Wrote};
use crate::cluster::{CallError, Cluster};
use crate::rotation::State;
use changes::SecretChanges;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::{info, warn};

/// Secret and ConfigMap (security 1.8).
const NAME: &str = "dapr-trust-bundle";
/// The roots in the ConfigMap, whatever they are called in the Secret (security 1.8).
const ROOTS: &str = "ca.crt";
/// The state of an authority of our own, private keys included.
const STATE: &str = "ca-state.json";
/// An annotation of the Secret; its presence asks for a rotation now.
const REQUEST: &str = "dapr.io/rotate-request";
/// Who reports Events.
const REPORTER: &str = "dapr-sentry";
/// So often the ConfigMap is written when others write it too.
const TRIES: usize = 3;
/// Longest note of an Event (events.k8s.io/v1).
const MAX_NOTE: usize = 1000;
const SCOPE: &str = "dapr.sentry.ca";

/// The two objects of a control plane.
pub(crate) struct SecretStore {
    cluster: Cluster,
    /// Root, issuer certificate, issuer key.
    keys: [String; 3],
    /// Who reports Events, beside the name of the program.
    instance: String,
}

// === impl SecretStore ===

impl SecretStore {
    pub(crate) fn new(cluster: Cluster, keys: [String; 3], instance: String) -> Self {
        Self {
            cluster,
            keys,
            instance,
        }
    }

    fn namespace(&self) -> &str {
        self.cluster.namespace().as_str()
    }

    fn what(&self, kind: &str) -> String {
        format!("{kind} {}/{NAME}", self.namespace())
    }

    fn failed(&self, verb: &'static str, kind: &str, cause: CallError) -> StoreError {
        if cause.is_conflict() {
            return StoreError::Conflict;
        }
        let what = self.what(kind);
        StoreError::Cluster { verb, what, cause }
    }

    async fn secret(&self) -> Result<Secret, StoreError> {
        let got = self.cluster.get(self.namespace(), NAME).await;
        let got = got.map_err(|cause| self.failed("read", "Secret", cause))?;
        got.ok_or_else(|| StoreError::NoObject {
            what: self.what("Secret"),
        })
    }

    /// Replaces the revision that the Secret was read at.
    async fn write(&self, secret: &Secret) -> Result<(), StoreError> {
        let done = self.cluster.replace(self.namespace(), NAME, secret).await;
        done.map_err(|cause| self.failed("write", "Secret", cause))
            .map(drop)
    }

    fn stored(&self, secret: &Secret) -> Result<Stored, StoreError> {
        match self.state(secret)? {
            Some(state) if !self.images(secret, &state).contains(&Image::Foreign) => {
                Ok(Stored::Own(Box::new(state)))
            }
            // Keys that are not the state's are somebody's own.
            Some(_) | None => self.supplied(secret),
        }
    }

    fn state(&self, secret: &Secret) -> Result<Option<State>, StoreError> {
        let Some(text) = value(secret, STATE) else {
            return Ok(None);
        };
        let state = State::from_json(text).map_err(|cause| StoreError::SecretState {
            what: self.what("Secret"),
            key: STATE,
            cause,
        })?;
        Ok(Some(state))
    }

    fn images(&self, secret: &Secret, state: &State) -> [Image; 3] {
        Image::all(self.keys.each_ref().map(|key| value(secret, key)), state)
    }

    fn supplied(&self, secret: &Secret) -> Result<Stored, StoreError> {
        let texts = self.keys.each_ref().map(|key| value(secret, key));
        if let [Some(root), Some(issuer), Some(key)] = texts {
            return Ok(Stored::Supplied(Texts {
                root: root.to_vec(),
                issuer: issuer.to_vec(),
                key: key.to_vec(),
            }));
        }
        if texts == [None; 3] {
            return Ok(Stored::Nothing);
        }
        let (found, missing): (Vec<_>, Vec<_>) = self
            .keys
            .iter()
            .zip(texts)
            .partition(|(_, text)| text.is_some());
        let names = |keys: Vec<(&String, Option<&[u8]>)>| -> Vec<String> {
            keys.into_iter().map(|(key, _)| key.clone()).collect()
        };
        Err(StoreError::PartialSecret {
            what: self.what("Secret"),
            missing: names(missing),
            found: names(found),
        })
    }

    async fn find(&self) -> Result<Found, StoreError> {
        let secret = self.secret().await?;
        Ok(Found {
            requested: has_request(&secret),
            stored: self.stored(&secret)?,
        })
    }

    /// Writes state and keys at once, and takes back the wish that they may answer.
    async fn change(&self, from: Option<u64>, state: &State) -> Result<(), StoreError> {
        let mut secret = self.secret().await?;
        let found = match self.stored(&secret)? {
            Stored::Nothing => None,
            Stored::Own(found) => Some(found.generation),
            Stored::Supplied(_) => return Err(StoreError::Conflict),
        };
        if found != from {
            return Err(StoreError::Conflict);
        }
        let text = state.to_json().map_err(|cause| StoreError::SecretState {
            what: self.what("Secret"),
            key: STATE,
            cause,
        })?;
        set(&mut secret, STATE, text);
        self.set_keys(&mut secret, state);
        take_request(&mut secret);
        self.write(&secret).await
    }

    fn set_keys(&self, secret: &mut Secret, state: &State) {
        for (key, text) in self.keys.iter().zip(state.texts().in_order()) {
            set(secret, key, text);
        }
    }

    async fn tidy_up(&self, texts: &Texts, state: Option<&State>) -> Result<Wrote, StoreError> {
        let kept = match state {
            Some(state) => self.keep_keys(state).await?,
            None => Wrote::No,
        };
        Ok(kept.or(self.publish(ROOTS, &texts.root).await?))
    }

    /// Puts back keys of our own authority that are gone, or from before its last change.
    async fn keep_keys(&self, state: &State) -> Result<Wrote, StoreError> {
        let mut secret = self.secret().await?;
        match self.stored(&secret)? {
            Stored::Own(found) if found.generation == state.generation => {}
            Stored::Own(_) | Stored::Supplied(_) | Stored::Nothing => {
                return Err(StoreError::Conflict);
            }
        }
        if self.images(&secret, state) == [Image::Current; 3] {
            return Ok(Wrote::No);
        }
        warn!(target: SCOPE, "Keys of the {} were changed or gone; putting them back", self.what("Secret"));
        self.set_keys(&mut secret, state);
        self.write(&secret).await?;
        Ok(Wrote::Yes)
    }

    /// Makes the ConfigMap say what the Secret says. Others do the same at the same time.
    async fn publish(&self, key: &str, text: &[u8]) -> Result<Wrote, StoreError> {
        for _try in 1..TRIES {
            match self.publish_once(key, text).await {
                Err(StoreError::Conflict) => {}
                done => return done,
            }
        }
        self.publish_once(key, text).await
    }

    async fn publish_once(&self, key: &str, text: &[u8]) -> Result<Wrote, StoreError> {
        let got = self.cluster.get::<ConfigMap>(self.namespace(), NAME).await;
        let got = got.map_err(|cause| self.failed("read", "ConfigMap", cause))?;
        let mut map = got.ok_or_else(|| StoreError::NoObject {
            what: self.what("ConfigMap"),
        })?;
        let text = String::from_utf8_lossy(text);
        let data = map.data.get_or_insert_default();
        let had = data.insert(key.to_owned(), text.to_string());
        match had.as_deref() {
            Some(had) if had == text => return Ok(Wrote::No),
            Some(had) if !had.is_empty() => {
                warn!(
                    target: SCOPE,
                    "{key} of the {} is not that of the Secret; putting it right",
                    self.what("ConfigMap")
                );
            }
            Some(_) | None => {
                info!(target: SCOPE, "Publishing the trust anchors in the {}", self.what("ConfigMap"))
            }
        }
        let done = self.cluster.replace(self.namespace(), NAME, &map).await;
        done.map_err(|cause| self.failed("write", "ConfigMap", cause))?;
        Ok(Wrote::Yes)
    }

    async fn take_back(&self) -> Result<(), StoreError> {
        let mut secret = self.secret().await?;
        match take_request(&mut secret) {
            true => self.write(&secret).await,
            // Answered together with the change.
            false => Ok(()),
        }
    }

    async fn tell(&self, now: SystemTime, reason: &str, note: &str) {
        let event = self.event(now, reason, note);
        let made = self.cluster.create(Some(self.namespace()), &event).await;
        if let Err(cause) = made {
            warn!(target: SCOPE, "Cannot make an Event: {cause}");
        }
    }

    fn event(&self, now: SystemTime, reason: &str, note: &str) -> Event {
        let nanos = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = |text: &str| Some(text.to_owned());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{NAME}.{:x}", nanos.as_nanos())),
                namespace: text(self.namespace()),
                ..ObjectMeta::default()
            },
            event_time: jiff::Timestamp::try_from(now).ok().map(MicroTime),
            reporting_controller: text(REPORTER),
            reporting_instance: text(&self.instance),
            action: text("LookAfterIssuer"),
            reason: text(reason),
            note: Some(shorten(note)),
            type_: text("Warning"),
            regarding: Some(ObjectReference {
                api_version: text("v1"),
                kind: text("Secret"),
                namespace: text(self.namespace()),
                name: text(NAME),
                ..ObjectReference::default()
            }),
            ..Event::default()
        }
    }
}

impl Store for SecretStore {
    fn place(&self) -> &'static str {
        "Kubernetes"
    }

    fn read(&self) -> Later<'_, Result<Found, StoreError>> {
        Box::pin(self.find())
    }

    fn commit<'a>(
        &'a self,
        from: Option<u64>,
        state: &'a State,
    ) -> Later<'a, Result<(), StoreError>> {
        Box::pin(self.change(from, state))
    }

    fn tidy<'a>(
        &'a self,
        texts: &'a Texts,
        state: Option<&'a State>,
    ) -> Later<'a, Result<Wrote, StoreError>> {
        Box::pin(self.tidy_up(texts, state))
    }

    fn answer(&self) -> Later<'_, Result<(), StoreError>> {
        Box::pin(self.take_back())
    }

    fn report<'a>(&'a self, now: SystemTime, reason: &'static str, note: &'a str) -> Later<'a, ()> {
        Box::pin(self.tell(now, reason, note))
    }

    fn watch(&self) -> Box<dyn Changes> {
        Box::new(SecretChanges::new(&self.cluster, NAME))
    }
}

/// What a key holds; an empty value is none, as the chart leaves it.
fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
    Some(bytes.as_slice()).filter(|bytes| !bytes.is_empty())
}

fn set(secret: &mut Secret, key: &str, text: Vec<u8>) {
    let data = secret.data.get_or_insert_default();
    data.insert(key.to_owned(), ByteString(text));
}

fn has_request(secret: &Secret) -> bool {
    let annotations = secret.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(REQUEST))
}

fn take_request(secret: &mut Secret) -> bool {
    let annotations = secret.metadata.annotations.as_mut();
    annotations.is_some_and(|annotations| annotations.remove(REQUEST).is_some())
}

fn shorten(note: &str) -> String {
    let end = note.floor_char_boundary(MAX_NOTE.min(note.len()));
    note.get(..end).unwrap_or_default().to_owned()
}
