//! Which Configuration a sidecar runs with (kubernetes 3.9, FIX 4).
//!
//! Owns finding the sidecar's pod: by the name that sidecars of this project send, if a pod of that app has it; by
//! the address that the connection comes from; else, as the reference does, the first pod of the app that names a
//! Configuration. What the pod says is asked anew each time, so that a change of pods counts.

use super::authz::Caller;
use crate::cluster::{Calls, Place};
use crate::index::mirror::Fact;
use crate::index::pods::{PodView, Pods};
use kube::core::ObjectMeta;
use serde::Deserialize as _;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tracing::debug;

/// Pods, shared by those who tell of them and those who ask.
#[derive(Default)]
pub(crate) struct LivePods {
    pods: Mutex<Pods>,
    is_whole: watch::Sender<bool>,
}

/// How the Configuration of one sidecar is found.
#[derive(Debug, Clone)]
pub(crate) struct Assigned {
    caller: Caller,
    /// The pod, as it was when it was found.
    pod: Option<Arc<PodView>>,
}

// === impl LivePods ===

impl LivePods {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a fact.
    pub(crate) fn take(&self, fact: Fact<PodView>) {
        let mut pods = self.lock();
        pods.take(fact);
        let is_whole = pods.is_whole();
        drop(pods);
        self.is_whole.send_if_modified(|held| {
            let news = *held != is_whole;
            *held = is_whole;
            news
        });
    }

    /// Waits until all pods have been told once.
    pub(crate) async fn whole(&self) {
        let mut is_whole = self.is_whole.subscribe();
        // The sender is this value's.
        let _closed = is_whole.wait_for(|is_whole| *is_whole).await;
    }
}

// === impl Assigned ===

impl Assigned {
    /// Finds the pod of a caller.
    pub(crate) async fn find(caller: &Caller, pods: &LivePods, calls: &Calls) -> Self {
        let pod = match named(caller, pods, calls).await {
            None => at_address(caller, calls).await,
            found => found,
        };
        Self {
            caller: caller.clone(),
            pod,
        }
    }

    /// The name of the Configuration as things are now.
    pub(crate) fn name(&self, pods: &LivePods) -> Option<Arc<str>> {
        let Caller {
            namespace, app_id, ..
        } = &self.caller;
        let pods = pods.lock();
        match &self.pod {
            None => pods.first_config(namespace, app_id),
            Some(pod) => {
                let now = pods.of_app(namespace, app_id, &pod.name);
                // The watch may not have told of it yet.
                now.unwrap_or(pod).config.clone()
            }
        }
    }
}

async fn named(caller: &Caller, pods: &LivePods, calls: &Calls) -> Option<Arc<PodView>> {
    let name = caller.pod.as_deref()?;
    let Caller {
        namespace, app_id, ..
    } = caller;
    let known = pods.lock().of_app(namespace, app_id, name).cloned();
    if known.is_some() {
        return known;
    }
    let fields = format!("metadata.name={name}");
    let mut found = of_app(caller, calls, &fields).await.into_iter();
    found.next()
}

async fn at_address(caller: &Caller, calls: &Calls) -> Option<Arc<PodView>> {
    let address: IpAddr = caller.address?;
    let mut found = of_app(caller, calls, &format!("status.podIP={address}")).await;
    // Several pods on the host's network share an address: then none is the one.
    match found.len() {
        1 => found.pop(),
        _ => None,
    }
}

/// Pods of the caller's app, read from the API server.
async fn of_app(caller: &Caller, calls: &Calls, fields: &str) -> Vec<Arc<PodView>> {
    let listed = calls.list_metadata(Place::PODS, &caller.namespace, fields);
    let listed = match listed.await {
        Ok(listed) => listed,
        Err(cause) => {
            debug!(target: super::SCOPE, "cannot look for the pod of {}: {cause}", caller.app_id);
            return Vec::new();
        }
    };
    let view = |item: Value| {
        let meta = ObjectMeta::deserialize(item.get("metadata")?).ok()?;
        PodView::of(&meta).filter(|pod| *pod.app_id == *caller.app_id)
    };
    listed.into_iter().filter_map(view).map(Arc::new).collect()
}
