//! Status lines: a mark and a sentence, or one JSON object a line with `--log-as-json`.
//!
//! Facts: cli-and-clients 1.1 "Status lines".

use ironside_chassis::clock::Clock;
use jiff::{Timestamp, Unit};

/// What a status line says about the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Done.
    Success,
    /// Failed; goes to the standard error.
    Failure,
    /// Degraded.
    Warning,
    /// Under way.
    Pending,
    /// Good to know.
    Info,
}

/// Writes status lines.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    json: bool,
    clock: Clock,
}

// === impl Level ===

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Warning => "warning",
            Self::Pending => "pending",
            Self::Info => "info",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Success => "✅  ",
            Self::Failure => "❌  ",
            Self::Warning => "⚠  ",
            Self::Pending => "⌛  ",
            Self::Info => "ℹ️  ",
        }
    }
}

// === impl Status ===

impl Status {
    /// Lines as text, or as JSON.
    pub(crate) fn new(json: bool, clock: Clock) -> Self {
        Self { json, clock }
    }

    /// Whether lines are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Says that something is done.
    pub(crate) fn success(&self, text: &str) {
        self.say(Level::Success, text);
    }

    /// Says that something failed.
    pub(crate) fn failure(&self, text: &str) {
        self.say(Level::Failure, text);
    }

    /// Says that something is degraded.
    pub(crate) fn warning(&self, text: &str) {
        self.say(Level::Warning, text);
    }

    /// Says that something is under way.
    pub(crate) fn pending(&self, text: &str) {
        self.say(Level::Pending, text);
    }

    /// Says something that is good to know.
    pub(crate) fn info(&self, text: &str) {
        self.say(Level::Info, text);
    }

    /// Says something at a level.
    pub(crate) fn say(&self, level: Level, text: &str) {
        let line = self.line(level, text);
        match level {
            Level::Failure => super::err(line.as_bytes()),
            Level::Success | Level::Warning | Level::Pending | Level::Info => {
                super::out(line.as_bytes())
            }
        }
    }

    /// The line as it is printed, with its end.
    pub(crate) fn line(&self, level: Level, text: &str) -> String {
        if !self.json {
            return format!("{}{text}\n", level.mark());
        }
        let time = Timestamp::try_from(self.clock.now())
            .and_then(|now| now.round(Unit::Second))
            .unwrap_or_default();
        let object =
            serde_json::json!({ "time": time.to_string(), "status": level.word(), "msg": text });
        format!("{object}\n")
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn status(json: bool) -> Status {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_785_585_600_400);
        Status::new(json, Clock::manual(at).0)
    }

    /// Fact: cli-and-clients 1.1 "Status lines".
    #[test]
    fn a_line_begins_with_its_mark_and_two_spaces() {
        for (level, expected) in [
            (Level::Success, "✅  done\n"),
            (Level::Failure, "❌  done\n"),
            (Level::Warning, "⚠  done\n"),
            (Level::Pending, "⌛  done\n"),
            (Level::Info, "ℹ️  done\n"),
        ] {
            assert_eq!(status(false).line(level, "done"), expected);
        }
    }

    /// Fact: CL-07.
    #[test]
    fn as_json_a_line_is_one_object() {
        let line = status(true).line(Level::Warning, "a \"b\"");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"time": "2026-08-01T12:00:00Z", "status": "warning", "msg": "a \"b\""})
        );
        assert_eq!(line.matches('\n').count(), 1);
    }
}
