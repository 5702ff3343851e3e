//! `check` and `gen`: the judgement over the tree, and the files that are written by a program.

use std::process::Command;

use anyhow::Result;

use crate::{deny, steps::Steps, surroundings::Surroundings};

/// Tests that compare a generated file with its source, and write it under `UPDATE=1`: what, cargo target, name.
///
/// All run over the whole workspace, so that features and with them the builds are those of the other steps.
const GENERATED: [(&str, &[&str], &str); 3] = [
    (
        "wire contract",
        &["--test", "generated"],
        "generated_code_is_current",
    ),
    (
        "configuration reference",
        &["--lib"],
        "config::flags::tests::the_document_shows_the_table",
    ),
    (
        "CRDs",
        &["--lib"],
        "schema::tests::the_definitions_are_made_from_the_types",
    ),
];

/// Whether `check` runs tests and doc tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tests {
    /// All tests.
    Run,
    /// Only those that compare generated files.
    LeaveOut,
}

impl Tests {
    /// Reads `--no-tests`.
    pub(crate) fn from_flag(no_tests: bool) -> Self {
        if no_tests { Self::LeaveOut } else { Self::Run }
    }
}

/// Judges the tree.
///
/// # Errors
/// If a tool is missing; failing steps are collected in `steps`.
pub(crate) fn run(around: &Surroundings, steps: &mut Steps, tests: Tests) -> Result<()> {
    steps.run("format", around.cargo().args(["fmt", "--all", "--check"]))?;
    let client = around.sources("e2e/sdk/rust").join("Cargo.toml");
    steps.run(
        "format of the SDK client",
        around
            .cargo()
            .args(["fmt", "--check", "--manifest-path"])
            .arg(client),
    )?;
    steps.run(
        "lints",
        around.cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    steps.run(
        "docs",
        around
            .cargo()
            .args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    match tests {
        Tests::Run => {
            // One call runs unit, integration and doc tests.
            steps.run(
                "tests and doc tests",
                around.cargo().args(["test", "--workspace"]),
            )?;
        }
        Tests::LeaveOut => compare(around, steps)?,
    }
    deny::run(around, steps)
}

/// Writes the generated files anew.
///
/// # Errors
/// If cargo could not be started.
pub(crate) fn generate(around: &Surroundings, steps: &mut Steps) -> Result<()> {
    for (what, target, name) in GENERATED {
        let mut command = comparison(around, target, name);
        steps.run(&format!("generate the {what}"), command.env("UPDATE", "1"))?;
    }
    Ok(())
}

fn compare(around: &Surroundings, steps: &mut Steps) -> Result<()> {
    for (what, target, name) in GENERATED {
        let mut command = comparison(around, target, name);
        steps.run(&format!("the generated {what} is current"), &mut command)?;
    }
    Ok(())
}

fn comparison(around: &Surroundings, target: &[&str], name: &str) -> Command {
    let mut command = around.cargo();
    command
        .args(["test", "--quiet", "--workspace"])
        .args(target);
    command.args(["--", "--exact", name]);
    command
}
