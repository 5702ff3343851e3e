//! Processes of this machine, as `/proc` shows them.
//!
//! Refuses to guess: a process that vanishes while it is read is left out.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::param::clock_ticks_per_second;

/// A process id.
pub(crate) type Pid = i32;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its id.
    pub pid: Pid,
    /// When it was started, in the kernel's ticks since boot; with the id it names the process for ever.
    pub ticks: u64,
    /// Its argument vector.
    pub command_line: Vec<String>,
}

/// The processes of a name, in the order of their ids; letters may be of either case.
pub(crate) fn named(name: &str) -> Vec<Process> {
    let mut pids: Vec<Pid> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter()
        .filter_map(|pid| process(pid, name))
        .collect()
}

fn process(pid: Pid, name: &str) -> Option<Process> {
    let called = fs::read_to_string(file(pid, "comm")).ok()?;
    if !called.trim_end().eq_ignore_ascii_case(name) {
        return None;
    }
    let line = fs::read(file(pid, "cmdline")).ok()?;
    let words = line
        .strip_suffix(b"\0")
        .unwrap_or(&line)
        .split(|&byte| byte == 0);
    Some(Process {
        pid,
        ticks: Stat::read(pid)?.ticks,
        command_line: words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect(),
    })
}

/// The folder that a process works in, by which relative paths of its command line are meant.
pub(crate) fn folder(pid: Pid) -> Option<PathBuf> {
    fs::read_link(file(pid, "cwd")).ok()
}

/// Whether the process still runs; one that has ended but was not reaped does not.
pub(crate) fn runs(pid: Pid, ticks: u64) -> bool {
    Stat::read(pid).is_some_and(|stat| stat.ticks == ticks && !matches!(stat.state, 'Z' | 'X'))
}

/// When the process of that id was started.
pub(crate) fn ticks(pid: Pid) -> Option<u64> {
    Stat::read(pid).map(|stat| stat.ticks)
}

/// The parent of a process, its parent, and so on.
pub(crate) fn ancestors(pid: Pid) -> impl Iterator<Item = Pid> {
    std::iter::successors(Stat::read(pid).map(|stat| stat.parent), |&pid| {
        Stat::read(pid).map(|stat| stat.parent)
    })
    .take_while(|&pid| pid > 1)
}

/// When the machine was booted, to turn ticks into a time.
pub(crate) fn boot() -> Option<SystemTime> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.trim().parse().ok()?))
}

/// The time since boot that so many ticks are.
pub(crate) fn since_boot(ticks: u64) -> Duration {
    let rate = clock_ticks_per_second().max(1);
    Duration::from_millis(ticks.saturating_mul(1000) / rate)
}

fn file(pid: Pid, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

struct Stat {
    state: char,
    parent: Pid,
    ticks: u64,
}

impl Stat {
    /// Reads fields 3, 4 and 22 of proc(5)'s `stat`; the name before them may hold anything but is in brackets.
    fn read(pid: Pid) -> Option<Self> {
        Self::parse(&fs::read_to_string(file(pid, "stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_mislead() {
        let text = "42 (a) b) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.parent, stat.ticks), ('S', 7, 987_654));
    }

    #[test]
    fn this_process_runs_and_has_a_parent() {
        let me = Pid::try_from(std::process::id()).unwrap();
        let ticks = ticks(me).unwrap();
        assert!(runs(me, ticks));
        assert!(!runs(me, ticks + 1));
        assert!(ancestors(me).next().is_some());
        assert!(boot().unwrap() + since_boot(ticks) > SystemTime::UNIX_EPOCH);
    }
}
