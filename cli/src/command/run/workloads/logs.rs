//! Logs of an app's pods, as they are written: of every container, to where the template says.
//!
//! A container that does not run yet is asked again until its pod is gone.

use std::time::Duration;

use futures_util::{AsyncBufRead, AsyncBufReadExt as _};
use ironside_chassis::tasks::Tasks;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Api;
use kube::api::LogParams;

use super::APP_ID;
use crate::cluster::sidecars::{self, CONTAINER};
use crate::cluster::{Cluster, is_missing};
use crate::command::Session;
use crate::command::run::template::member::sinks;
use crate::command::run::template::resolve::TemplateApp;
use crate::command::run::template::sink::{LINE, Sink};

/// How often a container that has no log yet is asked.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the logs of the pods that an app has now.
pub(super) async fn follow(
    session: &Session,
    cluster: &Cluster,
    namespace: &str,
    app: &TemplateApp,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let (app_log, daprd_log) = sinks(app, session)?;
    let patient = Cluster::with_patience(session, None).await?;
    let pods = cluster
        .pods(Some(namespace), &format!("{APP_ID}={}", app.spec.app_id))
        .await?;
    for pod in &pods {
        for container in containers(pod) {
            let sink = match container == CONTAINER {
                true => daprd_log.clone(),
                false => app_log.clone(),
            };
            let api: Api<Pod> = Api::namespaced(patient.client(), namespace);
            let pod = sidecars::name(pod).to_owned();
            tasks.spawn("pod-log", follow_one(api, pod, container.to_owned(), sink));
        }
    }
    Ok(())
}

/// The names of a pod's containers, native sidecars among them.
fn containers(pod: &Pod) -> impl Iterator<Item = &str> {
    let spec = pod.spec.iter();
    let all = spec.flat_map(|spec| {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
    });
    all.map(|container: &Container| container.name.as_str())
}

async fn follow_one(api: Api<Pod>, pod: String, container: String, sink: Sink) {
    let params = LogParams {
        container: Some(container),
        follow: true,
        ..LogParams::default()
    };
    loop {
        match api.log_stream(&pod, &params).await {
            Ok(stream) => {
                let mut lines = std::pin::pin!(stream);
                while let Some(line) = read_line(&mut lines).await {
                    sink.write(&line);
                }
                return;
            }
            Err(error) if is_missing(&error) => return,
            Err(_not_yet) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The next line, with its end; none after the last one, and where a log breaks off. A longer one comes in pieces.
async fn read_line(from: &mut (impl AsyncBufRead + Unpin)) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let available = from.fill_buf().await.unwrap_or_default();
        let end = available.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(available.len(), |at| at.saturating_add(1));
        line.extend(available.iter().take(used));
        from.consume_unpin(used);
        if used == 0 && line.is_empty() {
            return None;
        }
        if used == 0 || end.is_some() || line.len() >= LINE {
            if !line.ends_with(b"\n") {
                line.push(b'\n');
            }
            return Some(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_is_read_line_by_line() {
        let mut log: &[u8] = b"one\n\nlast without an end";
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut log).await {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["one\n", "\n", "last without an end\n"]);
    }

    #[tokio::test]
    async fn a_line_without_end_comes_in_pieces() {
        let endless = vec![b'x'; 2 * LINE];
        let mut log = endless.as_slice();
        let first = read_line(&mut log).await.unwrap();
        assert!(first.len() <= 2 * LINE + 1 && first.ends_with(b"\n"));
    }
}
