//! What a person should know about the rules in force, once they are.
//!
//! Rules that do nothing are found by trying all of them out, which takes time: it is done beside the calls, for the
//! newest state only, and each finding is one warning when it is new (security O-A8). Owns the warning about both
//! forms of rules as well, once for each start (M9). Decides nothing and changes nothing.

use std::{collections::HashSet, sync::Arc};

use ironside_policy::{Finding, Level, Lint, PolicySet};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::live::Live;

/// Scope of these lines.
const LOG: &str = "dapr.acl";
/// Requests that are tried out: a fraction of a second.
const REQUESTS: usize = 200_000;
/// Findings that are written; the others are counted.
const MOST: usize = 32;
/// How the block of a Configuration begins among the names of objects.
const BLOCK: &str = "Configuration/";

/// Findings that are remembered, so that each is said once.
const KEPT: usize = 4096;

/// What was said already.
#[derive(Debug, Default)]
struct Advice {
    seen: Option<Arc<PolicySet>>,
    findings: HashSet<Box<str>>,
    both_forms: bool,
}

/// What is to be said of a set of rules.
#[derive(Debug, Default)]
struct News {
    lines: Vec<Box<str>>,
    more: usize,
    is_complete: bool,
    /// All findings of the set, up to [`KEPT`].
    findings: HashSet<Box<str>>,
}

/// Looks at each new state of the rules until `stop` is cancelled.
pub(crate) async fn follow(mut live: watch::Receiver<Arc<Live>>, stop: CancellationToken) {
    let mut advice = Advice::default();
    loop {
        let unseen = advice.unseen(&live.borrow_and_update());
        if let Some(set) = unseen {
            let said = std::mem::take(&mut advice.findings);
            let looked = tokio::task::spawn_blocking(move || {
                let news = News::of(set.lint_within(REQUESTS), &said);
                (set, news)
            });
            let looked = tokio::select! {
                () = stop.cancelled() => return,
                looked = looked => looked,
            };
            // A defect in it is no reason to end: it panicked, and that was said.
            if let Ok((set, news)) = looked {
                advice.say(&set, news);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = live.changed() => if changed.is_err() { return },
        }
    }
}

// === impl News ===

impl News {
    /// What of the warnings in `lint` is not in `said`.
    fn of(lint: Lint, said: &HashSet<Box<str>>) -> Self {
        let mut news = Self {
            is_complete: lint.is_complete,
            ..Self::default()
        };
        let is_warning = |finding: &&Finding| finding.code.level() == Level::Warning;
        for finding in lint.findings.iter().filter(is_warning) {
            if news.findings.len() == KEPT {
                news.more += 1;
                continue;
            }
            let line: Box<str> = finding.to_string().into();
            match said.contains(&line) {
                true => {}
                false if news.lines.len() < MOST => news.lines.push(line.clone()),
                false => news.more += 1,
            }
            news.findings.insert(line);
        }
        news
    }
}

// === impl Advice ===

impl Advice {
    /// The rules, if they were not looked at.
    fn unseen(&mut self, live: &Live) -> Option<Arc<PolicySet>> {
        // Not by their number: another stream begins at one again, and an edit of a file beside a stream has none.
        let is_seen = |seen: &Arc<PolicySet>| Arc::ptr_eq(seen, &live.policy);
        if self.seen.as_ref().is_some_and(is_seen) {
            return None;
        }
        self.seen = Some(Arc::clone(&live.policy));
        self.seen.clone()
    }

    fn say(&mut self, set: &PolicySet, news: News) {
        let News {
            lines,
            more,
            is_complete,
            findings,
        } = news;
        if !is_complete {
            debug!(target: LOG, "there are too many rules to try out all of them");
        }
        if !self.both_forms && has_both_forms(set) {
            self.both_forms = true;
            warn!(target: LOG, "both spec.accessControl of the Configuration and AccessControl objects apply to this app: whichever denies on purpose wins; keep the rules in one form");
        }
        for line in lines {
            warn!(target: LOG, "{line}");
        }
        if more > 0 {
            warn!(target: LOG, more, "more rules do not do what they look like; ironside accesscontrol lint lists them");
        }
        self.findings = findings;
    }
}

fn has_both_forms(set: &PolicySet) -> bool {
    let objects = set.objects();
    let (blocks, others): (Vec<_>, Vec<_>) = objects
        .iter()
        .partition(|object| object.name.starts_with(BLOCK));
    !blocks.is_empty() && !others.is_empty()
}

#[cfg(test)]
mod tests {
    use ironside_policy::Code;

    use super::*;

    fn lint(numbers: std::ops::Range<usize>) -> Lint {
        let finding = |number| Finding {
            object: "default/p".into(),
            pointer: format!("/spec/policies/{number}"),
            code: Code::Dead,
            message: "no caller can have this identity".to_owned(),
            example: None,
            other: None,
        };
        Lint {
            findings: numbers.map(finding).collect(),
            is_complete: true,
        }
    }

    /// Other rules are looked at even if their number is that of the last ones.
    #[test]
    fn rules_are_known_by_themselves() {
        let mut advice = Advice::default();
        let [first, second] = [Live::default(), Live::default()];
        assert_eq!(first.snapshot, second.snapshot);
        assert!(advice.unseen(&first).is_some());
        assert!(advice.unseen(&first.clone()).is_none());
        let unseen = advice.unseen(&second).unwrap();
        assert!(Arc::ptr_eq(&unseen, &second.policy));
    }

    /// Fact O-A8: each finding is said when it is new, and of very many what can be read.
    #[test]
    fn what_was_said_is_not_repeated_and_never_without_bound() {
        let first = News::of(lint(0..40), &HashSet::new());
        assert_eq!((first.lines.len(), first.more), (MOST, 8));
        assert!(first.lines[0].contains("/spec/policies/0"), "{first:?}");
        let second = News::of(lint(10..42), &first.findings);
        assert_eq!((second.lines.len(), second.more), (2, 0), "{second:?}");
        let again = News::of(lint(10..42), &second.findings);
        assert_eq!((again.lines.len(), again.more), (0, 0));
        let many = News::of(lint(0..3 * KEPT), &HashSet::new());
        assert_eq!((many.findings.len(), many.lines.len()), (KEPT, MOST));
        assert_eq!(many.more, 3 * KEPT - MOST);
    }
}
