//! The certificate authority of Ironside, as the program `sentry`.
//!
//! Owns who gets which certificate: `config` reads flags and environment, `settings` the configuration file, `store`
//! and `authority` hold the CA, `rotation` decides when it becomes another one, `validator` judges names, `issue`
//! makes certificates, `jwt` makes tokens and `oidc` says how to verify them, `serve` is the gRPC port, `own` and
//! `guard` keep certificates and files fresh, `cluster` is the API server that mode `kubernetes` asks, `origin` the
//! choice between the two modes, `app` wires it all.

mod app;
mod authority;
mod cluster;
mod config;
mod guard;
pub mod inspect;
mod issue;
mod jwt;
mod metrics;
mod oidc;
mod origin;
mod own;
mod rotation;
mod serve;
mod settings;
pub mod shared;
mod store;
mod validator;

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
const SCOPE: &str = "dapr.sentry";

/// What is around the work.
pub(crate) const PROGRAM: Program = Program {
    name: "Dapr Sentry certificate authority",
    failed: "Fatal error running sentry",
    info: |text| info!(target: SCOPE, "{text}"),
    fatal: |text| fatal!(target: SCOPE, "{text}"),
};

/// Runs Sentry with the words after the program's name, until a signal; returns the exit code.
///
/// 0 after a graceful stop, 1 after an error, which is logged, 2 for a command line that can't be read.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    ironside_transport::install_provider();
    let config = |parsed: &Parsed| Config::new(parsed, &Env::read());
    PROGRAM.run(&FLAGS, words, config, app::run)
}
