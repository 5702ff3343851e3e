//! `e2e chart`: what Helm makes of the chart.
//!
//! Helm is the caller's (`IRONSIDE_HELM`), else the one that clusters are made with, built if need be. Without one
//! nothing is run, and the recipe fails: a test that is left out looks like one that passed.

use anyhow::Result;

use crate::{cluster, steps::Steps, surroundings::Surroundings};

/// Runs the suite.
///
/// # Errors
/// Without Helm; failing tests are collected in `steps`.
pub(crate) fn run(around: &Surroundings, steps: &mut Steps) -> Result<()> {
    let helm = match around.helm() {
        Some(helm) => helm.to_path_buf(),
        None => cluster::programs(around)?.join("helm"),
    };
    let mut tests = around.cargo();
    tests
        .env("IRONSIDE_HELM", &helm)
        .args(["test", "--package", "ironside-e2e", "--test", "chart"])
        .args(["--", "--include-ignored"]);
    steps.run("renders of the chart", &mut tests)?;
    let mut kept = around.cargo();
    kept.env("IRONSIDE_HELM", helm)
        .args(["test", "--package", "ironside", "--test", "cli"])
        .args(["--", "--ignored", "renders"]);
    steps.run("renders in the binary", &mut kept)
}
