//! What the API server tells: which objects are watched, and what each fact changes of what is known.
//!
//! Decides nothing: whatever a fact may have changed is marked, and looked at when all facts at hand were taken.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use ironside_resources::configuration;
use serde_json::Value;

use super::{PLACE, Reconciler, analyses};
use crate::cluster::calls::Place;
use crate::cluster::watching::{Nothing, Told, Which, watch};
use crate::index::access::{KIND, Object};
use crate::index::mirror::{Change, Fact};
use crate::index::sidecars::{INJECTED, Pod, RUNNING};

/// Facts that are taken before anything is done about them.
const BURST: usize = 1000;

// === impl Reconciler ===

impl Reconciler {
    pub(super) fn watch_objects(&self) -> BoxStream<'static, Fact<Object>> {
        let which = Which {
            namespace: self.parts.only.as_deref(),
            ..Which::default()
        };
        let view = |told: Told<Value>| Object::of(told.rest);
        watch::<Value, _>(self.parts.calls.client(), (PLACE, KIND), &which, view)
    }

    pub(super) fn watch_pods(&self) -> BoxStream<'static, Fact<Pod>> {
        let which = Which {
            namespace: self.parts.only.as_deref(),
            labels: Some(INJECTED),
            fields: Some(RUNNING),
        };
        let view = |told: Told<Nothing>| Pod::of(&told.meta);
        watch::<Nothing, _>(
            self.parts.calls.client(),
            (Place::PODS, "Pod"),
            &which,
            view,
        )
    }

    pub(super) fn watch_blocks(
        &self,
    ) -> BoxStream<'static, Fact<Arc<configuration::AccessControl>>> {
        let which = Which {
            namespace: self.parts.only.as_deref(),
            ..Which::default()
        };
        let view = |told: Told<Value>| analyses::block(&told.rest).map(Arc::new);
        let kind = (Place::CONFIGURATIONS, "Configuration");
        watch::<Value, _>(self.parts.calls.client(), kind, &which, view)
    }

    pub(super) fn object(&mut self, fact: Fact<Object>) {
        match &fact {
            Fact::Listing => self.listing = Some(self.now()),
            Fact::Complete => self.listed = self.listing.take(),
            Fact::Is(..) | Fact::Gone(_) | Fact::NoKind => {}
        }
        let is_turn = matches!(fact, Fact::Complete | Fact::NoKind);
        let changes = self.objects.take(fact);
        let is_news = changes.iter().any(is_news_to_sidecars);
        if is_news || is_turn {
            self.is_stale = true;
            self.found = None;
        }
        for change in changes {
            self.changed(change);
        }
    }

    fn changed(&mut self, change: Change<Object>) {
        let Change { key, before, after } = change;
        let namespace = Arc::clone(&key.0);
        if is_new_content(before.as_deref(), after.as_deref()) {
            self.analyses.doubt(&namespace);
        }
        if let Some(before) = before
            && after
                .as_ref()
                .is_none_or(|after| after.stored.uid != before.stored.uid)
        {
            self.kept.remove(&before.stored.uid);
            self.removed.push(before);
        }
        if let Some(after) = after {
            let now = self.now();
            let kept = self.kept.entry(Arc::clone(&after.stored.uid)).or_default();
            kept.saw(after.stored.generation, now);
        }
        self.touch(namespace);
    }

    pub(super) fn pod(&mut self, fact: Fact<Pod>) {
        let now = self.now();
        for namespace in self.sidecars.pod(fact, now) {
            self.analyses.doubt(&namespace);
            self.touch(namespace);
        }
    }

    pub(super) fn block(&mut self, fact: Fact<Arc<configuration::AccessControl>>) {
        for change in self.blocks.take(fact) {
            self.analyses.doubt(&change.key.0);
        }
    }
}

/// Takes what is there already, without waiting.
pub(super) fn drain<T>(facts: &mut BoxStream<'static, T>, mut take: impl FnMut(T)) {
    for _ in 0..BURST {
        match facts.next().now_or_never() {
            Some(Some(fact)) => take(fact),
            Some(None) | None => return,
        }
    }
}

/// Whether sidecars have to be told: not of a new status.
fn is_news_to_sidecars(change: &Change<Object>) -> bool {
    is_new_content(change.before.as_deref(), change.after.as_deref())
}

fn is_new_content(before: Option<&Object>, after: Option<&Object>) -> bool {
    before.map(|object| &object.stored) != after.map(|object| &object.stored)
}
