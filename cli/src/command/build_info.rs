//! `build-info`: how this program was built.

use std::process::ExitCode;

use ironside_chassis::build_info::{COMMIT, GIT_VERSION, VERSION, build_info_text};

use crate::output;

/// Runs the command.
pub(crate) fn run() -> ExitCode {
    let runtime: String = build_info_text()
        .lines()
        .map(|line| format!("\t{line}\n"))
        .collect();
    let text = format!(
        "CLI:\n\tVersion: {VERSION}\n\tGit Commit: {COMMIT}\n\tGit Version: {GIT_VERSION}\nRuntime:\n{runtime}"
    );
    output::out(text.as_bytes());
    ExitCode::SUCCESS
}
