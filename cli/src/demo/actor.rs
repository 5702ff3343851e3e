//! A process of the demo, and what its log tells.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ironside_chassis::tasks::Tasks;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe::Receiver;

use crate::process::{Child, Ended, Launch};

/// The line a sidecar writes when it has checked who is at the other end of a connection.
const VERIFIED: &str = "peer verified";
/// How many lines are kept to explain a failure.
const KEPT: usize = 8;

/// A process of the demo.
pub(super) struct Actor {
    /// What it is called.
    pub name: String,
    child: Child,
    journal: Journal,
}

/// What a log told so far. Cheap to clone.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    peers: BTreeSet<String>,
    last: VecDeque<String>,
}

// === impl Actor ===

impl Actor {
    /// Starts a process and reads its log.
    pub(super) fn start(name: &str, launch: Launch, tasks: &Tasks) -> std::io::Result<Self> {
        let mut child = launch.start()?;
        let journal = Journal::default();
        if let Some((out, err)) = child.output.take() {
            for pipe in [OwnedFd::from(out), err.into()] {
                tasks.spawn("journal", journal.clone().read(pipe));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            journal,
        })
    }

    /// The SPIFFE IDs that this sidecar verified at the other end of its connections.
    pub(super) fn verified(&self) -> BTreeSet<String> {
        self.journal.told().peers.clone()
    }

    /// The last lines of its log, to explain a failure.
    pub(super) fn last_lines(&self) -> String {
        let told = self.journal.told();
        told.last
            .iter()
            .map(|line| format!("    {line}\n"))
            .collect()
    }

    /// Waits until it ends by itself.
    pub(super) async fn ended(&mut self) -> Ended {
        self.child.ended().await
    }

    /// Ends it.
    pub(super) async fn stop(&mut self, grace: Duration) {
        self.child.stop(grace, std::future::pending()).await;
    }
}

// === impl Journal ===

impl Journal {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(self, from: OwnedFd) {
        let Ok(pipe) = Receiver::from_owned_fd(from) else {
            return;
        };
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            self.note(line);
        }
    }

    fn note(&self, line: String) {
        let mut told = self.told();
        if let Some(id) = verified_peer(&line) {
            told.peers.insert(id);
        }
        if told.last.len() == KEPT {
            told.last.pop_front();
        }
        told.last.push_back(line);
    }
}

/// The SPIFFE ID in a line of a JSON log that says that a peer was verified.
fn verified_peer(line: &str) -> Option<String> {
    // Most lines are others: a look for the words is cheaper than reading JSON.
    if !line.contains(VERIFIED) {
        return None;
    }
    let line: Value = serde_json::from_str(line).ok()?;
    (line.get("msg")? == VERIFIED).then(|| line.get("peer.id")?.as_str().map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sidecars_own_word_counts() {
        let line =
            r#"{"level":"debug","msg":"peer verified","peer.id":"spiffe://public/ns/default/a"}"#;
        assert_eq!(
            verified_peer(line).as_deref(),
            Some("spiffe://public/ns/default/a")
        );
        for other in [
            r#"{"msg":"no peer verified","peer.id":"spiffe://public/ns/default/a"}"#,
            r#"{"msg":"peer verified"}"#,
            "peer verified",
        ] {
            assert_eq!(verified_peer(other), None, "{other}");
        }
    }
}
