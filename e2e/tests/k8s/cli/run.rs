//! A template in a cluster: `run -k -f`, `stop -k -f`, and `invoke -k` between.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
};

use anyhow::{Context as _, Result, bail, ensure};
use ironside_e2e::k8s::{self, Helm, PATIENCE, Place, Sample};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use serde_json::Value;

use super::{command, ends, ironside, said_within};
use crate::breaking::kubectl;

/// A command that goes on, and the lines of its standard output.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the command line")?;
        let stdout = child.stdout.take().context("its output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // A test that has ended reads no more.
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Waits for a line that holds a text.
    fn says(&self, text: &str) -> Result<()> {
        let mut before = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return Ok(()),
                Ok(line) => before.push(line),
                Err(_) => bail!("no {text:?} in\n{}", before.join("\n")),
            }
        }
    }

    async fn end(mut self) -> Result<ExitStatus> {
        let wait = tokio::task::spawn_blocking(move || self.child.wait());
        let limit = tokio::time::timeout(PATIENCE, wait).await;
        limit
            .context("the command goes on")?
            .map(|status| status.context("its end"))?
    }
}

const TEMPLATE: &str = "version: 1
apps:
- appDirPath: web
  appPort: 8080
  containerImage: IMAGE
  containerImagePullPolicy: POLICY
  daprdLogDestination: console
- appDirPath: orders
  appPort: 8080
  containerImage: IMAGE
  containerImagePullPolicy: POLICY
  createService: true
  logLevel: debug
";

/// A folder with a template of two apps.
fn template(folder: &Path) -> Result<String> {
    for app in ["web", "orders"] {
        std::fs::create_dir(folder.join(app))?;
    }
    let file = folder.join("dapr.yaml");
    let text = TEMPLATE.replace("IMAGE", &k8s::image("sample"));
    std::fs::write(&file, text.replace("POLICY", &k8s::pull_policy()))?;
    Ok(file.to_str().context("a path")?.to_owned())
}

async fn run_file(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let (folder, namespace) = (tempfile::tempdir()?, place.namespace());
    let file = template(folder.path())?;
    let running = Running::start(&mut command(
        place,
        &["run", "-k", "-f", &file, "-n", namespace],
    ))?;
    running.says("Deployed app \"orders\"")?;
    for app in ["web", "orders"] {
        place.rolled_out(app).await?;
    }
    // The sidecar's log, and the app's.
    running.says("application discovered on port 8080")?;
    let pods = place.pods("dapr.io/app-id=orders").await?;
    let pod: &Pod = pods.first().context("a pod of orders")?;
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    ensure!(
        annotations.get("dapr.io/log-level").map(String::as_str) == Some("debug"),
        "{annotations:?}"
    );
    ensure!(
        !annotations.contains_key("dapr.io/metrics-port"),
        "{annotations:?}"
    );
    let service = place.api::<Service>().get("orders").await?;
    let kind = service.spec.and_then(|spec| spec.type_);
    ensure!(kind.as_deref() == Some("LoadBalancer"), "{kind:?}");
    // Through the app's own sidecar, and through another's.
    for from in [&[][..], &["--from", "web"]] {
        let words = [
            &[
                "invoke", "-k", "-a", "orders", "-m", "new?a=1", "-d", "{}", "-n", namespace,
            ][..],
            from,
        ]
        .concat();
        let asked = async || {
            let said = ironside(place, &words).ok()?;
            (said.code == Some(0)).then_some(said)
        };
        let said = place
            .until(&format!("an answer to {words:?}"), asked)
            .await?;
        let echo = said.stdout.lines().next().unwrap_or_default();
        let echo: Value = serde_json::from_str(echo).with_context(|| format!("{said:?}"))?;
        ensure!(
            echo["path"] == "/new" && echo["query"] == "a=1" && echo["method"] == "POST",
            "{echo}"
        );
    }
    let said = ends(
        place,
        &[
            "invoke",
            "-k",
            "-a",
            "orders",
            "-m",
            "status/404",
            "-n",
            namespace,
        ],
        1,
    )?;
    ensure!(
        said.stderr
            .contains("error invoking app orders: 404 Not Found"),
        "{said:?}"
    );
    let stop = said_within(place, &["stop", "-k", "-f", &file, "-n", namespace]).await?;
    ensure!(stop.code == Some(0), "{stop:?}");
    let status = running.end().await?;
    ensure!(status.success(), "run: {status}");
    for app in ["web", "orders"] {
        ensure!(
            place.api::<Deployment>().get_opt(app).await?.is_none(),
            "{app} is there"
        );
    }
    ensure!(
        place.api::<Service>().get_opt("orders").await?.is_none(),
        "the Service is there"
    );
    let stop = ends(place, &["stop", "-k", "-f", &file, "-n", namespace], 0)?;
    ensure!(stop.stderr.contains("couldn't find apps"), "{stop:?}");
    // What somebody else deployed stays.
    place.apply(&Sample::new("web").manifest().to_string())?;
    let refused = ends(place, &["run", "-k", "-f", &file, "-n", namespace], 1)?;
    ensure!(
        refused.stderr.contains("it is not taken over"),
        "{refused:?}"
    );
    kubectl(place, &["get", "deployment", "web"]).map(drop)
}

/// Cli-and-clients 1.11, 1.13: a template runs in a cluster, is called, and is stopped from elsewhere.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_template_runs_in_a_cluster() {
    k8s::test("cli::run::a_template_runs_in_a_cluster", run_file).await;
}
