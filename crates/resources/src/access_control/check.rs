//! What an AccessControl can be refused for by itself: rules V1 to V10 of security 4.3 and the bounds of 4.2.
//!
//! Every problem is reported, each with the JSON pointer of the value that causes it. The same rules stand in
//! the CRD for the API server; here they hold for files and for objects that got past it.

use std::collections::HashSet;
use std::fmt;

use thiserror::Error;

use super::{AccessControl, CallerPolicy, Evaluation, HttpVerb, OperationRule};

/// Most app IDs in `scopes` (security 4.2).
pub(super) const MAX_SCOPES: usize = 256;
/// Most entries of an object, and most operations of an entry (security 4.2).
pub(super) const MAX_LIST: usize = 128;
/// Longest operation name, in characters (security 4.2).
pub(super) const MAX_NAME: usize = 256;
/// Longest app ID, in bytes (security 4.2).
pub(super) const MAX_APP_ID: usize = 64;
/// Longest DNS label, in bytes.
pub(super) const MAX_LABEL: usize = 63;
/// Longest trust domain, in bytes (security 4.2).
pub(super) const MAX_TRUST_DOMAIN: usize = 255;

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{pointer}: {flaw}")]
pub struct Problem {
    /// JSON pointer into the object.
    pub pointer: Box<str>,
    /// What is wrong.
    #[source]
    pub flaw: Flaw,
}

/// What can be wrong. The texts are those of the CRD's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Flaw {
    /// V1
    #[error("set defaultAction or at least one policy")]
    Empty,
    /// V2
    #[error("operation name contains a forbidden character")]
    ForbiddenCharacter,
    /// V3
    #[error("empty segments and trailing slashes never match a request")]
    EmptySegment,
    /// V4
    #[error("dot segments never match a request")]
    DotSegment,
    /// V5
    #[error("`**` is allowed only as the last whole segment; use `*` for one segment")]
    DoubleStar,
    /// V6
    #[error("write the decoded form")]
    Percent,
    /// V7
    #[error("`*` must stand alone")]
    StarNotAlone,
    /// V8
    #[error("wildcard only at the end")]
    Wildcard,
    /// V9
    #[error("not available with evaluation DaprCompatible")]
    NotCompatible,
    /// V10
    #[error("invalid app id")]
    AppId,
    /// No DNS label.
    #[error("invalid namespace")]
    Namespace,
    /// Other characters than `a-z0-9._-`.
    #[error("invalid trust domain")]
    TrustDomain,
    /// A second entry for one caller.
    #[error("duplicate appId, namespace and trustDomain")]
    DuplicatePolicy,
    /// The same value twice in a set.
    #[error("duplicate value")]
    DuplicateValue,
    /// Longer than the bound.
    #[error("too many items: at most {0}")]
    TooMany(usize),
    /// No character, or more than the bound.
    #[error("must have 1 to {0} characters")]
    Length(usize),
}

impl AccessControl {
    /// Returns everything that makes the object unusable, in document order.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut check = Check {
            compatible: self.spec.evaluation == Evaluation::DaprCompatible,
            problems: Vec::new(),
        };
        check.object(self);
        check.problems
    }
}

struct Check {
    compatible: bool,
    problems: Vec<Problem>,
}

// === impl Check ===

impl Check {
    fn flaw(&mut self, pointer: impl fmt::Display, flaw: Flaw) {
        let pointer = pointer.to_string().into();
        self.problems.push(Problem { pointer, flaw });
    }

    fn when(&mut self, wrong: bool, pointer: impl fmt::Display, flaw: Flaw) {
        if wrong {
            self.flaw(pointer, flaw);
        }
    }

    fn object(&mut self, object: &AccessControl) {
        let AccessControl {
            name: _,
            namespace: _,
            scopes,
            spec,
        } = object;
        self.when(
            scopes.len() > MAX_SCOPES,
            "/scopes",
            Flaw::TooMany(MAX_SCOPES),
        );
        let mut seen = HashSet::new();
        for (index, scope) in scopes.iter().enumerate() {
            let at = format!("/scopes/{index}");
            self.when(!is_app_id(scope), &at, Flaw::AppId);
            self.when(!seen.insert(scope), &at, Flaw::DuplicateValue);
        }
        let nothing = spec.default_action.is_none() && spec.policies.is_empty();
        self.when(nothing, "/spec", Flaw::Empty);
        if let Some(domain) = &spec.trust_domain {
            self.when(
                !is_trust_domain(domain),
                "/spec/trustDomain",
                Flaw::TrustDomain,
            );
        }
        let starred = self.compatible && spec.unauthenticated.is_some();
        self.when(starred, "/spec/unauthenticated", Flaw::NotCompatible);
        self.policies(&spec.policies);
    }

    fn policies(&mut self, policies: &[CallerPolicy]) {
        self.when(
            policies.len() > MAX_LIST,
            "/spec/policies",
            Flaw::TooMany(MAX_LIST),
        );
        let mut seen = HashSet::new();
        for (index, policy) in policies.iter().enumerate() {
            let at = format!("/spec/policies/{index}");
            let key = (&policy.app_id, &policy.namespace, policy.trust_domain());
            self.when(!seen.insert(key), &at, Flaw::DuplicatePolicy);
            self.caller(policy, &at);
            let many = policy.operations.len() > MAX_LIST;
            self.when(many, format!("{at}/operations"), Flaw::TooMany(MAX_LIST));
            for (index, operation) in policy.operations.iter().enumerate() {
                self.operation(operation, &format!("{at}/operations/{index}"));
            }
        }
    }

    fn caller(&mut self, policy: &CallerPolicy, at: &str) {
        self.name(
            &policy.app_id,
            &format!("{at}/appId"),
            is_app_id,
            Flaw::AppId,
        );
        self.name(
            &policy.namespace,
            &format!("{at}/namespace"),
            is_namespace,
            Flaw::Namespace,
        );
        let at = format!("{at}/trustDomain");
        match policy.trust_domain() {
            "*" => self.when(self.compatible, at, Flaw::NotCompatible),
            domain => self.when(!is_trust_domain(domain), at, Flaw::TrustDomain),
        }
    }

    /// A name, `*`, or the start of names and `*`.
    fn name(&mut self, text: &str, at: &str, is_name: impl Fn(&str) -> bool, flaw: Flaw) {
        let Some((start, rest)) = text.split_once('*') else {
            return self.when(!is_name(text), at, flaw);
        };
        self.when(!rest.is_empty(), at, Flaw::Wildcard);
        self.when(self.compatible, at, Flaw::NotCompatible);
        // A start may end in a dash, a whole label may not.
        let probe = format!("{start}0");
        self.when(!start.is_empty() && !is_name(&probe), at, flaw);
    }

    fn operation(&mut self, rule: &OperationRule, at: &str) {
        let name = format!("{at}/name");
        let length = rule.name.chars().count();
        self.when(
            !(1..=MAX_NAME).contains(&length),
            &name,
            Flaw::Length(MAX_NAME),
        );
        if !self.compatible {
            self.pattern(&rule.name, &name);
        }
        let starred = self.compatible && rule.path_match.is_some();
        self.when(starred, format!("{at}/pathMatch"), Flaw::NotCompatible);
        let verbs = &rule.http_verb;
        let at = format!("{at}/httpVerb");
        let crowded = verbs.len() > 1 && verbs.contains(&HttpVerb::Any);
        self.when(crowded, &at, Flaw::StarNotAlone);
        let mut seen = HashSet::new();
        let twice = verbs.iter().any(|verb| !seen.insert(verb));
        self.when(twice, at, Flaw::DuplicateValue);
    }

    /// V2 to V6: what can never match, or not as it looks.
    fn pattern(&mut self, name: &str, at: &str) {
        let forbidden = |c: char| matches!(c, '#' | '?' | '\0'..='\u{1f}' | '\u{7f}');
        self.when(name.contains(forbidden), at, Flaw::ForbiddenCharacter);
        let trailing = name != "/" && name.ends_with('/');
        self.when(trailing || name.contains("//"), at, Flaw::EmptySegment);
        let dots = name.split('/').any(|segment| matches!(segment, "." | ".."));
        self.when(dots, at, Flaw::DotSegment);
        self.when(!is_double_star_last(name), at, Flaw::DoubleStar);
        self.when(name.contains('%'), at, Flaw::Percent);
    }
}

fn is_double_star_last(name: &str) -> bool {
    match name.find("**") {
        None => true,
        Some(at) => at + 2 == name.len() && (at == 0 || name.ends_with("/**")),
    }
}

fn is_app_id(text: &str) -> bool {
    (1..=MAX_APP_ID).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn is_namespace(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_LABEL).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_trust_domain(text: &str) -> bool {
    let inner =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_TRUST_DOMAIN).contains(&text.len()) && text.bytes().all(inner)
}
