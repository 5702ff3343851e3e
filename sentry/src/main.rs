//! The program `sentry`: the library under its own name.

use std::process::ExitCode;

fn main() -> ExitCode {
    ironside_sentry::main(std::env::args_os().skip(1))
}
