//! `accesscontrol diff`: which requests an edit of the rules decides otherwise, and which recorded calls.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use ironside_policy::{Callee, Change, PolicySet};
use serde_json::{Value, json};

use super::{
    NO, Session, TOO_MUCH, app_kind, call::Call, callee, rules::Sources, show, wants_json,
};
use crate::output;

/// Changes that are printed for one app; the rest is counted.
const SHOWN: usize = 50;

/// Rules before and after, for one app.
struct Pair {
    callee: Callee,
    old: PolicySet,
    new: PolicySet,
}

/// Recorded calls, tried with both.
#[derive(Default)]
struct Replayed {
    calls: usize,
    skipped: usize,
    changed: Vec<(String, bool)>,
}

/// Runs the command.
pub(super) fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let is_json = wants_json(session)?;
    let (old, new) = sources(session)?;
    let pairs = pairs(session, &old, &new)?;
    let mut any = false;
    let mut is_complete = true;
    let mut values = Vec::new();
    for pair in &pairs {
        let changes = pair.old.changes(&pair.new);
        any |= changes.count > 0;
        is_complete &= changes.is_complete;
        let callee = format!("{}/{}", pair.callee.namespace, pair.callee.app_id);
        if is_json {
            let list = changes
                .list
                .iter()
                .map(|change| as_json(change, pair, &old, &new));
            values.push(json!({
                "callee": callee,
                "count": changes.count,
                "changes": list.collect::<Value>(),
            }));
            continue;
        }
        output::line(&format!(
            "{callee}: {} kinds of request change",
            changes.count
        ));
        for change in changes.list.iter().take(SHOWN) {
            output::line(&as_text(change, pair, &old, &new));
        }
        if changes.count > SHOWN {
            output::line(&format!("  … and {} more", changes.count - SHOWN));
        }
    }
    let replayed = match session.values.text("replay") {
        Some(file) => Some(replay(file, &pairs)?),
        None => None,
    };
    any |= replayed.as_ref().is_some_and(|one| !one.changed.is_empty());
    if is_json {
        let value = json!({
            "complete": is_complete,
            "apps": values,
            "replay": replayed.as_ref().map(Replayed::as_json),
        });
        output::line(&serde_json::to_string_pretty(&value).context("writing JSON")?);
    } else if let Some(replayed) = &replayed {
        output::out(replayed.as_text().as_bytes());
    }
    if !is_complete {
        session
            .status
            .warning("Not all requests were tried: there are too many combinations.");
    }
    Ok(match (any, is_complete) {
        (true, _) => ExitCode::from(NO),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(TOO_MUCH),
    })
}

/// The rules before and after: two files, or those of a cluster before and after a file is applied.
fn sources(session: &Session) -> anyhow::Result<(Sources, Sources)> {
    let read = |path: &OsString| Sources::one(&path.to_string_lossy());
    if !session.values.switch("kubernetes") {
        let [old, new] = session.words.as_slice() else {
            bail!("write two files or folders: diff OLD NEW");
        };
        return Ok((read(old)?, read(new)?));
    }
    let [new] = session.words.as_slice() else {
        bail!("write the file or folder that is to be applied: diff -k NEW");
    };
    let app = app_kind(session)?;
    let asked = session.values.text("callee").map(|text| callee(text, app));
    let old = super::cluster::sources(session, asked.transpose()?.as_ref())?;
    let new = old.with(&read(new)?);
    Ok((old, new))
}

fn pairs(session: &Session, old: &Sources, new: &Sources) -> anyhow::Result<Vec<Pair>> {
    let app = app_kind(session)?;
    let callees = match session.values.text("callee") {
        Some(text) => vec![callee(text, app)?],
        None => {
            let mut callees = old.callees(app)?;
            for callee in new.callees(app)? {
                let is_known = callees.iter().any(|known| {
                    known.app_id == callee.app_id && known.namespace == callee.namespace
                });
                if !is_known {
                    callees.push(callee);
                }
            }
            callees
        }
    };
    let pair = |callee: Callee| {
        Ok(Pair {
            old: old.rules(&callee, session)?.set,
            new: new.rules(&callee, session)?.set,
            callee,
        })
    };
    callees.into_iter().map(pair).collect()
}

fn as_text(change: &Change, pair: &Pair, old: &Sources, new: &Sources) -> String {
    format!(
        "  {} -> {}: {}\n    before: {}\n    after:  {}",
        show::word(change.before.is_allowed()),
        show::word(change.after.is_allowed()),
        change.sample,
        show::because(&pair.old, old, &change.before),
        show::because(&pair.new, new, &change.after),
    )
}

fn as_json(change: &Change, pair: &Pair, old: &Sources, new: &Sources) -> Value {
    json!({
        "request": show::sample_json(&change.sample),
        "before": show::verdict_json(&pair.old, old, &change.before),
        "after": show::verdict_json(&pair.new, new, &change.after),
    })
}

/// Tries every recorded call with both sets; the log is one app's, so one app must be meant.
fn replay(file: &str, pairs: &[Pair]) -> anyhow::Result<Replayed> {
    let [pair] = pairs else {
        bail!(
            "--replay: say with --callee whose calls these are, for the rules are for several apps"
        );
    };
    let reading = || format!("reading {file}");
    let lines = BufReader::new(std::fs::File::open(file).with_context(reading)?).lines();
    let mut replayed = Replayed::default();
    for (number, line) in lines.enumerate() {
        let line = line.with_context(reading)?;
        if line.trim().is_empty() {
            continue;
        }
        let call: Call = serde_json::from_str(&line)
            .with_context(|| format!("{file}:{}: no call of an access log", number + 1))?;
        let at = format!("{file}:{}", number + 1);
        replayed.add(&call, pair, &at)?;
    }
    Ok(replayed)
}

// === impl Replayed ===

impl Replayed {
    fn add(&mut self, call: &Call, pair: &Pair, at: &str) -> anyhow::Result<()> {
        // The rest of a path that was cut may decide.
        if call.truncated {
            self.skipped += 1;
            return Ok(());
        }
        self.calls += 1;
        let asked = call.asked(&pair.callee).context(at.to_owned())?;
        let before = asked.decide(&pair.old).is_allowed();
        let after = asked.decide(&pair.new).is_allowed();
        if before != after {
            let caller = if call.caller.is_empty() {
                "without identity"
            } else {
                &call.caller
            };
            let text = format!("{} {} from {caller}", asked.verb, call.operation);
            self.changed.push((text, after));
        }
        Ok(())
    }

    /// Each kind of call once, with its number.
    fn counted(&self) -> Vec<(&str, bool, usize)> {
        let mut counted: Vec<(&str, bool, usize)> = Vec::new();
        for (text, after) in &self.changed {
            match counted.iter_mut().find(|(known, ..)| known == text) {
                Some((_, _, count)) => *count += 1,
                None => counted.push((text, *after, 1)),
            }
        }
        counted.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
        counted
    }

    fn as_text(&self) -> String {
        let mut text = format!(
            "replay: {} of {} recorded calls change",
            self.changed.len(),
            self.calls
        );
        if self.skipped > 0 {
            text += &format!(", {} were cut and could not be tried", self.skipped);
        }
        text.push('\n');
        for (call, after, count) in self.counted() {
            let word = if after {
                "deny -> allow"
            } else {
                "allow -> deny"
            };
            text += &format!("  {word}: {call} ({count} calls)\n");
        }
        text
    }

    fn as_json(&self) -> Value {
        let changed = self.counted().into_iter().map(|(call, after, count)| {
            json!({"call": call, "after": show::word(after), "count": count})
        });
        json!({
            "calls": self.calls,
            "changed": self.changed.len(),
            "skipped": self.skipped,
            "kinds": changed.collect::<Value>(),
        })
    }
}
