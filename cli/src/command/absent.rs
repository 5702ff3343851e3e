//! Commands that are known but not offered: one clear line each, exit code 1.
//!
//! Facts: cli-and-clients 1.2 (inventory), CL-10.

use std::process::ExitCode;

use super::Session;

/// Says why the command is not offered.
pub(crate) fn run(session: &Session, command: &str) -> ExitCode {
    session.status.failure(&reason(command));
    ExitCode::FAILURE
}

fn reason(command: &str) -> String {
    match command {
        "workflow" => {
            "workflow: the workflow building block is not offered, Ironside does service invocation"
                .to_owned()
        }
        "scheduler" => {
            "scheduler: the jobs building block is not offered, Ironside does service invocation"
                .to_owned()
        }
        "mcpservers" => {
            "mcpservers: the MCP building block is not offered, Ironside does service invocation"
                .to_owned()
        }
        "dashboard" => {
            "dashboard: there is no dashboard; `list` shows the running sidecars".to_owned()
        }
        other => format!("{other}: not in this version"),
    }
}
