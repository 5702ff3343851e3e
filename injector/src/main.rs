//! The program `injector`: the library under its own name.

use std::process::ExitCode;

fn main() -> ExitCode {
    ironside_injector::main(std::env::args_os().skip(1))
}
