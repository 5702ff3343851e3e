//! Callers that stand for all others.
//!
//! One for each way in which app ID, namespace and trust domain can be named together, one that nobody names among
//! them. Names that no identity can have are left out: no caller has them.

use std::collections::{BTreeSet, VecDeque};

use ironside_identity::{AppId, Namespace, SpiffeId, TrustDomain};

use super::{MOST_CALLERS, TooMuch};
use crate::object::{Entry, Name};

/// Characters of app IDs and namespaces, the nicer ones first.
const NAME: &str = "xyzabcdefghijklmnopqrstuvw0123456789-_ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Characters of trust domains.
const DOMAIN: &str = "xyzabcdefghijklmnopqrstuvw0123456789-_";

/// Returns callers for every set of entries that can be met, each once; those that meet none come last.
///
/// The own app counts apart from others of the same entries: rules are not asked for it.
pub(crate) fn callers(
    entries: &[&Entry],
    is_own: impl Fn(&SpiffeId) -> bool,
) -> Result<Vec<SpiffeId>, TooMuch> {
    let mut seen = BTreeSet::new();
    let mut found: Vec<(bool, SpiffeId)> = Vec::new();
    let all: Vec<(usize, &Entry)> = entries.iter().copied().enumerate().collect();
    for app in names(all.iter().map(|(_, entry)| &entry.app_id), "unknown", NAME) {
        let with_app = keep(&all, |entry| entry.app_id.matches(&app));
        let spaces = with_app.iter().map(|(_, entry)| &entry.namespace);
        for space in names(spaces, "elsewhere", NAME) {
            let with_space = keep(&with_app, |entry| entry.namespace.matches(&space));
            let domains = with_space.iter().map(|(_, entry)| &entry.trust_domain);
            for domain in names(domains, "foreign", DOMAIN) {
                let met = keep(&with_space, |entry| entry.trust_domain.matches(&domain));
                let met: BTreeSet<usize> = met.iter().map(|(at, _)| *at).collect();
                let Some(id) = identity(&domain, &space, &app) else {
                    continue;
                };
                if found.len() == MOST_CALLERS {
                    return Err(TooMuch);
                }
                let is_unknown = met.is_empty();
                if seen.insert((met, is_own(&id))) {
                    found.push((is_unknown, id));
                }
            }
        }
    }
    found.sort_by_key(|(is_unknown, _)| *is_unknown);
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

fn keep<'a>(
    entries: &[(usize, &'a Entry)],
    is_met: impl Fn(&Entry) -> bool,
) -> Vec<(usize, &'a Entry)> {
    let met = entries.iter().filter(|(_, entry)| is_met(entry));
    met.copied().collect()
}

fn identity(domain: &str, space: &str, app: &str) -> Option<SpiffeId> {
    SpiffeId::new(
        TrustDomain::parse(domain).ok()?,
        Namespace::parse(space).ok()?,
        AppId::parse(app).ok()?,
    )
    .ok()
}

/// One text for each way to be named; `unknown` is tried first for the one that nobody names.
fn names<'a>(
    written: impl Iterator<Item = &'a Name>,
    unknown: &str,
    letters: &str,
) -> BTreeSet<String> {
    let mut exact = BTreeSet::new();
    let mut starts = BTreeSet::from([""]);
    for name in written {
        match name {
            Name::Any => {}
            Name::Prefix(start) => {
                starts.insert(start);
            }
            Name::Exact(text) => {
                exact.insert(&**text);
            }
        }
    }
    let mut found: BTreeSet<String> = exact.iter().map(|text| (*text).to_owned()).collect();
    for start in &starts {
        let first = if start.is_empty() { unknown } else { "" };
        found.extend(unnamed(start, first, &exact, &starts, letters));
    }
    found
}

/// A text with this start, which is not named and has no longer start of those.
fn unnamed(
    start: &str,
    first: &str,
    exact: &BTreeSet<&str>,
    starts: &BTreeSet<&str>,
    letters: &str,
) -> Option<String> {
    let is_other = |text: &str| {
        let mut longer = starts.iter().filter(|one| one.len() > start.len());
        longer.any(|one| text.starts_with(*one))
    };
    let mut open = VecDeque::from([format!("{start}{first}"), start.to_owned()]);
    while let Some(text) = open.pop_front() {
        if is_other(&text) {
            continue;
        }
        if text.len() > start.len() && !exact.contains(text.as_str()) {
            return Some(text);
        }
        open.extend(letters.chars().map(|c| format!("{text}{c}")));
    }
    None
}
