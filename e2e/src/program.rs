//! A running program: its log, its signals, its end.

use std::{
    cell::RefCell,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};

use crate::{wait, world::World};

thread_local! {
    /// Logs of the programs that ended since the last look: a failing row shows them.
    static LAST_LOGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes the logs of the programs that this thread dropped since the last call.
#[must_use]
pub fn last_logs() -> Vec<String> {
    LAST_LOGS.with_borrow_mut(std::mem::take)
}

/// A child process with its log; killed by its handle when dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    quiet: AtomicBool,
    gentle: bool,
}

impl Program {
    /// Starts `command` with stdout and stderr in a log file of `world`.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn start(world: &World, name: &str, command: &mut Command) -> Self {
        let log = world.path().join(world.fresh(name, "log"));
        let file = File::create(&log).expect("a log file");
        let both = file.try_clone().expect("a second handle");
        let child = command
            .current_dir(world.path())
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(both)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{} does not start: {error}",
                    command.get_program().to_string_lossy()
                )
            });
        Self {
            name: name.to_owned(),
            child,
            log,
            quiet: AtomicBool::new(false),
            gentle: false,
        }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until the log holds `text`.
    ///
    /// # Errors
    /// When it does not within ten seconds.
    pub async fn logged(&self, text: &str) -> Result<()> {
        let look = || async { self.log().contains(text).then_some(()) };
        wait::until(
            &format!("log line {text:?} of {}", self.name),
            wait::LONG,
            look,
        )
        .await
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process is gone and reaped.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process has an id");
        kill_process(pid, signal).expect("the process exists");
    }

    /// The exit status, if it ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        let watch = wait::Stopwatch::start();
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            anyhow::ensure!(
                watch.elapsed() < limit,
                "{what} did not come within {limit:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// When it does not end within ten seconds.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        self.signal(Signal::TERM);
        self.exit(wait::LONG).await
    }

    /// Resident memory in KiB, as the kernel counts it.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap_or_default();
        line.split_whitespace()
            .nth(1)
            .and_then(|count| count.parse().ok())
            .unwrap_or(0)
    }

    /// Lets the program end its own children when it is dropped: SIGTERM first, and ten seconds.
    #[must_use]
    pub fn gentle(mut self) -> Self {
        self.gentle = true;
        self
    }

    fn end_gently(&mut self) {
        self.signal(Signal::TERM);
        for _ in 0..1000 {
            if self.ended().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Keeps the log to itself even when the test fails.
    pub fn hush(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    /// Writes the log to stderr.
    pub fn show(&self) {
        eprintln!(
            "---- log of {} (pid {}) ----\n{}",
            self.name,
            self.child.id(),
            self.log()
        );
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.gentle && self.ended().is_none() {
            self.end_gently();
        }
        // By handle: never another process that took over the id.
        drop(self.child.kill());
        drop(self.child.wait());
        if self.quiet.load(Ordering::Relaxed) {
            return;
        }
        if std::thread::panicking() {
            self.show();
        } else {
            let log = format!(
                "---- log of {} (pid {}) ----\n{}",
                self.name,
                self.child.id(),
                self.log()
            );
            LAST_LOGS.with_borrow_mut(|logs| logs.push(log));
        }
    }
}
