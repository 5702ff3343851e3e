//! `version` and `--version`: the versions of the command line and of the runtime, which are one program.

use std::process::ExitCode;

use ironside_chassis::build_info::VERSION;

use super::Session;
use crate::output;

/// Runs the command.
pub(crate) fn run(session: &Session) -> ExitCode {
    match session.values.text("output") {
        None | Some("") => lines(),
        Some("json") => {
            output::line(&format!(
                "{{\"Cli version\":{VERSION:?},\"Runtime version\":{VERSION:?}}}"
            ));
            ExitCode::SUCCESS
        }
        Some(_) => {
            session
                .status
                .failure("An invalid output format was specified.");
            ExitCode::FAILURE
        }
    }
}

/// Prints the two lines.
pub(crate) fn lines() -> ExitCode {
    // The space at the end of the first line is the reference's.
    output::line(&format!(
        "CLI version: {VERSION} \nRuntime version: {VERSION}"
    ));
    ExitCode::SUCCESS
}
