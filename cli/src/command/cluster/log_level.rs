//! `log-level -k`: runs `/daprd log-level` in the sidecar's container of every pod of an app.
//!
//! The signal is sent there, because only there the sidecar's process can be seen. A pod that cannot do it does not
//! hold up the others; one whose sidecar does not run, or that ends already, is left out. Facts: resiliency-observability 4.1.

use std::process::ExitCode;
use std::time::Duration;

use ironside_chassis::logging::LevelChange;
use ironside_telemetry::escaped;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::AsyncReadExt as _;

use super::{Session, nothing};
use crate::cluster::sidecars::{self, CONTAINER, Sidecar};
use crate::cluster::{Cluster, failed};

/// Time for one pod.
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes of its answer that are shown.
const SHOWN: usize = 4096;
/// What the API server says of a command that has ended well.
const SUCCESS: &str = "Success";

/// Runs the command.
pub(crate) async fn run(
    session: &Session,
    app: &str,
    change: LevelChange,
) -> anyhow::Result<ExitCode> {
    let namespace = session.values.text("namespace").unwrap_or("default");
    let cluster = Cluster::of(session).await?;
    let pods = cluster.pods(Some(namespace), "").await?;
    let all = pods.iter().filter_map(Sidecar::of);
    let ours: Vec<Sidecar<'_>> = all.filter(|sidecar| sidecar.app_id() == app).collect();
    let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let mut code = None;
    for sidecar in ours.iter().filter(|sidecar| sidecar.runs()) {
        let name = sidecars::name(sidecar.pod);
        let done = tokio::time::timeout(LIMIT, ask(&api, name, change)).await;
        let done = done
            .unwrap_or_else(|_late| Err(anyhow::anyhow!("no answer within {} s", LIMIT.as_secs())));
        match done {
            Ok(()) => {
                let level = change.told();
                let text = format!("log level of {app} in pod {namespace}/{name}: {level}");
                session.status.success(&text);
                code.get_or_insert(ExitCode::SUCCESS);
            }
            Err(cause) => {
                let text =
                    format!("failed to change the log level in pod {namespace}/{name}: {cause:#}");
                session.status.failure(&text);
                code = Some(ExitCode::FAILURE);
            }
        }
    }
    Ok(code.unwrap_or_else(|| {
        let text = match ours.len() {
            0 => format!("couldn't find app id {app} in namespace {namespace}"),
            pods => format!(
                "no sidecar runs in the pods of app id {app} in namespace {namespace}: {pods}"
            ),
        };
        nothing(session, &text)
    }))
}

/// Runs the command in one pod; what it has against that is the error.
async fn ask(api: &Api<Pod>, pod: &str, change: LevelChange) -> anyhow::Result<()> {
    let how = AttachParams::default()
        .container(CONTAINER)
        .stdin(false)
        .stdout(false)
        .stderr(true);
    let command = ["/daprd", "log-level", change.as_str()];
    let started = api.exec(pod, command, &how).await;
    let mut process = started.map_err(|error| failed(&error))?;
    let mut said = Vec::new();
    if let Some(mut stderr) = process.stderr() {
        (&mut stderr)
            .take(SHOWN as u64)
            .read_to_end(&mut said)
            .await?;
        // How it ended comes behind all that it said.
        tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
    }
    let ended = match process.take_status() {
        Some(ended) => ended.await,
        None => None,
    };
    let ended = ended.ok_or_else(|| anyhow::anyhow!("the connection broke"))?;
    if ended.status.as_deref() == Some(SUCCESS) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let why = match said.trim() {
        "" => ended.message.as_deref().unwrap_or_default(),
        said => said,
    };
    // Containers are not to write to the terminal as they like.
    anyhow::bail!("{}", escaped(why, SHOWN))
}
