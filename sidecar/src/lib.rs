//! The sidecar: `daprd`.
//!
//! One process beside one app. `config` reads what it was told, `sources` what it may be told anew, `server` takes
//! connections, `api` answers for the sidecar itself, `outbound` and `inbound` are the two halves of an invocation,
//! `channel` speaks to the app, `traces` tells collectors of calls. `app` wires all of it. See ARCHITECTURE.md for a
//! request's way.

use std::{ffi::OsString, process::ExitCode};

mod api;
mod app;
mod body;
mod channel;
mod config;
mod decisions;
mod inbound;
mod invocation;
mod live;
mod middleware;
mod outbound;
mod payload;
mod peers;
mod resolve;
mod server;
mod sources;
mod traces;
mod worker;

/// Runs a sidecar, or another errand that the words on the command line ask for, and returns the exit code.
/// A leading program name is ignored, as every positional word is.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    app::main(args)
}
