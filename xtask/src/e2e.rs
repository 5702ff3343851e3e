//! `e2e`: the tests with real parts, suite by suite.

use anyhow::Result;
use clap::ValueEnum;

use crate::{chart, k8s, sdk, steps::Steps, surroundings::Surroundings, zipkin};

/// A set of tests that needs the same surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Real binaries on loopback: needs nothing but cargo.
    Selfhosted,
    /// One rotation of the root under load, on loopback: a minute and a half.
    Rotation,
    /// Published SDKs and gRPC clients: needs Python, Node and the package registries.
    Sdk,
    /// Renders of the chart: needs Helm, or Go to build it; runs only when named.
    Chart,
    /// Traces in a real Zipkin server: needs Java and Maven; runs only when named.
    Zipkin,
    /// Pods on a real cluster: needs root and Go, or a cluster; runs only when named.
    K8s,
}

impl Suite {
    /// Whether it runs only when it is named.
    fn is_on_request(self) -> bool {
        match self {
            Self::Chart | Self::Zipkin | Self::K8s => true,
            Self::Selfhosted | Self::Rotation | Self::Sdk => false,
        }
    }
}

/// Runs `suite`, or all that need nothing but registries.
///
/// # Errors
/// If a tool that a suite needs is missing.
pub(crate) fn run(
    around: &Surroundings,
    steps: &mut Steps,
    suite: Option<Suite>,
    k8s: &k8s::Wish,
) -> Result<()> {
    for each in Suite::value_variants() {
        if suite.map_or(!each.is_on_request(), |wanted| wanted == *each) {
            match each {
                Suite::Selfhosted => selfhosted(around, steps)?,
                Suite::Rotation => rotation(around, steps)?,
                Suite::Sdk => sdk::run(around, steps)?,
                Suite::Chart => chart::run(around, steps)?,
                Suite::Zipkin => zipkin::run(around, steps)?,
                Suite::K8s => k8s::run(around, steps, k8s)?,
            }
        }
    }
    Ok(())
}

fn selfhosted(around: &Surroundings, steps: &mut Steps) -> Result<()> {
    steps.run(
        "self-hosted suite",
        around.cargo().args(["test", "--package", "ironside-e2e"]),
    )
}

fn rotation(around: &Surroundings, steps: &mut Steps) -> Result<()> {
    let mut short = around.cargo();
    short.args(["test", "--package", "ironside-e2e", "--test", "soak", "--"]);
    // Too long for the suite, and not long enough for a soak.
    steps.run(
        "one rotation of the root",
        short.args(["--ignored", "roots::one_rotation"]),
    )
}
