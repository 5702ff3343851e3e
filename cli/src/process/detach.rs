//! The hidden `detach` subcommand: starts a Sentry that outlives everybody around it.
//!
//! Runs between the command line and Sentry: it leaves the terminal's session, so that neither Ctrl-C nor the end of a
//! login reaches Sentry, starts it, and stays until it serves or has ended. Then it goes, and Sentry belongs to the
//! system. Knows nothing of what Sentry is told.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use ironside_sentry::shared::{self, Found};
use rustix::process::setsid;

use crate::output;

/// How often the port file is looked at.
const STEP: Duration = Duration::from_millis(10);
/// How often in all: for half a minute.
const STEPS: u32 = 3_000;

/// Starts a Sentry; the words are its log, its port file and its arguments.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let [log, port_file, args @ ..] = words else {
        output::err(b"detach is not for people: it takes a log, a port file and arguments\n");
        return ExitCode::FAILURE;
    };
    // A leader of a group cannot make a session; the command line does not make us one.
    let started = setsid()
        .map_err(io::Error::from)
        .and_then(|_session| start(log, args));
    match started {
        Ok(sentry) => wait(sentry, Path::new(port_file)),
        Err(error) => {
            output::err(format!("cannot start sentry: {error}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn start(log: &OsString, args: &[OsString]) -> io::Result<Child> {
    let log: File = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log)?;
    Command::new(std::env::current_exe()?)
        .arg0("sentry")
        .args(args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// Waits until it serves. One that never does is ended.
fn wait(mut sentry: Child, port_file: &Path) -> ExitCode {
    for _ in 0..STEPS {
        // The file may still have the words of one that was killed.
        if matches!(shared::look(port_file), Ok(Found::Serving(found)) if found.pid == sentry.id())
        {
            return ExitCode::SUCCESS;
        }
        if !matches!(sentry.try_wait(), Ok(None)) {
            return ExitCode::FAILURE;
        }
        sleep(STEP);
    }
    // Gone already is as good.
    let _gone = sentry.kill().is_err();
    ExitCode::FAILURE
}
