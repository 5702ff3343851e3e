//! `help`: the page of a command, as `--help` after it.

use std::process::ExitCode;

use super::Session;
use crate::commands::{GLOBAL, ROOT};
use crate::grammar::usage;
use crate::output;

/// Runs the command.
pub(crate) fn run(session: &Session) -> ExitCode {
    let mut path = vec![ROOT];
    for word in &session.words {
        let word = word.to_string_lossy();
        let here = path.last().copied().unwrap_or(ROOT);
        let Some(next) = here.commands.iter().find(|one| one.answers_to(&word)) else {
            let usage = usage::usage(&session.program, &path, GLOBAL);
            output::err(format!("Unknown help topic {word:?}\n{usage}").as_bytes());
            return ExitCode::FAILURE;
        };
        path.push(next);
    }
    output::out(usage::help(&session.program, &path, GLOBAL).as_bytes());
    ExitCode::SUCCESS
}
