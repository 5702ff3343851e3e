//! The command line as a user meets it: real processes, real sidecars, one test a row of the fact sheet.
//!
//! The rows are those of cli-and-clients 5.1 to 5.4; each test names its own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a part of the rig that fails is a failed test"
)]

mod access;
mod cluster;
mod demo;
mod general;
mod instances;
mod life;
mod mtls;
mod own_sentry;
mod render;
mod rig;
mod run;
mod template;
mod terminal;
