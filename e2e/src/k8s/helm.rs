//! The chart, installed as a user installs it, with the flags that name the test's images.

use std::process::Output;

use anyhow::{Context as _, Result, bail};

use super::Cluster;
use crate::binaries::root;

/// The release and its namespace.
const RELEASE: &str = "ironside";
const NAMESPACE: &str = "dapr-system";

/// Images of this run, which no registry knows.
const IMAGES: [&str; 8] = [
    "--set",
    "global.registry=ironside.test",
    "--set",
    "global.tag=e2e",
    "--set",
    "global.imagePullPolicy=Never",
    "--set",
    "dapr_sidecar_injector.sidecarImagePullPolicy=Never",
];

/// A release of the chart.
#[derive(Clone, Debug)]
pub struct Helm {
    cluster: Cluster,
}

impl Helm {
    /// On this cluster.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            cluster: cluster.clone(),
        }
    }

    /// The namespace of the control plane.
    #[must_use]
    pub fn namespace(&self) -> &'static str {
        NAMESPACE
    }

    /// Installs the chart, or brings it to these settings; waits until the control plane is ready.
    ///
    /// # Errors
    /// With helm's own words.
    pub fn install(&self, settings: &[&str]) -> Result<String> {
        let chart = root().join("charts/ironside");
        let mut command = self.cluster.helm();
        command
            .args(["upgrade", "--install", RELEASE])
            .arg(chart)
            .args([
                "--namespace",
                NAMESPACE,
                "--create-namespace",
                "--wait",
                "--timeout",
                "120s",
            ])
            .args(IMAGES);
        for setting in settings {
            command.args(["--set", setting]);
        }
        said(command.output().context("starting helm")?)
    }

    /// Goes back to the revision before.
    ///
    /// # Errors
    /// With helm's own words.
    pub fn roll_back(&self) -> Result<String> {
        let mut command = self.cluster.helm();
        command.args([
            "rollback",
            RELEASE,
            "--namespace",
            NAMESPACE,
            "--wait",
            "--timeout",
            "120s",
        ]);
        said(command.output().context("starting helm")?)
    }

    /// Takes the release away.
    ///
    /// # Errors
    /// With helm's own words.
    pub fn uninstall(&self) -> Result<String> {
        let mut command = self.cluster.helm();
        command.args([
            "uninstall",
            RELEASE,
            "--namespace",
            NAMESPACE,
            "--wait",
            "--timeout",
            "120s",
        ]);
        said(command.output().context("starting helm")?)
    }
}

fn said(output: Output) -> Result<String> {
    if !output.status.success() {
        bail!("helm: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
