//! Instants as the reference's log lines about certificates print them.
//!
//! Owns one spelling, Go's default for a time in UTC, and nothing else.

use std::fmt;
use std::time::SystemTime;

/// An instant that prints as `2026-11-22 13:59:49 +0000 UTC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc(pub SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::try_from(self.0) {
            Ok(instant) => write!(f, "{}", instant.strftime("%Y-%m-%d %H:%M:%S +0000 UTC")),
            Err(_beyond_year_9999) => f.write_str("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    /// Fact: golden 33.
    #[test]
    fn instants_are_spelled_as_in_the_log() {
        let instant = UNIX_EPOCH + Duration::from_secs(1_795_355_989);
        assert_eq!(Utc(instant).to_string(), "2026-11-22 13:59:49 +0000 UTC");
    }
}
