//! What sidecars are told comes from here: watches of resources and pods, on every replica.
//!
//! Owns which kinds are watched and how little of a pod is asked for: its metadata, and nothing of pods that have
//! ended. A pod that wants a sidecar costs some 300 bytes, an object its JSON, all else nothing (kubernetes 3.3).

use super::api::Shelves;
use super::assigned::LivePods;
use crate::cluster::watching::{Nothing, Which};
use crate::cluster::{Place, Told, watch};
use crate::index::objects::{Kind, Stored};
use crate::index::pods::PodView;
use crate::reconcile::Common;
use futures_util::StreamExt as _;
use serde_json::Value;
use std::sync::Arc;

/// Pods that have ended have no sidecar.
const LIVING: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Keeps everything up to date, for ever. To stop, drop the future.
pub(crate) fn follow(
    common: &Common,
    shelves: Arc<Shelves>,
    pods: Arc<LivePods>,
) -> impl Future<Output = ()> + Send + use<> {
    let client = common.calls.client();
    let all = Which {
        namespace: common.watched(),
        ..Which::default()
    };
    let kinds = Kind::ALL.map(|kind| {
        let place = Place::named("apis/dapr.io/v1alpha1", kind.plural());
        let view = move |told: Told<Value>| Stored::of(kind, told.rest);
        let mut facts = watch(client, (place, kind.as_str()), &all, view);
        let shelves = Arc::clone(&shelves);
        async move {
            while let Some(fact) = facts.next().await {
                shelves.of(kind).take(fact);
            }
        }
    });
    let living = Which {
        fields: Some(LIVING),
        ..all
    };
    let view = |told: Told<Nothing>| PodView::of(&told.meta);
    let mut facts = watch(client, (Place::PODS, "Pod"), &living, view);
    async move {
        let pods = async move {
            while let Some(fact) = facts.next().await {
                pods.take(fact);
            }
        };
        let [a, b, c, d] = kinds;
        tokio::join!(a, b, c, d, pods);
    }
}

/// Waits until everything has been told once.
pub(crate) async fn whole(shelves: &Shelves, pods: &LivePods) {
    for kind in Kind::ALL {
        shelves.of(kind).whole().await;
    }
    pods.whole().await;
}
