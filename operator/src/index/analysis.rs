//! What can be said of rules without running them: which do nothing, which contradict, what the other matcher says.
//!
//! Pure, and slow for the largest objects: called away from everything that waits. Bounded: what was too much is
//! said to be unknown, never guessed. Apps are told apart by which objects apply to them, so that a thousand apps
//! under one object cost as much as one. Source: security 4.2, 4.5 (M9), 4.7.

use super::status::{Aspect, Truth};
use ironside_identity::{AppId, Namespace, TrustDomain};
use ironside_policy::{
    AppKind, Block, Callee, Code, Equivalence, Input, Namespaces, PolicySet, equivalence,
};
use ironside_resources::AccessControl;
use ironside_resources::access_control::{LintEntry, Mode};
use ironside_resources::configuration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Findings of one status (security 4.2).
const MAX_LINT: usize = 16;
/// Longest text of a finding, in bytes.
const MAX_TEXT: usize = 512;
/// Requests that are tried for one set; some hundred milliseconds.
const MAX_REQUESTS: usize = 400_000;
/// Sets of one namespace that are looked at.
const MAX_SETS: usize = 64;
/// Names that a message lists.
const MAX_NAMED: usize = 5;

/// What is known of one object by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alone {
    pub(crate) lint: Vec<LintEntry>,
    pub(crate) equivalent: Aspect,
}

/// An app of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct App {
    pub(crate) app_id: Arc<str>,
    pub(crate) is_grpc: bool,
    /// The Configuration with a block that it runs with.
    pub(crate) config: Option<Arc<str>>,
}

/// What is looked at together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Together {
    pub(crate) namespace: Arc<str>,
    pub(crate) objects: Vec<Arc<AccessControl>>,
    /// Blocks of Configurations, by name.
    pub(crate) blocks: BTreeMap<Arc<str>, Arc<configuration::AccessControl>>,
    pub(crate) apps: BTreeSet<App>,
}

/// Looks at an object by itself, as apps of this kind see it.
pub(crate) fn alone(object: &AccessControl, kind: AppKind) -> Alone {
    Alone {
        lint: lint(object, kind),
        equivalent: equivalent(object, kind),
    }
}

fn lint(object: &AccessControl, kind: AppKind) -> Vec<LintEntry> {
    let mut object = object.clone();
    // One under audit is to be looked at like any other.
    object.spec.mode = Mode::Enforce;
    let app_id = object
        .scopes
        .first()
        .cloned()
        .unwrap_or_else(|| "app".to_owned());
    let namespace = object.namespace.clone();
    let Some(set) = compiled(&namespace, (&app_id, kind), &[object], None) else {
        return Vec::new();
    };
    let findings = set.lint_within(MAX_REQUESTS).findings.into_iter();
    let findings = findings.filter(|finding| finding.code != Code::AppRoutes);
    let entry = |finding: ironside_policy::Finding| LintEntry {
        rule: finding.pointer,
        code: finding.code.as_str().to_owned(),
        message: match finding.example {
            Some(example) => bounded(format!("{} (for example {example})", finding.message)),
            None => bounded(finding.message),
        },
    };
    findings.take(MAX_LINT).map(entry).collect()
}

fn equivalent(object: &AccessControl, kind: AppKind) -> Aspect {
    match equivalence(object, kind) {
        Equivalence::Equivalent => Aspect::new(
            Truth::True,
            "Equivalent",
            "both values of evaluation decide alike".to_owned(),
        ),
        Equivalence::Diverges(found) => {
            let first = found.first().map(|first| {
                format!(
                    "{}: DaprCompatible says {}, MostSpecific {}",
                    first.sample, first.compatible, first.specific
                )
            });
            Aspect::new(Truth::False, "Diverges", bounded(first.unwrap_or_default()))
        }
        Equivalence::NotComputed => Aspect::new(
            Truth::Unknown,
            "NotComputed",
            "there are too many requests to try".to_owned(),
        ),
    }
}

/// Which objects of a namespace contradict which others, or the block of a Configuration, by name.
pub(crate) fn together(all: &Together) -> BTreeMap<String, Aspect> {
    let mut found: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    let mut sets = BTreeSet::new();
    // An app that no object names stands for all others of its kind.
    let nobody = App {
        app_id: "any-other-app".into(),
        is_grpc: false,
        config: None,
    };
    for app in all.apps.iter().chain([&nobody]) {
        let is_for = |object: &&Arc<AccessControl>| {
            object.spec.mode == Mode::Enforce
                && (object.scopes.is_empty()
                    || object.scopes.iter().any(|scope| **scope == *app.app_id))
        };
        let own: Vec<&Arc<AccessControl>> = all.objects.iter().filter(is_for).collect();
        let block = app
            .config
            .as_ref()
            .and_then(|name| all.blocks.get_key_value(name));
        let names: Vec<String> = own.iter().map(|object| object.name.clone()).collect();
        if own.len() + usize::from(block.is_some()) < 2 {
            continue;
        }
        let set = (
            names.clone(),
            block.map(|(name, _)| Arc::clone(name)),
            app.is_grpc,
        );
        if !sets.insert(set) {
            continue;
        }
        if sets.len() > MAX_SETS {
            unknown.extend(names);
            continue;
        }
        let kind = if app.is_grpc {
            AppKind::Grpc
        } else {
            AppKind::Http
        };
        let owned: Vec<AccessControl> = own
            .iter()
            .map(|object| AccessControl::clone(object))
            .collect();
        let block = block.map(|(name, spec)| Block {
            name,
            spec,
            is_strict: false,
        });
        let lint = compiled(&all.namespace, (&app.app_id, kind), &owned, block)
            .map(|set| set.lint_within(MAX_REQUESTS));
        let Some(lint) = lint else {
            unknown.extend(names);
            continue;
        };
        if !lint.is_complete {
            unknown.extend(names);
        }
        for finding in lint.findings {
            let (Some(other), Some(example)) = (finding.other, finding.example) else {
                continue;
            };
            let pair = [finding.object.to_string(), other.to_string()];
            for (one, other) in [(0, 1), (1, 0)] {
                let (Some(one), Some(other)) = (pair.get(one), pair.get(other)) else {
                    continue;
                };
                let others = found.entry(one.clone()).or_default();
                others
                    .entry(other.clone())
                    .or_insert_with(|| example.to_string());
            }
        }
    }
    let objects = all.objects.iter();
    let told = objects.map(|object| {
        let full = format!("{}/{}", all.namespace, object.name);
        let aspect = conflicted(found.get(&full), unknown.contains(&object.name));
        (object.name.clone(), aspect)
    });
    told.collect()
}

fn conflicted(others: Option<&BTreeMap<String, String>>, is_unknown: bool) -> Aspect {
    match others {
        Some(others) => {
            let named = others.iter().take(MAX_NAMED);
            let named = named.map(|(name, example)| format!("{name} (for example {example})"));
            let mut text = named.collect::<Vec<_>>().join(", ");
            if others.len() > MAX_NAMED {
                text.push_str(&format!(" and {} more", others.len() - MAX_NAMED));
            }
            let text = format!("one allows what the other denies, and a denial wins: {text}");
            Aspect::new(Truth::True, "OverlapsWith", bounded(text))
        }
        None if is_unknown => Aspect::new(
            Truth::Unknown,
            "NotComputed",
            "there are too many requests to try".to_owned(),
        ),
        None => Aspect::new(
            Truth::False,
            "NoOverlap",
            "no other rules say the opposite".to_owned(),
        ),
    }
}

fn compiled(
    namespace: &str,
    (app_id, app): (&str, AppKind),
    objects: &[AccessControl],
    block: Option<Block<'_>>,
) -> Option<PolicySet> {
    let callee = Callee {
        app_id: AppId::parse(app_id).ok()?,
        namespace: Namespace::parse(namespace).ok()?,
        trust_domain: TrustDomain::default(),
        app,
    };
    let set = PolicySet::compile(&Input {
        callee: &callee,
        block,
        objects,
        refused: &[],
        namespaces: Namespaces::Own,
        deny_by_default: false,
    });
    set.ok()
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT - 4));
        text.push_str(" ...");
    }
    text
}
