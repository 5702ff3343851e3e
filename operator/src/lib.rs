//! What connects sidecars with the API server, as the program `operator`.
//!
//! Owns the Services of apps and what sidecars learn of their resources: `config` reads flags and environment,
//! `system` the Configuration of the control plane, `cluster` asks and watches the API server, `index` decides
//! without any of it, `reconcile` brings about, `serve` is the gRPC port, `convert` a webhook, `lease` says which
//! replica acts, `app` wires it all.

mod app;
mod cluster;
mod config;
mod convert;
mod index;
mod lease;
mod metrics;
mod reconcile;
mod relay;
mod serve;
mod system;
#[cfg(test)]
mod tests;

pub use config::flags::FLAGS;

use app::RunError;
use config::env::Env;
use config::{Config, log_options};
use ironside_chassis::args::Parsed;
use ironside_chassis::logging::{self, LogHandle, LogOptions};
use ironside_chassis::{args, build_info, fatal};
use std::ffi::OsString;
use std::process::ExitCode;
use tracing::info;

/// The logger of the reference.
pub(crate) const SCOPE: &str = "dapr.operator";

/// Runs the operator with the words after the program's name, until a signal; returns the exit code.
///
/// 0 after a graceful stop, 1 after an error, which is logged, 2 for a command line that can't be read.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    ironside_transport::install_provider();
    let parsed = match FLAGS.parse(words) {
        Ok(parsed) => parsed,
        Err(exit) => return args::Exit::print(&exit),
    };
    match start_log(&parsed) {
        // The handle is dropped last: all lines are written before the process ends.
        Ok(log) => run(&parsed, &log),
        Err(code) => code,
    }
}

fn run(parsed: &Parsed, log: &LogHandle) -> ExitCode {
    let config = match Config::new(parsed, &Env::read()) {
        Ok(config) => config,
        Err(cause) => {
            fatal!(target: SCOPE, "Invalid options: {cause}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(cause) => {
            fatal!(target: SCOPE, "Cannot start the runtime: {cause}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(app::run(config, log)) {
        Ok(()) => ExitCode::SUCCESS,
        // Said already, before the tasks were given up.
        Err(RunError::Interrupted) => ExitCode::FAILURE,
        Err(cause) => {
            fatal!(target: SCOPE, "error running operator: {cause}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the log; a bad log flag is told by a log with the defaults.
fn start_log(parsed: &Parsed) -> Result<LogHandle, ExitCode> {
    let (options, wrong) = match log_options(parsed) {
        Ok(options) => (options, None),
        Err(cause) => (LogOptions::default(), Some(cause)),
    };
    let level = options.level;
    let log = logging::init(options).map_err(|cause| {
        let stderr = format!("{cause}\n");
        args::Exit {
            code: 1,
            stdout: String::new(),
            stderr,
        }
        .print()
    })?;
    if let Some(cause) = wrong {
        fatal!(target: SCOPE, "Invalid options: {cause}");
        return Err(ExitCode::FAILURE);
    }
    let (version, commit) = (build_info::VERSION, build_info::COMMIT);
    info!(
        target: SCOPE,
        "Starting Dapr Operator -- version {version} -- commit {commit}"
    );
    info!(target: SCOPE, "Log level set to: {}", level.as_str());
    Ok(log)
}
