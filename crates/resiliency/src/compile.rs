//! From resources to a table of targets.
//!
//! Owns merging (later resources win by name, each policy keeps its owner), scopes, defaults and their order,
//! the built-in retries and their override, and the way from a target as a caller writes it to its policies.
//! State of the table before goes on where names and definitions are unchanged. Source:
//! resiliency-observability 1.1, 1.2, 1.6, 1.7, 1.12.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashlink::LruCache;
use ironside_resources::Resiliency;
use ironside_resources::resiliency::{
    AppTarget, Backoff, BreakerPolicy, DEFAULT_BREAKER_CACHE, RetryBudget, RetryPolicy,
};

use crate::target::{Owned, Owner, Target};

mod note;
mod template;

pub use note::{Kind, Note};

use template::Template;

/// Name of the built-in retries of the hop between sidecars.
pub const BUILT_IN_SERVICE_RETRIES: &str = "DaprBuiltInServiceRetries";
/// Retries of it after the first attempt. Source: resiliency-observability 1.7.
pub const BUILT_IN_RETRIES: u32 = 3;
/// Pause before each of them. Source: resiliency-observability 1.7.
pub const BUILT_IN_PAUSE: Duration = Duration::from_secs(1);
/// A built-in policy that cannot be overridden.
const PROTECTED: &str = "DaprBuiltInActorNotFoundRetries";
/// Fewest retries that an override can ask for. Source: resiliency-observability 1.7.
const BUILT_IN_MINIMUM: u32 = 3;
/// Targets without an entry whose state is kept; the longest unused goes first.
const MAX_OTHERS: usize = 4096;

const TIMEOUT_DEFAULTS: [&str; 2] = ["DefaultAppTimeoutPolicy", "DefaultTimeoutPolicy"];
const RETRY_DEFAULTS: [&str; 2] = ["DefaultAppRetryPolicy", "DefaultRetryPolicy"];
const BREAKER_DEFAULTS: [&str; 2] = [
    "DefaultAppCircuitBreakerPolicy",
    "DefaultCircuitBreakerPolicy",
];
const BUDGET_DEFAULTS: [&str; 2] = ["DefaultAppRetryBudgetPolicy", "DefaultRetryBudgetPolicy"];

/// Everything a table is made of.
#[derive(Debug)]
pub struct Input<'a> {
    /// The app that makes the calls, for scopes.
    pub app_id: &'a str,
    /// Its namespace: a target without one means this.
    pub namespace: &'a str,
    /// The resources, in the order in which later ones win.
    pub resources: &'a [Resiliency],
    /// The table before, whose state goes on.
    pub previous: Option<&'a Table>,
}

/// A table, and what its makers should know.
#[derive(Debug)]
pub struct Compiled {
    /// The table.
    pub table: Table,
    /// What was probably not meant.
    pub notes: Vec<Note>,
}

/// The policies of all targets.
#[derive(Debug)]
pub struct Table {
    namespace: Box<str>,
    resources: Vec<Arc<Owner>>,
    /// By target as an entry writes it.
    entries: HashMap<Box<str>, Entry>,
    /// Entries that write the own namespace, by app.
    own: HashMap<Box<str>, Box<str>>,
    defaults: Template,
    others: Mutex<Others>,
}

#[derive(Debug)]
struct Entry {
    template: Template,
    target: Arc<Target>,
}

/// Targets that no entry writes as the caller does.
#[derive(Debug)]
struct Others {
    known: LruCache<Box<str>, Arc<Target>, RandomState>,
    /// Those of the tables before, until they are asked for.
    inherited: LruCache<Box<str>, Arc<Target>, RandomState>,
}

/// A target as a caller writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id<'a> {
    /// An app.
    App {
        /// As written: `b` or `b.ns`.
        written: &'a str,
        /// Its app ID.
        app: &'a str,
        /// Its namespace, the caller's own where none is written.
        namespace: &'a str,
    },
    /// The name of an HTTPEndpoint, or a URL.
    External(&'a str),
}

/// Policies of all resources by name.
#[derive(Debug, Default)]
struct Merged {
    timeouts: BTreeMap<Box<str>, Owned<Option<Duration>>>,
    retries: BTreeMap<Box<str>, Owned<RetryPolicy>>,
    breakers: BTreeMap<Box<str>, Owned<BreakerPolicy>>,
    budgets: BTreeMap<Box<str>, Owned<RetryBudget>>,
    apps: BTreeMap<Box<str>, Owned<AppTarget>>,
}

// === impl Table ===

impl Table {
    /// Compiles a table. Resources were checked when they were read, so it always succeeds.
    #[must_use]
    pub fn compile(input: &Input<'_>) -> Compiled {
        let (mut merged, mut notes, mut owners) = (Merged::default(), Vec::new(), Vec::new());
        for resource in input.resources {
            if resource.applies_to(input.app_id) {
                let owner = Arc::new(Owner {
                    name: resource.name.as_str().into(),
                    namespace: resource.namespace.as_str().into(),
                });
                merged.add(resource, &owner, &mut notes);
                owners.push(owner);
            }
        }
        let built_in = Arc::new(merged.built_in(&mut notes));
        let defaults = Template::of_defaults(&merged, built_in);
        let previous = input.previous;
        let mut entries = HashMap::new();
        for (written, app) in &merged.apps {
            let template = Template::of_entry(&merged, written, app, &mut notes);
            let before = previous.and_then(|table| table.known(written));
            let target = Arc::new(template.build(written, before.as_deref()));
            entries.insert(written.clone(), Entry { template, target });
        }
        let own_app = |written: &str| {
            let app = written.strip_suffix(input.namespace)?;
            app.strip_suffix('.').map(Box::from)
        };
        let own = merged.apps.keys();
        let own = own.filter_map(|written| Some((own_app(written)?, written.clone())));
        let table = Self {
            own: own.collect(),
            namespace: input.namespace.into(),
            resources: owners,
            entries,
            defaults,
            others: Mutex::new(Others::after(previous)),
        };
        Compiled { table, notes }
    }

    /// The target of a call.
    ///
    /// An entry that is written as the caller writes it comes first, then one that means the same app, then one
    /// for the app in any namespace; else the defaults hold.
    #[must_use]
    pub fn target(&self, id: Id<'_>) -> Arc<Target> {
        let (written, app) = match id {
            Id::App { written, app, .. } => (written, Some(app)),
            Id::External(written) => (written, None),
        };
        if let Some(entry) = self.entries.get(written) {
            return entry.target.clone();
        }
        if let Some(entry) = self.same_app(id) {
            return entry.target.clone();
        }
        let general = app.and_then(|app| self.entries.get(app));
        let template = general.map_or(&self.defaults, |entry| &entry.template);
        self.others().target(written, template)
    }

    /// The resources that apply, in order.
    #[must_use]
    pub fn resources(&self) -> &[Arc<Owner>] {
        &self.resources
    }

    /// An entry for the same app of the own namespace, written the other way.
    fn same_app(&self, id: Id<'_>) -> Option<&Entry> {
        let Id::App {
            written,
            app,
            namespace,
        } = id
        else {
            return None;
        };
        if *namespace != *self.namespace {
            return None;
        }
        if written != app {
            return self.entries.get(app);
        }
        self.own.get(app).and_then(|key| self.entries.get(key))
    }

    /// A target that has state, however it is written there.
    fn known(&self, written: &str) -> Option<Arc<Target>> {
        if let Some(entry) = self.entries.get(written) {
            return Some(entry.target.clone());
        }
        let others = self.others();
        let known = others.known.peek(written);
        known.or_else(|| others.inherited.peek(written)).cloned()
    }

    fn others(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Table {
    /// The table without resources.
    fn default() -> Self {
        let input = Input {
            app_id: "",
            namespace: "",
            resources: &[],
            previous: None,
        };
        Self::compile(&input).table
    }
}

// === impl Others ===

impl Others {
    fn after(previous: Option<&Table>) -> Self {
        let empty = || LruCache::with_hasher(MAX_OTHERS, RandomState::new());
        let mut inherited = empty();
        if let Some(previous) = previous {
            let others = previous.others();
            let older = others.inherited.iter().chain(others.known.iter());
            for (written, target) in older {
                inherited.insert(written.clone(), target.clone());
            }
            for (written, entry) in &previous.entries {
                inherited.insert(written.clone(), entry.target.clone());
            }
        }
        Self {
            known: empty(),
            inherited,
        }
    }

    fn target(&mut self, written: &str, template: &Template) -> Arc<Target> {
        if let Some(target) = self.known.get(written) {
            return target.clone();
        }
        let before = self.inherited.remove(written);
        let target = Arc::new(template.build(written, before.as_deref()));
        self.known.insert(written.into(), target.clone());
        target
    }
}

// === impl Merged ===

impl Merged {
    fn add(&mut self, resource: &Resiliency, owner: &Arc<Owner>, notes: &mut Vec<Note>) {
        let resource_notes = resource.notes.iter().cloned();
        notes.extend(resource_notes.map(|note| Note::Resource {
            resource: owner.name.clone(),
            note,
        }));
        let policies = &resource.policies;
        let mut lay = Lay { owner, notes };
        lay.over(&mut self.timeouts, &policies.timeouts, Kind::Timeout);
        lay.over(&mut self.retries, &policies.retries, Kind::Retry);
        lay.over(
            &mut self.breakers,
            &policies.circuit_breakers,
            Kind::CircuitBreaker,
        );
        lay.over(
            &mut self.budgets,
            &policies.retry_budgets,
            Kind::RetryBudget,
        );
        lay.over(&mut self.apps, &resource.apps, Kind::App);
    }

    /// The built-in retries, overridden as far as they can be.
    fn built_in(&self, notes: &mut Vec<Note>) -> RetryPolicy {
        if self.retries.contains_key(PROTECTED) {
            notes.push(Note::Protected(PROTECTED));
        }
        let Some(written) = self.retries.get(BUILT_IN_SERVICE_RETRIES) else {
            return RetryPolicy {
                backoff: Backoff::Constant(BUILT_IN_PAUSE),
                max_retries: Some(BUILT_IN_RETRIES),
                ..RetryPolicy::default()
            };
        };
        let mut policy = written.policy.clone();
        if policy
            .max_retries
            .is_none_or(|retries| retries < BUILT_IN_MINIMUM)
        {
            policy.max_retries = Some(BUILT_IN_MINIMUM);
            notes.push(Note::BuiltInMinimum);
        }
        policy
    }
}

/// One resource laid over those before it.
struct Lay<'a> {
    owner: &'a Arc<Owner>,
    notes: &'a mut Vec<Note>,
}

// === impl Lay ===

impl Lay<'_> {
    fn over<T: Clone>(
        &mut self,
        all: &mut BTreeMap<Box<str>, Owned<T>>,
        later: &BTreeMap<String, T>,
        kind: Kind,
    ) {
        for (name, policy) in later {
            let owned = Owned {
                policy: policy.clone(),
                name: name.as_str().into(),
                owner: self.owner.clone(),
            };
            if let Some(earlier) = all.insert(name.as_str().into(), owned) {
                self.notes.push(Note::Replaced {
                    kind,
                    name: name.as_str().into(),
                    earlier: earlier.owner.name.clone(),
                    later: self.owner.name.clone(),
                });
            }
        }
    }
}

/// Breakers that a target remembers.
fn cache_size(app: &AppTarget) -> NonZeroU32 {
    app.breaker_cache.unwrap_or(DEFAULT_BREAKER_CACHE)
}

#[cfg(test)]
mod tests;
