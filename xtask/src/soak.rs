//! `soak`: runs of minutes that CI has no time for, by name.

use anyhow::Result;
use clap::ValueEnum;

use crate::{steps::Steps, surroundings::Surroundings};

/// A long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Soak {
    /// Calls and a stream of ten minutes while certificates of 60 s rotate.
    Rotation,
    /// Ten rotations of root and issuer under load, Sentry killed in every phase.
    Roots,
    /// Bodies of 1 GiB both ways, and the memory of the sidecars meanwhile.
    Body,
    /// 2,000 calls while the callee's sidecar restarts.
    Restart,
    /// 1,000 edits of policy in a minute under 2,000 calls a second, in release.
    Policy,
    /// Decisions of ten minutes without an operator, and a stream that falls silent.
    Operator,
    /// 2,000 connections killed at random bytes, and what was executed.
    Kills,
    /// Three replicas, one slow or failing: shares of calls and latencies.
    Replicas,
    /// Callers that leave or whose time is up: when the app notices.
    Cancel,
    /// A million paths, a hundred thousand callers and scrapers that never read: memory and series.
    Metrics,
}

impl Soak {
    /// The test that is this soak.
    fn test(self) -> &'static str {
        match self {
            Self::Rotation => "rotation",
            Self::Roots => "roots",
            Self::Body => "body",
            Self::Restart => "restart",
            Self::Policy => "policy",
            Self::Operator => "operator",
            Self::Kills => "kills",
            Self::Replicas => "replicas",
            Self::Cancel => "cancel",
            Self::Metrics => "metrics",
        }
    }

    /// Whether the load is beyond what a build without optimisation sustains.
    fn needs_release(self) -> bool {
        match self {
            Self::Policy => true,
            Self::Rotation
            | Self::Roots
            | Self::Body
            | Self::Restart
            | Self::Operator
            | Self::Kills
            | Self::Replicas
            | Self::Cancel
            | Self::Metrics => false,
        }
    }
}

/// Runs `soak`, or all of them one after another.
///
/// # Errors
/// If cargo could not be started.
pub(crate) fn run(around: &Surroundings, steps: &mut Steps, soak: Option<Soak>) -> Result<()> {
    for each in Soak::value_variants() {
        if soak.is_none_or(|wanted| wanted == *each) {
            let name = each.test();
            let mut command = around.cargo();
            command.args(["test", "--package", "ironside-e2e", "--test", "soak"]);
            if each.needs_release() {
                command.arg("--release");
            }
            command.args(["--", "--ignored", "--nocapture"]);
            // A soak measures; nothing else runs beside it.
            steps.run(
                &format!("soak {name}"),
                // The module: tests of others may hold the word.
                command.args(["--test-threads", "1", &format!("{name}::")]),
            )?;
        }
    }
    Ok(())
}
