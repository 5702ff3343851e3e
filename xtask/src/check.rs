//! `check` and `gen`: the judgement over the tree, and the files that are written by a program.

use anyhow::Result;

use crate::{deny, steps::Steps, surroundings::Surroundings};

/// Tests that compare a generated file with its source, and write it under `UPDATE=1`.
const GENERATED: [(&str, &str); 1] = [("ironside-proto", "generated")];

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
    for (package, test) in GENERATED {
        steps.run(
            &format!("generate {package}"),
            around
                .cargo()
                .args(["test", "--package", package, "--test", test])
                .env("UPDATE", "1"),
        )?;
    }
    Ok(())
}

fn compare(around: &Surroundings, steps: &mut Steps) -> Result<()> {
    for (package, test) in GENERATED {
        steps.run(
            &format!("generated code of {package} is current"),
            around
                .cargo()
                .args(["test", "--quiet", "--package", package, "--test", test]),
        )?;
    }
    Ok(())
}
