//! What becomes of rules among the other rules of their entry.

use super::Check;
use crate::{
    AppKind, Verb,
    engine::{
        Fold, compatible,
        forest::{Builder, Forest, NodeId, Order, Rule},
        relative, specific,
    },
    object::{Entry, Question, Style},
    survey::{Sample, Spelled, paths, verbs},
};

impl Check<'_> {
    /// Tries every entry by itself.
    pub(super) fn entries(&mut self) {
        for caller in &self.callers {
            for (entry, seen) in self.set.entries.iter().zip(&mut self.entries) {
                if seen.caller.is_none() && entry.names(caller) {
                    seen.caller = Some(caller.clone());
                }
            }
        }
        for (at, entry) in self.set.entries.iter().enumerate() {
            let Ok(paths) = paths(&[self.tree(entry)]) else {
                self.is_complete = false;
                continue;
            };
            let Some(style) = self.object(entry).map(|object| object.style) else {
                continue;
            };
            self.try_entry(at, entry, style, &paths);
            if style != Style::Specific {
                self.try_without(at, entry, &paths);
            }
        }
    }

    fn try_entry(&mut self, at: usize, entry: &Entry, style: Style, paths: &[String]) {
        let Some(seen) = self.entries.get(at) else {
            return;
        };
        let verbs = verbs(self.set.app, seen.rules.iter().map(|seen| &seen.rule));
        let caller = seen.caller.clone();
        if !self.spend(paths.len() * verbs.len()) {
            return;
        }
        for path in paths {
            let spelled = Spelled::new(self.set.app, path);
            let alone = self.alone(entry, style, &spelled.ask(self.set.app, Verb::None));
            for verb in &verbs {
                let question = spelled.ask(self.set.app, *verb);
                let answer = entry.ask(style, &self.set.forest, question);
                let decided = answer.and_then(|answer| answer.matched.rule?.operation);
                // What stands in the way, even if it then leaves the request to the default.
                let first = decided.or_else(|| self.found(entry, style, &question));
                let app = self.set.app;
                let Some(seen) = self.entries.get_mut(at) else {
                    return;
                };
                for seen in &mut seen.rules {
                    let counts = app == AppKind::Grpc || seen.rule.verbs.contains(*verb);
                    if !counts || !alone.contains(&seen.rule.operation) {
                        continue;
                    }
                    seen.matched = true;
                    if decided == Some(seen.rule.operation) {
                        seen.answers = true;
                    } else if seen.lost.is_none() {
                        let sample = Sample {
                            caller: caller.clone(),
                            verb: *verb,
                            path: path.clone(),
                        };
                        seen.lost = Some((sample, first));
                    }
                }
            }
        }
        if let Some(seen) = self.entries.get_mut(at) {
            seen.is_tried = true;
        }
    }

    /// The rules that match if each is the only one, whatever their verbs.
    fn alone(&self, entry: &Entry, style: Style, question: &Question<'_>) -> Vec<u32> {
        let forest = &self.set.forest;
        let mut found = Vec::new();
        match style {
            Style::Block | Style::Compatible => {
                let path = relative(question.paths.compatible);
                compatible::any_alone(forest, entry.root, path, self.fold(), |_, node| {
                    found.extend(forest.rules(node).iter().map(|rule| rule.operation));
                    false
                });
            }
            Style::Specific => {
                let path = relative(question.paths.specific);
                specific::any_alone(forest, entry.root, path, self.fold(), |_, _, rule| {
                    found.push(rule.operation);
                    false
                });
            }
        }
        found
    }

    fn found(&self, entry: &Entry, style: Style, question: &Question<'_>) -> Option<u32> {
        if style == Style::Specific {
            return None;
        }
        let path = relative(question.paths.compatible);
        let rule = compatible::find(&self.set.forest, entry.root, path, self.fold());
        rule.map(|rule| rule.operation)
    }

    fn fold(&self) -> Fold {
        match self.set.app {
            AppKind::Http => Fold::Ascii,
            AppKind::Grpc => Fold::Exact,
        }
    }

    /// Takes each rule that answers nothing away: in the way of the reference it may still hide others.
    fn try_without(&mut self, at: usize, entry: &Entry, paths: &[String]) {
        let Some(seen) = self.entries.get(at).filter(|seen| seen.is_tried) else {
            return;
        };
        let verbs = verbs(self.set.app, seen.rules.iter().map(|seen| &seen.rule));
        let idle = seen.rules.iter().enumerate();
        let idle: Vec<usize> = idle
            .filter(|(_, seen)| !seen.answers)
            .map(|(index, _)| index)
            .collect();
        for index in idle {
            if !self.spend(paths.len()) {
                return;
            }
            let Some((forest, root)) = self.without(at, index) else {
                continue;
            };
            let hides = paths.iter().find(|path| {
                let path = Spelled::new(self.set.app, path).folded;
                let path = relative(&path);
                let with = compatible::find(&self.set.forest, entry.root, path, self.fold());
                let without = compatible::find(&forest, root, path, self.fold());
                let answer = |rule: Option<&Rule>, verb| {
                    let rule = rule.filter(|rule| self.counts(rule, verb));
                    rule.map(|rule| rule.operation)
                };
                let mut verbs = verbs.iter();
                verbs.any(|verb| answer(with, *verb) != answer(without, *verb))
            });
            let hides = hides.cloned();
            let seen = self.entries.get_mut(at);
            if let Some(rule) = seen.and_then(|seen| seen.rules.get_mut(index)) {
                rule.hides = hides;
            }
        }
    }

    /// The tree of an entry, one rule left out.
    pub(super) fn without(&self, at: usize, index: usize) -> Option<(Forest, NodeId)> {
        let style = self.object(self.set.entries.get(at)?)?.style;
        let order = match style {
            Style::Block | Style::Compatible => Order::Written,
            Style::Specific => Order::Rank,
        };
        let mut builder = Builder::default();
        let root = builder.root(order);
        for (other, seen) in self.entries.get(at)?.rules.iter().enumerate() {
            if other != index {
                let path = seen.pattern.strip_prefix('/')?;
                // The root is the path without segments; the reference has an empty one there.
                let is_segment = |segment: &&str| style != Style::Specific || !segment.is_empty();
                builder.insert(root, path.split('/').filter(is_segment), seen.rule);
            }
        }
        Some((builder.build(), root))
    }
}
