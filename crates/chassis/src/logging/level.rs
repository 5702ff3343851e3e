//! Levels: the five words of the flag, and the threshold all events pass.
//!
//! Flags and printed lines disagree on one word (`warn`, `warning`); both
//! spellings live here. Two scopes, the API logs, are printed at `info`
//! whatever the level.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use thiserror::Error;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;

/// The scopes that are printed at `info` regardless of the level: process-interface 7.
const PINNED: [&str; 2] = ["dapr.runtime.http-info", "dapr.runtime.grpc.api-info"];
/// The field that makes an error a fatal one.
pub(super) const FATAL: &str = "fatal";

/// How much is logged; each level includes those below it in this list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Only lines after which the process ends.
    Fatal,
    /// A person must act.
    Error,
    /// Degraded, still serving.
    Warn,
    /// Life-cycle and changes of state.
    #[default]
    Info,
    /// Every request.
    Debug,
}

/// A word that names no level.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid value for --log-level: {0}")]
pub struct LevelError(pub Box<str>);

const ALL: [Level; 5] = [
    Level::Fatal,
    Level::Error,
    Level::Warn,
    Level::Info,
    Level::Debug,
];

// === impl Level ===

impl Level {
    /// Returns the word of the flag.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fatal => "fatal",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// Returns the word that lines carry.
    pub(super) const fn printed(self) -> &'static str {
        match self {
            Self::Warn => "warning",
            Self::Fatal | Self::Error | Self::Info | Self::Debug => self.as_str(),
        }
    }

    /// Returns the level of an event; frames (`trace`) are printed as `debug`.
    pub(super) fn of(metadata: &Metadata<'_>) -> Self {
        match *metadata.level() {
            tracing::Level::ERROR if is_fatal(metadata) => Self::Fatal,
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG | tracing::Level::TRACE => Self::Debug,
        }
    }
}

fn is_fatal(metadata: &Metadata<'_>) -> bool {
    metadata.fields().field(FATAL).is_some()
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(word: &str) -> Result<Self, LevelError> {
        ALL.into_iter()
            .find(|level| word.eq_ignore_ascii_case(level.as_str()))
            .ok_or_else(|| LevelError(word.into()))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The level in force; changed while the process runs.
#[derive(Debug)]
pub(super) struct Threshold(AtomicU8);

// === impl Threshold ===

impl Threshold {
    pub(super) const fn new(level: Level) -> Self {
        Self(AtomicU8::new(level as u8))
    }

    pub(super) fn set(&self, level: Level) {
        self.0.store(level as u8, Ordering::Relaxed);
    }

    /// Returns whether an event is printed.
    pub(super) fn passes(&self, metadata: &Metadata<'_>) -> bool {
        let level = Level::of(metadata);
        if is_ours(metadata.target()) {
            return self.admits(level) || is_pinned(metadata);
        }
        // Libraries speak of frames and polls; only their complaints help, and only when asked.
        level <= Level::Warn && self.admits(Level::Debug)
    }

    /// Returns the most verbose level that can pass.
    pub(super) fn hint(&self) -> LevelFilter {
        // The pinned scopes keep `info` alive.
        if self.admits(Level::Debug) {
            LevelFilter::DEBUG
        } else {
            LevelFilter::INFO
        }
    }

    fn admits(&self, level: Level) -> bool {
        level as u8 <= self.0.load(Ordering::Relaxed)
    }
}

fn is_ours(target: &str) -> bool {
    target.starts_with("dapr") || target.starts_with("ironside")
}

fn is_pinned(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= tracing::Level::INFO && PINNED.contains(&metadata.target())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_any_case_are_levels() {
        for level in ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
            assert_eq!(level.as_str().to_uppercase().parse(), Ok(level));
        }
        for bad in ["", "warning", "trace", "inf", "5"] {
            let error = bad.parse::<Level>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("invalid value for --log-level: {bad}")
            );
        }
    }

    #[test]
    fn only_one_word_is_printed_differently() {
        let printed = ALL.map(Level::printed);
        assert_eq!(printed, ["fatal", "error", "warning", "info", "debug"]);
    }
}
