//! `fuzz`: the targets of `ironside_testkit::fuzz`, for longer than CI has time.
//!
//! A target is a test of its crate; this hands it count, seed and input by the variables that the driver reads.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{steps::Steps, surroundings::Surroundings};

/// Inputs for each target, unless told otherwise: a few minutes.
pub(crate) const COUNT: u64 = 1_000_000;

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// A text to a cleaned method.
    Method,
    /// A client's request line to the app's.
    Path,
    /// A file of access control to decisions.
    PolicyYaml,
    /// A SPIFFE ID and its parts.
    SpiffeId,
    /// A certificate signing request to a leaf.
    Csr,
    /// The stream between sidecars to a body.
    Chunks,
    /// A review of the API server to a pod with a sidecar.
    Review,
}

/// How.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) count: u64,
    pub(crate) seed: u64,
    pub(crate) input: Option<PathBuf>,
}

// === impl Target ===

impl Target {
    /// Package, and the words that select its test.
    fn test(self) -> (&'static str, [&'static str; 2]) {
        match self {
            Self::Method => ("ironside-policy", ["--lib", "methods_stay_what_they_are"]),
            Self::Path => (
                "ironside-sidecar",
                ["--lib", "what_policy_saw_is_what_the_app_gets"],
            ),
            Self::PolicyYaml => (
                "ironside-policy",
                ["--lib", "files_of_rules_decide_or_close"],
            ),
            Self::SpiffeId => (
                "ironside-identity",
                ["--test=fuzz", "spiffe_ids_have_one_spelling"],
            ),
            Self::Csr => (
                "ironside-sentry",
                ["--lib", "whatever_is_asked_for_gets_the_profile_or_nothing"],
            ),
            Self::Chunks => ("ironside-sidecar", ["--lib", "frames_are_whole_or_refused"]),
            Self::Review => (
                "ironside-injector",
                ["--lib", "whatever_is_sent_gets_an_answer"],
            ),
        }
    }
}

/// Drives one target, or all of them one after another.
///
/// # Errors
/// If cargo could not be started, or the input is not there.
pub(crate) fn run(
    around: &Surroundings,
    steps: &mut Steps,
    target: Option<Target>,
    run: &Run,
) -> Result<()> {
    let Run { count, seed, input } = run;
    for each in Target::value_variants() {
        if target.is_some_and(|wanted| wanted != *each) {
            continue;
        }
        let (package, [binary, test]) = each.test();
        let mut command = around.cargo();
        command
            .args([
                "test",
                "--package",
                package,
                binary,
                "--",
                "--nocapture",
                test,
            ])
            .env("IRONSIDE_FUZZ_COUNT", count.to_string())
            .env("IRONSIDE_FUZZ_SEED", seed.to_string());
        if let Some(input) = input {
            // The test runs in the folder of its crate.
            let input = input.canonicalize();
            command.env(
                "IRONSIDE_FUZZ_INPUT",
                input.context("the input cannot be found")?,
            );
        }
        steps.run(&format!("fuzz {each:?}"), &mut command)?;
    }
    Ok(())
}
