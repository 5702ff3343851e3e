//! The rule that comes nearest to allowing a request that is denied.
//!
//! Every rule that allows something is turned into the request nearest to the one at hand that it would allow:
//! another verb, another path, another caller, in this order. Each is asked for, so what is named would really be
//! allowed, other objects included.

use ironside_identity::{AppId, Namespace, SpiffeId, TrustDomain};

use crate::{
    AppKind, Caller, Operation, PolicySet, RuleId, Verb,
    compile::Compiled,
    engine::{Fold, forest::Rule, glob},
    object::{Entry, Name, Style},
    survey::{Children, Sample, is_legal},
};

/// Most requests that are asked for.
const MOST: usize = 512;
/// How far another caller is: further than any path.
const CALLER: usize = 10_000;
/// How far another segment is: further than another verb.
const SEGMENT: usize = 10;
/// How far a path is that ends one segment before.
const SHORTER: usize = 5;

/// A rule that allows a request much like one that is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// The rule, or the entry whose default it is; see [`PolicySet::place`].
    pub rule: RuleId,
    /// The request that it allows.
    pub sample: Sample,
}

struct Candidate {
    distance: usize,
    rule: RuleId,
    sample: Sample,
}

// === impl PolicySet ===

impl PolicySet {
    /// Returns the rule nearest to allowing a request that is denied.
    #[must_use]
    pub fn nearest(&self, caller: Caller<'_>, operation: &Operation<'_>) -> Option<Nearest> {
        let set = self.rules()?;
        let from = match caller {
            Caller::Peer(peer) => Some(peer),
            Caller::Anonymous => None,
            Caller::Own => return None,
        };
        let mut candidates = candidates(set, from, operation);
        candidates.sort_by_key(|Candidate { distance, rule, .. }| {
            (*distance, rule.object, rule.entry, rule.operation)
        });
        candidates.truncate(MOST);
        let is_allowed = |candidate: &Candidate| {
            let Sample { caller, verb, path } = &candidate.sample;
            let operation = Operation {
                method: path,
                verb: *verb,
                ..*operation
            };
            let caller = caller.as_ref().map_or(Caller::Anonymous, Caller::Peer);
            let verdict = self.decide(caller, &operation).verdict;
            verdict.is_allowed() && verdict.matched().rule == Some(candidate.rule)
        };
        let found = candidates.into_iter().find(is_allowed)?;
        Some(Nearest {
            rule: found.rule,
            sample: found.sample,
        })
    }
}

fn candidates(
    set: &Compiled,
    from: Option<&SpiffeId>,
    operation: &Operation<'_>,
) -> Vec<Candidate> {
    let children = Children::of(&set.forest);
    let mut found = Vec::new();
    for entry in &set.entries {
        let Some(object) = set.objects.get(entry.object as usize) else {
            continue;
        };
        let (Some(caller), false) = (caller_of(entry, from), object.is_audit) else {
            continue;
        };
        let far = if from == Some(&caller) { 0 } else { CALLER };
        let mut add = |rule: Option<&Rule>, verb: Verb, path: String, distance: usize| {
            found.push(Candidate {
                distance: distance + far,
                rule: RuleId {
                    object: entry.object,
                    entry: Some(entry.index),
                    operation: rule.map(|rule| rule.operation),
                },
                sample: Sample {
                    caller: Some(caller.clone()),
                    verb,
                    path,
                },
            });
        };
        let path = rooted(operation.method);
        if entry.allows == Some(true) {
            add(None, operation.verb, path.clone(), 0);
        }
        children.walk(&set.forest, entry.root, |_, node, pattern| {
            let allowing = set.forest.rules(node).iter().filter(|rule| rule.allows);
            for rule in allowing {
                let Some((verb, other)) = verb_of(set.app, rule, operation.verb) else {
                    continue;
                };
                let deeper = !rule.exact && !pattern.ends_with("/*");
                let (near, distance) = path_of(pattern, &path, object.style, deeper, set.app);
                add(
                    Some(rule),
                    verb,
                    near,
                    distance * SEGMENT + usize::from(other),
                );
            }
        });
    }
    found
}

fn rooted(method: &str) -> String {
    format!("/{}", method.strip_prefix('/').unwrap_or(method))
}

/// The caller itself, or one much like it that the entry is for.
fn caller_of(entry: &Entry, from: Option<&SpiffeId>) -> Option<SpiffeId> {
    let part = |name: &Name, own: Option<&str>| match name {
        Name::Exact(text) => text.to_string(),
        Name::Prefix(start) => match own.filter(|own| own.starts_with(&**start)) {
            Some(own) => own.to_owned(),
            None => format!("{start}x"),
        },
        Name::Any => own.unwrap_or("x").to_owned(),
    };
    let domain = part(
        &entry.trust_domain,
        from.map(|id| id.trust_domain().as_str()),
    );
    let space = part(&entry.namespace, from.map(|id| id.namespace().as_str()));
    let app = part(&entry.app_id, from.map(|id| id.app_id().as_str()));
    SpiffeId::new(
        TrustDomain::parse(&domain).ok()?,
        Namespace::parse(&space).ok()?,
        AppId::parse(&app).ok()?,
    )
    .ok()
}

/// The verb itself, or one that the rule is for; and whether it is another.
fn verb_of(app: AppKind, rule: &Rule, own: Verb) -> Option<(Verb, bool)> {
    if app == AppKind::Grpc || rule.verbs.contains(own) {
        return Some((own, false));
    }
    let other = rule.verbs.iter().find(|verb| *verb != Verb::None)?;
    Some((other, true))
}

/// The path nearest to `path` that the pattern matches, and how far it is.
fn path_of(pattern: &str, path: &str, style: Style, deeper: bool, app: AppKind) -> (String, usize) {
    let fold = match app {
        AppKind::Http => Fold::Ascii,
        AppKind::Grpc => Fold::Exact,
    };
    let is_segment = |segment: &&str| !segment.is_empty();
    let wanted: Vec<&str> = pattern.split('/').filter(is_segment).collect();
    let own: Vec<&str> = path.split('/').filter(is_segment).collect();
    let mut near: Vec<String> = Vec::new();
    let mut distance = 0;
    for (at, segment) in wanted.iter().enumerate() {
        let is_last = at + 1 == wanted.len();
        let own_one = own.get(at).copied();
        if is_last && *segment == "**" {
            near.extend(own.iter().skip(at).map(|one| (*one).to_owned()));
            return (format!("/{}", near.join("/")), distance);
        }
        let fits = |own: &&str| glob::matches(segment.as_bytes(), own.as_bytes(), fold);
        // Before the end the reference takes a lone star for the character.
        let is_character = *segment == "*" && !is_last && style != Style::Specific;
        match own_one.filter(fits).filter(|_| !is_character) {
            Some(own) => near.push(own.to_owned()),
            None if is_last && *segment == "*" && own_one.is_none() => {}
            None => {
                distance += SEGMENT;
                near.push(if is_character {
                    "*".to_owned()
                } else {
                    instance(segment)
                });
            }
        }
    }
    // What is deeper is covered, or it is too much.
    let beyond = own.iter().skip(wanted.len());
    if deeper && !wanted.is_empty() {
        near.extend(beyond.map(|one| (*one).to_owned()));
    } else {
        distance += beyond.count() * SHORTER;
    }
    (format!("/{}", near.join("/")), distance)
}

/// A text that a glob matches.
fn instance(glob: &str) -> String {
    let text = glob.replace('*', "");
    if is_legal(&text) {
        text
    } else {
        glob.replace('*', "x")
    }
}
