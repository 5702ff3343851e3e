//! The recipe book: every command that a person or CI runs over the whole workspace.
//!
//! `cargo xtask check` judges the tree, `gen` writes generated files, `e2e` runs the tests with real
//! parts, `soak` the long ones. It owns the order of the steps and the messages about missing
//! tools; what is tested lives in `e2e/`, what is generated lives beside its source.

mod check;
mod deny;
mod e2e;
mod sdk;
mod soak;
mod steps;
mod surroundings;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{e2e::Suite, soak::Soak, steps::Steps, surroundings::Surroundings};

/// What to do with the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The recipe book of this workspace")]
struct Recipe {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Format, lints, docs, tests, dependencies, generated code.
    Check {
        /// Leaves out tests and doc tests.
        #[arg(long)]
        no_tests: bool,
    },
    /// Writes the generated files anew.
    Gen,
    /// Tests with real parts; without a suite, all that exist.
    E2e {
        /// The suite to run.
        suite: Option<Suite>,
    },
    /// Long runs outside CI; without a name, all of them.
    Soak {
        /// The soak to run.
        soak: Option<Soak>,
    },
}

fn main() -> ExitCode {
    let recipe = Recipe::parse();
    match run(&recipe.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    let around = Surroundings::read()?;
    let mut steps = Steps::new();
    match *command {
        Command::Check { no_tests } => {
            check::run(&around, &mut steps, check::Tests::from_flag(no_tests))?
        }
        Command::Gen => check::generate(&around, &mut steps)?,
        Command::E2e { suite } => e2e::run(&around, &mut steps, suite)?,
        Command::Soak { soak } => soak::run(&around, &mut steps, soak)?,
    }
    steps.close()
}
