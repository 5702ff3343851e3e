//! Objects of a cluster in place of files: what the operator sent, and what of it is in force.
//!
//! Pure. Owns what of an object counts ([`Object`]: bookkeeping of the API server does not), the whole of them
//! ([`Objects`]), and the rule that a bad edit of one object neither takes effect nor holds up the others: its
//! last good version stays ([`Accepted`]). Whether an object is good is the caller's word; who fetches them is
//! `operator.rs`. Source: kubernetes 3.7 to 3.10.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::Arc,
};

use base64::Engine as _;
use serde_json::{Map, Value, json};

#[cfg(test)]
mod tests;

/// The kinds that an operator sends besides access control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The one that `--config` names.
    Configuration,
    /// Handlers of pipelines.
    Component,
    /// Outside addresses.
    HttpEndpoint,
    /// Timeouts, retries, breakers.
    Resiliency,
}

/// An object as the sidecar sees it: name, generation, scopes and spec, with secrets in their places.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Object {
    /// `metadata.name`.
    pub(crate) name: Box<str>,
    /// `metadata.generation`; 0 if it has none.
    pub(crate) generation: i64,
    /// JSON on one line, which is YAML as well.
    pub(crate) json: Arc<[u8]>,
}

/// Objects by kind and name.
pub(crate) type Objects = BTreeMap<(Kind, Box<str>), Object>;

/// Why bytes are no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ObjectError {
    /// They are no JSON.
    #[error("it is no JSON: {0}")]
    Json(Box<str>),
    /// An object has a name.
    #[error("it has no metadata.name")]
    NoName,
}

/// The objects in force.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    objects: Arc<Objects>,
    refused: BTreeMap<(Kind, Box<str>), Refused>,
}

/// Components that are not there although a pipeline may count on them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Withheld {
    /// It was not told yet which there are.
    pub(crate) is_untold: bool,
    /// Those that cannot be used, in name order.
    pub(crate) refused: Vec<Box<str>>,
}

/// An object that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    object: Object,
    why: Box<str>,
}

/// A refusal that was not said yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// Which kind.
    pub(crate) kind: Kind,
    /// Which object.
    pub(crate) name: Box<str>,
    /// Of which generation.
    pub(crate) generation: i64,
    /// What is wrong with it.
    pub(crate) why: Box<str>,
    /// An earlier version stays in force.
    pub(crate) is_kept: bool,
}

// === impl Withheld ===

impl Withheld {
    /// Whether a component that is not there may be one that was meant to be.
    pub(crate) fn may_hold(&self, name: &str) -> bool {
        self.is_untold || self.refused.iter().any(|refused| **refused == *name)
    }
}

// === impl Kind ===

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [
        Self::Configuration,
        Self::Component,
        Self::HttpEndpoint,
        Self::Resiliency,
    ];

    /// The word of manifests.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "Configuration",
            Self::Component => "Component",
            Self::HttpEndpoint => "HTTPEndpoint",
            Self::Resiliency => "Resiliency",
        }
    }

    /// Keys whose values may stand in for secrets, below `spec`.
    fn fill(self, spec: &mut Map<String, Value>) {
        match self {
            Self::Configuration => fill_plain(spec.get_mut("tracing")),
            Self::Component => fill_list(spec.get_mut("metadata")),
            Self::HttpEndpoint => {
                fill_list(spec.get_mut("headers"));
                let tls = spec.get_mut("clientTLS").and_then(Value::as_object_mut);
                if let Some(tls) = tls {
                    tls.values_mut().for_each(decode);
                }
            }
            Self::Resiliency => {}
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Object ===

impl Object {
    /// Reads an object as an operator sends it; `kind` and `apiVersion` may be missing.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub(crate) fn read(kind: Kind, bytes: &[u8]) -> Result<Self, ObjectError> {
        let json = |cause: serde_json::Error| ObjectError::Json(cause.to_string().into());
        let whole: Value = serde_json::from_slice(bytes).map_err(json)?;
        let metadata = |key: &str| whole.get("metadata").and_then(|metadata| metadata.get(key));
        let name = metadata("name").and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() {
            return Err(ObjectError::NoName);
        }
        let namespace = metadata("namespace").and_then(Value::as_str);
        let generation = metadata("generation").and_then(Value::as_i64);
        let store = whole.get("auth").and_then(|auth| auth.get("secretStore"));
        let mut spec = whole.get("spec").cloned().unwrap_or_default();
        // Other stores are another building block.
        if matches!(
            store.and_then(Value::as_str),
            None | Some("" | "kubernetes")
        ) && let Value::Object(spec) = &mut spec
        {
            kind.fill(spec);
        }
        let view = json!({
            "apiVersion": "dapr.io/v1alpha1",
            "kind": kind.as_str(),
            "metadata": { "name": name, "namespace": namespace.unwrap_or_default() },
            "auth": whole.get("auth").filter(|auth| auth.is_object()),
            "scopes": whole.get("scopes").filter(|scopes| scopes.is_array()),
            "spec": spec,
        });
        Ok(Self {
            name: name.into(),
            generation: generation.unwrap_or_default(),
            json: view.to_string().into_bytes().into(),
        })
    }

    fn says_as(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl fmt::Debug for Object {
    /// Without its text: secrets are in their places.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            generation,
            json,
        } = self;
        f.debug_struct("Object")
            .field("name", name)
            .field("generation", generation)
            .field("length", &json.len())
            .finish()
    }
}

/// `[{name, value, secretKeyRef}]`: what the operator put in the place of a reference is base64 (3.8).
fn fill_list(list: Option<&mut Value>) {
    let items = list.and_then(Value::as_array_mut);
    items.into_iter().flatten().for_each(decode);
}

fn decode(item: &mut Value) {
    let Some(item) = item.as_object_mut() else {
        return;
    };
    if !is_reference(item) {
        return;
    }
    let engine = base64::engine::general_purpose::STANDARD;
    let encoded = item.get("value").and_then(Value::as_str);
    let decoded = encoded
        .filter(|text| !text.is_empty())
        .and_then(|text| engine.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(text) = decoded {
        item.insert("value".to_owned(), text.into());
        item.remove("secretKeyRef");
    }
}

/// The headers of an exporter: what the operator put there is the text itself (3.8).
fn fill_plain(tracing: Option<&mut Value>) {
    let headers = tracing
        .and_then(|tracing| tracing.get_mut("otel"))
        .and_then(|otel| otel.get_mut("headers"))
        .and_then(Value::as_array_mut);
    for item in headers
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        let is_filled = item
            .get("value")
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty());
        if is_filled && is_reference(item) {
            item.remove("secretKeyRef");
        }
    }
}

fn is_reference(item: &Map<String, Value>) -> bool {
    let name = item
        .get("secretKeyRef")
        .and_then(|reference| reference.get("name"));
    name.and_then(Value::as_str)
        .is_some_and(|name| !name.is_empty())
}

// === impl Accepted ===

impl Accepted {
    /// The objects in force.
    pub(crate) fn objects(&self) -> &Arc<Objects> {
        &self.objects
    }

    /// How many objects of a kind cannot be used at present.
    pub(crate) fn refused(&self, kind: Kind) -> usize {
        let refused = self.refused.keys();
        refused.filter(|(its, _)| *its == kind).count()
    }

    /// The components that cannot be used at present.
    pub(crate) fn withheld(&self, is_untold: bool) -> Withheld {
        let refused = self.refused.keys();
        let components = refused.filter(|key| {
            // One whose last good version is in force is not missing.
            key.0 == Kind::Component && !self.objects.contains_key(*key)
        });
        Withheld {
            is_untold,
            refused: components.map(|(_, name)| name.clone()).collect(),
        }
    }

    /// Why an object cannot be used, if it cannot.
    #[cfg(test)]
    pub(crate) fn why(&self, kind: Kind, name: &str) -> Option<&str> {
        let refused = self.refused.get(&(kind, name.into()));
        refused.map(|refused| &*refused.why)
    }

    /// Takes what the operator says now; `judge` is asked about each object that is new. Returns what is to be said
    /// of those that cannot be used.
    ///
    /// A Configuration that is gone stays in force: nothing says that its rules were meant to go.
    pub(crate) fn take(
        &mut self,
        wanted: &Objects,
        judge: impl Fn(Kind, &Object) -> Result<(), String>,
    ) -> Vec<News> {
        let mut news = Vec::new();
        let mut next = Objects::new();
        let mut refused = BTreeMap::new();
        for (key, object) in wanted {
            let (kind, name) = key;
            let kept = self.objects.get(key);
            if kept.is_some_and(|kept| kept.says_as(object)) {
                next.insert(key.clone(), object.clone());
                continue;
            }
            let known = self.refused.remove(key);
            let known = known.filter(|known| known.object.says_as(object));
            let is_known = known.is_some();
            let why = match known {
                Some(known) => Some(known.why),
                None => judge(*kind, object).err().map(Into::into),
            };
            let Some(why) = why else {
                next.insert(key.clone(), object.clone());
                continue;
            };
            if !is_known {
                news.push(News {
                    kind: *kind,
                    name: name.clone(),
                    generation: object.generation,
                    why: why.clone(),
                    is_kept: kept.is_some(),
                });
            }
            if let Some(kept) = kept {
                next.insert(key.clone(), kept.clone());
            }
            let object = object.clone();
            refused.insert(key.clone(), Refused { object, why });
        }
        for (key, object) in self.objects.iter() {
            if key.0 == Kind::Configuration
                && let Entry::Vacant(place) = next.entry(key.clone())
            {
                place.insert(object.clone());
            }
        }
        self.refused = refused;
        if *self.objects != next {
            self.objects = Arc::new(next);
        }
        news
    }
}
