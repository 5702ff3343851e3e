//! Other replicas of the operator tell the one that leads what their sidecars acknowledge.
//!
//! Owns who may: an operator of this control plane and nobody else, and only while this replica leads. A replica
//! that comes back replaces what it said before. What is told goes to the task that keeps statuses, which sets the
//! pace: a stream is read no faster than that.

use crate::lease::Leadership;
use crate::reconcile::access::{Relayed, SCOPE};
use futures_util::{Stream, stream};
use ironside_chassis::tasks::Group;
use ironside_discovery::relay::{MAX_REQUEST, read};
use ironside_identity::{SpiffeId, VerifiedPeer};
use ironside_proto::discovery::access_control_relay_server::{
    AccessControlRelay, AccessControlRelayServer,
};
use ironside_proto::discovery::{RelayRequest, RelayResponse};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info};

/// Time between two signs of life.
const BEAT: Duration = Duration::from_secs(5);

/// The service. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Relay(Arc<Shared>);

struct Shared {
    own: SpiffeId,
    leadership: watch::Receiver<Leadership>,
    told: mpsc::Sender<Relayed>,
    streams: Group,
    stop: CancellationToken,
    next: AtomicU64,
    /// The stream that speaks for a replica, by its name.
    speaking: Mutex<HashMap<String, Arc<str>>>,
}

/// One stream.
struct Conversation {
    shared: Arc<Shared>,
    number: u64,
    /// The name that the replica gave itself, and the one that it has here.
    replica: Option<(String, Arc<str>)>,
}

// === impl Relay ===

impl Relay {
    /// Listens to operators that are `own`, while this replica leads.
    pub(crate) fn new(
        own: SpiffeId,
        leadership: watch::Receiver<Leadership>,
        told: mpsc::Sender<Relayed>,
        streams: Group,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            own,
            leadership,
            told,
            streams,
            stop,
            next: AtomicU64::new(0),
            speaking: Mutex::default(),
        }))
    }

    pub(crate) fn service(&self) -> AccessControlRelayServer<Self> {
        AccessControlRelayServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST)
    }
}

#[tonic::async_trait]
impl AccessControlRelay for Relay {
    type RelayStream = Pin<Box<dyn Stream<Item = Result<RelayResponse, Status>> + Send>>;

    async fn relay(
        &self,
        request: Request<Streaming<RelayRequest>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        let peer = request.extensions().get::<VerifiedPeer>();
        if peer.is_none_or(|peer| peer.id != self.0.own) {
            return Err(Status::permission_denied(
                "only operators of this control plane are listened to",
            ));
        }
        if !self.0.leadership.borrow().is_leader {
            return Err(not_leading());
        }
        let (out, mut responses) = mpsc::channel(1);
        let conversation = Conversation {
            number: self.0.next.fetch_add(1, Ordering::Relaxed),
            shared: Arc::clone(&self.0),
            replica: None,
        };
        self.0
            .streams
            .spawn(conversation.run(request.into_inner(), out));
        let responses = stream::poll_fn(move |cx| responses.poll_recv(cx));
        Ok(Response::new(Box::pin(responses)))
    }
}

/// Waits until this replica leads no longer.
async fn follows(leadership: &mut watch::Receiver<Leadership>) {
    // An error is the end of the process.
    drop(leadership.wait_for(|held| !held.is_leader).await);
}

fn not_leading() -> Status {
    Status::failed_precondition("this replica does not lead")
}

// === impl Conversation ===

impl Conversation {
    async fn run(
        mut self,
        requests: Streaming<RelayRequest>,
        out: mpsc::Sender<Result<RelayResponse, Status>>,
    ) {
        let stop = self.shared.stop.clone();
        let ended = tokio::select! {
            () = stop.cancelled() => Err(Status::unavailable("the operator is shutting down")),
            ended = self.listen(requests, &out) => ended,
        };
        if let Err(status) = ended {
            debug!(target: SCOPE, "the stream of another replica ends: {}", status.message());
            // Who does not read will not read this either.
            let _full = out.try_send(Err(status));
        }
        if let Some((name, replica)) = self.replica {
            self.shared.ends(&name, &replica);
            // Nobody listens any more at the end of the process.
            let _ended = self.shared.told.send(Relayed::Lost(replica)).await;
        }
    }

    async fn listen(
        &mut self,
        mut requests: Streaming<RelayRequest>,
        out: &mpsc::Sender<Result<RelayResponse, Status>>,
    ) -> Result<(), Status> {
        let mut leadership = self.shared.leadership.clone();
        let mut beat = tokio::time::interval(BEAT);
        loop {
            tokio::select! {
                () = out.closed() => return Ok(()),
                request = requests.message() => match request? {
                    Some(request) => self.hear(request).await?,
                    None => return Ok(()),
                },
                () = follows(&mut leadership) => return Err(not_leading()),
                _ = beat.tick() => {
                    // One that waits to be read is as good.
                    let _full = out.try_send(Ok(RelayResponse {}));
                }
            }
        }
    }

    async fn hear(&mut self, request: RelayRequest) -> Result<(), Status> {
        let told = read(request)?;
        let replica = match &self.replica {
            Some((name, replica)) if self.shared.is_speaking(name, replica) => Arc::clone(replica),
            Some(_) => return Err(Status::aborted("another stream speaks for this replica")),
            None if told.replica.is_empty() => {
                return Err(Status::invalid_argument(
                    "the first request must name the replica",
                ));
            }
            None => self.begin(told.replica).await,
        };
        let told = Relayed::Told {
            replica,
            news: told.news,
            last_hour: told.last_hour,
        };
        let sent = self.shared.told.send(told).await;
        sent.map_err(|_closed| Status::unavailable("the operator is shutting down"))
    }

    async fn begin(&mut self, name: String) -> Arc<str> {
        let replica: Arc<str> = format!("{name}#{}", self.number).into();
        info!(target: SCOPE, "replica {name} tells what its sidecars acknowledge");
        let before = self
            .shared
            .speaking()
            .insert(name.clone(), Arc::clone(&replica));
        self.replica = Some((name, Arc::clone(&replica)));
        if let Some(before) = before {
            // Nobody listens any more at the end of the process.
            let _ended = self.shared.told.send(Relayed::Lost(before)).await;
        }
        replica
    }
}

// === impl Shared ===

impl Shared {
    fn speaking(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<str>>> {
        // Every entry is whole.
        self.speaking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_speaking(&self, name: &str, replica: &Arc<str>) -> bool {
        self.speaking().get(name) == Some(replica)
    }

    fn ends(&self, name: &str, replica: &Arc<str>) {
        let mut speaking = self.speaking();
        if speaking.get(name) == Some(replica) {
            speaking.remove(name);
        }
    }
}
