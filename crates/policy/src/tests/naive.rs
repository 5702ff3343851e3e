//! The evaluator that is nothing but the tables: slow, plain, and never used outside of tests.
//!
//! Written from security 3.4, 3.5, 3.7, 4.4, 4.5 and O-A3 to O-A6 without a look at the compiled form: texts,
//! lists, and every rule tried. The order of the functions is that of the tables.

use std::cmp::Ordering;

use ironside_identity::SpiffeId;
use ironside_resources::{
    AccessControl,
    access_control::{
        Action, CallerPolicy, Evaluation, HttpVerb, Mode, OperationRule, PathMatch, Unauthenticated,
    },
    configuration,
};

use super::support::Given;
use crate::{AppKind, Caller, Form, Operation, Verb, clean};

/// Allowed or not; on purpose or by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Said {
    allow: bool,
    explicit: bool,
}

fn said(allow: bool, explicit: bool) -> Said {
    Said { allow, explicit }
}

/// What an object says, and by which entry and rule if a rule says it.
#[derive(Clone, Copy)]
struct Told {
    said: Said,
    rule: Option<(usize, usize)>,
}

fn told(allow: bool, explicit: bool) -> Told {
    Told {
        said: said(allow, explicit),
        rule: None,
    }
}

fn by_rule(allow: bool, entry: usize, rule: usize) -> Told {
    Told {
        said: said(allow, true),
        rule: Some((entry, rule)),
    }
}

/// Object, entry and rule.
pub(super) type Who = (String, usize, usize);

/// What is asked.
#[derive(Clone, Copy)]
struct Asked<'a> {
    app: AppKind,
    form: Form,
    verb: Verb,
    peer: Option<&'a SpiffeId>,
    path: &'a str,
    /// The path in the spelling of the reference's letters.
    folded: &'a str,
}

/// The enforced answer and, if anything is under audit, the other one.
pub(super) fn decide(
    given: &Given,
    caller: Caller<'_>,
    operation: &Operation<'_>,
) -> (bool, Option<bool>) {
    let reserved = |method: &str| {
        let method = method.strip_prefix('/').unwrap_or(method);
        operation.form == Form::Proxied
            && [
                "dapr.proto.runtime.v1.",
                "dapr.proto.internals.v1.",
                "grpc.reflection.",
            ]
            .iter()
            .any(|service| method.starts_with(service))
    };
    if reserved(operation.method) {
        return (false, None);
    }
    let one = |is_audited: bool| {
        let mut verbs = vec![operation.verb];
        verbs.extend(operation.overrides.iter());
        let Some(readings) = readings(operation.method) else {
            // Callers without identity are judged without their path, and none where no rule applies.
            return matches!(caller, Caller::Peer(_)).then(|| !is_ruled(given, caller, is_audited));
        };
        let mut allowed = true;
        for reading in &readings {
            for verb in &verbs {
                for folded in spellings(given.app, operation.form, reading) {
                    let verdict = combine(
                        given,
                        caller,
                        operation.form,
                        *verb,
                        reading,
                        &folded,
                        is_audited,
                    );
                    allowed &= verdict;
                }
            }
            if matches!(caller, Caller::Peer(_)) {
                allowed &= !reserved(reading);
            }
        }
        Some(allowed)
    };
    let settle = |is_audited: bool| {
        one(is_audited).unwrap_or_else(|| {
            combine(
                given,
                caller,
                operation.form,
                operation.verb,
                "",
                "",
                is_audited,
            )
        })
    };
    let audited = matches!(caller, Caller::Peer(peer) if !is_own(peer))
        || matches!(caller, Caller::Anonymous);
    let has_audit = given
        .objects
        .iter()
        .any(|object| object.spec.mode == Mode::Audit);
    (settle(false), (audited && has_audit).then(|| settle(true)))
}

/// Whether any rules apply to a peer: those in force, or under audit those as well.
fn is_ruled(given: &Given, caller: Caller<'_>, audit: bool) -> bool {
    let own = matches!(caller, Caller::Peer(peer) if is_own(peer));
    let counts = |object: &AccessControl| object.spec.mode == Mode::Enforce || audit;
    is_explicit(given) || !own && given.objects.iter().any(counts)
}

fn is_explicit(given: &Given) -> bool {
    given.block.as_ref().is_some_and(|block| {
        let has_policies = block.policies.as_ref().is_some_and(|list| !list.is_empty());
        block.default_action.is_some() || has_policies
    })
}

/// The path, and as the reference folds it.
fn spellings(app: AppKind, form: Form, path: &str) -> Vec<String> {
    let is_folded = app == AppKind::Http && form == Form::Invoke && !path.is_ascii();
    let mut spellings = vec![path.to_owned()];
    spellings.extend(is_folded.then(|| lower(path)));
    spellings
}

fn is_own(peer: &SpiffeId) -> bool {
    peer.to_string() == "spiffe://public/ns/shop/orders"
}

/// M1 to M7.
fn combine(
    given: &Given,
    caller: Caller<'_>,
    form: Form,
    verb: Verb,
    path: &str,
    folded: &str,
    audit: bool,
) -> bool {
    let answers = answers(given, caller, form, verb, path, folded, audit);
    let any = |allow, explicit| {
        let mut answers = answers.iter();
        answers.any(|(_, told)| told.said == said(allow, explicit))
    };
    if any(false, true) {
        false
    } else if any(true, true) {
        true
    } else {
        !any(false, false)
    }
}

/// What is said on purpose of a request with one reading, and the rule if one says it.
pub(super) fn decider(
    given: &Given,
    peer: &SpiffeId,
    verb: Verb,
    path: &str,
    audit: bool,
) -> Option<(bool, Option<Who>)> {
    let folded = match given.app {
        AppKind::Http => lower(path),
        AppKind::Grpc => path.to_owned(),
    };
    let caller = Caller::Peer(peer);
    let answers = answers(given, caller, Form::Invoke, verb, path, &folded, audit);
    let first = |allow| {
        let mut answers = answers.iter();
        answers.find(|(_, told)| told.said == said(allow, true))
    };
    let (object, told) = first(false).or_else(|| first(true))?;
    let rule = told.rule.map(|(entry, rule)| (object.clone(), entry, rule));
    Some((told.said.allow, rule))
}

/// Which rule answers in one entry of one object, if it is asked.
pub(super) fn answering(
    given: &Given,
    peer: &SpiffeId,
    verb: Verb,
    path: &str,
    object: &str,
) -> Option<(usize, usize)> {
    let folded = match given.app {
        AppKind::Http => lower(path),
        AppKind::Grpc => path.to_owned(),
    };
    let caller = Caller::Peer(peer);
    let answers = answers(given, caller, Form::Invoke, verb, path, &folded, true);
    let found = answers.into_iter().find(|(name, _)| name == object);
    found?.1.rule
}

fn answers(
    given: &Given,
    caller: Caller<'_>,
    form: Form,
    verb: Verb,
    path: &str,
    folded: &str,
    audit: bool,
) -> Vec<(String, Told)> {
    let (peer, own) = match caller {
        Caller::Peer(peer) => (Some(peer), is_own(peer)),
        Caller::Anonymous => (None, false),
        Caller::Own => (None, true),
    };
    let asked = Asked {
        app: given.app,
        form,
        verb,
        peer,
        path,
        folded,
    };
    let mut answers = Vec::new();
    if let Some(block) = given.block.as_ref().filter(|_| is_explicit(given)) {
        let name = "Configuration/appconfig".to_owned();
        answers.push((name, legacy_block(block, &asked)));
    }
    for object in &given.objects {
        let counts = object.spec.mode == Mode::Enforce || audit;
        if counts && !own {
            answers.push((object.name.clone(), one_object(object, &asked)));
        }
    }
    answers
}

fn one_object(object: &AccessControl, asked: &Asked<'_>) -> Told {
    match object.spec.evaluation {
        Evaluation::MostSpecific => most_specific(object, asked),
        Evaluation::DaprCompatible => legacy_object(object, asked),
    }
}

// --- chapter 3 ---

/// One entry as 3.4 sees it.
struct Entry {
    app: String,
    namespace: String,
    domain: String,
    default: Option<bool>,
    rules: Vec<(String, Vec<String>, bool)>,
}

fn is_allow(text: &str) -> bool {
    text.to_lowercase() == "allow"
}

fn legacy_block(block: &configuration::AccessControl, asked: &Asked<'_>) -> Told {
    let policies = block.policies.clone().unwrap_or_default();
    let entries = policies.into_iter().map(|policy| Entry {
        app: policy.app_id,
        namespace: policy.namespace,
        domain: policy.trust_domain,
        default: (!policy.default_action.is_empty()).then(|| is_allow(&policy.default_action)),
        rules: policy
            .operations
            .into_iter()
            .map(|rule| (rule.name, rule.http_verb, is_allow(&rule.action)))
            .collect(),
    });
    let global = block.default_action.as_deref().is_none_or(is_allow);
    table_3_4(global, entries.collect(), asked)
}

fn legacy_object(object: &AccessControl, asked: &Asked<'_>) -> Told {
    let allow = |action: Action| action == Action::Allow;
    let word = |verb: &HttpVerb| serde_word(*verb).to_owned();
    let entries = object.spec.policies.iter().map(|policy| Entry {
        app: policy.app_id.clone(),
        namespace: policy.namespace.clone(),
        domain: policy.trust_domain().to_owned(),
        default: policy.default_action.map(allow),
        rules: policy
            .operations
            .iter()
            .map(|rule| {
                (
                    rule.name.clone(),
                    rule.http_verb.iter().map(word).collect(),
                    allow(rule.action),
                )
            })
            .collect(),
    });
    let global = object.spec.default_action == Some(Action::Allow);
    table_3_4(global, entries.collect(), asked)
}

pub(super) fn serde_word(verb: HttpVerb) -> &'static str {
    match verb {
        HttpVerb::Get => "GET",
        HttpVerb::Head => "HEAD",
        HttpVerb::Post => "POST",
        HttpVerb::Put => "PUT",
        HttpVerb::Delete => "DELETE",
        HttpVerb::Connect => "CONNECT",
        HttpVerb::Options => "OPTIONS",
        HttpVerb::Trace => "TRACE",
        HttpVerb::Patch => "PATCH",
        HttpVerb::Any => "*",
    }
}

fn table_3_4(global: bool, entries: Vec<Entry>, asked: &Asked<'_>) -> Told {
    let by_default = told(global, false);
    // 2
    let Some(peer) = asked.peer else {
        return by_default;
    };
    // 3, the last of two wins
    let same = |entry: &&Entry| {
        entry.app == peer.app_id().as_str() && entry.namespace == peer.namespace().as_str()
    };
    let Some(at) = entries.iter().rposition(|entry| same(&entry)) else {
        return by_default;
    };
    let entry = &entries[at];
    // 4
    if entry.domain != peer.trust_domain().as_str() {
        return by_default;
    }
    // 6
    let current = entry.default.map_or(by_default, |allow| told(allow, true));
    // 7
    let is_http = asked.app == AppKind::Http && asked.form == Form::Invoke;
    let path = asked.folded.strip_prefix('/').unwrap_or(asked.folded);
    let path = format!(
        "/{}",
        if is_http {
            path.to_ascii_lowercase()
        } else {
            path.to_owned()
        }
    );
    let rules: Vec<(String, usize)> = entry
        .rules
        .iter()
        .enumerate()
        .map(|(at, (name, _, _))| {
            let name = format!("/{}", name.strip_prefix('/').unwrap_or(name));
            (
                if asked.app == AppKind::Http {
                    lower(&name)
                } else {
                    name
                },
                at,
            )
        })
        .collect();
    // O-A5
    if is_http && asked.verb == Verb::None {
        let denied = rules.iter().any(|rule| {
            !entry.rules[rule.1].2 && table_3_5(std::slice::from_ref(rule), &path).is_some()
        });
        if denied {
            return told(false, true);
        }
    }
    // 8
    let Some(rule) = table_3_5(&rules, &path) else {
        return current;
    };
    let (_, verbs, allow) = &entry.rules[rule];
    // 9
    if !is_http {
        return by_rule(*allow, at, rule);
    }
    // 13
    if asked.verb == Verb::None {
        return told(entry.default.unwrap_or(false), true);
    }
    // 10 to 12
    if verbs
        .iter()
        .any(|verb| verb == asked.verb.as_str() || verb == "*")
    {
        return by_rule(*allow, at, rule);
    }
    current
}

struct Tree {
    text: String,
    children: Vec<Self>,
    rule: Option<usize>,
}

fn table_3_5(rules: &[(String, usize)], path: &str) -> Option<usize> {
    let mut root = Tree {
        text: String::new(),
        children: Vec::new(),
        rule: None,
    };
    for (name, rule) in rules {
        let mut at = &mut root;
        for segment in name[1..].split('/') {
            let known = at.children.iter().position(|child| child.text == segment);
            let index = known.unwrap_or_else(|| {
                at.children.push(Tree {
                    text: segment.to_owned(),
                    children: Vec::new(),
                    rule: None,
                });
                at.children.len() - 1
            });
            at = &mut at.children[index];
        }
        at.rule.get_or_insert(*rule);
    }
    let segments: Vec<&str> = path[1..].split('/').collect();
    let mut at = &root;
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        at = at.children.iter().find(|child| {
            child.text == *segment
                || (child.text == "*" && is_last)
                || child.text == "**"
                || (child.text != "*" && child.text.contains('*') && is_glob(&child.text, segment))
        })?;
        if at.rule.is_some() && (is_last || at.text != "*") {
            return at.rule;
        }
        if is_last {
            return at
                .children
                .iter()
                .filter(|child| child.text == "*" || child.text == "**")
                .find_map(|child| child.rule);
        }
    }
    None
}

pub(super) fn is_glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let mut ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            ends.push(text.len());
            ends.iter().any(|at| is_glob(rest, &text[*at..]))
        }),
    }
}

// --- chapter 4.4 ---

fn most_specific(object: &AccessControl, asked: &Asked<'_>) -> Told {
    let spec = &object.spec;
    let by_default = told(spec.default_action == Some(Action::Allow), false);
    // 1
    let Some(peer) = asked.peer else {
        return match spec.unauthenticated.unwrap_or_default() {
            Unauthenticated::Deny => told(false, true),
            Unauthenticated::DefaultAction => by_default,
        };
    };
    // 2
    let mut entries: Vec<(usize, &CallerPolicy)> = spec
        .policies
        .iter()
        .enumerate()
        .filter(|(_, policy)| {
            is_name(&policy.app_id, peer.app_id().as_str())
                && is_name(&policy.namespace, peer.namespace().as_str())
                && is_name(policy.trust_domain(), peer.trust_domain().as_str())
        })
        .collect();
    entries.sort_by_key(|(_, policy)| {
        std::cmp::Reverse((
            name_rank(&policy.app_id),
            name_rank(&policy.namespace),
            name_rank(policy.trust_domain()),
        ))
    });
    for (at, entry) in entries {
        // 3
        if let Some((allow, rule)) = best_rule(&entry.operations, asked) {
            return match rule {
                Some(rule) => by_rule(allow, at, rule),
                None => told(allow, true),
            };
        }
        // 4
        if let Some(action) = entry.default_action {
            return told(action == Action::Allow, true);
        }
    }
    // 5
    by_default
}

fn is_name(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    }
}

fn name_rank(pattern: &str) -> (u8, usize) {
    match pattern.strip_suffix('*') {
        None => (2, 0),
        Some("") => (0, 0),
        Some(start) => (1, start.len()),
    }
}

/// A class and a count for each segment, then the end.
type Key = Vec<(u8, usize)>;

fn best_rule(rules: &[OperationRule], asked: &Asked<'_>) -> Option<(bool, Option<usize>)> {
    let spell = |text: &str| match asked.app {
        AppKind::Http => text.to_ascii_lowercase(),
        AppKind::Grpc => text.to_owned(),
    };
    let path = spell(asked.path);
    let path = path.strip_prefix('/').unwrap_or(&path);
    let path: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let mut best: Option<(Key, bool, usize)> = None;
    for (at, rule) in rules.iter().enumerate() {
        let Some(key) = table_4_4(&spell(&rule.name), rule.path_match, &path) else {
            continue;
        };
        let allow = rule.action == Action::Allow;
        // O-A5
        if asked.app == AppKind::Http && asked.verb == Verb::None && !allow {
            return Some((false, None));
        }
        let listed = rule
            .http_verb
            .iter()
            .any(|verb| *verb == HttpVerb::Any || serde_word(*verb) == asked.verb.as_str());
        if asked.app == AppKind::Http && !rule.http_verb.is_empty() && !listed {
            continue;
        }
        let wins = best
            .as_ref()
            .is_none_or(|(held, was_allow, _)| match key.cmp(held) {
                Ordering::Greater => true,
                Ordering::Equal => *was_allow && !allow,
                Ordering::Less => false,
            });
        if wins {
            best = Some((key, allow, at));
        }
    }
    best.map(|(_, allow, at)| (allow, Some(at)))
}

/// How specific a pattern matches.
fn table_4_4(name: &str, path_match: Option<PathMatch>, path: &[&str]) -> Option<Key> {
    let name = name.strip_prefix('/').unwrap_or(name);
    let pattern: Vec<&str> = name
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let mut key = Vec::new();
    for (at, segment) in path.iter().enumerate() {
        let is_last = at + 1 == pattern.len();
        match pattern.get(at) {
            Some(&"**") if is_last => {
                key.resize(path.len(), (2, 0));
                break;
            }
            Some(&"*") => key.push((3, 0)),
            Some(text) if !text.contains('*') && text == segment => key.push((5, 0)),
            Some(text) if text.contains('*') && is_glob(text, segment) => {
                key.push((4, text.chars().filter(|c| *c != '*').count()));
            }
            Some(_) => return None,
            None => {
                let covers = path_match != Some(PathMatch::Exact)
                    && !pattern.is_empty()
                    && pattern.last() != Some(&"*");
                if !covers {
                    return None;
                }
                key.resize(path.len(), (1, 0));
                break;
            }
        }
    }
    let end = match pattern.get(path.len()..).unwrap_or_default() {
        [] => 2,
        ["*" | "**"] => 1,
        _ => return None,
    };
    key.push((end, 0));
    Some(key)
}

// --- O-A3 ---

fn readings(path: &str) -> Option<Vec<String>> {
    if !path.contains(['%', '\\', ';']) {
        return Some(vec![path.to_owned()]);
    }
    let mut found = vec![(path.to_owned(), 0)];
    let mut at = 0;
    while at < found.len() {
        let (text, rounds) = found[at].clone();
        at += 1;
        let mut next = vec![
            (decoded(&text)?, rounds + 1),
            (text.replace('\\', "/"), rounds),
        ];
        let stripped: Vec<&str> = text
            .split('/')
            .map(|segment| segment.split(';').next().unwrap())
            .collect();
        next.push((stripped.join("/"), rounds));
        next.push((
            text.split(['#', '?', '\0']).next().unwrap().to_owned(),
            rounds,
        ));
        next.push((clean(&text), rounds));
        for (text, rounds) in next {
            if found.iter().any(|(known, _)| *known == text) {
                continue;
            }
            if rounds > 3 || found.len() == 48 {
                return None;
            }
            found.push((text, rounds));
        }
    }
    Some(
        found
            .into_iter()
            .map(|(text, _)| text)
            .filter(|text| clean(text) == *text)
            .collect(),
    )
}

fn decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let code = code.filter(|code| code.iter().all(u8::is_ascii_hexdigit));
        match code {
            Some(code) => {
                out.push(u8::from_str_radix(std::str::from_utf8(code).unwrap(), 16).unwrap());
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// Simple lower case, letter by letter.
pub(crate) fn lower(text: &str) -> String {
    let one = |c: char| match c {
        'İ' => 'i',
        c => c.to_lowercase().next().unwrap(),
    };
    text.chars().map(one).collect()
}
