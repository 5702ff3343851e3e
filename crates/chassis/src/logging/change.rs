//! The level of another process of this machine, changed by the two signals that [`LevelSwitch`] follows.
//!
//! Owns the words for it, and that a process which does not listen is left alone: the signals would end it. Which
//! process is meant is the caller's business. Source: resiliency-observability 4.1.
//!
//! [`LevelSwitch`]: super::LevelSwitch

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

/// What the level becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelChange {
    /// `debug`.
    Debug,
    /// That of the start.
    Reset,
}

/// Why a level was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// The process has no handler for the signal, or is gone.
    #[error(
        "process {0} does not listen for it; is it a sidecar of an older version, or just starting?"
    )]
    Deaf(i32),
    /// The system refuses the signal.
    #[error("process {pid} cannot be signalled: {cause}")]
    Signal {
        /// The process.
        pid: i32,
        /// Why.
        cause: Errno,
    },
}

// === impl LevelChange ===

impl LevelChange {
    /// That of a word on a command line.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        [Self::Debug, Self::Reset]
            .into_iter()
            .find(|change| change.as_str() == word)
    }

    /// The word on a command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Reset => "reset",
        }
    }

    /// What the level is then, as people are told.
    #[must_use]
    pub const fn told(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Reset => "that of its start",
        }
    }

    /// Asks a process for it.
    ///
    /// # Errors
    /// [`ChangeError`]; the process goes on as before.
    pub fn ask(self, pid: i32) -> Result<(), ChangeError> {
        let signal = match self {
            Self::Debug => Signal::USR1,
            Self::Reset => Signal::USR2,
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let process = Pid::from_raw(pid).filter(|_| catches(&status, signal));
        let process = process.ok_or(ChangeError::Deaf(pid))?;
        kill_process(process, signal).map_err(|cause| ChangeError::Signal { pid, cause })
    }
}

/// Whether a process has a handler for the signal, by what the system says of it.
fn catches(status: &str, signal: Signal) -> bool {
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(signal.as_raw() - 1).ok();
    let mask = bit.and_then(|bit| 1_u64.checked_shl(bit));
    caught
        .zip(mask)
        .is_some_and(|(caught, mask)| caught & mask != 0)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// Ends with the test, whatever that says.
    struct Sleeping(Child);

    impl Drop for Sleeping {
        fn drop(&mut self) {
            let _gone = self.0.kill();
            let _reaped = self.0.wait();
        }
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for change in [LevelChange::Debug, LevelChange::Reset] {
            assert_eq!(LevelChange::of(change.as_str()), Some(change));
        }
        for other in ["loud", "", "DEBUG"] {
            assert_eq!(LevelChange::of(other), None);
        }
    }

    #[test]
    fn a_handler_is_seen() {
        for (mask, want) in [
            ("0000000000000200", true),
            ("0000000000000800", false),
            ("x", false),
        ] {
            let status = format!("Name:\ta\nSigCgt:\t{mask}\n");
            assert_eq!(catches(&status, Signal::USR1), want, "{mask}");
        }
        assert!(!catches("", Signal::USR1));
    }

    /// The signal would end it.
    #[test]
    fn a_process_without_handler_is_left_alone() {
        let mut sleeping = Sleeping(Command::new("sleep").arg("600").spawn().unwrap());
        let pid = i32::try_from(sleeping.0.id()).unwrap();
        assert_eq!(LevelChange::Debug.ask(pid), Err(ChangeError::Deaf(pid)));
        assert!(sleeping.0.try_wait().unwrap().is_none());
        drop(sleeping);
        assert_eq!(LevelChange::Reset.ask(pid), Err(ChangeError::Deaf(pid)));
    }
}
