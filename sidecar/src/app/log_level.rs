//! `daprd log-level debug|reset`: the level of the sidecar beside which this runs, in its container.
//!
//! Finds the one sidecar of this very file that this user may signal and sends SIGUSR1 or SIGUSR2. One that does not
//! listen for them is left alone: they would end it. Several are refused: which one is meant can be said to
//! `ironside log-level`. Source: resiliency-observability 4.1.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::process::{Pid, Signal, kill_process};

/// The word that makes the command line mean this.
const WORD: &str = "log-level";

/// What the level becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Debug,
    Reset,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("say `log-level debug`, or `log-level reset` for the level of the start")]
    Word,
    #[error("no sidecar runs here that this user may signal")]
    Nobody,
    #[error("{0} sidecars run here: name the app to `ironside log-level`")]
    Several(usize),
    #[error("process {0} does not listen for a change of its level yet")]
    Deaf(i32),
    #[error("process {pid} cannot be signalled: {cause}")]
    Signal { pid: i32, cause: rustix::io::Errno },
}

/// Does it, if that is what the command line, with or without the program's name, asks for.
pub(super) fn asked(words: &[OsString]) -> Option<ExitCode> {
    let is_it = |word: &&OsString| *word == WORD;
    let rest = match words {
        [first, rest @ ..] if is_it(&first) => rest,
        // Behind a flag it would be a value.
        [name, second, rest @ ..] if is_it(&second) && !is_flag(name) => rest,
        _ => return None,
    };
    Some(match change(rest) {
        Ok(told) => {
            super::say(&told);
            ExitCode::SUCCESS
        }
        Err(refused) => {
            eprintln!("{refused}");
            ExitCode::FAILURE
        }
    })
}

fn is_flag(word: &OsString) -> bool {
    word.to_string_lossy().starts_with('-')
}

fn change(words: &[OsString]) -> Result<String, Refused> {
    let change = match words {
        [word] if word == "debug" => Change::Debug,
        [word] if word == "reset" => Change::Reset,
        _ => return Err(Refused::Word),
    };
    let found = sidecars();
    let pid = match found.as_slice() {
        [pid] => *pid,
        [] => return Err(Refused::Nobody),
        several => return Err(Refused::Several(several.len())),
    };
    let signal = change.signal();
    let folder = PathBuf::from(format!("/proc/{pid}"));
    if !listens(&folder, signal) {
        return Err(Refused::Deaf(pid));
    }
    let process = Pid::from_raw(pid).ok_or(Refused::Nobody)?;
    kill_process(process, signal).map_err(|cause| Refused::Signal { pid, cause })?;
    Ok(format!(
        "log level of the sidecar (process {pid}): {}",
        change.told()
    ))
}

/// Processes of this very file that are sidecars.
fn sidecars() -> Vec<i32> {
    let Ok(own) = fs::metadata("/proc/self/exe") else {
        return Vec::new();
    };
    let is_sidecar = |folder: &Path| {
        let file = fs::metadata(folder.join("exe"));
        let is_same = file.is_ok_and(|file| (file.dev(), file.ino()) == (own.dev(), own.ino()));
        is_same && fs::read(folder.join("cmdline")).is_ok_and(|line| names_an_app(&line))
    };
    let own_pid = i32::try_from(std::process::id()).ok();
    let pids = fs::read_dir("/proc").into_iter().flatten();
    let pids = pids.filter_map(|entry| {
        let entry = entry.ok()?;
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        (Some(pid) != own_pid && is_sidecar(&entry.path())).then_some(pid)
    });
    pids.collect()
}

/// Whether a command line is that of a sidecar: it has an app id.
fn names_an_app(line: &[u8]) -> bool {
    line.split(|byte| *byte == 0).any(|word| {
        let flag = word.strip_prefix(b"--").or_else(|| word.strip_prefix(b"-"));
        flag.is_some_and(|flag| flag == b"app-id" || flag.starts_with(b"app-id="))
    })
}

/// Whether a process has a handler for the signal, by its folder in `/proc`.
fn listens(folder: &Path, signal: Signal) -> bool {
    let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(signal.as_raw() - 1).ok();
    let mask = bit.and_then(|bit| 1_u64.checked_shl(bit));
    caught
        .zip(mask)
        .is_some_and(|(caught, mask)| caught & mask != 0)
}

// === impl Change ===

impl Change {
    const fn signal(self) -> Signal {
        match self {
            Self::Debug => Signal::USR1,
            Self::Reset => Signal::USR2,
        }
    }

    const fn told(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Reset => "that of its start",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_itself_is_taken() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        for other in [
            &["daprd", "--log-level", "debug"][..],
            &["--log-level", "debug"],
            &["--app-id", "log-level"],
            &["daprd"],
            &[],
        ] {
            assert!(asked(&words(other)).is_none(), "{other:?}");
        }
        for bad in [
            &["log-level"][..],
            &["/daprd", "log-level", "loud"],
            &["log-level", "debug", "x"],
        ] {
            assert_eq!(asked(&words(bad)), Some(ExitCode::FAILURE), "{bad:?}");
        }
    }

    #[test]
    fn a_sidecar_has_an_app_id() {
        for (line, want) in [
            ("/daprd\0--app-id\0a\0", true),
            ("/daprd\0-app-id=a\0", true),
            ("/daprd\0log-level\0debug\0", false),
            ("/daprd\0--wait\0", false),
        ] {
            assert_eq!(names_an_app(line.as_bytes()), want, "{line:?}");
        }
    }

    #[test]
    fn a_process_without_handler_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for (mask, want) in [
            ("0000000000000200", true),
            ("0000000000000800", false),
            ("x", false),
        ] {
            fs::write(folder.path().join("status"), format!("SigCgt:\t{mask}\n")).unwrap();
            assert_eq!(listens(folder.path(), Signal::USR1), want, "{mask}");
        }
        assert!(!listens(Path::new("/proc/none"), Signal::USR1));
    }
}
