//! One child process and its group.
//!
//! Children are reaped here by process id, not by tokio, because a stopped child (one that wants the terminal) has to
//! be noticed as well as one that ended.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process_group, test_kill_process_group,
    waitpid,
};
use tokio::signal::unix::{SignalKind, signal};

/// How often a group that was asked to end is looked at.
const POLL: Duration = Duration::from_millis(20);

/// What to start.
#[derive(Debug, Default)]
pub(crate) struct Launch {
    /// The file to run.
    pub file: PathBuf,
    /// What the program is told it is called.
    pub name: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory, if not the parent's.
    pub folder: Option<PathBuf>,
    /// Where it reads and writes.
    pub streams: Streams,
}

/// Where a child reads and writes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// The parent's three streams.
    #[default]
    Inherited,
    /// The parent's output streams, and nothing to read.
    Output,
    /// Pipes to the parent, and nothing to read.
    Piped,
}

/// A running child, leader of its own process group.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    ended: Option<Ended>,
    changes: tokio::signal::unix::Signal,
    /// Its output, when piped.
    pub output: Option<(ChildStdout, ChildStderr)>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// What happened to a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is gone.
    Ended(Ended),
    /// This signal stopped it; it waits to be continued.
    Stopped(i32),
}

// === impl Launch ===

impl Launch {
    /// Starts the child, in a process group of its own and tied to the life of this process.
    ///
    /// The thread that calls this must live as long as the process: the kernel takes the thread for the parent.
    pub(crate) fn start(self) -> io::Result<Child> {
        let Self {
            file,
            name,
            args,
            environment,
            folder,
            streams,
        } = self;
        let changes = signal(SignalKind::child())?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg0("ironside")
            .arg("exec")
            .arg(getpid().as_raw_nonzero().to_string())
            .arg(file)
            .arg(name)
            .args(args)
            .env_clear()
            .envs(environment)
            .process_group(0);
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        streams.apply(&mut command);
        let mut started = command.spawn()?;
        let output = started.stdout.take().zip(started.stderr.take());
        let pid = Pid::from_child(&started);
        Ok(Child {
            pid,
            ended: None,
            changes,
            output,
        })
    }
}

// === impl Streams ===

impl Streams {
    fn apply(self, command: &mut Command) {
        let (stdin, output): (Stdio, fn() -> Stdio) = match self {
            Self::Inherited => (Stdio::inherit(), Stdio::inherit),
            Self::Output => (Stdio::null(), Stdio::inherit),
            Self::Piped => (Stdio::null(), Stdio::piped),
        };
        command.stdin(stdin).stdout(output()).stderr(output());
    }
}

// === impl Child ===

impl Child {
    /// Its process id, which is that of its group too.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until the child ended or was stopped.
    ///
    /// Cancel-safe: a change that was not taken is seen by the next call.
    pub(crate) async fn change(&mut self) -> Change {
        loop {
            if let Some(change) = self.look() {
                return change;
            }
            if self.changes.recv().await.is_none() {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// Waits until the child ended.
    pub(crate) async fn ended(&mut self) -> Ended {
        loop {
            if let Change::Ended(ended) = self.change().await {
                return ended;
            }
        }
    }

    /// How it ended, if it has.
    pub(crate) fn end(&mut self) -> Option<Ended> {
        match self.look() {
            Some(Change::Ended(ended)) => Some(ended),
            Some(Change::Stopped(_)) | None => None,
        }
    }

    fn look(&mut self) -> Option<Change> {
        if let Some(ended) = self.ended {
            return Some(Change::Ended(ended));
        }
        let change = match waitpid(Some(self.pid), WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            Ok(Some((_, status))) => Change::of(status)?,
            Ok(None) | Err(rustix::io::Errno::INTR) => return None,
            // Nothing to wait for: it is gone, and nobody can say how.
            Err(_) => Change::Ended(Ended::Code(-1)),
        };
        if let Change::Ended(ended) = change {
            self.ended = Some(ended);
        }
        Some(change)
    }

    /// Sends a signal to the whole group; a group that is gone is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        let _gone = kill_process_group(self.pid, signal);
    }

    /// Asks the whole group to end, and kills what is left of it after the grace period or when `now` is ready.
    pub(crate) async fn stop(&mut self, grace: Duration, now: impl Future<Output = ()>) {
        self.signal(Signal::TERM);
        // A stopped process acts on a signal only when it is continued.
        self.signal(Signal::CONT);
        let gone = async {
            while self.group_lives() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::select! {
            () = gone => return,
            () = tokio::time::sleep(grace) => {}
            () = now => {}
        }
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Whether any process of the group is left; reaps the leader.
    fn group_lives(&mut self) -> bool {
        if self.end().is_none() {
            return true;
        }
        test_kill_process_group(self.pid).is_ok()
    }
}

// === impl Change ===

impl Change {
    fn of(status: WaitStatus) -> Option<Self> {
        if let Some(code) = status.exit_status() {
            return Some(Self::Ended(Ended::Code(code)));
        }
        if let Some(signal) = status.terminating_signal() {
            return Some(Self::Ended(Ended::Signal(signal)));
        }
        status.stopping_signal().map(Self::Stopped)
    }
}

// === impl Ended ===

impl Ended {
    /// The signal's name in the reference's words.
    pub(crate) fn signal_name(signal: i32) -> String {
        let name = match Signal::from_named_raw(signal) {
            Some(Signal::HUP) => "hangup",
            Some(Signal::INT) => "interrupt",
            Some(Signal::QUIT) => "quit",
            Some(Signal::ILL) => "illegal instruction",
            Some(Signal::TRAP) => "trace/breakpoint trap",
            Some(Signal::ABORT) => "aborted",
            Some(Signal::BUS) => "bus error",
            Some(Signal::FPE) => "floating point exception",
            Some(Signal::KILL) => "killed",
            Some(Signal::USR1) => "user defined signal 1",
            Some(Signal::SEGV) => "segmentation fault",
            Some(Signal::USR2) => "user defined signal 2",
            Some(Signal::PIPE) => "broken pipe",
            Some(Signal::ALARM) => "alarm clock",
            Some(Signal::TERM) => "terminated",
            Some(_) | None => return format!("signal {signal}"),
        };
        name.to_owned()
    }
}

impl std::fmt::Display for Ended {
    /// `exit status 3` or `signal: killed`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "signal: {}", Self::signal_name(signal)),
        }
    }
}
