//! The program `operator`: the library under its own name.

use std::process::ExitCode;

fn main() -> ExitCode {
    ironside_operator::main(std::env::args_os().skip(1))
}
