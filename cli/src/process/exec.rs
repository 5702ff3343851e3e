//! The hidden `exec` subcommand: become another program, tied to the life of the parent.
//!
//! A child of the command line runs this first. It asks the kernel to kill it when its parent dies (CH4), makes sure
//! the parent has not died meanwhile, and then becomes the program, so the process id stays and no process is added.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::output;

/// Exit code of a program that was found but could not be run, as shells have it.
const CANNOT_RUN: u8 = 126;

/// Becomes the program that the words name: the parent's process id, the file, its name for itself, its arguments.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let [parent, file, name, args @ ..] = words else {
        output::err(b"exec is not for people: it takes a process id, a file and a name\n");
        return ExitCode::FAILURE;
    };
    // Off Linux there is no such signal; the parent's own clean-up has to do.
    let _best_effort = set_parent_process_death_signal(Some(Signal::KILL));
    let parent_lives =
        getppid().map(|pid| pid.as_raw_nonzero().to_string()) == parent.to_str().map(str::to_owned);
    if !parent_lives {
        return ExitCode::FAILURE;
    }
    let error = Command::new(file).arg0(name).args(args).exec();
    output::err(format!("cannot run {}: {error}\n", file.display()).as_bytes());
    ExitCode::from(CANNOT_RUN)
}
