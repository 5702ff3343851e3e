//! What an entry, or the defaults, say about a target: names resolved, state not there yet.
//!
//! One template may serve several targets, as the defaults do; each has state of its own.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ironside_resources::resiliency::{
    AppTarget, BreakerPolicy, DEFAULT_BREAKER_CACHE, MethodPattern, OutlierDetection, PolicyNames,
    RateLimit, RetryBudget, RetryPolicy, SessionAffinity, Verbs,
};

use super::{
    BREAKER_DEFAULTS, BUDGET_DEFAULTS, Kind, Merged, Note, RETRY_DEFAULTS, TIMEOUT_DEFAULTS,
    cache_size,
};
use crate::breaker::Breakers;
use crate::target::{MethodRules, Owned, Rules, Shared, Target, breakers};

#[derive(Debug)]
pub(super) struct Template {
    base: Policies,
    /// The most specific first.
    methods: Vec<Part>,
    cache: NonZeroU32,
    overall: Option<Duration>,
    idle: Option<Duration>,
    budget: Option<RetryBudget>,
    budget_binds_policies: bool,
    rate: Option<RateLimit>,
    outliers: Option<OutlierDetection>,
    affinity: Option<SessionAffinity>,
    built_in: Option<Arc<RetryPolicy>>,
}

#[derive(Debug, Default)]
struct Policies {
    timeout: Option<Owned<Option<Duration>>>,
    retry: Option<Owned<RetryPolicy>>,
    breaker: Option<Owned<BreakerPolicy>>,
}

#[derive(Debug)]
struct Part {
    pattern: MethodPattern,
    verbs: Verbs,
    policies: Policies,
    names: PolicyNames,
}

// === impl Template ===

impl Template {
    /// What holds without an entry (resiliency-observability 1.6).
    pub(super) fn of_defaults(merged: &Merged, built_in: Arc<RetryPolicy>) -> Self {
        let base = Policies {
            timeout: first(&merged.timeouts, TIMEOUT_DEFAULTS),
            retry: first(&merged.retries, RETRY_DEFAULTS),
            breaker: first(&merged.breakers, BREAKER_DEFAULTS),
        };
        let budget = first(&merged.budgets, BUDGET_DEFAULTS);
        Self {
            base,
            methods: Vec::new(),
            cache: DEFAULT_BREAKER_CACHE,
            overall: None,
            idle: None,
            budget_binds_policies: budget.is_some(),
            budget: Some(budget.map(|budget| budget.policy).unwrap_or_default()),
            rate: None,
            outliers: None,
            affinity: None,
            built_in: Some(built_in),
        }
    }

    /// What an entry says; the built-in retries are off with it, and no default fills it up.
    pub(super) fn of_entry(
        merged: &Merged,
        written: &str,
        app: &Owned<AppTarget>,
        notes: &mut Vec<Note>,
    ) -> Self {
        let escaped = written.replace('~', "~0").replace('/', "~1");
        let at = format!("/spec/targets/apps/{escaped}");
        let mut names = Names {
            merged,
            resource: &app.owner.name,
            notes,
        };
        let target = &app.policy;
        let base = names.find(&target.names, &at);
        let part = |(index, part): (usize, &ironside_resources::resiliency::MethodTarget)| Part {
            pattern: part.path.clone(),
            verbs: part.verbs,
            policies: names.find(&part.names, &format!("{at}/methods/{index}")),
            names: part.names.clone(),
        };
        let mut methods: Vec<Part> = target.methods.iter().enumerate().map(part).collect();
        methods.sort_by(|one, other| {
            let by_path = one.pattern.specificity(&other.pattern);
            by_path.then(one.verbs.is_empty().cmp(&other.verbs.is_empty()))
        });
        Self {
            base,
            methods,
            cache: cache_size(target),
            overall: target.overall_timeout,
            idle: target.idle_timeout,
            budget: target.retry_budget,
            budget_binds_policies: target.retry_budget.is_some(),
            rate: target.rate_limit,
            outliers: target.outlier_detection,
            affinity: target.session_affinity.clone(),
            built_in: None,
        }
    }

    /// A target with the state of the one before, as far as it is of the same definition.
    pub(super) fn build(&self, written: &str, before: Option<&Target>) -> Target {
        let base = Arc::new(Rules {
            timeout: self.base.timeout.clone(),
            retry: self.base.retry.clone(),
            breakers: self.breakers(&self.base, before.map(|target| &*target.base)),
            breaker_key: None,
            attached: OnceLock::new(),
        });
        let methods = self.methods.iter();
        let methods = methods.map(|part| self.part(part, &base, before)).collect();
        Target {
            written: written.into(),
            base,
            methods,
            overall: self.overall,
            idle: self.idle,
            built_in: self.built_in.clone(),
            shared: Shared::new(self.budget, self.rate, before.map(|target| &target.shared)),
            budget_binds_policies: self.budget_binds_policies,
            outliers: self.outliers,
            affinity: self.affinity.clone(),
        }
    }

    fn part(&self, part: &Part, base: &Rules, before: Option<&Target>) -> MethodRules {
        let Policies { timeout, retry, .. } = &part.policies;
        let inherited = |name: &Option<String>| name.is_none();
        let names = &part.names;
        let own_breaker = !inherited(&names.circuit_breaker);
        let is_same = |other: &&MethodRules| {
            other.pattern == part.pattern
                && other.verbs == part.verbs
                && other.rules.breaker_key.is_some()
        };
        let before = before.and_then(|target| target.methods.iter().find(is_same));
        let breakers = if own_breaker {
            self.breakers(&part.policies, before.map(|part| &*part.rules))
        } else {
            base.breakers.clone()
        };
        let rules = Rules {
            timeout: if inherited(&names.timeout) {
                base.timeout.clone()
            } else {
                timeout.clone()
            },
            retry: if inherited(&names.retry) {
                base.retry.clone()
            } else {
                retry.clone()
            },
            breakers,
            breaker_key: own_breaker.then(|| part.pattern.as_str().into()),
            attached: OnceLock::new(),
        };
        MethodRules {
            pattern: part.pattern.clone(),
            verbs: part.verbs,
            rules: Arc::new(rules),
        }
    }

    fn breakers(
        &self,
        policies: &Policies,
        before: Option<&Rules>,
    ) -> Option<Owned<Arc<Breakers>>> {
        let breaker = policies.breaker.as_ref()?;
        let before = before.and_then(|rules| rules.breakers.as_ref());
        let before = before.filter(|before| before.name == breaker.name);
        let before = before.map(|before| &before.policy);
        Some(Owned {
            policy: breakers(&breaker.policy, self.cache, before),
            name: breaker.name.clone(),
            owner: breaker.owner.clone(),
        })
    }
}

fn first<T: Clone>(all: &BTreeMap<Box<str>, Owned<T>>, names: [&str; 2]) -> Option<Owned<T>> {
    let mut found = names.into_iter().filter_map(|name| all.get(name));
    found.next().cloned()
}

/// Looks policies up for the target of a resource.
struct Names<'a> {
    merged: &'a Merged,
    resource: &'a str,
    notes: &'a mut Vec<Note>,
}

// === impl Names ===

impl Names<'_> {
    fn find(&mut self, names: &PolicyNames, at: &str) -> Policies {
        let merged = self.merged;
        let PolicyNames {
            timeout,
            retry,
            circuit_breaker,
        } = names;
        Policies {
            timeout: self.one(&merged.timeouts, timeout, Kind::Timeout, at),
            retry: self.one(&merged.retries, retry, Kind::Retry, at),
            breaker: self.one(&merged.breakers, circuit_breaker, Kind::CircuitBreaker, at),
        }
    }

    fn one<T: Clone>(
        &mut self,
        all: &BTreeMap<Box<str>, Owned<T>>,
        name: &Option<String>,
        kind: Kind,
        at: &str,
    ) -> Option<Owned<T>> {
        let name = name.as_deref()?;
        let found = all.get(name);
        if found.is_none() {
            self.notes.push(Note::Unknown {
                resource: self.resource.into(),
                pointer: format!("{at}/{kind}").into(),
                kind,
                name: name.into(),
                known: all.keys().cloned().collect(),
            });
        }
        found.cloned()
    }
}
