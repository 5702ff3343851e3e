//! What a request can reach: the process-wide [`Shared`] and the [`Worker`] of one data thread.
//!
//! A data worker is one thread with one single-threaded runtime: it accepts, serves, dials peers and speaks to
//! the app without handing a request to another thread. Control work (certificates, files, name refresh,
//! metrics scrapes) runs elsewhere and reaches workers through `watch` values only.

use std::sync::Arc;

use ironside_chassis::{clock::Clock, health::Health};
use ironside_telemetry::metrics::Metrics;
use ironside_transport::IdentityRx;
use tokio::sync::watch;

use crate::{
    api::metadata::MetadataStore,
    api::shutdown::ShutdownHandle,
    channel::{AppChannel, admission::Admission},
    config::Config,
    decisions::{Decisions, Recorder},
    inbound::{in_flight::InFlight, rates::Rates, unread::Unread},
    invocation::headers::Stamp,
    live::Live,
    outbound::{external::External, known::KnownApps, replicas::Fleet},
    peers::{Peers, verified::VerifiedPeers},
    resolve::Resolve,
    server::conn::Traffic,
    traces::Queue,
};

/// One per process.
pub(crate) struct Shared {
    /// What the start said.
    pub(crate) config: Arc<Config>,
    /// What may change.
    pub(crate) live: watch::Receiver<Arc<Live>>,
    /// Where apps listen.
    pub(crate) resolver: Arc<dyn Resolve>,
    /// Which of the addresses of an app gets a call.
    pub(crate) fleet: Fleet,
    /// Own identity; `None` while mTLS is off.
    pub(crate) identity: Option<IdentityRx>,
    /// Peers whose certificates were verified, and until when.
    pub(crate) verified: VerifiedPeers,
    /// App health and concurrency.
    pub(crate) admission: Admission,
    /// How fast each caller calls.
    pub(crate) rates: Rates,
    /// Readiness of this process, the app's port included.
    pub(crate) health: Health,
    /// Readiness for outbound calls, which need no app.
    pub(crate) outbound: Health,
    /// Calls under way.
    pub(crate) traffic: Arc<Traffic>,
    /// Own metadata, as `PUT /v1.0/metadata` leaves it.
    pub(crate) metadata: MetadataStore,
    /// Ends the process on request.
    pub(crate) shutdown: ShutdownHandle,
    /// What was decided about calls.
    pub(crate) decisions: Arc<Decisions>,
    /// Spans that have ended.
    pub(crate) spans: Arc<Queue>,
    /// Series of this process.
    pub(crate) metrics: Arc<Metrics>,
    /// Time.
    pub(crate) clock: Clock,
}

/// One per data thread.
pub(crate) struct Worker {
    /// Of the process.
    pub(crate) shared: Arc<Shared>,
    /// Pooled connections to other sidecars.
    pub(crate) peers: Peers,
    /// The app; `None` without an app port.
    pub(crate) app: Option<AppChannel>,
    /// Apps that were found a moment ago.
    pub(crate) known: KnownApps,
    /// Calls of peers that a new policy may end.
    pub(crate) in_flight: Arc<InFlight>,
    /// Room for unary calls of peers until they are decided.
    pub(crate) unread: Unread,
    /// What this sidecar says of itself to peers and apps.
    pub(crate) stamp: Stamp,
    /// What is told of decisions.
    pub(crate) decisions: Arc<Recorder>,
    /// Client of external targets.
    pub(crate) external: External,
}

impl Shared {
    /// The state in force now.
    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.borrow())
    }
}
