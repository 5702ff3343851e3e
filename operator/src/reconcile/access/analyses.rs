//! The examination of rules, one namespace at a time, on a thread of its own.
//!
//! Owns which namespaces are to be looked at and what was found. An examination takes seconds for the largest
//! objects: it holds up neither streams nor statuses, which say meanwhile what is known.

use super::{Done, Reconciler, SCOPE};
use crate::index::access::Object;
use crate::index::analysis::{Alone, App, Together, alone, together};
use crate::index::status::Aspect;
use futures_util::FutureExt as _;
use ironside_policy::{AppKind, Block};
use ironside_resources::{AccessControl, configuration};
use serde::Deserialize as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tracing::error;

/// What was found, and what is still to be looked at.
#[derive(Debug, Default)]
pub(super) struct Analyses {
    doubtful: BTreeSet<Arc<str>>,
    under_way: Option<Arc<str>>,
    namespaces: HashMap<Arc<str>, Arc<Found>>,
}

/// What was found in a namespace.
#[derive(Debug)]
struct Found {
    of: Question,
    conflicts: BTreeMap<String, Aspect>,
    /// By name.
    alone: HashMap<String, Alone>,
}

/// What is asked of a namespace; the same question has the same answer.
#[derive(Debug, Clone)]
pub(super) struct Question {
    together: Together,
    kinds: Vec<AppKind>,
}

/// An examination that has ended; without an answer it broke.
pub(super) struct Analysed {
    namespace: Arc<str>,
    found: Option<Found>,
}

/// What is known of one object.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known<'a> {
    pub(super) alone: Option<&'a Alone>,
    pub(super) conflicted: Option<&'a Aspect>,
    /// Something has changed since.
    pub(super) is_old: bool,
}

/// Takes the block of a Configuration, if it has one on purpose (rule M3).
pub(super) fn block(configuration: &Value) -> Option<configuration::AccessControl> {
    let block = configuration.pointer("/spec/accessControl")?;
    let spec = configuration::AccessControl::deserialize(block).ok()?;
    let is_explicit = Block {
        name: "",
        spec: &spec,
        is_strict: false,
    }
    .is_explicit();
    is_explicit.then_some(spec)
}

// === impl Analyses ===

impl Analyses {
    /// Something of this namespace has changed.
    pub(super) fn doubt(&mut self, namespace: &Arc<str>) {
        self.doubtful.insert(Arc::clone(namespace));
    }

    /// What is known of an object.
    pub(super) fn known(&self, object: &Object) -> Known<'_> {
        let found = self.namespaces.get(object.namespace());
        let is_under_way = self.under_way.as_deref() == Some(object.namespace());
        Known {
            alone: found.and_then(|found| found.alone.get(&*object.name)),
            conflicted: found.and_then(|found| found.conflicts.get(&*object.name)),
            is_old: is_under_way || self.doubtful.contains(object.namespace()),
        }
    }
}

// === impl Question ===

impl PartialEq for Question {
    fn eq(&self, other: &Self) -> bool {
        let parts = |one: &Self| (one.together.apps.clone(), one.kinds.clone());
        parts(self) == parts(other)
            && self.together.objects == other.together.objects
            && self.together.blocks == other.together.blocks
    }
}

impl Question {
    fn answer(self, before: Option<&Found>) -> Found {
        let mut all = HashMap::new();
        for (object, kind) in self.together.objects.iter().zip(&self.kinds) {
            let known = before.and_then(|before| before.alone_of(object, *kind));
            let found = known.unwrap_or_else(|| alone(object, *kind));
            all.insert(object.name.clone(), found);
        }
        Found {
            conflicts: together(&self.together),
            alone: all,
            of: self,
        }
    }
}

// === impl Found ===

impl Found {
    /// What was found of this object, if it is the same as before.
    fn alone_of(&self, object: &Arc<AccessControl>, kind: AppKind) -> Option<Alone> {
        let mut asked = self.of.together.objects.iter().zip(&self.of.kinds);
        let is_same = asked.any(|(own, own_kind)| own == object && *own_kind == kind);
        let found = is_same.then(|| self.alone.get(&object.name))?;
        found.cloned()
    }
}

// === impl Reconciler ===

impl Reconciler {
    /// Begins the next examination, if there is one and this replica leads.
    pub(super) fn analyse(&mut self) {
        if self.leads_since.is_none() || self.analyses.under_way.is_some() {
            return;
        }
        while let Some(namespace) = self.analyses.doubtful.pop_first() {
            let question = self.question(&namespace);
            if question.together.objects.is_empty() {
                self.analyses.namespaces.remove(&namespace);
                continue;
            }
            // It is good until there is another.
            let before = self.analyses.namespaces.get(&namespace).cloned();
            if before.as_ref().is_some_and(|before| before.of == question) {
                continue;
            }
            self.analyses.under_way = Some(Arc::clone(&namespace));
            let work = tokio::task::spawn_blocking(move || question.answer(before.as_deref()));
            let job = work.map(move |found| {
                let found = found.inspect_err(|cause| {
                    error!(target: SCOPE, "the examination of the rules of {namespace} broke: {cause}");
                });
                Done::Analysed(Box::new(Analysed {
                    namespace,
                    found: found.ok(),
                }))
            });
            return self.jobs.push(job.boxed());
        }
    }

    pub(super) fn analysed(&mut self, analysed: Analysed) {
        let Analysed { namespace, found } = analysed;
        self.analyses.under_way = None;
        if let Some(found) = found {
            let found = Arc::new(found);
            self.analyses
                .namespaces
                .insert(Arc::clone(&namespace), found);
        }
        self.touch(namespace);
    }

    fn question(&self, namespace: &Arc<str>) -> Question {
        let in_force = self.objects.of_namespace(namespace);
        let objects = in_force.filter_map(|object| self.objects.in_force(object).cloned());
        let objects: Vec<Arc<AccessControl>> = objects.collect();
        let kinds = objects.iter().map(|object| self.kind_of(namespace, object));
        let kinds = kinds.collect();
        let blocks = self.blocks.of_namespace(namespace);
        let blocks: BTreeMap<_, _> = blocks
            .map(|((_, name), block)| (Arc::clone(name), Arc::clone(block.as_ref())))
            .collect();
        let apps = self.sidecars.pods_of(namespace).map(|pod| App {
            app_id: Arc::clone(&pod.app_id),
            is_grpc: pod.kind == AppKind::Grpc,
            config: pod.config.clone().filter(|name| blocks.contains_key(name)),
        });
        Question {
            together: Together {
                namespace: Arc::clone(namespace),
                apps: apps.collect(),
                objects,
                blocks,
            },
            kinds,
        }
    }

    /// What the apps speak that an object is for: HTTP, unless all of them are known to speak gRPC.
    fn kind_of(&self, namespace: &str, object: &AccessControl) -> AppKind {
        let is_for = |app_id: &str| {
            object.scopes.is_empty() || object.scopes.iter().any(|scope| *scope == app_id)
        };
        let pods = self.sidecars.pods_of(namespace);
        let mut kinds = pods
            .filter(|pod| is_for(&pod.app_id))
            .map(|pod| pod.kind)
            .peekable();
        match kinds.peek().is_some() && kinds.all(|kind| kind == AppKind::Grpc) {
            true => AppKind::Grpc,
            false => AppKind::Http,
        }
    }
}
