//! What a person should know about the rules in force, once they are.
//!
//! Rules that do nothing are found by trying all of them out, which takes time: it is done beside the calls, for the
//! newest state only, and each finding is one warning when it is new (security O-A8). Owns the warning about both
//! forms of rules as well, once for each start (M9). Decides nothing and changes nothing.

use std::sync::Arc;

use ironside_policy::{Finding, Level, PolicySet};
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

/// What was said already.
#[derive(Debug, Default)]
struct Advice {
    findings: Vec<Finding>,
    both_forms: bool,
}

/// Looks at each new state of the rules until `stop` is cancelled.
pub(crate) async fn follow(mut live: watch::Receiver<Arc<Live>>, stop: CancellationToken) {
    let mut advice = Advice::default();
    let mut seen = None;
    loop {
        let newest = Arc::clone(&live.borrow_and_update());
        if seen.replace(newest.snapshot.number) != Some(newest.snapshot.number) {
            let set = Arc::clone(&newest.policy);
            let looked = tokio::task::spawn_blocking(move || set.lint_within(REQUESTS));
            tokio::select! {
                () = stop.cancelled() => return,
                // A defect in it is no reason to end: it panicked, and that was said.
                Ok(lint) = looked => {
                    if !lint.is_complete {
                        debug!(target: LOG, "there are too many rules to try out all of them");
                    }
                    advice.say(&newest.policy, lint.findings);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = live.changed() => if changed.is_err() { return },
        }
    }
}

// === impl Advice ===

impl Advice {
    fn say(&mut self, set: &PolicySet, findings: Vec<Finding>) {
        if !self.both_forms && has_both_forms(set) {
            self.both_forms = true;
            warn!(target: LOG, "both spec.accessControl of the Configuration and AccessControl objects apply to this app: whichever denies on purpose wins; keep the rules in one form");
        }
        let is_new = |finding: &&Finding| {
            finding.code.level() == Level::Warning && !self.findings.contains(finding)
        };
        let mut new = findings.iter().filter(is_new);
        for finding in new.by_ref().take(MOST) {
            warn!(target: LOG, "{finding}");
        }
        let more = new.count();
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
