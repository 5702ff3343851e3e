//! The binary of the `ironside` crate; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ironside::main(std::env::args_os())
}
