//! What holds for the calls of one target, and the state that those calls share.
//!
//! A [`Target`] is found in a [`crate::Table`], once a call. Its definition never changes; its state (breakers,
//! budget, tokens) lies behind short locks and moves to the next table where the definition stays the same.

use std::any::Any;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ironside_resources::resiliency::{
    BreakerPolicy, MethodPattern, OutlierDetection, RateLimit, RetryBudget, RetryPolicy, Segment,
    SessionAffinity, Verb, Verbs,
};

use crate::breaker::{Breakers, Cell};
use crate::budget::Budget;
use crate::rate::TokenBucket;

/// The resource that a policy came from, for labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: Box<str>,
    /// Its namespace; empty for files that have none.
    pub namespace: Box<str>,
}

/// A policy with its name and its resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Owned<T> {
    /// What it says.
    pub policy: T,
    /// What it is called.
    pub name: Box<str>,
    /// Where it stands.
    pub owner: Arc<Owner>,
}

/// What holds for the calls of one target.
#[derive(Debug)]
pub struct Target {
    pub(crate) written: Box<str>,
    pub(crate) base: Arc<Rules>,
    /// The most specific first.
    pub(crate) methods: Vec<MethodRules>,
    pub(crate) overall: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    pub(crate) built_in: Option<Arc<RetryPolicy>>,
    pub(crate) shared: Shared,
    pub(crate) budget_binds_policies: bool,
    pub(crate) outliers: Option<OutlierDetection>,
    pub(crate) affinity: Option<SessionAffinity>,
}

/// The policies of a target, or of a part of it.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Limit of one attempt.
    pub timeout: Option<Owned<Option<Duration>>>,
    /// Retries.
    pub retry: Option<Owned<RetryPolicy>>,
    /// Breakers.
    pub breakers: Option<Owned<Arc<Breakers>>>,
    /// Key of the one breaker of this part; the path of a call where there is none.
    pub(crate) breaker_key: Option<Box<str>>,
    /// What whoever makes the calls keeps beside them.
    pub(crate) attached: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// The policies of a part of a target.
#[derive(Debug)]
pub(crate) struct MethodRules {
    pub(crate) pattern: MethodPattern,
    pub(crate) verbs: Verbs,
    pub(crate) rules: Arc<Rules>,
}

/// State that all calls of a target share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared {
    budget: Option<Arc<Mutex<Budget>>>,
    tokens: Option<Arc<Mutex<TokenBucket>>>,
}

// === impl Target ===

impl Target {
    /// The target as callers, or the entry of a manifest, write it.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The policies of a call: those of the most specific part that matches, else the target's.
    ///
    /// `method` is a cleaned path, with or without leading slash; `verb` is absent for gRPC and for verbs that
    /// no policy can name.
    #[must_use]
    pub fn rules(&self, method: &str, verb: Option<Verb>) -> &Arc<Rules> {
        let matches = |part: &&MethodRules| part.matches(method, verb);
        let part = self.methods.iter().find(matches);
        part.map_or(&self.base, |part| &part.rules)
    }

    /// When an address is left out because of its answers; `None` where only failing connections count.
    #[must_use]
    pub const fn outlier_detection(&self) -> Option<OutlierDetection> {
        self.outliers
    }

    /// The header whose value chooses the address.
    #[must_use]
    pub const fn session_affinity(&self) -> Option<&SessionAffinity> {
        self.affinity.as_ref()
    }

    /// Limit of all attempts together.
    #[must_use]
    pub const fn overall_timeout(&self) -> Option<Duration> {
        self.overall
    }

    /// How long nothing may pass in either direction of an answer that has begun, and of a stream that its caller
    /// declares, from its opening.
    #[must_use]
    pub const fn idle_timeout(&self) -> Option<Duration> {
        self.idle
    }

    /// Whether calls to other sidecars have the built-in retries.
    #[must_use]
    pub const fn has_built_in_retries(&self) -> bool {
        self.built_in.is_some()
    }

    /// Retries that are left to all calls together; `None` where nothing bounds them.
    #[must_use]
    pub fn budget_balance(&self, now: Duration) -> Option<u64> {
        self.shared.with_budget(|budget| budget.balance(now))
    }
}

// === impl Rules ===

impl Rules {
    /// The breaker of a call.
    #[must_use]
    pub fn breaker(&self, method: &str) -> Option<(Arc<Cell>, &BreakerPolicy)> {
        let breakers = &self.breakers.as_ref()?.policy;
        let key = self.breaker_key(method);
        Some((breakers.of(key), breakers.policy()))
    }

    /// What whoever makes the calls keeps beside these policies: handles of series, say. Made once; `None` if
    /// something of another type is there.
    pub fn attached<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        let made = || Arc::new(make()) as Arc<dyn Any + Send + Sync>;
        let attached = self.attached.get_or_init(made);
        Arc::clone(attached).downcast().ok()
    }

    /// Whether a failure may be followed by another attempt.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        let retry = self.retry.as_ref();
        retry.is_some_and(|retry| retry.policy.max_retries != Some(0))
    }

    /// The key of that breaker within its target, for logs: the path, or the pattern of this part.
    #[must_use]
    pub fn breaker_key<'k>(&'k self, method: &'k str) -> &'k str {
        // A path with and one without leading slash is one path for HTTP; gRPC always has it.
        self.breaker_key.as_deref().unwrap_or(method)
    }
}

// === impl MethodRules ===

impl MethodRules {
    fn matches(&self, method: &str, verb: Option<Verb>) -> bool {
        let is_verb = self.verbs.is_empty() || verb.is_some_and(|verb| self.verbs.names(verb));
        is_verb && is_match(&self.pattern, method)
    }
}

fn is_match(pattern: &MethodPattern, method: &str) -> bool {
    let path = method.strip_prefix('/').unwrap_or(method);
    // The root has no part.
    let mut parts = path.split('/').filter(|_| !path.is_empty());
    for segment in pattern.segments() {
        let is_same = match (segment, parts.next()) {
            (Segment::Rest, _) => return true,
            (Segment::One, Some(_)) => true,
            (Segment::Literal(text), Some(part)) => **text == *part,
            (Segment::One | Segment::Literal(_), None) => false,
        };
        if !is_same {
            return false;
        }
    }
    parts.next().is_none()
}

// === impl Shared ===

impl Shared {
    /// State of these definitions; what `previous` has of the same ones goes on.
    pub(crate) fn new(
        budget: Option<RetryBudget>,
        rate: Option<RateLimit>,
        previous: Option<&Self>,
    ) -> Self {
        let same_budget = |params: RetryBudget| {
            let kept = previous.and_then(|previous| previous.budget.clone());
            let is_same = |kept: &Arc<Mutex<Budget>>| lock(kept).params() == params;
            let kept = kept.filter(is_same);
            kept.unwrap_or_else(|| Arc::new(Mutex::new(Budget::new(params))))
        };
        let same_tokens = |limit: RateLimit| {
            let kept = previous.and_then(|previous| previous.tokens.clone());
            let is_same = |kept: &Arc<Mutex<TokenBucket>>| lock(kept).limit() == limit;
            let kept = kept.filter(is_same);
            kept.unwrap_or_else(|| Arc::new(Mutex::new(TokenBucket::new(limit))))
        };
        Self {
            budget: budget.map(same_budget),
            tokens: rate.map(same_tokens),
        }
    }

    pub(crate) fn with_budget<T>(&self, f: impl FnOnce(&mut Budget) -> T) -> Option<T> {
        let budget = self.budget.as_ref()?;
        Some(f(&mut lock(budget)))
    }

    /// Takes a token, where they are counted.
    pub(crate) fn token(&self, now: Duration) -> Result<(), Duration> {
        self.tokens
            .as_ref()
            .map_or(Ok(()), |tokens| lock(tokens).take(now))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Breakers of a definition; those of `previous` go on if it is the same one.
pub(crate) fn breakers(
    policy: &BreakerPolicy,
    size: NonZeroU32,
    previous: Option<&Arc<Breakers>>,
) -> Arc<Breakers> {
    let kept = previous.filter(|kept| kept.is_same(policy, size));
    kept.cloned()
        .unwrap_or_else(|| Arc::new(Breakers::new(policy.clone(), size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_paths() {
        for (pattern, method, want) in [
            ("/", "", true),
            ("/", "/", true),
            ("/", "a", false),
            ("/a/b", "a/b", true),
            ("a/b", "/a/b", true),
            ("/a/b", "a/b/c", false),
            ("/a/b", "a", false),
            ("/a/*", "a/b", true),
            ("/a/*", "a", false),
            ("/a/*", "a/b/c", false),
            ("/a/**", "a", true),
            ("/a/**", "a/b/c", true),
            ("/a/**", "ab", false),
            ("/**", "", true),
            ("/**", "/pkg.S/M", true),
            ("/pkg.S/*", "/pkg.S/M", true),
            ("/A", "a", false),
        ] {
            let pattern = MethodPattern::parse(pattern).unwrap();
            assert_eq!(is_match(&pattern, method), want, "{pattern} {method}");
        }
    }
}
