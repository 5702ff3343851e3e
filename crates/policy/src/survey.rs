//! Requests that stand for all others: where two requests are not told apart by any rule, one is enough.
//!
//! Owns the choice of callers, verbs and paths for which rules are tried out when they are compared or checked
//! (security 4.7). The choice is exact: each way in which the patterns of a place can or cannot match together has
//! its witness. Work is bounded; over the bound there is no answer. Readings of a path are requests of their own,
//! and a request that hides its verb can only be denied more, so neither is chosen here.

mod caller;
mod path;
mod segment;

use ironside_identity::SpiffeId;

use crate::{
    AppKind, Form, Verb, VerbSet,
    engine::{forest::Rule, reading},
    object::{Paths, Question},
};

pub(crate) use caller::callers;
pub(crate) use path::{Children, Tree, paths};
pub(crate) use segment::is_legal;

/// Most paths for one caller (security 4.7).
pub(crate) const MOST_PATHS: usize = 4096;
/// Most callers.
pub(crate) const MOST_CALLERS: usize = 4096;
/// Longest list of paths, in bytes: names in a block have no bound.
const MOST_BYTES: usize = 4 << 20;
/// Most steps towards the witnesses of one place: many stars in one segment multiply.
const MOST_STEPS: usize = 100_000;
/// Most requests of one check, so that it takes seconds at worst.
pub(crate) const MOST_REQUESTS: usize = 4_000_000;

/// Too much to try out within the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuch;

/// A request that stands for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Who calls; `None` is a caller without identity.
    pub caller: Option<SpiffeId>,
    /// The verb; [`Verb::None`] for an app that does not speak HTTP.
    pub verb: Verb,
    /// The path, with its leading slash.
    pub path: String,
}

/// Returns one verb of each kind that the rules tell apart.
pub(crate) fn verbs<'a>(app: AppKind, rules: impl Iterator<Item = &'a Rule>) -> Vec<Verb> {
    if app == AppKind::Grpc {
        return vec![Verb::None];
    }
    let mut sets: Vec<VerbSet> = Vec::new();
    for rule in rules {
        if !sets.contains(&rule.verbs) {
            sets.push(rule.verbs);
        }
    }
    let mut chosen: Vec<(Vec<bool>, Verb)> = Vec::new();
    for verb in VerbSet::EVERY.iter().filter(|verb| *verb != Verb::None) {
        let kind: Vec<bool> = sets.iter().map(|set| set.contains(verb)).collect();
        if chosen.iter().all(|(known, _)| *known != kind) {
            chosen.push((kind, verb));
        }
    }
    chosen.into_iter().map(|(_, verb)| verb).collect()
}

/// A path with the spelling that each kind of object sees.
pub(crate) struct Spelled<'a> {
    path: &'a str,
    pub(crate) folded: String,
}

impl<'a> Spelled<'a> {
    pub(crate) fn new(app: AppKind, path: &'a str) -> Self {
        let mut folded = String::new();
        match app {
            AppKind::Http => reading::lower(path, &mut folded),
            AppKind::Grpc => folded.push_str(path),
        }
        Self { path, folded }
    }

    pub(crate) fn ask(&self, app: AppKind, verb: Verb) -> Question<'_> {
        Question {
            app,
            form: Form::Invoke,
            verb,
            paths: Paths {
                specific: self.path,
                compatible: &self.folded,
            },
        }
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { caller, verb, path } = self;
        if *verb != Verb::None {
            write!(f, "{verb} ")?;
        }
        match caller {
            Some(caller) => write!(f, "{path} from {caller}"),
            None => write!(f, "{path} from a caller without identity"),
        }
    }
}

#[cfg(test)]
mod tests;
