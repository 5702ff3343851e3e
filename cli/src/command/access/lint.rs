//! `accesscontrol lint`: rules in files that do not do what they look like.
//!
//! Without `--callee` the rules are tried for every app that the scopes tell apart, and what only others cause is
//! told only if it holds for all of them.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context as _;
use ironside_policy::{Code, Finding, Level};
use serde_json::json;

use super::{NO, Session, TOO_MUCH, app_kind, callee, rules::Sources, show, wants_json};
use crate::output;

/// Findings of several apps, each once.
#[derive(Default)]
struct Collected {
    /// By object and order of finding, with the number of apps that have it.
    findings: Vec<(Finding, usize)>,
    /// Apps to which each object applies.
    applied: BTreeMap<Box<str>, usize>,
    is_complete: bool,
}

/// Runs the command.
pub(super) fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let values = &session.values;
    let is_json = wants_json(session)?;
    let app = app_kind(session)?;
    let asked = values.text("callee").map(|text| callee(text, app));
    let asked = asked.transpose()?;
    let sources = match values.switch("kubernetes") {
        true => super::cluster::sources(session, asked.as_ref())?,
        false => {
            let files: Vec<String> = values
                .texts("file")
                .into_iter()
                .chain(words(session))
                .collect();
            Sources::read(
                &files,
                &values.texts("resources-path"),
                &values.texts("config"),
            )?
        }
    };
    let callees = match asked {
        Some(callee) => vec![callee],
        None => sources.callees(app)?,
    };
    let mut all = Collected {
        is_complete: true,
        ..Collected::default()
    };
    let mut told = Vec::new();
    for callee in &callees {
        let rules = sources.rules(callee, session)?;
        for warning in rules.warnings {
            if !told.contains(&warning) {
                session.status.warning(&warning);
                told.push(warning);
            }
        }
        all.add(&rules.set);
    }
    let findings = all.findings();
    if is_json {
        let list: Vec<_> = findings
            .iter()
            .map(|finding| as_json(finding, &sources))
            .collect();
        let value = json!({"complete": all.is_complete, "findings": list});
        output::line(&serde_json::to_string_pretty(&value).context("writing JSON")?);
    } else {
        for finding in &findings {
            output::line(&as_text(finding, &sources));
        }
    }
    let warnings = findings
        .iter()
        .filter(|one| one.code.level() == Level::Warning);
    let warnings = warnings.count();
    if !is_json {
        let notes = findings.len() - warnings;
        output::line(&format!(
            "{}, {}",
            counted(warnings, "warning"),
            counted(notes, "note")
        ));
    }
    if !all.is_complete {
        session
            .status
            .warning("Not all rules were tried: there are too many combinations.");
    }
    Ok(match (warnings, all.is_complete) {
        (0, true) => ExitCode::SUCCESS,
        (0, false) => ExitCode::from(TOO_MUCH),
        _ => ExitCode::from(NO),
    })
}

fn counted(count: usize, word: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {word}{plural}")
}

fn words(session: &Session) -> Vec<String> {
    let words = session.words.iter();
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

fn as_text(finding: &Finding, sources: &Sources) -> String {
    let level = finding.code.level().as_str();
    match sources.place(&finding.object, &finding.pointer) {
        Some(place) => format!("{place}: {level}: {finding}"),
        None => format!("{level}: {finding}"),
    }
}

fn as_json(finding: &Finding, sources: &Sources) -> serde_json::Value {
    json!({
        "level": finding.code.level().as_str(),
        "code": finding.code.as_str(),
        "policy": finding.object,
        "rule": finding.pointer,
        "at": sources.place(&finding.object, &finding.pointer),
        "message": finding.message,
        "example": finding.example.as_ref().map(show::sample_json),
    })
}

// === impl Collected ===

impl Collected {
    fn add(&mut self, set: &ironside_policy::PolicySet) {
        for object in set.objects() {
            *self.applied.entry(object.name).or_default() += 1;
        }
        let lint = set.lint();
        self.is_complete &= lint.is_complete;
        for finding in lint.findings {
            let same = self.findings.iter_mut().find(|(known, _)| {
                known.object == finding.object
                    && known.pointer == finding.pointer
                    && known.code == finding.code
            });
            match same {
                Some((_, count)) => *count += 1,
                None => self.findings.push((finding, 1)),
            }
        }
    }

    fn findings(&self) -> Vec<&Finding> {
        let holds = |(finding, count): &&(Finding, usize)| {
            let applied = self
                .applied
                .get(&finding.object)
                .copied()
                .unwrap_or_default();
            finding.code != Code::Unreachable || *count == applied
        };
        let findings = self.findings.iter().filter(holds);
        let mut findings: Vec<&Finding> = findings.map(|(finding, _)| finding).collect();
        // As written: objects together, findings of one object in its order.
        findings.sort_by(|a, b| a.object.cmp(&b.object));
        findings
    }
}
