//! A watch that never ends.
//!
//! Owns what is said of its troubles: once when they begin, with the innermost cause, which names the right that is
//! missing or the address that does not answer; and once when they are over. Lists, revisions and pauses are the
//! client's.

use super::Cluster;
use futures_util::{Stream, StreamExt as _};
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::error::Error as _;
use std::fmt::Debug;
use tracing::{info, warn};

/// The logger of this part.
const SCOPE: &str = "dapr.sentry.cluster";

/// Which objects of a kind are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched<'a> {
    /// Those of all namespaces.
    All,
    /// The one of this name, in the namespace of the control plane.
    Own(&'a str),
}

/// Watches for ever; errors are told in the log and followed by another attempt.
pub(crate) fn watch<K>(
    cluster: &Cluster,
    which: Watched<'_>,
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let (client, all) = (cluster.client.clone(), watcher::Config::default());
    let (api, config): (Api<K>, _) = match which {
        Watched::All => (Api::all(client), all),
        Watched::Own(name) => (
            Api::namespaced(client, cluster.namespace.as_str()),
            // A right to one name is a right to watch only with this selector.
            all.fields(&format!("metadata.name={name}")),
        ),
    };
    let kind = K::kind(&()).into_owned();
    let mut trouble = None;
    let events = watcher(api, config).default_backoff();
    events.filter_map(move |event| {
        let event = match event {
            // Each attempt begins with this one, also when it fails.
            Ok(event @ Event::Init) => Some(event),
            Ok(event) => {
                if trouble.take().is_some() {
                    info!(target: SCOPE, "Watching objects of kind {kind} again");
                }
                Some(event)
            }
            Err(cause) => {
                let cause = Some(tell(&cause));
                if trouble != cause {
                    let text = cause.as_deref().unwrap_or_default();
                    warn!(target: SCOPE, "Cannot watch objects of kind {kind}, trying again: {text}");
                }
                trouble = cause;
                None
            }
        };
        std::future::ready(event)
    })
}

fn tell(error: &watcher::Error) -> String {
    if let Some(kube::Error::Api(status)) = error.source().and_then(|cause| cause.downcast_ref()) {
        return status.message.clone();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
