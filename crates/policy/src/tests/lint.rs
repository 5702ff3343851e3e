//! Findings equal brute force: every rule taken away once, every kind of request tried, by the naive evaluator.

use std::collections::{HashMap, HashSet};

use ironside_identity::SpiffeId;
use ironside_resources::access_control::{Evaluation, Mode};

use super::{
    agreement::Maker,
    naive::{self, Who},
    support::{Given, id},
};
use crate::{AppKind, Code, Finding, Verb};

/// Policies compared by the test that always runs.
const POLICIES: u64 = 1000;

/// Characters of all rules of the generator, and some of none.
const LETTERS: [char; 10] = ['a', 'b', 'c', 'é', 'k', '*', 'x', 'z', '.', 'A'];

/// An entry of any kind of object.
struct Entry {
    names: [String; 3],
    /// Evaluated as the block: names are names, letters are folded beyond ASCII.
    is_written: bool,
    /// Rule, pattern, verbs.
    rules: Vec<(Who, String, Vec<String>)>,
}

fn entries(given: &Given) -> Vec<Entry> {
    let mut entries = Vec::new();
    let block = given
        .block
        .iter()
        .flat_map(|block| block.policies.iter().flatten());
    for (at, policy) in block.enumerate() {
        let rules = policy
            .operations
            .iter()
            .enumerate()
            .map(|(rule, operation)| {
                let who = ("Configuration/appconfig".to_owned(), at, rule);
                (who, operation.name.clone(), operation.http_verb.clone())
            });
        entries.push(Entry {
            names: [
                policy.app_id.clone(),
                policy.namespace.clone(),
                policy.trust_domain.clone(),
            ],
            is_written: true,
            rules: rules.collect(),
        });
    }
    for object in &given.objects {
        for (at, policy) in object.spec.policies.iter().enumerate() {
            let rules = policy
                .operations
                .iter()
                .enumerate()
                .map(|(rule, operation)| {
                    let who = (object.name.clone(), at, rule);
                    let words = operation
                        .http_verb
                        .iter()
                        .map(|verb| naive::serde_word(*verb));
                    (
                        who,
                        operation.name.clone(),
                        words.map(str::to_owned).collect(),
                    )
                });
            entries.push(Entry {
                names: [
                    policy.app_id.clone(),
                    policy.namespace.clone(),
                    policy.trust_domain().to_owned(),
                ],
                is_written: object.spec.evaluation == Evaluation::DaprCompatible,
                rules: rules.collect(),
            });
        }
    }
    entries
}

impl Entry {
    fn names(&self, caller: &SpiffeId) -> bool {
        let [app, space, domain] = &self.names;
        let is = |name: &str, text: &str| match name.strip_suffix('*') {
            Some(start) if !self.is_written => text.starts_with(start),
            _ => name == text,
        };
        is(app, caller.app_id().as_str())
            && is(space, caller.namespace().as_str())
            && is(domain, caller.trust_domain().as_str())
    }

    fn segments(&self) -> impl Iterator<Item = Vec<String>> {
        self.rules.iter().map(|(_, name, _)| {
            let name = name.strip_prefix('/').unwrap_or(name);
            name.split('/').map(str::to_owned).collect()
        })
    }

    fn fold(&self, app: AppKind, text: &str) -> String {
        match (app, self.is_written) {
            (AppKind::Grpc, _) => text.to_owned(),
            (AppKind::Http, true) => naive::lower(text),
            (AppKind::Http, false) => text.to_ascii_lowercase(),
        }
    }
}

/// The set without one rule; later rules of its entry move up.
fn without(given: &Given, who: &Who) -> Given {
    let mut block = given.block.clone();
    let mut objects = given.objects.clone();
    let (object, entry, rule) = who;
    if object == "Configuration/appconfig" {
        let policies = block.as_mut().and_then(|block| block.policies.as_mut());
        policies.unwrap()[*entry].operations.remove(*rule);
    } else {
        let object = objects.iter_mut().find(|one| one.name == *object).unwrap();
        object.spec.policies[*entry].operations.remove(*rule);
    }
    Given {
        app: given.app,
        block,
        objects,
        ..Given::default()
    }
}

/// A rule's number before another one was taken away.
fn before(found: Who, gone: &Who) -> Who {
    let (object, entry, rule) = found;
    let moved = object == gone.0 && entry == gone.1 && rule >= gone.2;
    (object, entry, if moved { rule + 1 } else { rule })
}

/// Of all texts, one for each way to match the patterns at this depth.
fn segments(app: AppKind, entries: &[&Entry], depth: usize, texts: &[String]) -> Vec<String> {
    let mut patterns = Vec::new();
    for entry in entries {
        let here = entry
            .segments()
            .filter_map(|segments| segments.get(depth).cloned());
        patterns.extend(here.map(|pattern| (*entry, entry.fold(app, &pattern))));
    }
    let literals = patterns.iter().map(|(_, pattern)| pattern.clone());
    let mut known = HashSet::new();
    let mut found = Vec::new();
    for text in texts.iter().cloned().chain(literals.collect::<Vec<_>>()) {
        if matches!(text.as_str(), "" | "." | "..") {
            continue;
        }
        let kind: Vec<(bool, bool)> = patterns
            .iter()
            .map(|(entry, pattern)| {
                let text = entry.fold(app, &text);
                (*pattern == text, naive::is_glob(pattern, &text))
            })
            .collect();
        if known.insert(kind) {
            found.push(text);
        }
    }
    found
}

fn texts() -> Vec<String> {
    let mut texts = vec![String::new()];
    let mut last = texts.clone();
    for _ in 0..3 {
        last = last
            .iter()
            .flat_map(|text| LETTERS.map(|letter| format!("{text}{letter}")))
            .collect();
        texts.extend(last.iter().cloned());
    }
    texts
}

/// All combinations, one segment deeper than the deepest rule.
fn paths(app: AppKind, entries: &[&Entry], texts: &[String]) -> Vec<String> {
    let depths = entries
        .iter()
        .flat_map(|entry| entry.segments().map(|one| one.len()));
    let deepest = depths.max().unwrap_or(0);
    let mut found = vec!["/".to_owned()];
    let mut last = vec![String::new()];
    for depth in 0..=deepest {
        let choices = segments(app, entries, depth, texts);
        last = last
            .iter()
            .flat_map(|start| choices.iter().map(move |one| format!("{start}/{one}")))
            .collect();
        found.extend(last.iter().cloned());
    }
    found
}

/// One verb for each set of rules that names it.
fn verbs(app: AppKind, entries: &[&Entry]) -> Vec<Verb> {
    if app == AppKind::Grpc {
        return vec![Verb::None];
    }
    let mut known = HashSet::new();
    let all = [Verb::Get, Verb::Post, Verb::Delete, Verb::Put].into_iter();
    all.filter(|verb| {
        let rules = entries.iter().flat_map(|entry| &entry.rules);
        let named = rules.map(|(_, _, verbs)| verbs.iter().any(|one| one == verb.as_str()));
        known.insert(named.collect::<Vec<_>>())
    })
    .collect()
}

/// Callers, one for each set of entries that names them, with everything they may ask.
fn requests(
    given: &Given,
    entries: &[Entry],
    texts: &[String],
) -> Vec<(SpiffeId, Vec<String>, Vec<Verb>)> {
    let mut known = HashSet::new();
    let mut found = Vec::new();
    for app in ["web", "webs", "cart", "orders", "w", "nobody", "cars"] {
        for space in ["shop", "shopper", "ops", "sho", "opsy", "x"] {
            for domain in ["public", "other", "x"] {
                let caller = id(&format!("spiffe://{domain}/ns/{space}/{app}"));
                let met: Vec<bool> = entries.iter().map(|entry| entry.names(&caller)).collect();
                let is_own = caller.to_string() == "spiffe://public/ns/shop/orders";
                let is_met = met.contains(&true);
                if !known.insert((met, is_own)) || !is_met {
                    continue;
                }
                let met = entries.iter().filter(|entry| entry.names(&caller));
                let met: Vec<&Entry> = met.collect();
                let paths = paths(given.app, &met, texts);
                found.push((caller, paths, verbs(given.app, &met)));
            }
        }
    }
    found
}

fn place(finding: &Finding) -> (String, usize, Option<usize>) {
    let pointer = finding.pointer.replace("/spec/accessControl/", "/spec/");
    let parts: Vec<&str> = pointer.split('/').collect();
    let number = |at: usize| parts.get(at).and_then(|part| part.parse::<usize>().ok());
    (
        finding.object.to_string(),
        number(3).unwrap_or(usize::MAX),
        number(5),
    )
}

/// Codes that say that a rule never decides.
fn is_idle(code: Code) -> bool {
    matches!(
        code,
        Code::Dead | Code::Shadowed | Code::Duplicate | Code::Unreachable | Code::Replaced
    )
}

/// Compares one policy; returns what was found.
fn compare(seed: u64, texts: &[String]) -> Vec<Code> {
    let given = Maker::new(seed).few();
    let lint = given.set().lint();
    assert!(lint.is_complete, "seed {seed}");
    let entries = entries(&given);
    let asked = requests(&given, &entries, texts);
    let requests = || {
        asked.iter().flat_map(|(caller, paths, verbs)| {
            let paths = paths.iter();
            paths.flat_map(move |path| verbs.iter().map(move |verb| (caller, *verb, path)))
        })
    };
    let audits: &[bool] = if given.objects.iter().any(|one| one.spec.mode == Mode::Audit) {
        &[false, true]
    } else {
        &[false]
    };
    let mut told: HashMap<(String, usize, Option<usize>), Vec<&Finding>> = HashMap::new();
    for finding in &lint.findings {
        told.entry(place(finding)).or_default().push(finding);
    }
    let mut deciding: HashSet<Who> = HashSet::new();
    let mut decisions = Vec::new();
    for (caller, verb, path) in requests() {
        let both = audits.iter();
        let both = both.map(|audit| naive::decider(&given, caller, verb, path, *audit));
        let both: Vec<Option<(bool, Option<Who>)>> = both.collect();
        deciding.extend(both.iter().flatten().filter_map(|(_, rule)| rule.clone()));
        decisions.push(both);
    }
    for (who, name, _) in entries.iter().flat_map(|entry| &entry.rules) {
        let (object, entry, rule) = who.clone();
        let here = |rule| {
            told.get(&(object.clone(), entry, rule))
                .into_iter()
                .flatten()
        };
        let found: Vec<&&Finding> = here(Some(rule)).chain(here(None)).collect();
        let at = || {
            format!(
                "seed {seed}: {who:?} {name:?}: {found:?}\nblock {:?}\nobjects {:?}",
                given.block, given.objects
            )
        };
        let is_wholly_lost = found.iter().any(|one| {
            is_idle(one.code)
                || one.code == Code::Contradiction && one.message.contains("says the opposite, and")
        });
        if deciding.contains(who) {
            assert!(!is_wholly_lost, "{}", at());
            continue;
        }
        let less = without(&given, who);
        let hides = found.iter().any(|one| one.message.contains("hides"));
        if hides {
            let changed = requests().any(|(caller, verb, path)| {
                let with = naive::answering(&given, caller, verb, path, &object);
                let without = naive::answering(&less, caller, verb, path, &object);
                let without =
                    without.map(|(entry, rule)| before((object.clone(), entry, rule), who));
                with.map(|(entry, rule)| (object.clone(), entry, rule)) != without
            });
            assert!(changed, "{}", at());
            continue;
        }
        let mut tried = requests().zip(&decisions);
        let changed = tried.any(|((caller, verb, path), decision)| {
            let both = audits.iter().map(|audit| {
                let found = naive::decider(&less, caller, verb, path, *audit);
                found.map(|(allow, rule)| (allow, rule.map(|rule| before(rule, who))))
            });
            both.collect::<Vec<_>>() != *decision
        });
        assert_eq!(is_wholly_lost, !changed, "{}", at());
    }
    proofs(&given, &lint.findings, seed);
    lint.findings.iter().map(|finding| finding.code).collect()
}

/// Every example is a request that another rule decides.
fn proofs(given: &Given, findings: &[Finding], seed: u64) {
    for finding in findings.iter().filter(|finding| is_idle(finding.code)) {
        let Some(example) = &finding.example else {
            continue;
        };
        let caller = example.caller.as_ref().unwrap();
        let (object, entry, rule) = place(finding);
        let decider = naive::decider(given, caller, example.verb, &example.path, true);
        let decider = decider.and_then(|(_, rule)| rule);
        let own = rule.map(|rule| (object, entry, rule));
        assert!(
            decider.is_none() || decider != own,
            "seed {seed}: {finding}"
        );
    }
}

/// Compares policies on both cores of a small machine; returns how often each thing was found.
fn compare_many(seeds: std::ops::Range<u64>) -> HashMap<Code, usize> {
    let texts = texts();
    let half = |part: u64| {
        let mut counts = HashMap::new();
        for seed in seeds.clone().filter(|seed| seed % 2 == part) {
            for code in compare(seed, &texts) {
                *counts.entry(code).or_default() += 1;
            }
        }
        counts
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        let mut counts = half(0);
        for (code, count) in other.join().unwrap() {
            *counts.entry(code).or_default() += count;
        }
        counts
    })
}

/// Issue: `lint` equals brute force on 1,000 generated policies.
#[test]
fn findings_equal_brute_force_on_a_thousand_policies() {
    let found = compare_many(0..POLICIES);
    for code in [
        Code::Dead,
        Code::Replaced,
        Code::Shadowed,
        Code::Duplicate,
        Code::Contradiction,
        Code::Unreachable,
        Code::LiteralStar,
        Code::Overlap,
    ] {
        assert!(
            found.get(&code).is_some_and(|count| *count >= 10),
            "{code:?}: {found:?}"
        );
    }
}

#[test]
#[ignore = "runs for minutes: cargo test -p ironside-policy brute_force -- --ignored"]
fn findings_equal_brute_force_on_fifty_thousand_policies() {
    compare_many(POLICIES..51 * POLICIES);
}
