//! The AccessControl objects of the cluster, and what of them goes to sidecars.
//!
//! Pure. Owns the slim form of an object: what is stored, without what the API server and this program write into it,
//! so that a new status is no news to sidecars; its compiled form, and the last good one of an object that cannot be
//! used; and the rule that what is missing is taken away only while the kind itself is there (facts F4, K210).

#[cfg(test)]
use super::mirror::Key;
use super::mirror::{Change, Fact, Mirror};
use bytes::Bytes;
use ironside_discovery::{StoredObject, World};
use ironside_resources::AccessControl;
use ironside_resources::access_control::{AccessControlStatus, decode_json};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Group and version.
pub(crate) const API_VERSION: &str = "dapr.io/v1alpha1";
/// Kind.
pub(crate) const KIND: &str = "AccessControl";
/// What of the metadata goes to sidecars; the rest is noise that changes.
const METADATA: [&str; 4] = ["name", "namespace", "uid", "generation"];
/// Longest text of a refusal that goes into a status, in bytes.
const MAX_TEXT: usize = 1024;

/// An object, as far as it matters.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) stored: StoredObject,
    pub(crate) name: Arc<str>,
    /// The place of this state among all that were ever stored; 0 if the API server's word for it is no number.
    pub(crate) revision: u64,
    pub(crate) rules: Result<Arc<AccessControl>, Refused>,
    /// What its status says at present.
    pub(crate) status: Option<AccessControlStatus>,
}

/// Why an object cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The reason of the condition `Accepted`.
    pub(crate) reason: &'static str,
    pub(crate) message: Box<str>,
}

/// All objects.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    mirror: Mirror<Object>,
    /// By UID: the newest rules that could be used, of objects whose present ones cannot.
    good: HashMap<Arc<str>, Arc<AccessControl>>,
    revision: u64,
    /// UIDs of the last world that was made.
    told: Option<Vec<Arc<str>>>,
    is_missing: bool,
}

/// Whether the definition of the kind is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Definition {
    /// It is, or nobody may look.
    Served,
    /// It is being removed, with all objects of the kind, or gone.
    Going,
    /// The API server does not say.
    Unknown,
}

/// What is to be done with the objects.
#[derive(Debug)]
pub(crate) enum Publish {
    /// Nothing yet: not all of them are known.
    Wait,
    /// Look whether the definition is there: this would take objects away.
    Look,
    /// This is all there is.
    Whole(World),
    /// The kind is gone: sidecars keep what they have. None if nothing was ever published.
    Lost(Option<World>),
}

// === impl Object ===

impl Object {
    /// Reads an object as it was told; none if nobody could say whose it is.
    pub(crate) fn of(value: Value) -> Option<Self> {
        let Value::Object(mut value) = value else {
            return None;
        };
        let status = value.remove("status");
        let status = status.and_then(|status| serde_json::from_value(status).ok());
        let Some(Value::Object(metadata)) = value.remove("metadata") else {
            return None;
        };
        let revision = metadata.get("resourceVersion").and_then(Value::as_str);
        let revision = revision.and_then(|text| text.parse().ok());
        let name = metadata.get("name")?.as_str()?.into();
        value.insert("metadata".to_owned(), slim(metadata));
        // Lists of some servers leave them out.
        value.insert("apiVersion".to_owned(), API_VERSION.into());
        value.insert("kind".to_owned(), KIND.into());
        let json = Bytes::from(Value::Object(value).to_string());
        let stored = StoredObject::from_json(json).ok()?;
        let rules = decode_json(&stored.json).map(Arc::new);
        let rules = rules.map_err(|error| Refused {
            reason: error.reason(),
            message: bounded(error.to_string()),
        });
        Some(Self {
            stored,
            name,
            revision: revision.unwrap_or_default(),
            rules,
            status,
        })
    }

    pub(crate) fn namespace(&self) -> &str {
        self.stored.namespace.as_str()
    }

    /// `namespace/name`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace(), self.name)
    }

    /// Whether it is for this app of its namespace.
    pub(crate) fn is_for(&self, app_id: &str) -> bool {
        let scopes = &self.stored.scopes;
        scopes.is_empty() || scopes.iter().any(|scope| **scope == *app_id)
    }
}

fn slim(metadata: Map<String, Value>) -> Value {
    let kept = metadata.into_iter();
    Value::Object(
        kept.filter(|(name, _)| METADATA.contains(&name.as_str()))
            .collect(),
    )
}

/// A text that fits into a status.
fn bounded(mut text: String) -> Box<str> {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT - 4));
        text.push_str(" ...");
    }
    text.into()
}

// === impl Objects ===

impl Objects {
    /// Takes a fact and says what it changed.
    pub(crate) fn take(&mut self, fact: Fact<Object>) -> Vec<Change<Object>> {
        match &fact {
            // What was there stays until it is known that it is gone for good.
            Fact::NoKind => {
                self.is_missing = true;
                return Vec::new();
            }
            Fact::Is(_, Some(object)) => self.revision = self.revision.max(object.revision),
            Fact::Complete => self.is_missing = false,
            Fact::Listing | Fact::Is(_, None) | Fact::Gone(_) => {}
        }
        let changes = self.mirror.take(fact);
        for change in &changes {
            self.remember(change);
        }
        changes
    }

    fn remember(&mut self, change: &Change<Object>) {
        let Change { before, after, .. } = change;
        let uid_of = |object: &Arc<Object>| Arc::clone(&object.stored.uid);
        if let Some(before) = before
            && after
                .as_ref()
                .is_none_or(|after| after.stored.uid != before.stored.uid)
        {
            self.good.remove(&uid_of(before));
        }
        let Some(after) = after else { return };
        match (&after.rules, before) {
            (Ok(_), _) => {
                self.good.remove(&uid_of(after));
            }
            (Err(_), Some(before)) if before.stored.uid == after.stored.uid => {
                if let Ok(rules) = &before.rules {
                    self.good.insert(uid_of(after), Arc::clone(rules));
                }
            }
            (Err(_), _) => {}
        }
    }

    /// The API server has come this far; it stands in a whole list.
    pub(crate) fn reached(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// The rules that sidecars have of an object: its own, or its last good ones.
    pub(crate) fn in_force<'a>(&'a self, object: &'a Object) -> Option<&'a Arc<AccessControl>> {
        let own = object.rules.as_ref().ok();
        own.or_else(|| self.good.get(&object.stored.uid))
    }

    /// Returns what is to be published, given what was found when it was last looked for the definition.
    pub(crate) fn publish(&mut self, found: Option<Definition>, deny_by_default: bool) -> Publish {
        if self.is_missing || found == Some(Definition::Going) {
            return Publish::Lost(
                self.told
                    .is_some()
                    .then(|| self.world(false, deny_by_default)),
            );
        }
        if !self.mirror.is_whole() {
            return Publish::Wait;
        }
        if self.takes_away() && found != Some(Definition::Served) {
            return Publish::Look;
        }
        let world = self.world(true, deny_by_default);
        let uids = world.objects.iter().map(|object| Arc::clone(&object.uid));
        self.told = Some(uids.collect());
        Publish::Whole(world)
    }

    /// Whether something that sidecars may have is not here; before the first world nobody knows what they have.
    fn takes_away(&self) -> bool {
        let Some(told) = &self.told else {
            return true;
        };
        let here: std::collections::HashSet<&Arc<str>> =
            self.all().map(|object| &object.stored.uid).collect();
        told.iter().any(|uid| !here.contains(uid))
    }

    fn world(&self, synced: bool, deny_by_default: bool) -> World {
        World {
            objects: self.all().map(|object| object.stored.clone()).collect(),
            synced,
            deny_by_default,
            revision: self.revision,
        }
    }

    #[cfg(test)]
    fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.mirror.get(key)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.mirror.all().map(|(_, object)| object)
    }

    pub(crate) fn of_namespace<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        self.mirror
            .of_namespace(namespace)
            .map(|(_, object)| object)
    }
}

/// What a status is applied with: the object by its identity, and the status.
pub(crate) fn applied(object: &Object, status: &AccessControlStatus) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        // Another object of this name has no claim to this status.
        "metadata": {"name": &*object.name, "namespace": object.namespace(), "uid": &*object.stored.uid},
        "status": status,
    })
}
