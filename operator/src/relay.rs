//! A replica that does not lead tells the one that does what its sidecars acknowledge.
//!
//! Owns the connection to the leader, whose address stands in the lease and whose identity must be the operator's
//! own, and its end when another one leads. Everything is told anew on each connection; nothing is kept for it, so
//! that a leader that is away costs nothing.

use crate::lease::Leadership;
use crate::reconcile::access::SCOPE;
use ironside_chassis::tasks::Group;
use ironside_chassis::{Clock, Tick};
use ironside_discovery::relay::{Relay, requests};
use ironside_discovery::{Cursor, Discovery, OpenError};
use ironside_identity::SpiffeId;
use ironside_transport::{ConnectError, TlsClient};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Dialling, handshake and the opening of the stream take no longer; nor does saying one thing.
const LIMIT: Duration = Duration::from_secs(10);
/// Pause after a stream that ended.
const PAUSE: Duration = Duration::from_secs(1);
/// A leader that gives no sign of life for so long is given up.
const SILENCE: Duration = Duration::from_secs(20);
/// Changes within so long are told at once.
const COALESCE: Duration = Duration::from_millis(50);
/// How often counts are told.
const SUM: Duration = Duration::from_secs(30);

/// What the task is made with.
pub(crate) struct Follower {
    pub(crate) discovery: Discovery,
    pub(crate) tls: Arc<TlsClient>,
    /// Who the leader must be: what this replica is.
    pub(crate) own: SpiffeId,
    /// Name of this replica.
    pub(crate) instance: Arc<str>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) connections: Group,
    pub(crate) clock: Clock,
}

/// Why nothing is told at present.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("dial: {0}")]
    Dial(#[from] std::io::Error),
    #[error("{0}")]
    Handshake(#[from] ConnectError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{:?}: {}", .0.code(), .0.message())]
    Refused(#[from] Box<tonic::Status>),
    #[error("it has ended the stream")]
    Closed,
    #[error("no answer within {LIMIT:?}")]
    Timeout,
    #[error("no sign of life for {SILENCE:?}")]
    Silent,
}

// === impl Follower ===

impl Follower {
    /// Works until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(self) {
        let mut leadership = self.leadership.clone();
        let mut told = None;
        loop {
            let leader = leadership.wait_for(|held| held.leader_address.is_some());
            // An error is the end of the process.
            let Ok(address) = leader.await.map(|held| held.leader_address.clone()) else {
                return;
            };
            let address = address.unwrap_or_default();
            let changed = async {
                let is_other = |held: &Leadership| held.leader_address.as_ref() != Some(&address);
                // An error is the end of the process.
                drop(leadership.wait_for(is_other).await);
            };
            let cause = tokio::select! {
                () = changed => continue,
                Err(cause) = self.tell(&address) => cause.to_string(),
            };
            if told.as_ref() != Some(&cause) {
                warn!(target: SCOPE, "cannot tell the leading replica at {address} what sidecars acknowledge, trying again: {cause}");
            }
            told = Some(cause);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Tells everything, and then what is new, until something is wrong.
    async fn tell(&self, address: &str) -> Result<std::convert::Infallible, Ended> {
        let opening = tokio::time::timeout(LIMIT, Box::pin(self.open(address)));
        let mut relay = opening.await.map_err(|_elapsed| Ended::Timeout)??;
        info!(target: SCOPE, "telling the leading replica at {address} what sidecars acknowledge");
        let mut sessions = self.discovery.sessions();
        sessions.mark_changed();
        let mut cursor = Cursor::default();
        let mut sums = tokio::time::interval(SUM);
        let mut heard = self.clock.monotonic();
        loop {
            tokio::select! {
                changed = sessions.changed() => {
                    changed.map_err(|_closed| Ended::Closed)?;
                    tokio::time::sleep(COALESCE).await;
                    self.say(&relay, &mut cursor, Sums::Left).await?;
                }
                _ = sums.tick() => self.say(&relay, &mut cursor, Sums::Told).await?,
                response = relay.next() => match response.map_err(Box::new)? {
                    Some(_sign) => heard = self.clock.monotonic(),
                    None => return Err(Ended::Closed),
                },
                () = silence(&self.clock, heard) => return Err(Ended::Silent),
            }
        }
    }

    async fn open(&self, address: &str) -> Result<Relay, Ended> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let stream = self.tls.connect_control_plane(tcp, &self.own).await?;
        Ok(Relay::open(stream, address, self.connections.clone()).await?)
    }

    async fn say(&self, relay: &Relay, cursor: &mut Cursor, sums: Sums) -> Result<(), Ended> {
        let last_hour = (sums == Sums::Told).then(|| self.discovery.last_hour());
        let news = self.discovery.news(cursor);
        if news.is_empty() && last_hour.is_none() {
            return Ok(());
        }
        debug!(target: SCOPE, "telling of {} sidecars, and of {} that left", news.sidecars.len(), news.gone.len());
        for request in requests(&self.instance, news, last_hour) {
            let said = tokio::time::timeout(LIMIT, relay.say(request)).await;
            said.map_err(|_elapsed| Ended::Timeout)?
                .map_err(|_gone| Ended::Closed)?;
        }
        Ok(())
    }
}

/// Whether counts are told, too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sums {
    Told,
    Left,
}

async fn silence(clock: &Clock, heard: Tick) {
    let quiet = clock.monotonic() - heard;
    tokio::time::sleep(SILENCE.saturating_sub(quiet)).await;
}
