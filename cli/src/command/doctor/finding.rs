//! What a check found, and how it is printed.
//!
//! Every finding that is not good names what to do. Exit codes: 0 nothing is wrong, 2 something is, 3 nothing is wrong
//! with what could be looked at, but something could not.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::Session;
use crate::output::{self, Level};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// As it should be.
    Good,
    /// It may well be as it should be, and is good to know.
    Note,
    /// It could not be looked at.
    Unknown,
    /// It works, but not as well or not for long.
    Warning,
    /// It does not work.
    Error,
}

/// One answer of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The check, such as `certificates`.
    pub check: &'static str,
    /// How bad it is.
    pub weight: Weight,
    /// What was found.
    pub text: String,
    /// What to do about it; empty if nothing is to be done.
    pub fix: String,
}

// === impl Weight ===

impl Weight {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "info",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    fn level(self) -> Level {
        match self {
            Self::Good => Level::Success,
            Self::Note | Self::Unknown => Level::Info,
            Self::Warning => Level::Warning,
            Self::Error => Level::Failure,
        }
    }
}

// === impl Finding ===

impl Finding {
    /// It is as it should be.
    pub(super) fn good(check: &'static str, text: impl Into<String>) -> Self {
        Self {
            check,
            weight: Weight::Good,
            text: text.into(),
            fix: String::new(),
        }
    }

    /// Nothing is known to be wrong; `fix` says what to do if it is.
    pub(super) fn note(
        check: &'static str,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            check,
            weight: Weight::Note,
            text: text.into(),
            fix: fix.into(),
        }
    }

    /// It could not be looked at; `why` is the API server's word for it.
    pub(super) fn unknown(check: &'static str, why: impl Into<String>) -> Self {
        Self {
            check,
            weight: Weight::Unknown,
            text: why.into(),
            fix: "run doctor with the rights that the text names".to_owned(),
        }
    }

    /// It will not stay well.
    pub(super) fn warning(
        check: &'static str,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            check,
            weight: Weight::Warning,
            text: text.into(),
            fix: fix.into(),
        }
    }

    /// It is wrong.
    pub(super) fn error(
        check: &'static str,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            check,
            weight: Weight::Error,
            text: text.into(),
            fix: fix.into(),
        }
    }

    fn as_json(&self) -> Value {
        let Self {
            check,
            weight,
            text,
            fix,
        } = self;
        let fix = (!fix.is_empty()).then_some(fix);
        json!({"check": check, "level": weight.word(), "message": text, "fix": fix})
    }
}

/// Prints the findings and says what the program ends with.
pub(super) fn tell(session: &Session, findings: &[Finding]) -> anyhow::Result<ExitCode> {
    match session.values.text("output") {
        None | Some("" | "text") => {
            for finding in findings {
                let text = format!("{}: {}", finding.check, finding.text);
                // All of it is the answer of this command, the bad parts too.
                let line = session.status.line(finding.weight.level(), &text);
                output::out(line.as_bytes());
                if !finding.fix.is_empty() && !session.status.is_json() {
                    output::line(&format!("    fix: {}", finding.fix));
                }
            }
        }
        Some("json") => {
            let list: Vec<Value> = findings.iter().map(Finding::as_json).collect();
            let value = json!({"healthy": code(findings) == GOOD, "findings": list});
            output::line(&serde_json::to_string_pretty(&value).context("writing JSON")?);
        }
        Some(_) => anyhow::bail!("An invalid output format was specified."),
    }
    Ok(ExitCode::from(code(findings)))
}

/// Nothing is wrong.
const GOOD: u8 = 0;
/// Something is wrong.
const BAD: u8 = 2;
/// Nothing is wrong with what could be looked at.
const PARTLY: u8 = 3;

fn code(findings: &[Finding]) -> u8 {
    let has = |weight| findings.iter().any(|one| one.weight == weight);
    match (has(Weight::Error), has(Weight::Unknown)) {
        (true, _) => BAD,
        (false, true) => PARTLY,
        (false, false) => GOOD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_go_before_what_is_not_known() {
        let good = Finding::good("a", "x");
        let unknown = Finding::unknown("a", "x");
        let warning = Finding::warning("a", "x", "y");
        let note = Finding::note("a", "x", "y");
        let error = Finding::error("a", "x", "y");
        for (findings, expected) in [
            (vec![], GOOD),
            (vec![good.clone(), warning.clone(), note], GOOD),
            (vec![good, unknown.clone()], PARTLY),
            (vec![unknown, error, warning], BAD),
        ] {
            assert_eq!(code(&findings), expected);
        }
    }
}
