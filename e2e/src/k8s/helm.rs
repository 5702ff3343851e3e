//! The chart, installed as a user installs it, with the flags that name the test's images.

use std::process::Output;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::OnceCell;

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

/// What came of the one installation that the tests of a run share.
static SHARED: OnceCell<Result<(), String>> = OnceCell::const_new();

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

    /// Makes sure that the cluster of this run has a control plane with the chart's defaults; the first test that
    /// asks installs it, and nobody takes it away.
    ///
    /// # Errors
    /// With helm's own words, to everybody who asks.
    pub async fn shared(&self) -> Result<()> {
        let install = async || {
            let helm = self.clone();
            let installed = tokio::task::spawn_blocking(move || helm.install(&[]));
            match installed.await {
                Ok(outcome) => outcome.map(drop).map_err(|error| format!("{error:#}")),
                Err(error) => Err(error.to_string()),
            }
        };
        let outcome = SHARED.get_or_init(install).await;
        outcome.clone().map_err(|error| anyhow!(error))
    }

    /// Runs the tests that the chart brings.
    ///
    /// # Errors
    /// With helm's own words.
    pub fn test(&self) -> Result<String> {
        let mut command = self.cluster.helm();
        command.args(["test", RELEASE, "--namespace", NAMESPACE]);
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
