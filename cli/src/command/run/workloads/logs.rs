//! Logs of an app's pods, as they are written: of every container, to where the template says.
//!
//! A container is asked again until its pod is gone: one that does not run yet, one that runs again, and one whose log
//! broke off, as API servers and what stands before them do with answers that last. The API server says when each line
//! was written, so that a log goes on behind the last line that was shown: none is lost and none comes twice.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{AsyncBufRead, AsyncBufReadExt as _};
use ironside_chassis::tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Api;
use kube::api::LogParams;

use super::APP_ID;
use crate::cluster::sidecars::{self, CONTAINER};
use crate::cluster::{Cluster, failed, is_missing};
use crate::command::Session;
use crate::command::run::template::member::sinks;
use crate::command::run::template::resolve::TemplateApp;
use crate::command::run::template::sink::{LINE, Sink};
use crate::output::Status;

/// How long after the end of an answer a container is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// What an API server answers for a container that does not run yet.
const BAD_REQUEST: u16 = 400;

/// The log of one container.
struct Log {
    api: Api<Pod>,
    pod: String,
    container: String,
    sink: Sink,
    status: Status,
    /// When the last line that was shown was written.
    last: Option<Timestamp>,
}

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
            let log = Log {
                api: Api::namespaced(patient.client(), namespace),
                pod: sidecars::name(pod).to_owned(),
                container: container.to_owned(),
                sink,
                status: session.status.clone(),
                last: None,
            };
            tasks.spawn("pod-log", log.follow());
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

// === impl Log ===

impl Log {
    /// Shows what comes until the pod is gone.
    async fn follow(mut self) {
        let mut is_told = false;
        loop {
            match self.api.log_stream(&self.pod, &self.params()).await {
                Ok(stream) => {
                    is_told = false;
                    // How it ended says nothing: what is left is asked for.
                    let _broken = self.show(std::pin::pin!(stream)).await;
                }
                Err(error) if is_missing(&error) => return,
                Err(error) if is_waiting(&error) => {}
                Err(error) if !is_told => {
                    is_told = true;
                    self.status.warning(&format!(
                        "The log of container {} of pod {} cannot be read: {:#}. It is asked for again.",
                        self.container,
                        self.pod,
                        failed(&error)
                    ));
                }
                Err(_told) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn params(&self) -> LogParams {
        LogParams {
            container: Some(self.container.clone()),
            follow: true,
            timestamps: true,
            since_time: self.last,
            ..LogParams::default()
        }
    }

    /// Writes the lines that are newer than those before, until the log ends or breaks off.
    async fn show(&mut self, mut from: Pin<&mut impl AsyncBufRead>) -> io::Result<()> {
        let mut is_shown = true;
        let mut is_start = true;
        while let Some(piece) = read_piece(&mut from).await? {
            let mut text = piece.as_slice();
            if is_start && let Some((written, rest)) = split_time(text) {
                // The API server gives whole seconds again.
                is_shown = self.last.is_none_or(|last| written > last);
                self.last = self.last.max(Some(written));
                text = rest;
            }
            is_start = piece.ends_with(b"\n");
            if is_shown {
                self.sink.write(&ended(text));
            }
        }
        Ok(())
    }
}

/// A container that has no log yet, because it does not run yet.
fn is_waiting(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == BAD_REQUEST)
}

/// A line and when it was written.
fn split_time(line: &[u8]) -> Option<(Timestamp, &[u8])> {
    let at = line.iter().position(|&byte| byte == b' ')?;
    let (time, rest) = line.split_at(at);
    let time = std::str::from_utf8(time).ok()?.parse().ok()?;
    Some((time, rest.strip_prefix(b" ")?))
}

/// With the end of line that a piece, and the last line of a container, may lack.
fn ended(line: &[u8]) -> Cow<'_, [u8]> {
    match line.ends_with(b"\n") {
        true => Cow::Borrowed(line),
        false => Cow::Owned([line, b"\n"].concat()),
    }
}

/// The next line, with its end; none after the last one. A long one comes in pieces, and so does one without end.
///
/// # Errors
/// The connection's, where a log breaks off; the line that was begun is not shown, it comes again.
async fn read_piece(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let available = from.fill_buf().await?;
        let end = available.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(available.len(), |at| at.saturating_add(1));
        line.extend(available.iter().take(used));
        from.consume_unpin(used);
        if used == 0 && line.is_empty() {
            return Ok(None);
        }
        if used == 0 || end.is_some() || line.len() >= LINE {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut log: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = read_piece(&mut log).await.unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        lines
    }

    #[tokio::test]
    async fn a_log_is_read_line_by_line() {
        let lines = read(b"one\n\nlast without an end").await;
        assert_eq!(lines, ["one\n", "\n", "last without an end"]);
        assert_eq!(&*ended(lines[2].as_bytes()), b"last without an end\n");
    }

    #[tokio::test]
    async fn a_line_without_end_comes_in_pieces() {
        let endless = vec![b'x'; 2 * LINE];
        let first = read_piece(&mut endless.as_slice()).await.unwrap().unwrap();
        assert!((LINE..=2 * LINE).contains(&first.len()));
    }

    #[test]
    fn a_line_says_when_it_was_written() {
        let (time, rest) = split_time(b"2026-11-22T04:16:13.5Z two words\n").unwrap();
        assert_eq!(time.to_string(), "2026-11-22T04:16:13.5Z");
        assert_eq!(rest, b"two words\n");
        for other in [
            &b"no time\n"[..],
            b"\n",
            b"2026-11-22T04:16:13Z",
            b"\xff x\n",
        ] {
            assert_eq!(split_time(other), None);
        }
    }
}
