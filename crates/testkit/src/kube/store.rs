//! The objects of the fake cluster, their revisions, and what watches are told of them.
//!
//! Owns what the real server does to a write: identity, revision, the conflict of two writers, no change for a write
//! that changes nothing. Knows no HTTP and no kinds beyond their names.

use super::route::Target;
use super::select::Selector;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Where an object lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Group and version, and the plural: `api/v1/secrets`.
    pub(super) collection: String,
    /// Empty for objects of the cluster.
    pub(super) namespace: String,
    pub(super) name: String,
}

/// All objects, and their history since the last compaction.
#[derive(Debug, Default)]
pub(super) struct Store {
    revision: u64,
    /// Changes up to here are forgotten.
    compacted: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<Change>,
    uids: u64,
    /// What each manager applied last.
    applied: BTreeMap<(Key, String), Value>,
}

/// One write.
#[derive(Debug)]
struct Change {
    revision: u64,
    key: Key,
    before: Option<Value>,
    /// None for a deletion.
    after: Option<Value>,
}

/// An answer in the place of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The newest history is gone: a watch must begin anew.
#[derive(Debug)]
pub(super) struct Expired;

// === impl Refusal ===

impl Refusal {
    pub(super) fn new(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            409 => "Conflict",
            410 => "Expired",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            _ => "InternalError",
        };
        Self {
            code,
            reason,
            message: message.into(),
        }
    }

    pub(super) fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, format!("too old resource version: {asked} ({oldest})"))
    }

    /// The object that the real server answers with.
    pub(super) fn to_status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }
}

// === impl Key ===

impl Key {
    /// The key of an object as it is written.
    pub(super) fn of(object: &Value) -> Self {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let version = text("/apiVersion");
        let root = if version.contains('/') { "apis" } else { "api" };
        Self {
            collection: format!("{root}/{version}/{}", plural(&text("/kind"))),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
        }
    }

    pub(super) fn of_target(target: &Target) -> Self {
        Self {
            collection: target.collection(),
            namespace: target.namespace.clone().unwrap_or_default(),
            name: target.name.clone().unwrap_or_default(),
        }
    }

    fn missing(&self) -> Refusal {
        let resource = self.resource();
        Refusal::new(404, format!("{resource} {:?} not found", self.name))
    }

    fn resource(&self) -> &str {
        self.collection.rsplit('/').next().unwrap_or_default()
    }

    /// A core object may be replaced without naming its revision.
    fn is_core(&self) -> bool {
        self.collection.starts_with("api/")
    }
}

/// The plural of a kind, as the API spells it.
fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
        _ if lower.ends_with('s') || lower.ends_with('x') => format!("{lower}es"),
        _ => format!("{lower}s"),
    }
}

// === impl Store ===

impl Store {
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Forgets the history, so that older watches and lists end with 410.
    pub(super) fn compact(&mut self) {
        self.compacted = self.revision;
        self.history.clear();
    }

    pub(super) fn get(&self, key: &Key) -> Result<&Value, Refusal> {
        self.objects.get(key).ok_or_else(|| key.missing())
    }

    /// All objects of a collection, of one namespace or of all, that are selected.
    pub(super) fn list(&self, target: &Target, selector: &Selector) -> Vec<Value> {
        let selected = self.objects.iter().filter(|(key, object)| {
            is_in(key, &target.collection(), target.namespace.as_deref())
                && selector.matches(object)
        });
        selected.map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn create(&mut self, mut key: Key, mut object: Value) -> Result<Value, Refusal> {
        let uid = self.next_uid();
        let meta = metadata(&mut object)?;
        if meta
            .get("resourceVersion")
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty())
        {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Refusal::new(400, message));
        }
        if key.name.is_empty()
            && let Some(name) = meta.get("name").and_then(Value::as_str)
        {
            key.name = name.to_owned();
        }
        if let Some(prefix) = meta.get("generateName").and_then(Value::as_str)
            && key.name.is_empty()
        {
            key.name = format!("{prefix}{}", self.uids);
        }
        if key.name.is_empty() {
            return Err(Refusal::new(422, "name or generateName is required"));
        }
        if self.objects.contains_key(&key) {
            let message = format!("{} {:?} already exists", key.resource(), key.name);
            return Err(Refusal {
                reason: "AlreadyExists",
                ..Refusal::new(409, message)
            });
        }
        if !key.namespace.is_empty() {
            meta.insert("namespace".to_owned(), key.namespace.clone().into());
        }
        meta.insert("name".to_owned(), key.name.clone().into());
        // An object of a given identity, as if it had been here before.
        meta.entry("uid").or_insert_with(|| uid.into());
        meta.insert(
            "creationTimestamp".to_owned(),
            "2026-01-01T00:00:00Z".into(),
        );
        Ok(self.write(key, Some(object)))
    }

    /// Replaces an object; the revision that the writer has seen must be the one in effect.
    pub(super) fn update(&mut self, key: Key, mut object: Value) -> Result<Value, Refusal> {
        let held = self.get(&key)?.clone();
        let meta = metadata(&mut object)?;
        let text = |meta: &Map<String, Value>, name: &str| {
            let text = meta.get(name).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let seen = text(meta, "resourceVersion");
        let (current, uid) = {
            let held = held.get("metadata").and_then(Value::as_object);
            let held = held.cloned().unwrap_or_default();
            (text(&held, "resourceVersion"), text(&held, "uid"))
        };
        if seen.is_empty() && !key.is_core() {
            let message =
                "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update";
            return Err(Refusal::new(422, message));
        }
        let other = text(meta, "uid");
        if (!seen.is_empty() && seen != current) || (!other.is_empty() && other != uid) {
            let message = format!(
                "Operation cannot be fulfilled on {} {:?}: the object has been modified; please apply your changes to \
                 the latest version and try again",
                key.resource(),
                key.name
            );
            return Err(Refusal::new(409, message));
        }
        for name in [
            "name",
            "namespace",
            "uid",
            "creationTimestamp",
            "resourceVersion",
        ] {
            if let Some(value) = held.pointer(&format!("/metadata/{name}")) {
                meta.insert(name.to_owned(), value.clone());
            }
        }
        if object == held {
            return Ok(held);
        }
        Ok(self.write(key, Some(object)))
    }

    /// Merges a patch into an object (RFC 7386).
    pub(super) fn merge(&mut self, key: Key, patch: &Value) -> Result<Value, Refusal> {
        let mut object = self.get(&key)?.clone();
        merge(&mut object, patch);
        self.update(key, object)
    }

    /// Applies a JSON patch to an object (RFC 6902), strictly.
    pub(super) fn json_patch(&mut self, key: Key, patch: Value) -> Result<Value, Refusal> {
        let mut object = self.get(&key)?.clone();
        let patch: json_patch::Patch = serde_json::from_value(patch)
            .map_err(|cause| Refusal::new(400, format!("error decoding patch: {cause}")))?;
        json_patch::patch(&mut object, &patch)
            .map_err(|cause| Refusal::new(422, cause.to_string()))?;
        self.update(key, object)
    }

    /// Server-side apply, as far as tests need it: what this manager applied before and does not name any more goes,
    /// what others wrote stays. Without force a value of others that differs is a conflict.
    pub(super) fn apply(
        &mut self,
        key: Key,
        (manager, force): (&str, bool),
        object: Value,
    ) -> Result<Value, Refusal> {
        let place = (key.clone(), manager.to_owned());
        let Ok(held) = self.get(&key).cloned() else {
            let made = self.create(key, object.clone())?;
            self.applied.insert(place, object);
            return Ok(made);
        };
        let uid = |object: &Value| object.pointer("/metadata/uid").cloned();
        if uid(&object).is_some_and(|asked| Some(asked) != uid(&held)) {
            return Err(Refusal::new(409, "uid mismatch"));
        }
        let before = self.applied.get(&place).cloned().unwrap_or_default();
        let mut live = held.clone();
        apply(&mut live, &before, &object, "");
        if !force && before.is_null() && live != held {
            return Err(Refusal::new(409, "Apply failed with conflicts"));
        }
        if let (Some(meta), Some(revision)) = (
            live.get_mut("metadata").and_then(Value::as_object_mut),
            held.pointer("/metadata/resourceVersion"),
        ) {
            meta.insert("resourceVersion".to_owned(), revision.clone());
        }
        let written = self.update(key, live)?;
        self.applied.insert(place, object);
        Ok(written)
    }

    pub(super) fn delete(&mut self, key: Key) -> Result<Value, Refusal> {
        self.applied.retain(|(held, _), _| *held != key);
        self.get(&key)?;
        Ok(self.write(key, None))
    }

    fn write(&mut self, key: Key, mut object: Option<Value>) -> Value {
        self.revision += 1;
        let stamp = |object: &mut Value, revision: u64| {
            if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                meta.insert("resourceVersion".to_owned(), revision.to_string().into());
            }
        };
        if let Some(object) = &mut object {
            stamp(object, self.revision);
        }
        let before = match &object {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(&key),
        };
        let mut told = object
            .clone()
            .or_else(|| before.clone())
            .unwrap_or_default();
        stamp(&mut told, self.revision);
        self.history.push(Change {
            revision: self.revision,
            key,
            before,
            after: object,
        });
        told
    }

    fn next_uid(&mut self) -> String {
        self.uids += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.uids)
    }

    /// What a watch is told of after a revision: the words of the wire, in order.
    pub(super) fn since(
        &self,
        revision: u64,
        target: &Target,
        selector: &Selector,
    ) -> Result<Vec<Value>, Expired> {
        if revision < self.compacted {
            return Err(Expired);
        }
        let collection = target.collection();
        let news = self.history.iter().filter(|change| {
            change.revision > revision
                && is_in(&change.key, &collection, target.namespace.as_deref())
        });
        Ok(news.filter_map(|change| change.event(selector)).collect())
    }
}

// === impl Change ===

impl Change {
    /// An object that comes into a selection is added to it, whatever it was before.
    fn event(&self, selector: &Selector) -> Option<Value> {
        let selected =
            |object: &Option<Value>| object.as_ref().is_some_and(|o| selector.matches(o));
        let (word, object) = match (selected(&self.before), selected(&self.after)) {
            (false, false) => return None,
            (false, true) => ("ADDED", self.after.clone()),
            (true, true) => ("MODIFIED", self.after.clone()),
            (true, false) => ("DELETED", self.before.clone()),
        };
        let mut object = object?;
        if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.insert(
                "resourceVersion".to_owned(),
                self.revision.to_string().into(),
            );
        }
        Some(json!({"type": word, "object": object}))
    }
}

fn is_in(key: &Key, collection: &str, namespace: Option<&str>) -> bool {
    key.collection == collection && namespace.is_none_or(|namespace| key.namespace == namespace)
}

fn metadata(object: &mut Value) -> Result<&mut Map<String, Value>, Refusal> {
    let missing = || Refusal::new(400, "the object has no metadata");
    let object = object.as_object_mut().ok_or_else(missing)?;
    let meta = object.entry("metadata").or_insert_with(|| json!({}));
    meta.as_object_mut().ok_or_else(missing)
}

/// Brings `live` from what was applied before to what is applied now.
fn apply(live: &mut Value, before: &Value, now: &Value, field: &str) {
    let none = Value::Null;
    match (live, now) {
        (Value::Object(live), Value::Object(now)) if field != "selector" => {
            for name in before
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name)
            {
                if !now.contains_key(name) {
                    live.remove(name);
                }
            }
            for (name, value) in now {
                let before = before.get(name).unwrap_or(&none);
                let entry = live.entry(name.clone()).or_insert(Value::Null);
                apply(entry, before, value, name);
            }
        }
        (Value::Array(live), Value::Array(now)) if !list_keys(field).is_empty() => {
            let keys = list_keys(field);
            let same = |a: &Value, b: &Value| keys.iter().all(|key| a.get(key) == b.get(key));
            let before = before.as_array().cloned().unwrap_or_default();
            live.retain(|item| {
                let was_ours = before.iter().any(|old| same(old, item));
                !was_ours || now.iter().any(|new| same(new, item))
            });
            for item in now {
                let old = before.iter().find(|old| same(old, item)).unwrap_or(&none);
                match live.iter_mut().find(|held| same(held, item)) {
                    Some(held) => apply(held, old, item, ""),
                    None => live.push(item.clone()),
                }
            }
        }
        (live, now) => *live = now.clone(),
    }
}

/// What tells the items of a list apart; nothing for lists that are replaced whole.
fn list_keys(field: &str) -> &'static [&'static str] {
    match field {
        "ownerReferences" => &["uid"],
        "ports" => &["port", "protocol"],
        _ => &[],
    }
}

fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    let Some(object) = object.as_object_mut() else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
