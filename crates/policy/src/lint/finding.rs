//! From what was seen of the rules to findings in words.

use super::{Check, Code, Finding, Lint, RuleSeen, Seen};
use crate::{
    AppKind, RuleId, Verb, VerbSet,
    engine::forest::Rule,
    explain::Place,
    object::{Entry, Object, Style},
    survey::{Sample, Spelled, is_legal},
};

/// A route that the sidecar asks the app for its settings.
const APP_ROUTE: &str = "/dapr/config";

/// A finding about one rule, without its place.
struct Found {
    code: Code,
    message: String,
    example: Option<Sample>,
}

// === impl Check ===

impl Check<'_> {
    /// Puts everything into words.
    pub(super) fn lint(&self) -> Lint {
        let mut findings: Vec<((u32, u32, u32), Finding)> = Vec::new();
        for (entry, seen) in self.set.entries.iter().zip(&self.entries) {
            let Some(object) = self.object(entry) else {
                continue;
            };
            if self.is_complete && seen.caller.is_none() {
                let found = Found {
                    code: Code::Dead,
                    message: "no caller can have this identity".to_owned(),
                    example: None,
                };
                findings.extend(self.place(entry, None, found));
                continue;
            }
            for rule in seen.rules.iter().filter(|_| seen.is_tried) {
                let found = self.rule(object, entry, seen, rule);
                findings.extend(
                    found.and_then(|found| self.place(entry, Some(rule.rule.operation), found)),
                );
            }
        }
        findings.extend(self.replaced());
        findings.extend(self.notes());
        findings.sort_by_key(|(place, _)| *place);
        Lint {
            findings: findings.into_iter().map(|(_, finding)| finding).collect(),
            is_complete: self.is_complete,
        }
    }

    fn place(
        &self,
        entry: &Entry,
        operation: Option<u32>,
        found: Found,
    ) -> Option<((u32, u32, u32), Finding)> {
        let id = RuleId {
            object: entry.object,
            entry: Some(entry.index),
            operation,
        };
        self.finding(id, found)
    }

    fn finding(&self, id: RuleId, found: Found) -> Option<((u32, u32, u32), Finding)> {
        let place = self.place_of(id)?;
        let finding = Finding {
            object: place.object().into(),
            pointer: place.to_string(),
            code: found.code,
            message: found.message,
            example: found.example,
            other: None,
        };
        let last = |number: Option<u32>| number.map_or(0, |number| number.saturating_add(1));
        Some(((id.object, last(id.entry), last(id.operation)), finding))
    }

    fn place_of(&self, rule: RuleId) -> Option<Place<'_>> {
        let object = self.set.objects.get(rule.object as usize)?;
        Some(Place { object, rule })
    }

    fn rule(&self, object: &Object, entry: &Entry, seen: &Seen, rule: &RuleSeen) -> Option<Found> {
        if !rule.matched {
            return Some(self.dead(object, rule));
        }
        if !rule.answers {
            return Some(self.lost(object, seen, rule));
        }
        if !rule.decides && !rule.has_effect && seen.is_tried_whole {
            return Some(self.unreachable(entry, rule));
        }
        self.contradiction(object, seen, rule)
            .or_else(|| literal_star(object, seen, rule))
    }

    fn dead(&self, object: &Object, rule: &RuleSeen) -> Found {
        let segments = || rule.pattern.split('/').skip(1);
        let is_odd = |c: char| matches!(c, '#' | '?') || c.is_ascii_control();
        let is_http = self.set.app == AppKind::Http;
        let why = if is_http && rule.rule.verbs.is_empty() {
            "it names no HTTP verb: write upper-case verbs or `*`"
        } else if rule.pattern.contains(is_odd) {
            "paths with `#`, `?` or a control character are refused"
        } else if segments().any(|one| matches!(one, "." | "..")) {
            "paths have no `.` and `..` segments"
        } else if object.style != Style::Specific && rule.pattern.ends_with('/') {
            "paths have no slash at the end"
        } else {
            "paths have no empty segments"
        };
        Found {
            code: Code::Dead,
            message: format!("no request can match: {why}{}", hidden(rule)),
            example: None,
        }
    }

    fn lost(&self, object: &Object, seen: &Seen, rule: &RuleSeen) -> Found {
        let (sample, by) = rule.lost.clone().unzip();
        let by = by.flatten();
        let by = by.and_then(|by| seen.rules.iter().find(|one| one.rule.operation == by));
        let Some(by) = by else {
            return Found {
                code: Code::Shadowed,
                message: format!(
                    "rules before it send every request that it matches another way, and no rule decides{}",
                    hidden(rule)
                ),
                example: sample,
            };
        };
        let is_same_path = by.node == rule.node && by.rule.exact == rule.rule.exact;
        let covers = self.verbs(&rule.rule).iter();
        let mut covers = covers.map(|verb| self.counts(&by.rule, verb));
        let is_same = is_same_path && covers.all(|covers| covers);
        let name = format!("operations/{} (`{}`)", by.rule.operation, by.pattern);
        let (code, message) = if is_same && by.rule.allows == rule.rule.allows {
            (Code::Duplicate, format!("{name} says the same"))
        } else if is_same {
            let which = if object.style == Style::Specific {
                "a denial wins"
            } else {
                "the first one wins"
            };
            (
                Code::Contradiction,
                format!("{name} says the opposite, and {which}"),
            )
        } else if is_same_path && object.style != Style::Specific {
            (
                Code::Shadowed,
                format!("never decides: {name} is for the same path, and only the first counts"),
            )
        } else if object.style == Style::Specific {
            (
                Code::Shadowed,
                format!(
                    "never decides: more specific rules cover every request that it matches, such as {name}"
                ),
            )
        } else {
            (
                Code::Shadowed,
                format!(
                    "never decides: rules that are found first cover every request that it matches, such as {name}"
                ),
            )
        };
        Found {
            code,
            message: message + &hidden(rule),
            example: sample,
        }
    }

    fn unreachable(&self, entry: &Entry, rule: &RuleSeen) -> Found {
        let (sample, by) = rule.overruled.clone().unzip();
        let place = by.flatten().and_then(|by| {
            let place = self.place_of(by)?;
            let is_near = by.object == entry.object;
            Some(if is_near {
                place.to_string()
            } else {
                format!("{} {place}", place.object())
            })
        });
        let message = match (place, &sample) {
            (Some(place), _) => {
                format!("never decides: other objects or entries do before it, such as {place}")
            }
            (None, Some(_)) => "never decides: other objects or entries do before it".to_owned(),
            (None, None) => {
                "never decides: rules of objects are not asked when the app calls itself".to_owned()
            }
        };
        Found {
            code: Code::Unreachable,
            message,
            example: sample,
        }
    }

    /// A rule that does decide, but not all that it names.
    fn contradiction(&self, object: &Object, seen: &Seen, rule: &RuleSeen) -> Option<Found> {
        // In the way of the reference a second rule for a path never decides at all.
        if object.style != Style::Specific || !rule.rule.allows {
            return None;
        }
        let by = seen.rules.iter().find(|by| {
            by.node == rule.node
                && by.rule.exact == rule.rule.exact
                && !by.rule.allows
                && self.shared(&by.rule, &rule.rule).next().is_some()
        })?;
        let verbs: Vec<&str> = self
            .shared(&by.rule, &rule.rule)
            .map(Verb::as_str)
            .collect();
        let message = format!(
            "operations/{} (`{}`) says the opposite for {}, and a denial wins",
            by.rule.operation,
            by.pattern,
            verbs.join(", ")
        );
        let (example, _) = rule.lost.clone().unzip();
        Some(Found {
            code: Code::Contradiction,
            message,
            example,
        })
    }

    fn shared<'r>(&'r self, one: &'r Rule, other: &'r Rule) -> impl Iterator<Item = Verb> + 'r {
        let verbs = self.verbs(one).iter();
        verbs.filter(|verb| self.counts(other, *verb))
    }

    /// The verbs that tell something here.
    fn verbs(&self, rule: &Rule) -> VerbSet {
        match self.set.app {
            AppKind::Http => rule
                .verbs
                .iter()
                .filter(|verb| *verb != Verb::None)
                .collect(),
            AppKind::Grpc => VerbSet::NONE.with(Verb::None),
        }
    }

    fn replaced(&self) -> impl Iterator<Item = ((u32, u32, u32), Finding)> {
        self.set.replaced.iter().filter_map(|one| {
            let id = RuleId {
                object: one.object,
                entry: Some(one.index),
                operation: None,
            };
            let found = Found {
                code: Code::Replaced,
                message: format!(
                    "does not count: policies/{} is for the same appId and namespace, and the last one does",
                    one.by
                ),
                example: None,
            };
            self.finding(id, found)
        })
    }

    fn notes(&self) -> Vec<((u32, u32, u32), Finding)> {
        let mut notes = Vec::new();
        for overlap in &self.overlaps {
            let Some(denying) = self.place_of(overlap.denying) else {
                continue;
            };
            let found = Found {
                code: Code::Overlap,
                message: format!(
                    "{} {denying} says the opposite of some requests, and a denial wins",
                    denying.object()
                ),
                example: Some(overlap.sample.clone()),
            };
            let note = self.finding(overlap.allowing, found);
            notes.extend(note.map(|(place, finding)| {
                let other = Some(denying.object().into());
                (place, Finding { other, ..finding })
            }));
        }
        notes.extend(self.app_routes());
        notes
    }

    /// The first entry by which a caller may ask for the settings of the app.
    fn app_routes(&self) -> Option<((u32, u32, u32), Finding)> {
        if self.set.app != AppKind::Http {
            return None;
        }
        let callers = self.entries.iter().filter_map(|seen| seen.caller.as_ref());
        callers.into_iter().find_map(|caller| {
            let spelled = Spelled::new(self.set.app, APP_ROUTE);
            let question = spelled.ask(self.set.app, Verb::Get);
            let verdict = self.set.peer(caller).decide(question).verdict;
            let by = verdict.matched().rule.filter(|_| verdict.is_allowed())?;
            let found = Found {
                code: Code::AppRoutes,
                message: "opens the routes below /dapr too, which are for the app's own sidecar: deny `/dapr/**`"
                    .to_owned(),
                example: Some(Sample {
                    caller: Some(caller.clone()),
                    verb: Verb::Get,
                    path: APP_ROUTE.to_owned(),
                }),
            };
            self.finding(by, found)
        })
    }
}

/// That a rule which decides nothing is in the way all the same.
fn hidden(rule: &RuleSeen) -> String {
    match &rule.hides {
        Some(path) => format!("; yet it hides other rules from `{path}`: remove it"),
        None => String::new(),
    }
}

/// A lone `*` before the end, which the reference takes for the character.
fn literal_star(object: &Object, seen: &Seen, rule: &RuleSeen) -> Option<Found> {
    let segments: Vec<&str> = rule.pattern.split('/').collect();
    let (_, before) = segments.split_last()?;
    if object.style == Style::Specific || !before.contains(&"*") {
        return None;
    }
    let instance: Vec<&str> = segments
        .iter()
        .map(|one| if is_legal(one) { *one } else { "" })
        .collect();
    Some(Found {
        code: Code::LiteralStar,
        message: "matches only the character `*` where it has one before the end".to_owned(),
        example: Some(Sample {
            caller: seen.caller.clone(),
            verb: rule
                .rule
                .verbs
                .iter()
                .find(|verb| *verb != Verb::None)
                .unwrap_or(Verb::None),
            path: instance.join("/"),
        }),
    })
}
