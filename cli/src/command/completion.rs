//! `completion`: scripts that make a shell complete commands and flags.

use std::process::ExitCode;

use clap_complete::Shell;

use super::Session;
use crate::commands::{GLOBAL, ROOT};
use crate::grammar::{Command, complete, usage};
use crate::output;

/// Runs the command; without a shell it prints its help.
pub(crate) fn run(session: &Session, path: &[&'static Command]) -> ExitCode {
    let shell = match path.get(2).map(|command| command.name) {
        Some("bash") => Shell::Bash,
        Some("fish") => Shell::Fish,
        Some("powershell") => Shell::PowerShell,
        Some("zsh") => Shell::Zsh,
        Some(_) | None => {
            output::out(usage::help(&session.program, path, GLOBAL).as_bytes());
            return ExitCode::SUCCESS;
        }
    };
    output::out(&complete::script(shell, &session.program, ROOT, GLOBAL));
    ExitCode::SUCCESS
}
