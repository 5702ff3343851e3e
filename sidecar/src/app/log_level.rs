//! `daprd log-level debug|reset`: the level of the sidecar beside which this runs, in its container.
//!
//! Finds the one sidecar of this very file that this user may signal and asks it. Several are refused: which one is
//! meant can be said to `ironside log-level`. Source: resiliency-observability 4.1.

use std::{ffi::OsString, fs, os::unix::fs::MetadataExt as _, path::Path, process::ExitCode};

use ironside_chassis::logging::{ChangeError, LevelChange};

/// The word that makes the command line mean this.
const WORD: &str = "log-level";

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("say `log-level debug`, or `log-level reset` for the level of the start")]
    Word,
    #[error("no sidecar runs here that this user may signal")]
    Nobody,
    #[error("{0} sidecars run here: name the app to `ironside log-level`")]
    Several(usize),
    #[error(transparent)]
    Process(#[from] ChangeError),
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
        [word] => word.to_str().and_then(LevelChange::of),
        _ => None,
    };
    let change = change.ok_or(Refused::Word)?;
    let found = sidecars();
    let pid = match found.as_slice() {
        [pid] => *pid,
        [] => return Err(Refused::Nobody),
        several => return Err(Refused::Several(several.len())),
    };
    change.ask(pid)?;
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
}
