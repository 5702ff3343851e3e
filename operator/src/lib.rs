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

use config::Config;
use config::env::Env;
use ironside_chassis::args::Parsed;
use ironside_chassis::fatal;
use ironside_chassis::program::Program;
use std::ffi::OsString;
use std::process::ExitCode;
use tracing::info;

/// The logger of the reference.
pub(crate) const SCOPE: &str = "dapr.operator";

/// What is around the work.
pub(crate) const PROGRAM: Program = Program {
    name: "Dapr Operator",
    failed: "error running operator",
    info: |text| info!(target: SCOPE, "{text}"),
    fatal: |text| fatal!(target: SCOPE, "{text}"),
};

/// Runs the operator with the words after the program's name, until a signal; returns the exit code.
///
/// 0 after a graceful stop, 1 after an error, which is logged, 2 for a command line that can't be read.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    ironside_transport::install_provider();
    let config = |parsed: &Parsed| Config::new(parsed, &Env::read());
    PROGRAM.run(&FLAGS, words, config, app::run)
}
