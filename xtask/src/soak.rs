//! `soak`: runs of minutes that CI has no time for, by name.

use anyhow::Result;
use clap::ValueEnum;

use crate::{steps::Steps, surroundings::Surroundings};

/// A long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Soak {
    /// Calls and a stream of ten minutes while certificates of 60 s rotate.
    Rotation,
    /// Bodies of 1 GiB both ways, and the memory of the sidecars meanwhile.
    Body,
    /// 2,000 calls while the callee's sidecar restarts.
    Restart,
}

impl Soak {
    /// The test that is this soak.
    fn test(self) -> &'static str {
        match self {
            Self::Rotation => "rotation",
            Self::Body => "body",
            Self::Restart => "restart",
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
            command.args([
                "test",
                "--package",
                "ironside-e2e",
                "--test",
                "soak",
                "--",
                "--ignored",
                "--nocapture",
            ]);
            // A soak measures; nothing else runs beside it.
            steps.run(
                &format!("soak {name}"),
                command.args(["--test-threads", "1", name]),
            )?;
        }
    }
    Ok(())
}
