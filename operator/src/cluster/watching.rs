//! Watches of kinds that are named at run time, told as facts.
//!
//! Owns what is said of their troubles (once when they begin, once when they are over), the reading of objects whole
//! or by their metadata, and what it means that a kind does not exist: nothing of it is there, and it may come.

use crate::index::mirror::{Fact, Key};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use kube::core::{ApiResource, DynamicResourceScope, ObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use tracing::{info, warn};

use super::Place;

/// The logger of this part.
const SCOPE: &str = "dapr.operator.cluster";

/// An object as it was told, with its metadata and what is read of the rest.
#[derive(Clone)]
pub(crate) struct Told<R> {
    pub(crate) meta: ObjectMeta,
    pub(crate) rest: R,
}

/// Which objects of a kind are watched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Which<'a> {
    /// None for all namespaces.
    pub(crate) namespace: Option<&'a str>,
    pub(crate) labels: Option<&'a str>,
    pub(crate) fields: Option<&'a str>,
}

/// How the rest of an object is read: whole with its metadata, in part, or not at all.
pub(crate) trait Rest: Clone + Send + Sized + 'static {
    /// Only metadata is asked for.
    const METADATA_ONLY: bool;

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Told<Self>, D::Error>;
}

/// The metadata is all there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nothing;

#[derive(Deserialize)]
struct Parts<S> {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default = "Option::default")]
    spec: Option<S>,
}

// === impl Told ===

impl Rest for Value {
    const METADATA_ONLY: bool = false;

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Told<Self>, D::Error> {
        let rest = Self::deserialize(deserializer)?;
        // An object whose metadata can't be read has no name and is passed over.
        let meta = rest.get("metadata").map(ObjectMeta::deserialize);
        let meta = meta.and_then(Result::ok).unwrap_or_default();
        Ok(Told { meta, rest })
    }
}

impl Rest for crate::index::workloads::WorkloadSpec {
    const METADATA_ONLY: bool = false;

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Told<Self>, D::Error> {
        let parts = Parts::<Self>::deserialize(deserializer)?;
        Ok(Told {
            meta: parts.metadata,
            rest: parts.spec.unwrap_or_default(),
        })
    }
}

impl Rest for Nothing {
    const METADATA_ONLY: bool = true;

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Told<Self>, D::Error> {
        let parts = Parts::<serde::de::IgnoredAny>::deserialize(deserializer)?;
        Ok(Told {
            meta: parts.metadata,
            rest: Self,
        })
    }
}

impl<'de, R: Rest> Deserialize<'de> for Told<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        R::read(deserializer)
    }
}

/// Names only: Components may hold secrets.
impl<R> fmt::Debug for Told<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name) = (&self.meta.namespace, &self.meta.name);
        write!(f, "Told({namespace:?}, {name:?})")
    }
}

impl<R: Rest> Resource for Told<R> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn metadata_api() -> bool {
        R::METADATA_ONLY
    }

    fn kind(dt: &ApiResource) -> Cow<'_, str> {
        dt.kind.as_str().into()
    }

    fn group(dt: &ApiResource) -> Cow<'_, str> {
        dt.group.as_str().into()
    }

    fn version(dt: &ApiResource) -> Cow<'_, str> {
        dt.version.as_str().into()
    }

    fn api_version(dt: &ApiResource) -> Cow<'_, str> {
        dt.api_version.as_str().into()
    }

    fn plural(dt: &ApiResource) -> Cow<'_, str> {
        dt.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

// === impl Place ===

impl Place {
    fn resource(self, kind: &str) -> ApiResource {
        let api_version = self
            .root
            .strip_prefix("apis/")
            .or_else(|| self.root.strip_prefix("api/"))
            .unwrap_or_default();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            plural: self.plural.to_owned(),
        }
    }
}

/// Watches for ever, and tells what it sees of each object; errors are told in the log and followed by another
/// attempt.
pub(crate) fn watch<R: Rest, V: Send + 'static>(
    client: &Client,
    (place, kind): (Place, &str),
    which: &Which<'_>,
    view: impl Fn(Told<R>) -> Option<V> + Send + 'static,
) -> BoxStream<'static, Fact<V>> {
    let resource = place.resource(kind);
    let api: Api<Told<R>> = match which.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let config = watcher::Config {
        label_selector: which.labels.map(str::to_owned),
        field_selector: which.fields.map(str::to_owned),
        ..watcher::Config::default()
    };
    let mut troubles = Troubles {
        plural: place.plural,
        trouble: None,
    };
    let events = watcher(api, config).default_backoff();
    let facts = events.filter_map(move |event| {
        let fact = match event {
            // Each attempt begins with this one, also when it fails.
            Ok(Event::Init) => Some(Fact::Listing),
            Ok(Event::InitDone) => {
                troubles.over();
                Some(Fact::Complete)
            }
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                key(&object.meta).map(|key| Fact::Is(key, view(object)))
            }
            Ok(Event::Delete(object)) => key(&object.meta).map(Fact::Gone),
            Err(cause) => troubles.tell(&cause).then_some(Fact::NoKind),
        };
        std::future::ready(fact)
    });
    facts.boxed()
}

/// What is wrong with a watch, so that it is said once.
struct Troubles {
    plural: &'static str,
    trouble: Option<String>,
}

// === impl Troubles ===

impl Troubles {
    fn over(&mut self) {
        if self.trouble.take().is_some() {
            info!(target: SCOPE, "Watching {} again", self.plural);
        }
    }

    /// Says what is wrong, and whether it is that there is no such kind (KO-21).
    fn tell(&mut self, cause: &watcher::Error) -> bool {
        let is_missing = is_missing(cause);
        let text = match is_missing {
            true => "this cluster does not have the kind; is its definition installed?".to_owned(),
            false => ironside_cluster::explain(cause),
        };
        if self.trouble.as_ref() != Some(&text) {
            warn!(target: SCOPE, "Cannot watch {}, trying again: {text}", self.plural);
            self.trouble = Some(text);
        }
        is_missing
    }
}

fn is_missing(error: &watcher::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(kube::Error::Api(status)) = error.downcast_ref() {
            return status.code == 404;
        }
        cause = error.source();
    }
    false
}

fn key(meta: &ObjectMeta) -> Option<Key> {
    let name = meta.name.as_deref()?;
    Some((
        meta.namespace.as_deref().unwrap_or_default().into(),
        name.into(),
    ))
}
