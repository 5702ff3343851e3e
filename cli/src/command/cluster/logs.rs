//! `logs -k`: what a sidecar, or another container of its pod, has written.
//!
//! Facts: cli-and-clients 1.15, CL-88. The log alone goes to the standard output (CH14).

use std::process::ExitCode;

use anyhow::Context as _;
use futures_util::AsyncReadExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;

use super::{Session, nothing};
use crate::cluster::sidecars::{self, CONTAINER, Sidecar};
use crate::cluster::{Cluster, control_plane, failed};
use crate::output::{self, Level};

/// Bytes that are passed on at once.
const CHUNK: usize = 16 * 1024;

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let values = &session.values;
    let id = values.text("app-id").unwrap_or_default();
    let namespace = values.text("namespace").unwrap_or("default");
    let container = values.text("container").unwrap_or(CONTAINER);
    let cluster = Cluster::of(session).await?;
    let pods = cluster.pods(Some(namespace), "").await?;
    let wanted = values.text("pod-name").filter(|name| !name.is_empty());
    let is_meant = |pod: &&Pod| {
        let has_id = Sidecar::of(pod).is_some_and(|sidecar| sidecar.app_id() == id);
        has_id && wanted.is_none_or(|name| sidecars::name(pod) == name)
    };
    let Some(pod) = pods.iter().find(is_meant) else {
        let text =
            format!("could not get logs. Please check app-id ({id}) and namespace ({namespace})");
        return Ok(nothing(session, &text));
    };
    let follows = values.switch("follow");
    let params = LogParams {
        container: Some(container.to_owned()),
        follow: follows,
        ..LogParams::default()
    };
    print(session, follows, namespace, sidecars::name(pod), &params)
        .await
        .with_context(|| {
            let pod = sidecars::name(pod);
            format!("could not get logs of container {container} of pod {namespace}/{pod}")
        })?;
    let line = session.status.line(Level::Success, "Fetched logs");
    output::err(line.as_bytes());
    control_plane::warn_of_end(session, &cluster, true).await;
    Ok(ExitCode::SUCCESS)
}

/// Passes the log on as it comes, to its end.
async fn print(
    session: &Session,
    follows: bool,
    namespace: &str,
    pod: &str,
    params: &LogParams,
) -> anyhow::Result<()> {
    // A log that is followed may be silent for as long as it likes.
    let cluster = match follows {
        true => Cluster::with_patience(session, None).await?,
        false => Cluster::of(session).await?,
    };
    let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let stream = api.log_stream(pod, params).await;
    let mut stream = std::pin::pin!(stream.map_err(|error| failed(&error))?);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = stream.read(&mut chunk).await?;
        match chunk.get(..read) {
            None | Some([]) => return Ok(()),
            Some(bytes) => output::out(bytes),
        }
    }
}
