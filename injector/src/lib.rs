//! The admission webhook that gives pods their sidecar, as the program `injector`.
//!
//! Owns the way from a pod that is created to a pod with a sidecar: `config` reads flags and environment, `serve` is
//! the HTTPS port, `admission` decides what becomes of a pod, `patch` makes its sidecar, `bundle` sees to it that the
//! API server trusts the port, `mtls` knows whether sidecars use mutual TLS, `metrics` counts, `app` wires it all. The
//! objects of apps are never read or written.

mod admission;
mod app;
mod bundle;
mod config;
mod metrics;
mod mtls;
mod patch;
mod serve;

pub use config::flags::FLAGS;

use config::Config;
use config::env::Env;
use ironside_chassis::args::Parsed;
use ironside_chassis::fatal;
use ironside_chassis::program::Program;
use std::ffi::OsString;
use std::process::ExitCode;
use tracing::info;

/// The logger of the reference.
const SCOPE: &str = "dapr.injector";

/// What is around the work.
pub(crate) const PROGRAM: Program = Program {
    name: "Dapr Sidecar Injector",
    failed: "Error running injector",
    info: |text| info!(target: SCOPE, "{text}"),
    fatal: |text| fatal!(target: SCOPE, "{text}"),
};

/// Runs the injector with the words after the program's name, until a signal; returns the exit code.
///
/// 0 after a graceful stop, 1 after an error, which is logged, 2 for a command line that can't be read.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    ironside_transport::install_provider();
    let config = |parsed: &Parsed| Config::new(parsed, &Env::read());
    PROGRAM.run(&FLAGS, words, config, app::run)
}
