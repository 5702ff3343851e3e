//! When may the two objects be different?
//!
//! Owns the watch on both, of their metadata only, so that no key travels for it. A watch that ends is begun anew and
//! says "perhaps" once; and because a watch may be dead without a word, somebody looks from time to time all the same,
//! sooner than a rotation counts on (`rotation::plan`).

use crate::cluster::{Cluster, Watched, watch};
use crate::store::{Change, Changes, Later};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use std::time::Duration;

/// A look without a reason is taken this often.
const POLL: Duration = Duration::from_secs(15);

/// A watch on Secret and ConfigMap.
pub(super) struct SecretChanges(BoxStream<'static, ()>);

// === impl SecretChanges ===

impl SecretChanges {
    /// Watches the Secret alone, without a poll.
    pub(super) fn of_secret(cluster: &Cluster, name: &str) -> Self {
        let secret = watch::<PartialObjectMeta<Secret>>(cluster, Watched::Own(name));
        Self(news(secret))
    }

    /// Watches both.
    pub(super) fn new(cluster: &Cluster, name: &str) -> Self {
        let Self(secret) = Self::of_secret(cluster, name);
        let map = news(watch::<PartialObjectMeta<ConfigMap>>(
            cluster,
            Watched::Own(name),
        ));
        let poll = stream::unfold((), |()| async {
            tokio::time::sleep(POLL).await;
            Some(((), ()))
        });
        Self(stream::select_all([secret, map, poll.boxed()]).boxed())
    }
}

impl Changes for SecretChanges {
    fn changed(&mut self) -> Later<'_, Change> {
        Box::pin(async {
            if self.0.next().await.is_none() {
                // None of the three ever ends.
                std::future::pending::<()>().await;
            }
            Change::Perhaps
        })
    }
}

fn news<K: Send + 'static>(
    events: impl Stream<Item = Event<K>> + Send + 'static,
) -> BoxStream<'static, ()> {
    let news = events.filter_map(|event| {
        let news = match event {
            Event::Apply(_) | Event::Delete(_) | Event::InitApply(_) => Some(()),
            Event::Init | Event::InitDone => None,
        };
        std::future::ready(news)
    });
    news.boxed()
}
