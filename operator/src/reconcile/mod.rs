//! What the operator brings about in the cluster, one file per kind.
//!
//! Owns what all of them have in common: the calls, who is told, and whether this replica may act. What is to be done
//! is decided in `index`, from what watches told.

pub(crate) mod access;
pub(crate) mod crds;
pub(crate) mod queue;
pub(crate) mod services;
pub(crate) mod watchdog;

use crate::cluster::Calls;
use crate::index::workloads::{Workload, WorkloadKind};
use crate::lease::Leadership;
use crate::metrics::Metrics;
use ironside_chassis::{Clock, Tick};
use ironside_cluster::{Kind, News, Recorder, Subject};
use ironside_identity::Namespace;
use tokio::sync::watch;

/// What every reconciler has.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) calls: Calls,
    /// The namespace of the control plane.
    pub(crate) namespace: Namespace,
    /// The only namespace that is looked at.
    pub(crate) watch_namespace: Option<Namespace>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

// === impl Common ===

impl Common {
    pub(crate) fn is_leader(&self) -> bool {
        self.leadership.borrow().is_leader
    }

    /// Waits until this replica may act; true, or false if that will not come any more.
    pub(crate) async fn leads(&mut self) -> bool {
        let leads = self.leadership.wait_for(|leadership| leadership.is_leader);
        leads.await.is_ok()
    }

    /// Waits until this replica may act no longer.
    pub(crate) async fn follows(&mut self) {
        // An error means that the election has ended, which is the same.
        let _ended = self
            .leadership
            .wait_for(|leadership| !leadership.is_leader)
            .await;
    }

    pub(crate) fn now(&self) -> Tick {
        self.clock.monotonic()
    }

    /// The namespace that watches are limited to.
    pub(crate) fn watched(&self) -> Option<&str> {
        self.watch_namespace.as_ref().map(Namespace::as_str)
    }

    /// Tells something of a workload that its owner should look at.
    pub(crate) fn warn_of(&self, workload: &Workload, reason: &'static str, note: String) {
        let subject = Subject {
            api_version: WorkloadKind::api_version(workload.kind).to_owned(),
            kind: workload.kind.as_str().to_owned(),
            namespace: workload.namespace.to_string(),
            name: workload.name.to_string(),
            uid: workload.uid.to_string(),
        };
        let news = News {
            kind: Kind::Warning,
            reason,
            action: "MakeService",
            note,
        };
        self.recorder.tell(subject, news);
    }
}
