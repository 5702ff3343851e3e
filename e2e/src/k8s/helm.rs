//! The chart, installed as a user installs it, with the flags that name the test's images.

use std::{path::PathBuf, process::Output};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::OnceCell;

use super::{Cluster, Machine, pull_policy, registry};
use crate::binaries::{root, setting};

/// The release and its namespace.
const RELEASE: &str = "ironside";
const NAMESPACE: &str = "dapr-system";

/// What came of the one installation that the tests of a run share.
static SHARED: OnceCell<Result<(), String>> = OnceCell::const_new();

/// A release of the chart.
#[derive(Clone, Debug)]
pub struct Helm {
    cluster: Cluster,
    chart: PathBuf,
    tag: &'static str,
    files: Vec<String>,
}

impl Helm {
    /// This version of the chart, on this cluster.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            cluster: cluster.clone(),
            chart: root().join("charts/ironside"),
            tag: "e2e",
            files: Vec::new(),
        }
    }

    /// The version before this one, whose images are loaded.
    ///
    /// # Errors
    /// If nobody made it, or its images are refused.
    pub fn previous(machine: &Machine, cluster: &Cluster) -> Result<Self> {
        let folder = setting("IRONSIDE_E2E_PREVIOUS")
            .context("IRONSIDE_E2E_PREVIOUS names no folder: cargo xtask e2e k8s sets it")?;
        machine.load(&folder.join("ironside.tar"))?;
        Ok(Self {
            chart: folder.join("ironside"),
            tag: "e2e-prev",
            ..Self::new(cluster)
        })
    }

    /// A value that is the content of a file.
    #[must_use]
    pub fn file(mut self, value: &str, path: &std::path::Path) -> Self {
        self.files.push(format!("{value}={}", path.display()));
        self
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
        let mut command = self.cluster.helm();
        command
            .args(["upgrade", "--install", RELEASE])
            .arg(&self.chart)
            .args([
                "--namespace",
                NAMESPACE,
                "--create-namespace",
                "--wait",
                "--timeout",
                "120s",
            ])
            .args(["--set", &format!("global.tag={}", self.tag)]);
        let policy = pull_policy();
        for setting in [
            format!("global.registry={}", registry()),
            format!("global.imagePullPolicy={policy}"),
            format!("dapr_sidecar_injector.sidecarImagePullPolicy={policy}"),
        ] {
            command.args(["--set", &setting]);
        }
        for setting in settings {
            command.args(["--set", setting]);
        }
        for file in &self.files {
            command.args(["--set-file", file]);
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

    /// Takes the release away, if it is there.
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
            "--ignore-not-found",
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
