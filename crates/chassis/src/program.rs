//! What every program of the control plane has around its work.
//!
//! Owns the flags of the log and of ports, the first and the last lines, the runtime, the signals, the order of the
//! end, and the two ports that each program has. The lines come out under the program's own scope, so it writes them
//! itself ([`Program::info`], [`Program::fatal`]). Refused: what a program does between start and end. Source:
//! process-interface 5.

use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tracing::info;

use crate::args::{Exit, Flags, Parsed};
use crate::health::{self, Health};
use crate::listen::{self, BindError, Binding};
use crate::logging::{self, Level, LevelError, LogHandle, LogOptions};
use crate::signals::{Signal, Signals};
use crate::{Tasks, build_info, descriptors, fatal, metrics_server};

/// Scope of lines about signals.
const SIGNALS: &str = "dapr.signals";

/// A program, as its first and last lines speak of it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name in the first line.
    pub name: &'static str,
    /// What stands before the cause where it failed.
    pub failed: &'static str,
    /// Writes a line under its scope.
    pub info: fn(&str),
    /// Writes the line after which it ends.
    pub fatal: fn(&str),
}

/// Why a program ended before its time.
pub trait Failure: Display {
    /// Whether a line has told of it already.
    fn is_told(&self) -> bool;
}

/// Why a program could not begin, or not end, as far as all of them have that in common.
#[derive(Debug, Error)]
pub enum FrameError {
    /// No handler.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// A port that cannot be had.
    #[error("{what}: {cause}")]
    Bind {
        /// What it is for.
        what: &'static str,
        /// Why.
        cause: BindError,
    },
    /// A listener that cannot be used.
    #[error("{what}: {cause}")]
    Listener {
        /// What it is for.
        what: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// A defect.
    #[error("task {task} failed: {message}")]
    Panic {
        /// Which task.
        task: &'static str,
        /// What it said.
        message: Box<str>,
    },
    /// They were waited for.
    #[error("tasks did not end in time: {0}")]
    Stuck(String),
    /// Somebody asked twice.
    #[error("stopped by a second signal")]
    Interrupted,
}

/// A port that is none.
#[derive(Debug, Error)]
#[error("invalid value for --{flag}: {value} is no port")]
pub struct PortError {
    /// The flag.
    pub flag: &'static str,
    /// What it says.
    pub value: i64,
}

/// Where a port is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Empty for all interfaces.
    pub host: String,
    /// 0 for any.
    pub port: u16,
}

/// A port that was taken.
#[derive(Debug)]
pub struct Port {
    /// Where connections arrive.
    pub listener: TcpListener,
    /// The one that was taken, which differs from the one asked for when that was 0.
    pub number: u16,
}

/// The tasks of a running program, and the signals that end it.
#[derive(Debug)]
pub struct Life {
    tasks: Tasks,
    signals: Signals,
}

/// Reads how to log, which is needed to complain about the rest.
///
/// # Errors
/// [`LevelError`] if the level is none.
pub fn log_options(parsed: &Parsed) -> Result<LogOptions, LevelError> {
    let file = Some(parsed.text("log-file")).filter(|path| !path.is_empty());
    Ok(LogOptions {
        level: parsed.text("log-level").parse::<Level>()?,
        json: parsed.bool("log-as-json"),
        file: file.map(PathBuf::from),
        app_id: None,
    })
}

// === impl Program ===

impl Program {
    /// Reads the words after the program's name and does its work; returns the exit code.
    ///
    /// 0 after a graceful stop, 1 after an error, which is logged, 2 for a command line that cannot be read.
    pub fn run<C, X, E>(
        &self,
        flags: &Flags,
        words: impl IntoIterator<Item = OsString>,
        config: impl FnOnce(&Parsed) -> Result<C, X>,
        work: impl AsyncFnOnce(C, &LogHandle) -> Result<(), E>,
    ) -> ExitCode
    where
        X: Display,
        E: Failure,
    {
        let parsed = match flags.parse(words) {
            Ok(parsed) => parsed,
            Err(exit) => return Exit::print(&exit),
        };
        // The handle is dropped last: all lines are written before the process ends.
        let log = match self.start_log(&parsed) {
            Ok(log) => log,
            Err(code) => return code,
        };
        descriptors::raise_limit();
        let config = match config(&parsed) {
            Ok(config) => config,
            Err(cause) => return self.end(&format!("Invalid options: {cause}")),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(cause) => return self.end(&format!("Cannot start the runtime: {cause}")),
        };
        match runtime.block_on(work(config, &log)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(cause) if cause.is_told() => ExitCode::FAILURE,
            Err(cause) => self.end(&format!("{}: {cause}", self.failed)),
        }
    }

    /// Starts the log; a bad log flag is told by a log with the defaults.
    fn start_log(&self, parsed: &Parsed) -> Result<LogHandle, ExitCode> {
        let (options, wrong) = match log_options(parsed) {
            Ok(options) => (options, None),
            Err(cause) => (LogOptions::default(), Some(cause)),
        };
        let level = options.level;
        let log = logging::init(options).map_err(|cause| {
            let stderr = format!("{cause}\n");
            Exit {
                code: 1,
                stdout: String::new(),
                stderr,
            }
            .print()
        })?;
        if let Some(cause) = wrong {
            return Err(self.end(&format!("Invalid options: {cause}")));
        }
        let (name, version, commit) = (self.name, build_info::VERSION, build_info::COMMIT);
        (self.info)(&format!(
            "Starting {name} -- version {version} -- commit {commit}"
        ));
        (self.info)(&format!("Log level set to: {}", level.as_str()));
        Ok(log)
    }

    fn end(&self, text: &str) -> ExitCode {
        (self.fatal)(text);
        ExitCode::FAILURE
    }

    /// Serves metrics, if there is an address for them.
    ///
    /// # Errors
    /// [`FrameError`] if the port cannot be had.
    pub async fn serve_metrics(
        &self,
        address: Option<&Address>,
        health: &Health,
        exposition: impl Fn() -> String + Send + Sync + 'static,
        tasks: &Tasks,
    ) -> Result<(), FrameError> {
        let Some(address) = address else {
            return Ok(());
        };
        let target = health.register("metrics-exporter");
        let Port { listener, number } =
            address.listen("failed to start the metrics server").await?;
        let host = &address.host;
        (self.info)(&format!("metrics server started on {host}:{number}/"));
        target.ready();
        let owner = tasks.clone();
        tasks.spawn("metrics", async move {
            metrics_server::serve(listener, exposition, &owner).await;
            drop(target);
        });
        Ok(())
    }

    /// Serves the health of all parts.
    ///
    /// # Errors
    /// [`FrameError`] if the port cannot be had.
    pub async fn serve_health(
        &self,
        address: &Address,
        health: &Health,
        tasks: &Tasks,
    ) -> Result<(), FrameError> {
        let target = health.register("healthz-server");
        let Port { listener, number } =
            address.listen("failed to start the healthz server").await?;
        let host = &address.host;
        (self.info)(&format!("Healthz server is listening on {host}:{number}"));
        target.ready();
        let (health, owner) = (health.clone(), tasks.clone());
        tasks.spawn("healthz", async move {
            health::serve(listener, health, &owner).await;
            drop(target);
        });
        Ok(())
    }
}

// === impl Address ===

impl Address {
    /// What two flags say.
    ///
    /// # Errors
    /// [`PortError`] names the flag.
    pub fn read(
        parsed: &Parsed,
        host: &'static str,
        port: &'static str,
    ) -> Result<Self, PortError> {
        let value = parsed.int(port);
        let number = u16::try_from(value).map_err(|_range| PortError { flag: port, value })?;
        Ok(Self {
            host: parsed.text(host).to_owned(),
            port: number,
        })
    }

    /// Takes the port; `what` begins the error.
    ///
    /// # Errors
    /// [`FrameError`] if it cannot be had.
    pub async fn listen(&self, what: &'static str) -> Result<Port, FrameError> {
        let hosts = [self.host.clone()];
        let bound = listen::bind(&Binding::new(&hosts, self.port)).await;
        let bound = bound.map_err(|cause| FrameError::Bind { what, cause })?;
        let listener = bound.workers.into_iter().flatten().next();
        let listener = listener
            .ok_or_else(|| io::Error::other("no listener"))
            .and_then(TcpListener::from_std)
            .map_err(|cause| FrameError::Listener { what, cause })?;
        let local = listener.local_addr();
        let number = local.map_or(self.port, |local| local.port());
        Ok(Port { listener, number })
    }
}

// === impl Life ===

impl Life {
    /// From here on signals are heard; those that change the level of the log are followed.
    ///
    /// # Errors
    /// [`FrameError::Signals`].
    pub fn begin(log: &LogHandle) -> Result<Self, FrameError> {
        let levels = log.follow_signals().map_err(FrameError::Signals)?;
        let signals = Signals::install(&[Signal::Interrupt, Signal::Terminate]);
        let (tasks, signals) = (Tasks::new(), signals.map_err(FrameError::Signals)?);
        tasks.spawn("log-level", levels.run(tasks.token()));
        Ok(Self { tasks, signals })
    }

    /// Its tasks.
    #[must_use]
    pub const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Waits for a signal, and says so. Cancel-safe.
    pub async fn signal(&mut self) {
        let signal = self.signals.next().await;
        info!(target: SIGNALS, "Received signal '{signal}'; beginning shutdown");
    }

    /// Ends all tasks and names those that did not end in time; a second signal ends the wait.
    ///
    /// # Errors
    /// [`FrameError::Interrupted`], which is told, and [`FrameError::Panic`].
    pub async fn end(mut self, limit: Duration) -> Result<Vec<&'static str>, FrameError> {
        let stuck = tokio::select! {
            stuck = self.tasks.shutdown(limit) => stuck,
            signal = self.signals.next() => {
                fatal!(target: SIGNALS, "Received signal '{signal}' during shutdown; exiting immediately");
                return Err(FrameError::Interrupted);
            }
        };
        match self.tasks.panic() {
            Some(panic) => Err(FrameError::Panic {
                task: panic.task,
                message: panic.message.clone(),
            }),
            None => Ok(stuck),
        }
    }

    /// As [`Life::end`], for programs whose tasks all end.
    ///
    /// # Errors
    /// As there, and [`FrameError::Stuck`].
    pub async fn end_whole(self, limit: Duration) -> Result<(), FrameError> {
        let stuck = self.end(limit).await?;
        match stuck.as_slice() {
            [] => Ok(()),
            stuck => Err(FrameError::Stuck(stuck.join(", "))),
        }
    }
}
