//! What this build says about itself.
//!
//! The three facts are stamped at build time by the variables
//! `IRONSIDE_VERSION`, `IRONSIDE_COMMIT` and `IRONSIDE_GIT_VERSION`; an
//! unstamped build calls itself `edge`. Source: process-interface 2.1, 7.

/// Version of this build; `edge` when none was stamped.
pub const VERSION: &str = or(option_env!("IRONSIDE_VERSION"), "edge");
/// Commit of this build; empty when none was stamped.
pub const COMMIT: &str = or(option_env!("IRONSIDE_COMMIT"), "");
/// `git describe` of this build; empty when none was stamped.
pub const GIT_VERSION: &str = or(option_env!("IRONSIDE_GIT_VERSION"), "");
/// The `ver` key of log lines, which spells an unstamped version `unknown`.
pub const LOG_VERSION: &str = or(option_env!("IRONSIDE_VERSION"), "unknown");

/// Returns what `--build-info` prints: three lines, without a final newline.
#[must_use]
pub fn build_info_text() -> String {
    format!("Version: {VERSION}\nGit Commit: {COMMIT}\nGit Version: {GIT_VERSION}")
}

const fn or(stamped: Option<&'static str>, unstamped: &'static str) -> &'static str {
    match stamped {
        Some(text) if !text.is_empty() => text,
        Some(_) | None => unstamped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_info_has_three_lines() {
        let text = build_info_text();
        let starts: Vec<_> = text
            .lines()
            .map(|line| line.split(':').next().unwrap())
            .collect();
        assert_eq!(starts, ["Version", "Git Commit", "Git Version"]);
    }

    #[test]
    fn an_empty_stamp_counts_as_none() {
        assert_eq!(or(Some(""), "edge"), "edge");
        assert_eq!(or(None, "edge"), "edge");
        assert_eq!(or(Some("1.2.3"), "edge"), "1.2.3");
    }
}
