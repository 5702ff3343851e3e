//! Two sets of rules side by side: which requests are decided otherwise.
//!
//! Owns the answer to "may this object be evaluated the other way" ([`equivalence`], security 4.7) and to "what does
//! this edit change" ([`PolicySet::changes`]). Both are tried with requests that stand for all others; where that
//! would be too much they say so, and never guess.

use ironside_identity::SpiffeId;
use ironside_resources::{AccessControl, access_control::Evaluation};

use crate::{
    AppKind, Decision, PolicySet, Reason, Verb, Verdict,
    compile::Compiled,
    engine::forest::Rule,
    object::Entry,
    survey::{Children, MOST_REQUESTS, Sample, Spelled, TooMuch, Tree, callers, paths, verbs},
};

/// Most differences that are kept; the rest is counted.
const MOST_KEPT: usize = 1000;

/// Whether both ways to evaluate an object say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Equivalence {
    /// They do, for every request.
    Equivalent,
    /// They do not for these; never empty.
    Diverges(Vec<Divergence>),
    /// There is too much to try.
    NotComputed,
}

/// A request that the two ways answer differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The request.
    pub sample: Sample,
    /// What the way of the reference says (`DaprCompatible`).
    pub compatible: Said,
    /// What the most specific rule says.
    pub specific: Said,
}

/// What an object says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Yes or no.
    pub allows: bool,
    /// On purpose, by a rule or by the caller's entry; not by the default for all. It counts when objects are
    /// combined (rule M4).
    pub is_explicit: bool,
}

/// What an edit changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Requests that are decided otherwise, up to a thousand.
    pub list: Vec<Change>,
    /// How many there are.
    pub count: usize,
    /// Whether every request was tried.
    pub is_complete: bool,
}

/// A request that is decided otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The request.
    pub sample: Sample,
    /// What the older set says; its rule is one of that set.
    pub before: Verdict,
    /// What the newer set says; its rule is one of that set.
    pub after: Verdict,
}

/// Returns whether an object says the same under both values of `evaluation`, and if not where it does not.
///
/// Asked are callers with an identity and requests with a verb; callers without one are what `unauthenticated` is
/// for. The object need not be valid for either way.
#[must_use]
pub fn equivalence(object: &AccessControl, app: AppKind) -> Equivalence {
    let compiled = |evaluation| {
        let mut object = object.clone();
        object.spec.evaluation = evaluation;
        // One under audit is to be asked like any other.
        object.spec.mode = ironside_resources::access_control::Mode::Enforce;
        Compiled::alone(&object, app)
    };
    let both = compiled(Evaluation::DaprCompatible).zip(compiled(Evaluation::MostSpecific));
    let Some((compatible, specific)) = both else {
        return Equivalence::NotComputed;
    };
    let mut found = Vec::new();
    let tried = side_by_side(&compatible, &specific, |sample, decisions| {
        let [compatible, specific] = decisions.map(Said::of);
        if compatible != specific && found.len() < MOST_KEPT {
            found.push(Divergence {
                sample: sample(),
                compatible,
                specific,
            });
        }
    });
    match tried {
        Err(TooMuch) if found.is_empty() => Equivalence::NotComputed,
        Ok(()) if found.is_empty() => Equivalence::Equivalent,
        Ok(()) | Err(TooMuch) => Equivalence::Diverges(found),
    }
}

// === impl PolicySet ===

impl PolicySet {
    /// Returns which requests a newer set of the same app decides otherwise.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Changes {
        let mut changes = Changes {
            list: Vec::new(),
            count: 0,
            is_complete: true,
        };
        let (Some(before), Some(after)) = (self.rules(), newer.rules()) else {
            changes.is_complete = false;
            return changes;
        };
        let mut add = |sample: &dyn Fn() -> Sample, before: Decision, after: Decision| {
            if before.is_allowed() == after.is_allowed() {
                return;
            }
            changes.count += 1;
            if changes.list.len() < MOST_KEPT {
                changes.list.push(Change {
                    sample: sample(),
                    before: before.verdict,
                    after: after.verdict,
                });
            }
        };
        let tried = side_by_side(before, after, |sample, [before, after]| {
            add(sample, before, after);
        });
        let anonymous = || Sample {
            caller: None,
            verb: Verb::Get,
            path: "/".to_owned(),
        };
        add(&anonymous, before.fixed.anonymous, after.fixed.anonymous);
        changes.is_complete = tried.is_ok();
        changes
    }
}

// === impl Said ===

impl Said {
    fn of(decision: Decision) -> Self {
        let reason = decision.verdict.matched().reason;
        Self {
            allows: decision.is_allowed(),
            is_explicit: !matches!(reason, Reason::GlobalDefault | Reason::NoPolicy),
        }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let action = if self.allows { "allow" } else { "deny" };
        let level = if self.is_explicit { "" } else { " by default" };
        write!(f, "{action}{level}")
    }
}

/// A set with what is needed to try it.
struct Side<'a> {
    set: &'a Compiled,
    children: Children,
    /// Of each entry.
    rules: Vec<Vec<Rule>>,
}

impl<'a> Side<'a> {
    fn new(set: &'a Compiled) -> Self {
        let children = Children::of(&set.forest);
        let rules = set.entries.iter().map(|entry| {
            let mut rules = Vec::new();
            children.walk(&set.forest, entry.root, |_, node, _| {
                rules.extend_from_slice(set.forest.rules(node));
            });
            rules
        });
        Self {
            rules: rules.collect(),
            set,
            children,
        }
    }

    fn met(&self, caller: &SpiffeId) -> impl Iterator<Item = (Tree<'_>, &[Rule])> {
        let entries = self.set.entries.iter().zip(&self.rules);
        let met = entries.filter(|(entry, _)| entry.names(caller));
        met.map(|(entry, rules)| (Tree::of(self.set, &self.children, entry), rules.as_slice()))
    }
}

/// Shows what each of two sets decides for requests that stand for all others.
fn side_by_side(
    one: &Compiled,
    other: &Compiled,
    mut show: impl FnMut(&dyn Fn() -> Sample, [Decision; 2]),
) -> Result<(), TooMuch> {
    let sides = [Side::new(one), Side::new(other)];
    let entries = sides.iter().flat_map(|side| &side.set.entries);
    let entries: Vec<&Entry> = entries.collect();
    let is_own = |caller: &SpiffeId| one.callee.is(caller) || other.callee.is(caller);
    let app = one.app;
    let mut left = MOST_REQUESTS;
    let mut result = Ok(());
    for caller in callers(&entries, is_own)? {
        let met: Vec<_> = sides.iter().flat_map(|side| side.met(&caller)).collect();
        let trees: Vec<Tree<'_>> = met.iter().map(|(tree, _)| *tree).collect();
        let verbs = verbs(app, met.iter().flat_map(|(_, rules)| *rules));
        let Ok(paths) = paths(&trees) else {
            // The other callers may still show a difference.
            result = Err(TooMuch);
            continue;
        };
        left = left.checked_sub(paths.len() * verbs.len()).ok_or(TooMuch)?;
        let views = [one.peer(&caller), other.peer(&caller)];
        for path in &paths {
            let spelled = Spelled::new(app, path);
            for verb in &verbs {
                let question = spelled.ask(app, *verb);
                let sample = || Sample {
                    caller: Some(caller.clone()),
                    verb: *verb,
                    path: path.clone(),
                };
                let [one, other] = &views;
                show(&sample, [one.decide(question), other.decide(question)]);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests;
