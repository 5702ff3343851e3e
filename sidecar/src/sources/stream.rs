//! Access control from the operator: the stream, kept open, and what of it is in force.
//!
//! Owns the client of security 4.8 and the rules by which doubt stays closed (4.6): whole snapshots only, the
//! last good one for as long as the operator is away, nothing before the first. What a snapshot means is
//! `adopt.rs`, pure; who compiles and publishes it is the reloader, which this task tells and waits for. One
//! task, one timer; identities are proved by the transport crate before a byte is said.

use std::{pin::Pin, sync::Arc, time::Duration};

use ironside_chassis::{
    Clock, Tick,
    health::Target,
    tasks::{Group, Tasks},
};
use ironside_discovery::{OpenError, PROTOCOL, Watch};
use ironside_identity::{Namespace, SpiffeId, renewal::Backoff};
use ironside_proto::discovery::{Ack, Hello, ObjectError, WatchResponse, watch_request::Request};
use ironside_telemetry::metrics::{Metrics, SourceState};
use ironside_transport::{ConnectError, TlsClient};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, Sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::{debug, error, info, warn};

use super::access::AccessError;
use crate::config::{Demand, StreamConfig};

mod adopt;
mod tally;
mod vouch;

pub(crate) use adopt::Held;
pub(crate) use tally::Tally;

use adopt::{Adopted, Refusal};
use vouch::Vouch;

/// Scope of these lines.
const LOG: &str = "dapr.runtime.accesscontrol";
/// A stream that is silent for three heartbeats is given up (security 4.8).
const SILENCE: Duration = Duration::from_secs(3 * ironside_discovery::HEARTBEAT.as_secs());
/// Dialling, handshake and the opening of the stream take no longer.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// How often ages are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Least time between two reports of counts.
const STATS_GAP: Duration = Duration::from_secs(60);
/// Bytes of the machine's or pod's name in the instance; a number follows.
const MAX_NAME: usize = 100;

/// What the stream says at present.
#[derive(Debug, Clone, Default)]
pub(crate) enum Streamed {
    /// There is no stream: files alone say who may call.
    #[default]
    Absent,
    /// Nothing came yet: peers are refused (facts F1, F2).
    Pending,
    /// The operator has no such service, and none is required (fact F3).
    Unsupported,
    /// A snapshot.
    Held(Arc<Held>),
    /// A snapshot that nobody has vouched for in too long (fact F5).
    Expired(Arc<Held>),
}

/// A new state for whoever publishes rules.
#[derive(Debug)]
pub(crate) struct Update {
    /// The state.
    pub(crate) state: Streamed,
    /// Told once it is in force, or why it is not.
    pub(crate) applied: oneshot::Sender<Result<(), AccessError>>,
}

/// What the task is made with.
pub(crate) struct Parts {
    /// Whom to ask, and how urgently.
    pub(crate) config: StreamConfig,
    /// Namespace of the own app: objects of others are never in force (fact M10).
    pub(crate) namespace: Namespace,
    /// Proves who is there.
    pub(crate) tls: Arc<TlsClient>,
    /// Where new states go.
    pub(crate) updates: mpsc::Sender<Update>,
    /// Readiness: not before the first snapshot.
    pub(crate) target: Target,
    /// Counts for the operator.
    pub(crate) tally: Arc<Tally>,
    /// Series.
    pub(crate) metrics: Arc<Metrics>,
    /// Time.
    pub(crate) clock: Clock,
}

/// The task.
pub(crate) struct Source {
    parts: Parts,
    instance: String,
    connections: Group,
    link: Link,
    backoff: Backoff,
    rng: SmallRng,
    adopted: Adopted,
    /// Number of the last snapshot of this stream.
    number: u64,
    /// When this stream last said anything, or was opened.
    spoke: Tick,
    vouch: Vouch,
    is_unsupported: bool,
    counted: Option<Tick>,
    /// The last complaint, so that each is said once.
    told: Option<String>,
}

/// The connection, whatever becomes of it.
enum Link {
    /// Nothing is said; a stream that was left may still send what it was told last.
    Pausing(Pin<Box<Sleep>>, Option<Watch>),
    Dialing(Pin<Box<dyn Future<Output = Result<Watch, DialError>> + Send>>),
    Up(Watch),
}

enum Event {
    Dial,
    Dialed(Result<Watch, DialError>),
    Response(Result<Option<WatchResponse>, Status>),
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("dial: {0}")]
    Dial(#[from] std::io::Error),
    #[error("{cause} (expected {expected:?})")]
    Handshake {
        expected: SpiffeId,
        cause: Box<ConnectError>,
    },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("no answer within {DIAL_LIMIT:?}")]
    Timeout,
}

// === impl Streamed ===

impl Streamed {
    /// The snapshot, in force or too old for it.
    pub(crate) fn held(&self) -> Option<&Held> {
        match self {
            Self::Held(held) | Self::Expired(held) => Some(held),
            Self::Absent | Self::Pending | Self::Unsupported => None,
        }
    }
}

// === impl Source ===

impl Source {
    /// Prepares the task; connections belong to `tasks`.
    pub(crate) fn new(parts: Parts, tasks: &Tasks) -> Self {
        let mut rng = SmallRng::from_os_rng();
        let name: String = parts.config.name.chars().take(MAX_NAME).collect();
        Self {
            instance: format!("{name}-{:08x}", rng.random::<u32>()),
            connections: tasks.group("access-control-connection"),
            link: Link::Pausing(Box::pin(tokio::time::sleep(Duration::ZERO)), None),
            backoff: Backoff::stream(),
            adopted: Adopted::new(parts.namespace.clone()),
            number: 0,
            spoke: parts.clock.monotonic(),
            vouch: Vouch::new(parts.config.max_staleness),
            is_unsupported: false,
            counted: None,
            told: None,
            rng,
            parts,
        }
    }

    /// Keeps the stream open until `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.measure();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = self.link.next() => event,
                _ = looks.tick() => {
                    self.look().await;
                    continue;
                }
            };
            match event {
                Event::Dial => self.dial(),
                Event::Dialed(Ok(watch)) => self.opened(watch),
                Event::Dialed(Err(DialError::Open(OpenError::Refused(status)))) => {
                    self.refused(&status).await;
                }
                Event::Dialed(Err(cause)) => self.lost(&cause.to_string()),
                Event::Response(Ok(Some(response))) => self.response(response).await,
                Event::Response(Ok(None)) => self.lost("the operator ended the stream"),
                Event::Response(Err(status)) => self.refused(&status).await,
            }
        }
    }

    fn dial(&mut self) {
        let hello = Hello {
            protocol: PROTOCOL,
            instance: self.instance.clone(),
            seen: self.adopted.seen(),
        };
        let StreamConfig {
            address, operator, ..
        } = self.parts.config.clone();
        let (tls, connections) = (Arc::clone(&self.parts.tls), self.connections.clone());
        let dialing = dial(tls, address, operator, connections, hello);
        self.link = Link::Dialing(Box::pin(dialing));
    }

    fn opened(&mut self, watch: Watch) {
        debug!(target: LOG, "watching access control at {}", self.parts.config.address);
        self.number = 0;
        self.vouch.opened();
        self.spoke = self.parts.clock.monotonic();
        self.link = Link::Up(watch);
    }

    /// The operator said no, or ended the stream with a status.
    async fn refused(&mut self, status: &Status) {
        if status.code() != Code::Unimplemented || self.adopted.has_arrived() {
            return self.lost(&format!("{:?}: {}", status.code(), status.message()));
        }
        match self.parts.config.demand {
            Demand::Required => self.lost(
                "it does not offer access control, which is required: calls are refused until it does; upgrade it, or start with --access-control=auto",
            ),
            Demand::Auto => {
                if !self.is_unsupported {
                    self.is_unsupported = true;
                    // Whoever cannot put it in force says so.
                    let _said = self.publish(Streamed::Unsupported).await;
                }
                self.lost(
                    "it does not offer access control: only the Configuration and files decide who may call",
                );
            }
        }
    }

    /// There is no stream; another is opened after a pause.
    fn lost(&mut self, cause: &str) {
        let pause = self.backoff.pause(&mut self.rng);
        let address = &self.parts.config.address;
        if self.told.as_deref() == Some(cause) {
            debug!(target: LOG, "the operator at {address}: {cause}");
        } else {
            let rest = if self.adopted.has_arrived() {
                "the last snapshot stays in force"
            } else {
                "no snapshot has arrived"
            };
            warn!(
                target: LOG,
                "cannot watch access control at the operator {address}: {cause}; {rest}, trying again in {pause:.1?}"
            );
            self.told = Some(cause.to_owned());
        }
        self.link = Link::Pausing(Box::pin(tokio::time::sleep(pause)), None);
        self.measure();
    }

    /// Leaves a stream whose snapshot was refused: the refusal has yet to get through.
    fn leave(&mut self, refusal: &Refusal) {
        let pause = Link::Pausing(Box::pin(tokio::time::sleep(Duration::ZERO)), None);
        let left = std::mem::replace(&mut self.link, pause);
        self.lost(&refusal.to_string());
        if let (Link::Pausing(_, last), Link::Up(watch)) = (&mut self.link, left) {
            *last = Some(watch);
        }
    }

    async fn response(&mut self, response: WatchResponse) {
        let now = self.parts.clock.monotonic();
        self.spoke = now;
        if response.snapshot == 0 {
            if self.vouch.heartbeat(now) {
                self.republish().await;
            }
            return self.age(now);
        }
        let number = response.snapshot;
        let taken = if number > self.number {
            self.adopted.take(&response)
        } else {
            Err(Refusal::Number {
                got: number,
                last: self.number,
            })
        };
        match taken {
            Ok((adopted, errors)) => {
                self.adopt(adopted, errors, &response).await;
                self.age(now);
            }
            Err(refusal) => {
                error!(target: LOG, "a snapshot of access control is refused as a whole: {refusal}; the old one stays in force");
                self.ack(number, vec![refusal.report()]);
                // A server that lags or miscounts will not get better on this stream.
                if refusal.ends_stream() {
                    self.leave(&refusal);
                }
            }
        }
    }

    async fn adopt(
        &mut self,
        adopted: Adopted,
        errors: Vec<ObjectError>,
        response: &WatchResponse,
    ) {
        let number = response.snapshot;
        for ObjectError {
            uid,
            generation,
            code: _,
            message,
        } in &errors
        {
            error!(
                target: LOG,
                "AccessControl {uid} cannot be used in generation {generation}: {message}; its last good generation stays in force, without one it denies everything in its scope"
            );
        }
        let is_expired = self.vouch.is_expired() && !response.synced;
        if let Err(cause) = self.publish(adopted.streamed(is_expired)).await {
            let report = ObjectError {
                code: "Malformed".to_owned(),
                message: cause.to_string(),
                ..ObjectError::default()
            };
            return self.ack(number, vec![report]);
        }
        if response.synced {
            self.vouch.taken(self.parts.clock.monotonic());
        }
        let was_guarded = self.adopted.guards();
        let is_first = self.number == 0;
        self.adopted = adopted;
        self.number = number;
        self.is_unsupported = false;
        self.measure();
        if was_guarded && !self.adopted.guards() && self.adopted.has_arrived() {
            warn!(target: LOG, "the last AccessControl for this app is gone: callers that the Configuration does not refuse are allowed");
        }
        self.backoff.reset();
        if self.told.take().is_some() || is_first {
            info!(target: LOG, "snapshot {number} of access control is in force");
        }
        self.ack(number, errors);
    }

    /// Answers a snapshot; a server that does not even read that is lost.
    fn ack(&mut self, snapshot: u64, errors: Vec<ObjectError>) {
        let ack = Ack {
            snapshot,
            accepted: errors.is_empty(),
            errors: adopt::abridged(errors),
        };
        self.say(Request::Ack(ack));
    }

    fn say(&mut self, request: Request) {
        let Link::Up(watch) = &self.link else {
            return;
        };
        if let Err(cause) = watch.say(request) {
            self.lost(&cause.to_string());
        }
    }

    /// What is held now, or that nothing is: it was in force before, and is or is not too old.
    async fn republish(&mut self) {
        let state = self.adopted.streamed(self.vouch.is_expired());
        // Whoever cannot put it in force says so.
        let _said = self.publish(state).await;
    }

    /// Has a state put in force, and waits for that: an answer says that it is.
    async fn publish(&mut self, state: Streamed) -> Result<(), AccessError> {
        let is_ready = !matches!(state, Streamed::Pending);
        let (applied, done) = oneshot::channel();
        // Whoever publishes is gone only when the process ends.
        let _ended = self.parts.updates.send(Update { state, applied }).await;
        done.await.unwrap_or(Ok(()))?;
        if is_ready {
            self.parts.target.ready();
        }
        self.measure();
        Ok(())
    }

    /// Once a second: ages, and counts that are due.
    async fn look(&mut self) {
        let now = self.parts.clock.monotonic();
        if matches!(self.link, Link::Up(_)) && now - self.spoke > SILENCE {
            self.lost(&format!("it has been silent for {} s", SILENCE.as_secs()));
        }
        if self.vouch.expires(now) {
            let limit = self.parts.config.max_staleness.unwrap_or_default();
            warn!(
                target: LOG,
                "nothing was heard of the operator for {limit:?}: calls are refused until it is back"
            );
            self.republish().await;
        }
        self.age(now);
        let is_due = self.counted.is_none_or(|at| now - at >= STATS_GAP);
        if is_due
            && matches!(self.link, Link::Up(_))
            && self.adopted.has_arrived()
            && let Some(stats) = self.parts.tally.take(|name| self.adopted.uid_of(name))
        {
            self.counted = Some(now);
            self.say(Request::Stats(stats));
        }
    }

    fn age(&self, now: Tick) {
        if let Some(age) = self.vouch.age(now) {
            self.parts.metrics.access_control_heartbeat(age);
        }
    }

    fn measure(&self) {
        let state = match (&self.link, self.adopted.has_arrived()) {
            _ if self.is_unsupported => SourceState::Unsupported,
            (_, false) => SourceState::Unavailable,
            (Link::Up(_), true) => SourceState::Live,
            (Link::Pausing(..) | Link::Dialing(_), true) => SourceState::Stale,
        };
        self.parts.metrics.access_control_source(state);
    }
}

async fn dial(
    tls: Arc<TlsClient>,
    address: Box<str>,
    operator: SpiffeId,
    connections: Group,
    hello: Hello,
) -> Result<Watch, DialError> {
    let attempt = async {
        let tcp = TcpStream::connect(&*address).await?;
        tcp.set_nodelay(true)?;
        let stream = tls.connect_control_plane(tcp, &operator).await;
        let stream = stream.map_err(|cause| DialError::Handshake {
            expected: operator.clone(),
            cause: Box::new(cause),
        })?;
        Ok(Watch::open(stream, &address, connections, hello).await?)
    };
    let done = tokio::time::timeout(DIAL_LIMIT, Box::pin(attempt)).await;
    done.map_err(|_elapsed| DialError::Timeout)?
}

// === impl Link ===

impl Link {
    /// Waits for what is next; may be dropped and asked again.
    async fn next(&mut self) -> Event {
        match self {
            Self::Pausing(pause, _) => {
                pause.await;
                Event::Dial
            }
            Self::Dialing(dialing) => Event::Dialed(dialing.await),
            Self::Up(watch) => Event::Response(watch.next().await),
        }
    }
}
