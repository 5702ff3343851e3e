//! Logs of an app's pods, as they are written: of every container, to where the template says.
//!
//! A container is asked again until its pod is gone: one that does not run yet, one that runs again, and one whose log
//! broke off, as API servers and what stands before them do with answers that last. The API server says when each line
//! was written, so that a log goes on behind the last line that was shown: none is lost, and none comes twice unless the
//! node's clock was set back. Of a line so long that it comes in pieces the first ones come again where the log breaks
//! off within it.

use std::borrow::Cow;
use std::cmp::Ordering;
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
    status: Status,
    tail: Tail,
}

/// The end of what was shown of a log, and where it is shown.
struct Tail {
    sink: Sink,
    last: Option<Last>,
}

/// The last line that was shown.
#[derive(Clone, Copy)]
struct Last {
    /// When it was written.
    time: Timestamp,
    /// How many lines that were shown have this time, it and those just before it.
    lines: usize,
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
                status: session.status.clone(),
                tail: Tail { sink, last: None },
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
                    let _broken = self.tail.show(std::pin::pin!(stream)).await;
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
            since_time: self.tail.since(),
            ..LogParams::default()
        }
    }
}

// === impl Tail ===

impl Tail {
    /// From when on the log is asked for: the second of the last line. API servers take whole seconds, to which a
    /// fraction would be rounded, up as well: what was written between would be lost.
    fn since(&self) -> Option<Timestamp> {
        let time = self.last?.time;
        Some(Timestamp::from_second(time.as_second()).unwrap_or(time))
    }

    /// Writes the lines behind those that were shown before, until the log ends or breaks off.
    async fn show(&mut self, mut from: Pin<&mut impl AsyncBufRead>) -> io::Result<()> {
        let mut before = self.last;
        let mut is_shown = true;
        let mut is_start = true;
        // The time of a line that is shown and has not ended.
        let mut begun = None;
        while let Some(piece) = read_piece(&mut from).await? {
            let mut text = piece.as_slice();
            if is_start && let Some((time, rest)) = split_time(text) {
                is_shown = !comes_again(&mut before, time);
                begun = is_shown.then_some(time);
                text = rest;
            }
            if is_shown {
                self.sink.write(&ended(text));
            }
            is_start = piece.ends_with(b"\n");
            if is_start && let Some(time) = begun.take() {
                self.passed(time);
            }
        }
        if let Some(time) = begun {
            self.passed(time);
        }
        Ok(())
    }

    /// A line of this time was shown whole.
    fn passed(&mut self, time: Timestamp) {
        let same = self.last.filter(|last| last.time == time);
        let lines = same.map_or(1, |last| last.lines.saturating_add(1));
        self.last = Some(Last { time, lines });
    }
}

/// Whether a line of an answer was shown `before`, of which nothing is left once a new one came: lines behind that are
/// new whatever their time, for a clock may stand still or be set back.
fn comes_again(before: &mut Option<Last>, time: Timestamp) -> bool {
    let Some(last) = before else {
        return false;
    };
    match time.cmp(&last.time) {
        Ordering::Less => true,
        Ordering::Equal => {
            last.lines = last.lines.saturating_sub(1);
            if last.lines == 0 {
                *before = None;
            }
            true
        }
        Ordering::Greater => {
            *before = None;
            false
        }
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
/// The connection's, where a log breaks off; the piece that was begun is not shown, its line comes again.
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
mod tests;
