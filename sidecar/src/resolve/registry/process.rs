//! What the kernel says about processes: whether one runs, since when, and in which surroundings.
//!
//! Owns the reading of `/proc`; `resolution::registry` judges what it means. Where there is no
//! `/proc`, a signal that is never delivered tells life from death and nothing tells start times.

use std::fs;

use ironside_resolution::registry::{Place, Process, Sign};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// The index of `starttime` behind the command's closing parenthesis: field 22 of proc(5), whose
/// field 3 comes first there.
const START_TIME: usize = 19;

/// This process.
pub(super) fn own() -> Process {
    let pid = std::process::id();
    let start_time = match sign(pid) {
        Sign::Alive(started) => started.unwrap_or(0),
        Sign::Dead => 0,
    };
    Process {
        pid,
        start_time,
        place: Place {
            processes: namespace("pid"),
            network: namespace("net"),
        },
    }
}

/// What the kernel says about a process number now.
pub(super) fn sign(pid: u32) -> Sign {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => from_stat(&String::from_utf8_lossy(&stat)),
        Err(_) => from_signal(pid),
    }
}

fn from_stat(stat: &str) -> Sign {
    // The command may hold blanks and parentheses; what follows the last one is plain.
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return Sign::Alive(None);
    };
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.clone().next().unwrap_or_default();
    if matches!(state, "Z" | "X" | "x") {
        return Sign::Dead;
    }
    let start_time = fields.nth(START_TIME);
    Sign::Alive(start_time.and_then(|text| text.parse().ok()))
}

fn from_signal(pid: u32) -> Sign {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    match process.map(test_kill_process) {
        Some(Ok(()) | Err(Errno::PERM)) => Sign::Alive(None),
        Some(Err(_)) | None => Sign::Dead,
    }
}

fn namespace(kind: &str) -> Box<str> {
    let link = fs::read_link(format!("/proc/self/ns/{kind}"));
    link.map(|name| name.to_string_lossy().into())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_since_its_start() {
        let own = own();
        assert_eq!(own.pid, std::process::id());
        assert_eq!(sign(own.pid), Sign::Alive(Some(own.start_time)));
        assert!(own.start_time > 0);
        assert!(own.place.network.starts_with("net:["));
        assert_eq!(from_signal(own.pid), Sign::Alive(None));
    }

    #[test]
    fn ended_processes_are_dead_before_and_after_they_are_collected() {
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        let pid = child.id();
        // A zombie until somebody waits for it.
        let deadline = std::time::Duration::from_secs(10);
        let mut waited = std::time::Duration::ZERO;
        while sign(pid) != Sign::Dead && waited < deadline {
            let step = std::time::Duration::from_millis(5);
            std::thread::sleep(step);
            waited += step;
        }
        assert_eq!(sign(pid), Sign::Dead);
        child.wait().expect("ends");
        assert_eq!(sign(pid), Sign::Dead);
        assert_eq!(sign(0), Sign::Dead);
        assert_eq!(sign(u32::MAX), Sign::Dead);
    }

    #[test]
    fn commands_may_hold_anything() {
        let after = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        for command in ["daprd", "a b", "x) y (z", ""] {
            let stat = format!("12 ({command}) {after}");
            assert_eq!(from_stat(&stat), Sign::Alive(Some(777)), "{command}");
        }
        assert_eq!(from_stat("12 (a) Z 1"), Sign::Dead);
        assert_eq!(from_stat("12 (a) S 1"), Sign::Alive(None));
        assert_eq!(from_stat("garbage"), Sign::Alive(None));
    }
}
