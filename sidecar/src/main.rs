//! The program `daprd`.
//!
//! Hands its words to the library and returns what it says. Everything else is in `lib.rs`, because the one
//! binary that holds all programs calls the same function.

use std::process::ExitCode;

fn main() -> ExitCode {
    ironside_sidecar::main(std::env::args_os().skip(1))
}
