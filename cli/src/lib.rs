//! The `ironside` command: everything in one binary.
//!
//! Which program this is depends on the base name it was called by: `daprd` is the sidecar, `sentry` the certificate
//! authority, `operator` what connects sidecars with the API server, `injector` what gives pods their sidecars, any
//! other name the command line. The command line links the programs and runs them as hidden subcommands, so one file
//! is the whole system. Holds no decision of the data path. Facts: cli-and-clients 1.

mod api;
mod app;
mod chart;
mod cluster;
mod command;
mod commands;
mod demo;
mod env;
mod folders;
mod grammar;
mod instances;
mod locks;
mod names;
mod output;
mod own_sentry;
mod ports;
mod process;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

/// Which program this binary is, by the name it was called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    CommandLine,
    Sidecar,
    Sentry,
    Operator,
    Injector,
}

/// Runs the program that the first argument, the name of this binary, stands for.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let called = args.next().unwrap_or_else(|| OsString::from("ironside"));
    let name = base_name(&called);
    match Program::called(&name) {
        Program::CommandLine => app::main(&name, args),
        Program::Sidecar => ironside_sidecar::main(args),
        Program::Sentry => ironside_sentry::main(args),
        Program::Operator => ironside_operator::main(args),
        Program::Injector => ironside_injector::main(args),
    }
}

fn base_name(called: &OsStr) -> String {
    let path = std::path::Path::new(called);
    let name = path.file_name().unwrap_or(called).to_string_lossy();
    name.strip_suffix(".exe").unwrap_or(&name).to_owned()
}

// === impl Program ===

impl Program {
    fn called(name: &str) -> Self {
        match name {
            "daprd" => Self::Sidecar,
            "sentry" => Self::Sentry,
            "operator" => Self::Operator,
            "injector" => Self::Injector,
            _ => Self::CommandLine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fact: cli-and-clients 1.1 "Names".
    #[test]
    fn the_base_name_says_which_program_this_is() {
        for (called, expected) in [
            ("/home/ada/.dapr/bin/daprd", Program::Sidecar),
            ("sentry", Program::Sentry),
            ("./dapr", Program::CommandLine),
            ("ironside", Program::CommandLine),
            ("/opt/x/injector", Program::Injector),
            ("operator", Program::Operator),
            ("", Program::CommandLine),
        ] {
            assert_eq!(
                Program::called(&base_name(OsStr::new(called))),
                expected,
                "{called}"
            );
        }
    }
}
