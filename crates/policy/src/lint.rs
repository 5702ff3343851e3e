//! Rules that do not do what they look like: dead, shadowed, duplicated, contradicting, unreachable.
//!
//! Exact, not guessed: every rule is tried with requests that stand for all others ([`crate::survey`]), and each
//! finding carries one of them as its proof. Bounded work; what was not tried is not spoken of. A request is a
//! cleaned path with a verb: see the survey for what that leaves out. Source: security O-A8, B18 to B21, B25.

mod code;
mod entry;
mod finding;
mod whole;

use std::collections::HashMap;

use ironside_identity::SpiffeId;

pub use code::{Code, Finding, Level};

use crate::{
    AppKind, PolicySet, RuleId, Verb,
    compile::Compiled,
    engine::forest::{NodeId, Rule},
    object::{Entry, Object},
    survey::{Children, MOST_REQUESTS, Sample, Tree, callers},
};

/// What was found in a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lint {
    /// In the order of objects and rules.
    pub findings: Vec<Finding>,
    /// Whether every rule was tried out; not if that would have been too much.
    pub is_complete: bool,
}

/// A set under examination.
struct Check<'a> {
    set: &'a Compiled,
    children: Children,
    /// What is known of each entry, in the order of the set.
    entries: Vec<Seen>,
    /// Where the entry of an object stands among them.
    places: HashMap<(u32, u32), usize>,
    callers: Vec<SpiffeId>,
    overlaps: Vec<whole::Overlap>,
    /// Requests that may still be tried.
    left: usize,
    is_complete: bool,
}

/// What is known of an entry.
#[derive(Debug, Default)]
struct Seen {
    rules: Vec<RuleSeen>,
    /// A caller that meets it.
    caller: Option<SpiffeId>,
    /// Everything was tried within the entry.
    is_tried: bool,
    /// Everything was tried with the other entries and objects.
    is_tried_whole: bool,
}

/// What is known of a rule.
#[derive(Debug)]
struct RuleSeen {
    node: NodeId,
    pattern: String,
    rule: Rule,
    /// Some request matches it.
    matched: bool,
    /// It answers some request within its entry.
    answers: bool,
    /// It decides some request.
    decides: bool,
    /// A request that it matches and another rule of the entry answers.
    lost: Option<(Sample, Option<u32>)>,
    /// A request that it answers and another entry or object decides.
    overruled: Option<(Sample, Option<RuleId>)>,
    /// Some decision is another once the rule is gone, although it decides none.
    has_effect: bool,
    /// A path for which the entry finds another rule, or one at all, once this one is gone.
    hides: Option<String>,
}

// === impl PolicySet ===

impl PolicySet {
    /// Returns what is wrong with the rules of this set.
    ///
    /// Costs up to some seconds for the largest objects; not for the way of a request.
    #[must_use]
    pub fn lint(&self) -> Lint {
        self.lint_within(MOST_REQUESTS)
    }

    /// As [`PolicySet::lint`], trying no more than so many requests.
    #[must_use]
    pub fn lint_within(&self, requests: usize) -> Lint {
        let Some(set) = self.rules() else {
            return Lint {
                findings: Vec::new(),
                is_complete: true,
            };
        };
        // Every entry is held against every name.
        let pairs = set.entries.len().saturating_mul(set.entries.len());
        if set.forest.nodes().count() > requests || pairs / 100 > requests {
            return Lint::default();
        }
        let mut check = Check::new(set, requests.min(MOST_REQUESTS));
        check.entries();
        check.whole();
        check.lint()
    }
}

// === impl Check ===

impl<'a> Check<'a> {
    fn new(set: &'a Compiled, left: usize) -> Self {
        let children = Children::of(&set.forest);
        let entries: Vec<&Entry> = set.entries.iter().collect();
        let found = callers(&entries, |caller| set.callee.is(caller));
        let seen = entries.iter().map(|entry| Seen {
            rules: rules(set, &children, entry),
            ..Seen::default()
        });
        let places = set.entries.iter().enumerate();
        Self {
            set,
            entries: seen.collect(),
            places: places
                .map(|(at, entry)| ((entry.object, entry.index), at))
                .collect(),
            is_complete: found.is_ok(),
            callers: found.unwrap_or_default(),
            overlaps: Vec::new(),
            left,
            children,
        }
    }

    fn object(&self, entry: &Entry) -> Option<&'a Object> {
        self.set.objects.get(entry.object as usize)
    }

    fn tree(&self, entry: &Entry) -> Tree<'_> {
        Tree::of(self.set, &self.children, entry)
    }

    /// Takes so many requests out of the bound.
    fn spend(&mut self, requests: usize) -> bool {
        let left = self.left.checked_sub(requests);
        self.left = left.unwrap_or_default();
        self.is_complete &= left.is_some();
        left.is_some()
    }

    fn counts(&self, rule: &Rule, verb: Verb) -> bool {
        self.set.app == AppKind::Grpc || rule.verbs.contains(verb)
    }
}

/// The rules of an entry, as written.
fn rules(set: &Compiled, children: &Children, entry: &Entry) -> Vec<RuleSeen> {
    let mut rules = Vec::new();
    children.walk(&set.forest, entry.root, |id, node, pattern| {
        rules.extend(set.forest.rules(node).iter().map(|rule| RuleSeen {
            node: id,
            pattern: if pattern.is_empty() { "/" } else { pattern }.to_owned(),
            rule: *rule,
            matched: false,
            answers: false,
            decides: false,
            lost: None,
            overruled: None,
            has_effect: false,
            hides: None,
        }));
    });
    rules.sort_by_key(|seen| seen.rule.operation);
    rules
}

#[cfg(test)]
mod tests;
