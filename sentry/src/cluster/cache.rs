//! What is known of all objects of a kind: a watch that never ends, and a view of each object.
//!
//! Owns the copy and its freshness. Of an object only its view is kept, so that memory does not grow with what pods
//! carry. The copy is replaced as a whole when the watch begins anew; until then the old one serves. It is asked
//! first; the API server is asked for what it does not have yet, because who is refused is not asked again soon.

use super::watching::Watched;
use super::{CallError, Cluster};
use futures_util::StreamExt as _;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::watch;

/// What is kept of an object.
pub(crate) trait View: Send + Sync + Sized + 'static {
    /// The object as the API server sends it.
    type Object: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static;

    /// Takes what matters.
    fn of(object: Self::Object) -> Self;
}

/// Namespace and name.
type Key = (Box<str>, Box<str>);
type Objects<V> = HashMap<Key, Arc<V>>;

/// The views of all objects of a kind.
pub(crate) struct Cache<V> {
    cluster: Cluster,
    objects: RwLock<Objects<V>>,
    synced: watch::Sender<bool>,
}

// === impl Cache ===

impl<V: View> Cache<V> {
    /// Makes an empty one, which [`Self::follow`] fills.
    pub(crate) fn new(cluster: Cluster) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            objects: RwLock::default(),
            synced: watch::Sender::new(false),
        })
    }

    /// Waits until it has been filled once.
    pub(crate) async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as the cache: this does not end in an error.
        let _synced = synced.wait_for(|synced| *synced).await;
    }

    /// Returns the object if it is as expected, and asks the API server when the one that is known is not.
    ///
    /// # Errors
    /// [`CallError`] if the server had to be asked and did not say.
    pub(crate) async fn find(
        &self,
        namespace: &str,
        name: &str,
        is_expected: impl Fn(&V) -> bool,
    ) -> Result<Option<Arc<V>>, CallError> {
        let key = (namespace.into(), name.into());
        let known = self.objects().get(&key).cloned();
        if known.as_ref().is_some_and(|known| is_expected(known)) {
            return Ok(known);
        }
        let found = self.cluster.get::<V::Object>(namespace, name).await?;
        Ok(found.map(|object| Arc::new(V::of(object))))
    }

    /// Keeps it up to date; for ever.
    pub(crate) async fn follow(self: Arc<Self>) {
        let events = super::watch::<V::Object>(&self.cluster, Watched::All);
        let mut events = pin!(events);
        let mut fresh = Objects::new();
        while let Some(event) = events.next().await {
            self.apply(event, &mut fresh);
        }
    }

    fn apply(&self, event: Event<V::Object>, fresh: &mut Objects<V>) {
        match event {
            Event::Init => fresh.clear(),
            Event::InitApply(object) => {
                fresh.insert(key(&object), Arc::new(V::of(object)));
            }
            Event::InitDone => {
                *self.objects_mut() = std::mem::take(fresh);
                self.synced.send_replace(true);
            }
            Event::Apply(object) => {
                self.objects_mut()
                    .insert(key(&object), Arc::new(V::of(object)));
            }
            Event::Delete(object) => {
                self.objects_mut().remove(&key(&object));
            }
        }
    }

    fn objects(&self) -> RwLockReadGuard<'_, Objects<V>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn objects_mut(&self) -> std::sync::RwLockWriteGuard<'_, Objects<V>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    (text(&meta.namespace), text(&meta.name))
}
