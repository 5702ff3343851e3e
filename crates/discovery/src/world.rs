//! Which objects there are, and which of them are for one app.
//!
//! Pure. A [`World`] is replaced as a whole; what is remembered of the one before is since when each generation
//! is known. An app sees the objects of its own namespace whose scopes are empty or name it, and nothing else
//! (facts M10, K195, K196).

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use ironside_identity::{AppId, Namespace};
use serde_json::Value;
use thiserror::Error;

/// Everything that is distributed.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// All objects of all namespaces.
    pub objects: Vec<StoredObject>,
    /// Nothing is missing: the source was read whole and is watched. Otherwise sidecars drop nothing (F9, K210).
    pub synced: bool,
    /// Deny where no object applies (fact M8).
    pub deny_by_default: bool,
    /// How far the source had come, on a scale of its own that outlives this process: numbers of snapshots do not
    /// fall below it. 0 if the source has none.
    pub revision: u64,
}

/// An object as it is stored, and what distribution needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.namespace`.
    pub namespace: Namespace,
    /// The apps it is for; empty means all of the namespace.
    pub scopes: Vec<Box<str>>,
    /// The whole object.
    pub json: Bytes,
}

/// Why JSON is no object that can be distributed.
#[derive(Debug, Error)]
pub enum StoredError {
    /// No JSON.
    #[error("no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A field of its metadata.
    #[error("metadata.{0} is missing or unusable")]
    Metadata(&'static str),
}

/// The workload behind a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct App {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub app_id: AppId,
}

/// A world, indexed.
#[derive(Debug, Default)]
pub struct Indexed {
    by_namespace: HashMap<Namespace, Vec<Arc<Known>>>,
    /// False before the first world: then there is nothing to be sent, not even nothing.
    pub is_known: bool,
    /// See [`World::synced`].
    pub synced: bool,
    /// See [`World::deny_by_default`].
    pub deny_by_default: bool,
    /// See [`World::revision`].
    pub revision: u64,
}

/// An object, and since when this generation of it is known.
#[derive(Debug)]
pub struct Known {
    /// The object.
    pub object: StoredObject,
    /// On the scale of the server's monotonic time.
    pub since: Duration,
}

/// What one app sees.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The objects that are for it.
    pub objects: Vec<Arc<Known>>,
    /// See [`World::synced`].
    pub synced: bool,
    /// See [`World::deny_by_default`].
    pub deny_by_default: bool,
    /// See [`World::revision`].
    pub revision: u64,
}

// === impl StoredObject ===

impl StoredObject {
    /// Reads what distribution needs from the JSON of an object. Scopes of an odd shape count as none: then
    /// every app of the namespace gets the object and refuses it for itself.
    ///
    /// # Errors
    /// [`StoredError`] if nobody could say whose it is.
    pub fn from_json(json: Bytes) -> Result<Self, StoredError> {
        let value: Value = serde_json::from_slice(&json)?;
        let metadata = value.get("metadata").unwrap_or(&Value::Null);
        let text = |name: &'static str| {
            let text = metadata.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty())
                .ok_or(StoredError::Metadata(name))
        };
        let namespace = Namespace::parse(text("namespace")?);
        let namespace = namespace.map_err(|_invalid| StoredError::Metadata("namespace"))?;
        let uid = text("uid")?.into();
        let generation = metadata.get("generation").and_then(Value::as_i64);
        let generation = generation.ok_or(StoredError::Metadata("generation"))?;
        let scopes = value.get("scopes").map(scopes).unwrap_or_default();
        Ok(Self {
            uid,
            generation,
            namespace,
            scopes,
            json,
        })
    }

    fn is_for(&self, app: &App) -> bool {
        let mut scopes = self.scopes.iter();
        self.namespace == app.namespace
            && (self.scopes.is_empty() || scopes.any(|scope| **scope == *app.app_id.as_str()))
    }
}

fn scopes(value: &Value) -> Vec<Box<str>> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = list.iter().map(|item| item.as_str().map(Into::into));
    texts.collect::<Option<_>>().unwrap_or_default()
}

// === impl Indexed ===

impl Indexed {
    /// Indexes a world that replaces `before` at `now`.
    #[must_use]
    pub fn new(world: World, before: &Self, now: Duration) -> Self {
        let World {
            objects,
            synced,
            deny_by_default,
            revision,
        } = world;
        let mut by_namespace: HashMap<Namespace, Vec<Arc<Known>>> = HashMap::new();
        for object in objects {
            let known = before
                .known(&object)
                .unwrap_or_else(|| Arc::new(Known { object, since: now }));
            let namespace = known.object.namespace.clone();
            by_namespace.entry(namespace).or_default().push(known);
        }
        for list in by_namespace.values_mut() {
            // The order of a listing means nothing, and must not look like a change.
            list.sort_by(|a, b| a.object.uid.cmp(&b.object.uid));
        }
        Self {
            by_namespace,
            is_known: true,
            synced,
            deny_by_default,
            revision,
        }
    }

    /// The same content as before, if it was there.
    fn known(&self, object: &StoredObject) -> Option<Arc<Known>> {
        let known = find(self.by_namespace.get(&object.namespace)?, &object.uid)?;
        (known.object == *object).then(|| Arc::clone(known))
    }

    /// The objects of a namespace.
    fn of_namespace(&self, namespace: &Namespace) -> &[Arc<Known>] {
        let list = self.by_namespace.get(namespace);
        list.map(Vec::as_slice).unwrap_or_default()
    }

    /// What `app` sees.
    #[must_use]
    pub fn view(&self, app: &App) -> View {
        let objects = self.of_namespace(&app.namespace).iter();
        View {
            objects: objects
                .filter(|known| known.object.is_for(app))
                .cloned()
                .collect(),
            synced: self.synced,
            deny_by_default: self.deny_by_default,
            revision: self.revision,
        }
    }

    /// True if each of these objects is here in this generation or a later one, whether or not it is for `app`.
    /// Objects of other namespaces count as not there: nobody learns of them.
    #[must_use]
    pub fn has_all(&self, app: &App, seen: &HashMap<String, i64>) -> bool {
        let list = self.of_namespace(&app.namespace);
        seen.iter().all(|(uid, generation)| {
            find(list, uid).is_some_and(|known| known.object.generation >= *generation)
        })
    }

    /// All objects.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Known>> {
        self.by_namespace.values().flatten()
    }
}

/// The object with this UID in a list as [`Indexed::new`] sorts it.
fn find<'a>(list: &'a [Arc<Known>], uid: &str) -> Option<&'a Arc<Known>> {
    let at = list.binary_search_by(|known| (*known.object.uid).cmp(uid));
    list.get(at.ok()?)
}

// === impl View ===

impl View {
    /// Bytes of all objects.
    #[must_use]
    pub fn size(&self) -> usize {
        self.objects
            .iter()
            .map(|known| known.object.json.len())
            .sum()
    }

    /// True if an app that was sent `other` needs nothing new.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let objects = self.objects.iter().zip(&other.objects);
        self.synced == other.synced
            && self.deny_by_default == other.deny_by_default
            && self.objects.len() == other.objects.len()
            && objects
                .into_iter()
                .all(|(ours, theirs)| Arc::ptr_eq(ours, theirs) || ours.object == theirs.object)
    }

    /// True if the app has seen a generation that this view does not hold yet.
    #[must_use]
    pub fn is_behind(&self, seen: &HashMap<String, i64>) -> bool {
        self.objects.iter().any(|known| {
            seen.get(&*known.object.uid)
                .is_some_and(|seen| *seen > known.object.generation)
        })
    }
}

impl Known {
    /// True if it is for this app.
    #[must_use]
    pub fn is_for(&self, app: &App) -> bool {
        self.object.is_for(app)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn app(namespace: &str, app_id: &str) -> App {
        App {
            namespace: Namespace::parse(namespace).unwrap(),
            app_id: AppId::parse(app_id).unwrap(),
        }
    }

    pub(crate) fn object(
        namespace: &str,
        uid: &str,
        generation: i64,
        scopes: &[&str],
    ) -> StoredObject {
        let json = serde_json::json!({
            "metadata": {"namespace": namespace, "uid": uid, "generation": generation},
            "scopes": scopes,
        });
        StoredObject::from_json(json.to_string().into()).unwrap()
    }

    pub(crate) fn world(objects: &[StoredObject]) -> World {
        World {
            objects: objects.to_vec(),
            synced: true,
            ..World::default()
        }
    }

    fn uids(view: &View) -> Vec<&str> {
        view.objects
            .iter()
            .map(|known| &*known.object.uid)
            .collect()
    }

    /// Facts K195, K196, M10: own namespace, own scope, nothing else.
    #[test]
    fn an_app_sees_what_is_for_it() {
        let objects = [
            object("shop", "all", 1, &[]),
            object("shop", "orders", 1, &["orders"]),
            object("shop", "both", 1, &["cart", "orders"]),
            object("other", "foreign", 1, &["orders"]),
            object("other", "everybody", 1, &[]),
        ];
        let indexed = Indexed::new(world(&objects), &Indexed::default(), Duration::ZERO);
        for (namespace, app_id, want) in [
            ("shop", "orders", vec!["all", "both", "orders"]),
            ("shop", "cart", vec!["all", "both"]),
            ("shop", "order", vec!["all"]),
            ("other", "orders", vec!["everybody", "foreign"]),
            ("third", "orders", vec![]),
        ] {
            let view = indexed.view(&app(namespace, app_id));
            assert_eq!(uids(&view), want, "{namespace}/{app_id}");
        }
    }

    #[test]
    fn a_generation_is_as_old_as_its_first_sight() {
        let first = [object("a", "u", 1, &[]), object("a", "v", 1, &[])];
        let second = [object("a", "u", 1, &[]), object("a", "v", 2, &[])];
        let at = Duration::from_secs;
        let before = Indexed::new(world(&first), &Indexed::default(), at(1));
        let after = Indexed::new(world(&second), &before, at(9));
        let view = after.view(&app("a", "x"));
        let since: Vec<_> = view.objects.iter().map(|known| known.since).collect();
        assert_eq!(since, [at(1), at(9)]);
        assert!(!view.is_same(&before.view(&app("a", "x"))));
        let again = Indexed::new(world(&second), &after, at(10));
        assert!(view.is_same(&again.view(&app("a", "x"))));
    }

    #[test]
    fn a_lagging_view_is_known_by_what_the_app_has_seen() {
        let objects = [object("a", "u", 3, &[])];
        let indexed = Indexed::new(world(&objects), &Indexed::default(), Duration::ZERO);
        let view = indexed.view(&app("a", "x"));
        for (uid, generation, is_behind) in [
            ("u", 2, false),
            ("u", 3, false),
            ("u", 4, true),
            ("gone", 9, false),
        ] {
            let seen = HashMap::from([(uid.to_owned(), generation)]);
            assert_eq!(view.is_behind(&seen), is_behind, "{uid} {generation}");
        }
    }

    #[test]
    fn json_without_an_identity_is_refused_and_odd_scopes_are_everybody_s() {
        let read = |text: &str| StoredObject::from_json(text.to_owned().into());
        for text in [
            "",
            "[]",
            "{}",
            r#"{"metadata":{"namespace":"a","uid":"","generation":1}}"#,
            r#"{"metadata":{"namespace":"a","uid":"u","generation":"1"}}"#,
            r#"{"metadata":{"namespace":"A/b","uid":"u","generation":1}}"#,
            r#"{"metadata":{"uid":"u","generation":1}}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        for scopes in ["null", "\"a\"", "[1]", "[\"a\",null]", "{}"] {
            let text = format!(
                r#"{{"metadata":{{"namespace":"a","uid":"u","generation":1}},"scopes":{scopes}}}"#
            );
            assert!(read(&text).unwrap().scopes.is_empty(), "{text}");
        }
    }
}
