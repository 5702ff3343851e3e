//! Watches that never end.
//!
//! Owns what is said of their troubles: once when they begin, with the innermost cause, which names the right that is
//! missing or the address that does not answer; and once when they are over. Lists, revisions and pauses are the
//! client's. [`follow_one`] is the watch of a single object, with the selector that a right to one name needs.

use crate::SCOPE;
use futures_util::{Stream, StreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::error::Error;
use std::fmt::Debug;
use std::pin::pin;
use tracing::{info, warn};

/// Watches for ever; errors are told in the log and followed by another attempt.
///
/// A copy that is kept of the objects is replaced between [`Event::Init`] and [`Event::InitDone`].
pub fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
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
                let cause = Some(explain(&cause));
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

/// Follows the object of this name, for ever: `see` gets each state of it, and nothing when it is not there.
///
/// `see` is not called before the API server has said which of the two it is.
pub async fn follow_one<K>(api: Api<K>, name: &str, mut see: impl FnMut(Option<&K>))
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut states = pin!(states(api, name));
    while let Some(state) = states.next().await {
        see(state.as_ref());
    }
}

/// Tells each state of the object of this name, and nothing when it is not there, for ever.
pub(crate) fn states<K>(api: Api<K>, name: &str) -> impl Stream<Item = Option<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    // A right to one name is a right to watch only with this selector.
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut listed = None;
    watch(api, config).filter_map(move |event| {
        let state = match event {
            Event::Init => {
                listed = None;
                None
            }
            Event::InitApply(object) => {
                listed = Some(object);
                None
            }
            Event::InitDone => Some(listed.take()),
            Event::Apply(object) => Some(Some(object)),
            Event::Delete(_) => Some(None),
        };
        std::future::ready(state)
    })
}

/// Says what went wrong, for people: the API server's own words, or else the innermost cause.
#[must_use]
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    loop {
        if let Some(kube::Error::Api(status)) = cause.downcast_ref() {
            return status.message.clone();
        }
        match cause.source() {
            Some(inner) => cause = inner,
            None => return cause.to_string(),
        }
    }
}
