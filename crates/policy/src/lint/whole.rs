//! What becomes of rules among the other entries and objects of a set.

use ironside_identity::SpiffeId;

use super::Check;
use crate::{
    RuleId, Verb,
    engine::forest::{Forest, NodeId},
    object::{Answer, Entry, Question, Style},
    survey::{Sample, Spelled, paths, verbs},
};

/// Two objects that say different things about one request, both on purpose.
#[derive(Clone, Debug)]
pub(super) struct Overlap {
    pub(super) allowing: RuleId,
    pub(super) denying: RuleId,
    pub(super) sample: Sample,
}

/// Yes or no, and the rule if one says it: the default of one entry is as good as that of another.
fn told(answer: Option<Answer>) -> Option<(bool, Option<RuleId>)> {
    let answer = answer?;
    let rule = answer.matched.rule;
    Some((answer.allows, rule.filter(|rule| rule.operation.is_some())))
}

/// An entry with other rules.
struct Changed {
    at: usize,
    forest: Forest,
    root: NodeId,
}

impl Check<'_> {
    /// Tries the whole set for every caller.
    pub(super) fn whole(&mut self) {
        for seen in &mut self.entries {
            seen.is_tried_whole = seen.is_tried && self.is_complete;
        }
        for caller in self.callers.clone() {
            let met = self.met(&caller);
            if let [only] = met.as_slice() {
                // Nothing else speaks here: what it answers is the decision.
                if let Some(seen) = self.entries.get_mut(*only) {
                    for rule in &mut seen.rules {
                        rule.decides |= rule.answers;
                    }
                }
                continue;
            }
            if !met.is_empty() && !self.try_caller(&caller, &met) {
                self.is_complete = false;
                for at in met {
                    if let Some(seen) = self.entries.get_mut(at) {
                        seen.is_tried_whole = false;
                    }
                }
            }
        }
        self.try_without_effect();
    }

    /// The entries that are asked for this caller, the most specific of each object first.
    fn met(&self, caller: &SpiffeId) -> Vec<usize> {
        let is_own = self.set.callee.is(caller);
        let mut met: Vec<(usize, &Entry)> = Vec::new();
        for (at, entry) in self.set.entries.iter().enumerate() {
            let style = self.object(entry).map(|object| object.style);
            if entry.names(caller) && (!is_own || style == Some(Style::Block)) {
                met.push((at, entry));
            }
        }
        met.sort_by_key(|(_, entry)| (entry.object, std::cmp::Reverse(entry.rank())));
        met.into_iter().map(|(at, _)| at).collect()
    }

    /// Everything that a caller who meets these entries may ask.
    fn asked(&self, met: &[usize]) -> Option<(Vec<String>, Vec<Verb>)> {
        let entries = met.iter().filter_map(|at| self.set.entries.get(*at));
        let trees: Vec<_> = entries.map(|entry| self.tree(entry)).collect();
        let rules = met.iter().filter_map(|at| self.entries.get(*at));
        let rules = rules.flat_map(|seen| seen.rules.iter().map(|seen| &seen.rule));
        Some((paths(&trees).ok()?, verbs(self.set.app, rules)))
    }

    fn try_caller(&mut self, caller: &SpiffeId, met: &[usize]) -> bool {
        let Some((paths, verbs)) = self.asked(met) else {
            return false;
        };
        if !self.spend(paths.len() * verbs.len()) {
            return false;
        }
        for path in &paths {
            let spelled = Spelled::new(self.set.app, path);
            for verb in &verbs {
                let sample = Sample {
                    caller: Some(caller.clone()),
                    verb: *verb,
                    path: path.clone(),
                };
                self.try_request(met, &spelled.ask(self.set.app, *verb), &sample);
            }
        }
        true
    }

    fn try_request(&mut self, met: &[usize], question: &Question<'_>, sample: &Sample) {
        let answers = self.answers(met, question, None);
        let deciding = self.deciding(&answers);
        let rule_of = |answer: &Option<Answer>| answer.and_then(|answer| answer.matched.rule);
        let deciding: Vec<Option<RuleId>> = deciding.iter().map(rule_of).collect();
        for rule in deciding.iter().flatten() {
            if let Some(seen) = self.rule_mut(*rule) {
                seen.decides = true;
            }
        }
        for (_, answer) in &answers {
            if let Some(rule) = answer.matched.rule
                && !deciding.contains(&Some(rule))
                && let Some(seen) = self.rule_mut(rule)
                && seen.overruled.is_none()
            {
                let by = deciding.first().copied().flatten();
                seen.overruled = Some((sample.clone(), by));
            }
        }
        self.overlap(&answers, sample);
    }

    /// What each object answers, in order; one entry may have another tree.
    fn answers(
        &self,
        met: &[usize],
        question: &Question<'_>,
        changed: Option<&Changed>,
    ) -> Vec<(u32, Answer)> {
        let mut answers: Vec<(u32, Answer)> = Vec::new();
        for at in met {
            let Some(entry) = self.set.entries.get(*at) else {
                continue;
            };
            let Some(object) = self.object(entry) else {
                continue;
            };
            if answers
                .last()
                .is_some_and(|(last, _)| *last == entry.object)
            {
                continue;
            }
            let changed = changed.filter(|changed| changed.at == *at);
            let answer = match changed {
                Some(Changed { forest, root, .. }) => {
                    entry.ask_tree(object.style, forest, *root, *question)
                }
                None => entry.ask(object.style, &self.set.forest, *question),
            };
            answers.extend(answer.map(|answer| (entry.object, answer)));
        }
        answers
    }

    /// What decides: without the objects under audit, and with them if there are any (rule M4).
    fn deciding(&self, answers: &[(u32, Answer)]) -> Vec<Option<Answer>> {
        let is_audit = |id: &u32| {
            let object = self.set.objects.get(*id as usize);
            object.is_some_and(|object| object.is_audit)
        };
        let first = |allows, with_audit| {
            let mut answers = answers.iter();
            answers.find(|(object, answer)| {
                answer.allows == allows && (with_audit || !is_audit(object))
            })
        };
        let decide = |with_audit| {
            let first = first(false, with_audit).or_else(|| first(true, with_audit));
            first.map(|(_, answer)| *answer)
        };
        let has_audit = self.set.objects.iter().any(|object| object.is_audit);
        let audits: &[bool] = if has_audit { &[false, true] } else { &[false] };
        audits
            .iter()
            .map(|with_audit| decide(*with_audit))
            .collect()
    }

    /// Finds which of the rules that answer and never decide may go without any effect.
    fn try_without_effect(&mut self) {
        for at in 0..self.entries.len() {
            let seen = self.entries.get(at).filter(|seen| seen.is_tried_whole);
            let rules = seen.map(|seen| seen.rules.as_slice()).unwrap_or_default();
            let rules = rules.iter().enumerate();
            let idle: Vec<usize> = rules
                .filter(|(_, rule)| rule.answers && !rule.decides)
                .map(|(index, _)| index)
                .collect();
            for index in idle {
                let effect = self.has_effect(at, index);
                let seen = self.entries.get_mut(at);
                if let Some(rule) = seen.and_then(|seen| seen.rules.get_mut(index)) {
                    // Not known counts as an effect: nothing is said of it.
                    rule.has_effect = effect.unwrap_or(true);
                    self.is_complete &= effect.is_some();
                }
            }
        }
    }

    fn has_effect(&mut self, at: usize, index: usize) -> Option<bool> {
        let (forest, root) = self.without(at, index)?;
        let changed = Changed { at, forest, root };
        for caller in &self.callers.clone() {
            let met = self.met(caller);
            if !met.contains(&at) {
                continue;
            }
            let (paths, verbs) = self.asked(&met)?;
            if !self.spend(paths.len() * verbs.len()) {
                return None;
            }
            for path in &paths {
                let spelled = Spelled::new(self.set.app, path);
                for verb in &verbs {
                    let question = spelled.ask(self.set.app, *verb);
                    let with = self.deciding(&self.answers(&met, &question, None));
                    let without = self.deciding(&self.answers(&met, &question, Some(&changed)));
                    let mut pairs = with.into_iter().zip(without);
                    if pairs.any(|(with, without)| told(with) != told(without)) {
                        return Some(true);
                    }
                }
            }
        }
        Some(false)
    }

    /// Notes objects of which one allows what the other denies.
    fn overlap(&mut self, answers: &[(u32, Answer)], sample: &Sample) {
        let is_enforced = |id: &u32| {
            let object = self.set.objects.get(*id as usize);
            object.is_some_and(|object| !object.is_audit)
        };
        let answers = answers.iter().filter(|(object, _)| is_enforced(object));
        let answers: Vec<&(u32, Answer)> = answers.collect();
        let of = |allows| answers.iter().filter(move |(_, one)| one.allows == allows);
        for (allowing_object, allowing) in of(true) {
            for (denying_object, denying) in of(false) {
                let is_known = self.overlaps.iter().any(|known| {
                    known.allowing.object == *allowing_object
                        && known.denying.object == *denying_object
                });
                let rules = allowing.matched.rule.zip(denying.matched.rule);
                if let Some((allowing, denying)) = rules.filter(|_| !is_known) {
                    self.overlaps.push(Overlap {
                        allowing,
                        denying,
                        sample: sample.clone(),
                    });
                }
            }
        }
    }

    fn rule_mut(&mut self, rule: RuleId) -> Option<&mut super::RuleSeen> {
        let at = self.places.get(&(rule.object, rule.entry?))?;
        let operation = rule.operation?;
        let seen = self.entries.get_mut(*at)?;
        let mut rules = seen.rules.iter_mut();
        rules.find(|seen| seen.rule.operation == operation)
    }
}
