//! The recipe book: every command that a person or CI runs over the whole workspace.
//!
//! `cargo xtask check` judges the tree, `gen` writes generated files, `e2e` runs the tests with real parts, `soak` the
//! long ones, `fuzz` parsers with made inputs; `cluster` runs a Kubernetes for them, `images` makes what runs in it. It
//! owns the order of the steps and the messages about missing tools; what is tested lives in `e2e/`, what is generated
//! lives beside its source.

mod chart;
mod check;
mod cluster;
mod deadline;
mod deny;
mod e2e;
mod fuzz;
mod images;
mod instructions;
mod k8s;
mod sdk;
mod soak;
mod steps;
mod surroundings;
mod zipkin;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    cluster::{Action, Impossible},
    e2e::Suite,
    fuzz::{Run, Target},
    images::Wish,
    soak::Soak,
    steps::Steps,
    surroundings::Surroundings,
};

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
        /// How the suite on a cluster is run.
        #[command(flatten)]
        k8s: k8s::Wish,
    },
    /// A real Kubernetes of its own, on this machine.
    #[command(subcommand)]
    Cluster(Action),
    /// Writes ironside.tar and sample.tar: images as docker-archives, made without an engine.
    Images {
        /// The folder to write into; default `images` in cargo's target folder.
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        wish: Wish,
    },
    /// Parsers and decisions with made inputs; without a target, all of them.
    Fuzz {
        /// The target.
        target: Option<Target>,
        /// How many inputs, for each target.
        #[arg(long, default_value_t = fuzz::COUNT)]
        count: u64,
        /// What the inputs are made from.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Runs this file alone: a crash is replayed.
        #[arg(long, requires = "target")]
        input: Option<PathBuf>,
    },
    /// Instructions of a decision, with few rules and with many; needs valgrind.
    Instructions,
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
            match error.is::<Impossible>() {
                true => ExitCode::from(Impossible::CODE),
                false => ExitCode::FAILURE,
            }
        }
    }
}

fn run(command: &Command) -> Result<()> {
    let around = Surroundings::read()?;
    let mut steps = Steps::new();
    match command {
        Command::Check { no_tests } => {
            check::run(&around, &mut steps, check::Tests::from_flag(*no_tests))?
        }
        Command::Gen => check::generate(&around, &mut steps)?,
        Command::E2e { suite, k8s } => e2e::run(&around, &mut steps, *suite, k8s)?,
        Command::Cluster(action) => return cluster::run(&around, action),
        Command::Images { out, wish } => {
            let out = out
                .clone()
                .unwrap_or_else(|| around.target().join("images"));
            images::make(&around, wish, &out)?;
            return Ok(());
        }
        Command::Fuzz {
            target,
            count,
            seed,
            input,
        } => {
            let run = Run {
                count: *count,
                seed: *seed,
                input: input.clone(),
            };
            fuzz::run(&around, &mut steps, *target, &run)?
        }
        Command::Instructions => instructions::run(&around)?,
        Command::Soak { soak } => soak::run(&around, &mut steps, *soak)?,
    }
    steps.close()
}
