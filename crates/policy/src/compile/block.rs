//! The block `accessControl` of a Configuration, and objects that are evaluated like it.
//!
//! Owns the loading rules of security 3.2: what an omitted default means, which of two entries for one caller
//! counts, which letters are folded, and the text with which a start fails.

use std::collections::HashMap;

use ironside_resources::{access_control, configuration};
use thiserror::Error;

use super::{AppKind, Compiler, Replaced, number};
use crate::{
    Verb, VerbSet,
    engine::{
        forest::{Order, Rule},
        reading,
    },
    object::{Entry, Name, Object, Style},
};

/// The block, as files have it.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Name of the Configuration.
    pub name: &'a str,
    /// The block itself.
    pub spec: &'a configuration::AccessControl,
    /// An omitted default denies where there are entries, as the documentation says (fact O-A2).
    pub is_strict: bool,
}

/// Entries lack what they are found by. The text is the reference's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "invalid access control spec. missing trustdomain for apps: [{}], missing namespace for apps: [{}], missing app name on at least one of the app policies: {missing_app}",
    missing_domain.join(" "),
    missing_namespace.join(" ")
)]
pub struct BlockError {
    missing_domain: Vec<Box<str>>,
    missing_namespace: Vec<Box<str>>,
    missing_app: bool,
}

/// An entry of either form.
struct Source<'a> {
    app_id: &'a str,
    namespace: &'a str,
    trust_domain: &'a str,
    allows: Option<bool>,
}

/// A rule of either form.
struct SourceRule<'a> {
    name: &'a str,
    verbs: VerbSet,
    allows: bool,
}

// === impl Block ===

impl Block<'_> {
    /// Whether it says more than the reference's built-in default, which is no block (fact M3).
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        let spec = self.spec;
        spec.default_action.is_some() || !self.policies().is_empty()
    }

    /// Whether an omitted default opens the app although there are entries (fact O-A2).
    #[must_use]
    pub fn is_open_by_omission(&self) -> bool {
        self.spec.default_action.is_none() && !self.policies().is_empty() && !self.is_strict
    }

    fn policies(&self) -> &[configuration::AppPolicy] {
        self.spec.policies.as_deref().unwrap_or_default()
    }

    /// All three keys are empty: no block at all.
    fn is_empty(&self) -> bool {
        let spec = self.spec;
        let is_nothing = |text: &Option<String>| text.as_deref() == Some("");
        is_nothing(&spec.default_action)
            && is_nothing(&spec.trust_domain)
            && self.policies().is_empty()
    }

    fn allows(&self) -> bool {
        match self.spec.default_action.as_deref() {
            None => !self.is_strict || self.policies().is_empty(),
            // Only a file can say so: an empty list allows, everything else denies.
            Some("") => self.spec.policies.as_ref().is_some_and(Vec::is_empty),
            Some(action) => is_allow(action),
        }
    }

    fn check(&self) -> Result<(), BlockError> {
        let lacking = |lacks: fn(&configuration::AppPolicy) -> bool| {
            let policies = self.policies().iter().filter(|policy| lacks(policy));
            policies
                .map(|policy| policy.app_id.as_str().into())
                .collect::<Vec<Box<str>>>()
        };
        let error = BlockError {
            missing_domain: lacking(|policy| policy.trust_domain.is_empty()),
            missing_namespace: lacking(|policy| policy.namespace.is_empty()),
            missing_app: self
                .policies()
                .iter()
                .any(|policy| policy.app_id.is_empty()),
        };
        let is_complete = error.missing_domain.is_empty()
            && error.missing_namespace.is_empty()
            && !error.missing_app;
        if is_complete { Ok(()) } else { Err(error) }
    }
}

/// `allow` in any case; every other word denies.
fn is_allow(action: &str) -> bool {
    action.eq_ignore_ascii_case("allow")
}

/// Only upper-case words count, and no word decides nothing (security 3.7).
fn verbs_of(words: &[String]) -> VerbSet {
    let is_named = |verb: &Verb| {
        words
            .iter()
            .any(|word| word == "*" || word == verb.as_str())
    };
    real_verbs().filter(is_named).collect()
}

/// All but the lack of one.
fn real_verbs() -> impl Iterator<Item = Verb> {
    VerbSet::EVERY.iter().filter(|verb| *verb != Verb::None)
}

/// Which entries count: a later one replaces an earlier one for the same app and namespace.
fn last_of<'a>(
    callers: impl Iterator<Item = (&'a str, &'a str)>,
) -> HashMap<(&'a str, &'a str), usize> {
    callers
        .enumerate()
        .map(|(index, caller)| (caller, index))
        .collect()
}

// === impl Compiler ===

impl Compiler {
    /// Adds the block as the first object.
    pub(super) fn block<'b>(&mut self, block: &'b Block<'_>) -> Result<(), BlockError> {
        block.check()?;
        if !block.is_explicit() || block.is_empty() {
            return Ok(());
        }
        let object = number(self.objects.len());
        self.objects.push(Object {
            name: format!("Configuration/{}", block.name).into(),
            style: Style::Block,
            is_audit: false,
            allows: block.allows(),
            needs_identity: false,
        });
        let key = |policy: &'b configuration::AppPolicy| {
            (policy.app_id.as_str(), policy.namespace.as_str())
        };
        let last = last_of(block.policies().iter().map(key));
        for (index, policy) in block.policies().iter().enumerate() {
            if self.is_replaced(object, index, last.get(&key(policy))) {
                continue;
            }
            let rules = policy.operations.iter().map(|rule| SourceRule {
                name: &rule.name,
                verbs: verbs_of(&rule.http_verb),
                allows: is_allow(&rule.action),
            });
            let action = policy.default_action.as_str();
            let source = Source {
                app_id: &policy.app_id,
                namespace: &policy.namespace,
                trust_domain: &policy.trust_domain,
                allows: (!action.is_empty()).then(|| is_allow(action)),
            };
            self.caller(object, index, &source, rules);
        }
        Ok(())
    }

    /// Adds the entries of an object that is evaluated like the block.
    pub(super) fn compatible_entries(
        &mut self,
        object: u32,
        policies: &[access_control::CallerPolicy],
    ) {
        let is_allow = |action| action == access_control::Action::Allow;
        let last = last_of(policies.iter().map(key_of));
        for (index, policy) in policies.iter().enumerate() {
            if self.is_replaced(object, index, last.get(&key_of(policy))) {
                continue;
            }
            let rules = policy.operations.iter().map(|rule| SourceRule {
                name: &rule.name,
                verbs: compatible_verbs(&rule.http_verb),
                allows: is_allow(rule.action),
            });
            let source = Source {
                app_id: &policy.app_id,
                namespace: &policy.namespace,
                trust_domain: policy.trust_domain(),
                allows: policy.default_action.map(is_allow),
            };
            self.caller(object, index, &source, rules);
        }
    }

    fn is_replaced(&mut self, object: u32, index: usize, last: Option<&usize>) -> bool {
        let later = last.filter(|last| **last != index);
        if let Some(by) = later {
            self.replaced.push(Replaced {
                object,
                index: number(index),
                by: number(*by),
            });
        }
        later.is_some()
    }

    fn caller<'a>(
        &mut self,
        object: u32,
        index: usize,
        source: &Source<'_>,
        rules: impl Iterator<Item = SourceRule<'a>>,
    ) {
        let Source {
            app_id,
            namespace,
            trust_domain,
            allows,
        } = *source;
        let exact = |text: &str| Name::Exact(text.into());
        let root = self.builder.root(Order::Written);
        for (operation, rule) in rules.enumerate() {
            let name = self.fold(rule.name);
            let path = name.strip_prefix('/').unwrap_or(&name);
            let rule = Rule {
                verbs: rule.verbs,
                allows: rule.allows,
                exact: false,
                operation: number(operation),
            };
            self.builder.insert(root, path.split('/'), rule);
        }
        self.entries.push(Entry {
            object,
            index: number(index),
            app_id: exact(app_id),
            namespace: exact(namespace),
            trust_domain: exact(trust_domain),
            allows,
            root,
        });
    }

    /// Letters of the whole of Unicode, as the reference does.
    fn fold(&self, name: &str) -> String {
        let mut folded = String::new();
        match self.app {
            AppKind::Http => reading::lower(name, &mut folded),
            AppKind::Grpc => folded.push_str(name),
        }
        folded
    }
}

fn key_of(policy: &access_control::CallerPolicy) -> (&str, &str) {
    (&policy.app_id, &policy.namespace)
}

fn compatible_verbs(verbs: &[access_control::HttpVerb]) -> VerbSet {
    if verbs.contains(&access_control::HttpVerb::Any) {
        return real_verbs().collect();
    }
    verbs.iter().map(|verb| super::verb_of(*verb)).collect()
}
