//! The log of a process: one line an event, in the reference's format.
//!
//! `tracing` events go in, logrus-style text or JSON lines come out, on stdout
//! or in a file. An event's target is its `scope`. [`fatal!`](crate::fatal)
//! marks the lines after which a process ends. Spans, colours and filters by
//! module are refused. Source: process-interface 7.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tracing_subscriber::layer::SubscriberExt as _;

mod change;
mod layer;
mod level;
mod line;
mod live;
mod sink;

pub use change::{ChangeError, LevelChange};
pub use level::{Level, LevelError};
pub use live::LevelSwitch;

use layer::LogLayer;
use level::Threshold;
use line::{Format, Stamp};
use sink::Sink;

/// How long an exiting process waits for a slow reader of its log.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// How a process logs.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Events below it are not written.
    pub level: Level,
    /// JSON objects instead of text.
    pub json: bool,
    /// Append to this file instead of writing to stdout.
    pub file: Option<PathBuf>,
    /// The `app_id` key; absent when `None` or empty.
    pub app_id: Option<String>,
}

/// The log of this process. Dropping it waits until all lines are written.
#[derive(Debug)]
pub struct LogHandle {
    threshold: Arc<Threshold>,
    start: Level,
    sink: Arc<Sink>,
}

/// Why logging cannot start.
#[derive(Debug, Error)]
pub enum InitError {
    /// The log file cannot be opened.
    #[error("failed to open the log file {}: {cause}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// Stdout, or the thread that writes, cannot be had.
    #[error("failed to start the log writer: {0}")]
    Thread(io::Error),
    /// The process logs already.
    #[error("the log of this process is set up already")]
    Twice,
}

/// Starts the log of this process; once.
///
/// # Errors
/// [`InitError`] when the file cannot be opened, or the process logs already.
pub fn init(options: LogOptions) -> Result<LogHandle, InitError> {
    let out: Box<dyn Write + Send> = match &options.file {
        Some(path) => Box::new(append_to(path.clone())?),
        None => Box::new(unbuffered_stdout().map_err(InitError::Thread)?),
    };
    let (layer, handle) = build(options, instance(), out).map_err(InitError::Thread)?;
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_already| InitError::Twice)?;
    Ok(handle)
}

/// Makes the layer and its handle without installing them.
fn build(
    options: LogOptions,
    instance: String,
    out: Box<dyn Write + Send>,
) -> io::Result<(LogLayer, LogHandle)> {
    let LogOptions {
        level,
        json,
        file: _,
        app_id,
    } = options;
    let threshold = Arc::new(Threshold::new(level));
    let sink = Sink::start(out)?;
    let format = if json { Format::Json } else { Format::Text };
    let stamp = Stamp {
        app_id: app_id.filter(|id| !id.is_empty()),
        instance,
    };
    let layer = LogLayer::new(format, stamp, threshold.clone(), sink.clone());
    let handle = LogHandle {
        threshold,
        start: level,
        sink,
    };
    Ok((layer, handle))
}

/// Stdout without the standard library's buffer, whose state after a failed write is unknown.
fn unbuffered_stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

fn append_to(path: PathBuf) -> Result<File, InitError> {
    let mut how = OpenOptions::new();
    how.append(true).create(true).mode(0o644);
    how.open(&path)
        .map_err(|cause| InitError::File { path, cause })
}

/// The `instance` key: the host name.
fn instance() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

// === impl LogHandle ===

impl LogHandle {
    /// Changes the level from now on.
    pub fn set_level(&self, level: Level) {
        self.threshold.set(level);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Takes SIGUSR1 and SIGUSR2 over, which change the level; must run inside a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// The operating system's, when a handler cannot be installed.
    pub fn follow_signals(&self) -> io::Result<LevelSwitch> {
        LevelSwitch::new(&self.threshold, self.start)
    }

    /// Waits until all lines so far are written, at most two seconds.
    pub fn flush(&self) {
        self.sink.flush(FLUSH_LIMIT);
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Logs the line after which the process ends: level `fatal`, written before this returns.
///
/// Takes what `tracing::error!` takes, beginning with `target:`.
#[macro_export]
macro_rules! fatal {
    (target: $target:expr, $($arg:tt)+) => {
        $crate::logging::__tracing::error!(target: $target, fatal = true, $($arg)+)
    };
}

#[doc(hidden)]
pub use tracing as __tracing;

#[cfg(test)]
mod tests;
