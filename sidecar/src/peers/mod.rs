//! Pooled connections to other sidecars: one HTTP/2 connection per address and expected identity.
//!
//! Owns who may share a connection and until when. The key holds the identity that the peer must prove, so a
//! connection verified for one app never carries a call for another (K088). A renewed own SVID opens a new
//! generation: new calls dial again, streams under way stay where they are. A connection with open streams
//! outlives its peer's certificate only while a valid one of the same SPIFFE ID was verified elsewhere (K086):
//! [`verified::VerifiedPeers`] is the memory of that. Stage 13, `connect`.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use http::{Request, Response};
use ironside_chassis::{
    clock::{Clock, Tick},
    tasks::Group,
};
use ironside_identity::{AppId, Namespace, SpiffeId, TrustBundle, VerifiedPeer};
use ironside_resolution::Authority;
use ironside_transport::{ConnectError, ExpectedPeer, IdentityRx, TlsClient};
use tokio::net::TcpStream;

pub(crate) mod connection;
pub(crate) mod severable;
pub(crate) mod verified;

use connection::{Activity, Connection, Dialled, NOT_HTTP2, SendError};
use verified::VerifiedPeers;

use crate::body::Body;

/// Who is expected where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PeerKey {
    /// Address of the internal port.
    pub(crate) authority: Authority,
    /// Namespace that the peer must prove.
    pub(crate) namespace: Namespace,
    /// App ID that the peer must prove.
    pub(crate) app_id: AppId,
}

/// Why no connection came about; the texts are those that callers of the reference see.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DialError {
    /// TCP.
    #[error(
        "connection error: desc = \"transport: Error while dialing: dial tcp {authority}: {cause}\""
    )]
    Tcp {
        /// Where.
        authority: Authority,
        /// Why.
        cause: String,
    },
    /// TLS, or the peer's identity.
    #[error("connection error: desc = \"transport: authentication handshake failed: {}\"", cause.replace('"', "\\\""))]
    Tls {
        /// Why.
        cause: String,
    },
    /// Our own certificate has run out: no peer would believe it, and no other try would change that (O-C5).
    #[error("connection error: desc = \"transport: authentication handshake failed: {cause}\"")]
    OwnExpired {
        /// What to tell.
        cause: String,
    },
    /// HTTP/2.
    #[error("connection error: desc = \"error reading server preface: {cause}\"")]
    Preface {
        /// Why.
        cause: String,
    },
}

/// Why a request to a peer got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The peer did nothing with it.
    #[error("error reading from server: {0}")]
    Unsent(String),
    /// The connection died before the peer had said a word on it.
    #[error("connection error: desc = \"error reading server preface: EOF\"")]
    Silent,
    /// It may have arrived.
    #[error("error reading from server: {0}")]
    Lost(String),
    /// It arrived, and the answer is more than is taken: it would be again, and the peer is well.
    #[error("error reading from server: {0}")]
    Unfit(String),
}

/// Bound of one dial: TCP, TLS and HTTP/2 together.
const DIAL_LIMIT: Duration = Duration::from_secs(5);

/// The pool of one data worker.
pub(crate) struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Mutex<HashMap<PeerKey, Arc<Slot>>>,
    tls: Option<TlsClient>,
    identity: Option<IdentityRx>,
    verified: VerifiedPeers,
    clock: Clock,
    tasks: Group,
    idle: Duration,
    left: Left,
}

/// Told of an address whose sidecar ended its connection: it leaves, or had nothing to do for long.
pub(crate) type Left = Box<dyn Fn(&Authority) + Send + Sync>;

/// How a connection's own task learns which one it is.
///
/// The streams outlive the pool's hold on their connection, so they are counted by themselves.
type Told = tokio::sync::oneshot::Receiver<(Weak<Connection>, Arc<Activity>)>;

/// One key's connection; the lock makes concurrent callers share one dial.
#[derive(Default)]
struct Slot(tokio::sync::Mutex<Held>);

/// What a slot holds.
#[derive(Default)]
struct Held {
    connection: Option<Arc<Connection>>,
    /// When the last dial failed and why: those who waited for it share its outcome.
    failed: Option<(Tick, DialError)>,
}

/// How much of a connection's last stretch is left when a busy one dials its successor: a tenth of what was left
/// at the handshake, at least this.
const REFRESH_FLOOR: Duration = Duration::from_secs(3);

impl Peers {
    /// An empty pool; `tls` is `None` while mTLS is off.
    pub(crate) fn new(
        tls: Option<(TlsClient, IdentityRx)>,
        verified: VerifiedPeers,
        clock: Clock,
        tasks: Group,
        idle: Duration,
        left: Left,
    ) -> Self {
        let (tls, identity) = tls.unzip();
        Self {
            inner: Arc::new(Inner {
                pool: Mutex::default(),
                tls,
                identity,
                verified,
                clock,
                tasks,
                idle,
                left,
            }),
        }
    }

    /// Sends a request to a peer. One that never left a pooled connection goes out once more over a new one.
    ///
    /// # Errors
    /// [`PeerError`] says whether the request can have arrived.
    pub(crate) async fn send(
        &self,
        key: &PeerKey,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, PeerError> {
        let mut last = String::new();
        for _ in 0..2 {
            let connection = self.inner.connection(key).await?;
            // One stream that fails says nothing of the others: a connection that is of no more use is closed
            // by itself, and the pool sees that.
            let failed = match connection.send(request).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            match failed {
                SendError::Unsent(unsent, cause) => {
                    self.inner.retire(key, &Arc::downgrade(&connection));
                    request = *unsent;
                    last = cause;
                }
                SendError::Refused(cause) if cause.contains(NOT_HTTP2) => {
                    tracing::warn!(
                        target: "dapr.runtime.grpc.internal",
                        "{} does not speak plaintext HTTP/2: is mTLS on there and off here?",
                        key.authority
                    );
                    let cause = "EOF".to_owned();
                    return Err(DialError::Preface { cause }.into());
                }
                SendError::Refused(cause) => return Err(PeerError::Unsent(cause)),
                SendError::Lost(_) if !connection.has_answered() => return Err(PeerError::Silent),
                SendError::Lost(cause) => return Err(PeerError::Lost(cause)),
                SendError::Unfit(cause) => return Err(PeerError::Unfit(cause)),
            }
        }
        Err(PeerError::Unsent(last))
    }

    /// Makes sure that there is a connection, so that a request is not spent on a dial.
    ///
    /// # Errors
    /// [`DialError`].
    pub(crate) async fn ready(&self, key: &PeerKey) -> Result<(), DialError> {
        self.inner.connection(key).await.map(drop)
    }

    /// Closes what has been idle for too long; returns how many connections went, by authority.
    pub(crate) fn sweep(&self) -> Vec<(Authority, usize)> {
        let now = self.inner.clock.monotonic();
        let mut closed: HashMap<Authority, usize> = HashMap::new();
        self.inner.lock().retain(|key, slot| {
            let Ok(mut held) = slot.0.try_lock() else {
                return true;
            };
            match held.connection.as_ref() {
                Some(connection) if connection.is_closed() => false,
                Some(connection)
                    if connection
                        .idle_for(now)
                        .is_some_and(|idle| idle >= self.inner.idle) =>
                {
                    held.connection = None;
                    *closed.entry(key.authority.clone()).or_default() += 1;
                    false
                }
                Some(_) => true,
                None => false,
            }
        });
        closed.into_iter().collect()
    }

    /// Lets go of every connection; those with streams end with the last of them.
    pub(crate) fn close(&self) {
        self.inner.lock().clear();
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PeerKey, Arc<Slot>>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generation(&self) -> u64 {
        let published = self
            .identity
            .as_ref()
            .and_then(|rx| rx.borrow().as_ref().map(|identity| identity.generation));
        published.unwrap_or_default()
    }

    async fn connection(self: &Arc<Self>, key: &PeerKey) -> Result<Arc<Connection>, DialError> {
        let slot = Arc::clone(self.lock().entry(key.clone()).or_default());
        let asked = self.clock.monotonic();
        let mut held = slot.0.lock().await;
        if let Some(connection) = held.connection.as_ref()
            && connection.is_fit(self.generation(), self.clock.now())
        {
            return Ok(Arc::clone(connection));
        }
        if held
            .connection
            .as_ref()
            .is_some_and(|connection| connection.is_closed())
        {
            (self.left)(&key.authority);
        }
        if let Some((_, why)) = held.failed.as_ref().filter(|(when, _)| *when > asked) {
            return Err(why.clone());
        }
        held.connection = None;
        // In memory of its own: most calls find a connection.
        let dialled = tokio::time::timeout(DIAL_LIMIT, Box::pin(self.dial(key)))
            .await
            .unwrap_or_else(|_elapsed| {
                Err(DialError::Tcp {
                    authority: key.authority.clone(),
                    cause: "i/o timeout".to_owned(),
                })
            });
        let connection = dialled.inspect_err(|why| {
            held.failed = Some((self.clock.monotonic(), why.clone()));
        })?;
        held.failed = None;
        held.connection = Some(Arc::clone(&connection));
        Ok(connection)
    }

    async fn dial(self: &Arc<Self>, key: &PeerKey) -> Result<Arc<Connection>, DialError> {
        let tcp = dial_tcp(&key.authority).await?;
        let Some(tls) = &self.tls else {
            let dialled = Dialled {
                io: tcp,
                peer: None,
                generation: 0,
            };
            return Connection::open(dialled, &self.clock, &self.tasks, std::future::pending())
                .await;
        };
        let expected = ExpectedPeer {
            namespace: key.namespace.clone(),
            app_id: key.app_id.clone(),
        };
        let (io, peer, generation) = tls.connect(tcp, &expected).await.map_err(|error| {
            let cause = error.to_string();
            if matches!(error, ConnectError::OwnExpired { .. }) {
                return DialError::OwnExpired { cause };
            }
            DialError::Tls { cause }
        })?;
        self.verified.record(&peer, self.clock.now());
        tracing::debug!(target: "dapr.runtime.grpc.internal", { peer.id = %peer.id }, "peer verified");
        let shown = peer.clone();
        let dialled = Dialled {
            io,
            peer: Some(peer),
            generation,
        };
        let (tell, told) = tokio::sync::oneshot::channel();
        let expiry = Arc::clone(self).expiry(key.clone(), shown, told);
        let connection = Connection::open(dialled, &self.clock, &self.tasks, expiry).await?;
        // The receiver lives in the connection's own task, which may already have ended.
        drop(tell.send((Arc::downgrade(&connection), connection.activity())));
        Ok(connection)
    }

    /// [`Self::until_expired`] with a type of its own: it dials in its turn.
    fn expiry(
        self: Arc<Self>,
        key: PeerKey,
        shown: VerifiedPeer,
        told: Told,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.until_expired(key, shown, told))
    }

    /// Ends when a connection must close because of its peer's certificate: it has run out, or the trust anchors
    /// have changed so that it holds no more (O-C8).
    ///
    /// Before that, while streams are open, it dials a successor: that verifies the peer's renewed certificate,
    /// and shows the peer ours.
    async fn until_expired(self: Arc<Self>, key: PeerKey, shown: VerifiedPeer, told: Told) {
        let Ok((connection, activity)) = told.await else {
            return std::future::pending().await;
        };
        let mut not_after = shown.not_after;
        let mut own = self.identity.clone();
        loop {
            let left = left_until(not_after, &self.clock);
            let margin = (left / 10).max(REFRESH_FLOOR).min(left);
            tokio::select! {
                () = tokio::time::sleep(left.saturating_sub(margin)) => {}
                () = changed(&mut own) => {
                    let is_valid = left_until(shown.not_after, &self.clock) > Duration::ZERO;
                    if is_valid && !self.still_trusts(&shown) {
                        self.retire(&key, &connection);
                        return;
                    }
                }
            }
            if activity.streams() == 0 {
                if left_until(not_after, &self.clock) > margin {
                    continue;
                }
                // No new calls; one that began in this instant is met below.
                self.retire(&key, &connection);
                tokio::time::sleep(left_until(not_after, &self.clock)).await;
                if activity.streams() == 0 {
                    return;
                }
            }
            // A failure to dial is met at the expiry below.
            let successor = self.successor_apart(&key, &connection, not_after).await;
            if let Err(error) = &successor {
                tracing::warn!(
                    target: "dapr.runtime.grpc.internal",
                    "no successor for the connection to {}, whose peer's certificate expires: {error}",
                    key.app_id
                );
            }
            if !self.still_trusts(&shown) {
                return;
            }
            let left = left_until(not_after, &self.clock);
            if left > margin && successor.is_ok() {
                continue;
            }
            tokio::time::sleep(left).await;
            let id = successor
                .ok()
                .and_then(|next| next.peer().map(|peer| peer.id.clone()));
            match id.and_then(|id| self.proved_until(&id)) {
                Some(later) if later > self.clock.now() && later > not_after => not_after = later,
                _ => return,
            }
        }
    }

    fn still_trusts(&self, peer: &VerifiedPeer) -> bool {
        let anchors = self.anchors();
        anchors.is_none_or(|anchors| self.verified.still_trusts(peer, &anchors, self.clock.now()))
    }

    fn proved_until(&self, id: &SpiffeId) -> Option<SystemTime> {
        let anchors = self.anchors()?;
        self.verified.valid_until(id, &anchors, self.clock.now())
    }

    fn anchors(&self) -> Option<Arc<TrustBundle>> {
        let identity = self.identity.as_ref()?.borrow();
        identity.as_ref().map(|own| Arc::clone(&own.bundle))
    }
}

impl Inner {
    /// [`Self::successor`] in a task of its own: the connection that asks may end meanwhile, with its last stream,
    /// and must not break a handshake off that way.
    async fn successor_apart(
        self: &Arc<Self>,
        key: &PeerKey,
        old: &Weak<Connection>,
        not_after: SystemTime,
    ) -> Result<Arc<Connection>, DialError> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (pool, its_key, old) = (Arc::clone(self), key.clone(), Weak::clone(old));
        self.tasks.spawn(async move {
            let successor = pool.successor(&its_key, &old, not_after).await;
            // Nobody waits any more; the pool has it.
            drop(tell.send(successor));
        });
        told.await.unwrap_or_else(|_stopped| {
            Err(DialError::Tcp {
                authority: key.authority.clone(),
                cause: "operation was canceled".to_owned(),
            })
        })
    }

    /// A connection whose peer showed a certificate that outlives `not_after`, dialled anew if the pool has none.
    async fn successor(
        self: &Arc<Self>,
        key: &PeerKey,
        old: &Weak<Connection>,
        not_after: SystemTime,
    ) -> Result<Arc<Connection>, DialError> {
        self.retire(key, old);
        let pooled = self.connection(key).await?;
        if pooled.peer().is_none_or(|peer| peer.not_after > not_after) {
            return Ok(pooled);
        }
        // Dialled before the peer renewed.
        self.retire(key, &Arc::downgrade(&pooled));
        self.connection(key).await
    }

    /// Takes a connection out of the pool; its streams go on.
    fn retire(&self, key: &PeerKey, connection: &Weak<Connection>) {
        let slot = self.lock().get(key).cloned();
        let Some(slot) = slot else { return };
        if let Ok(mut held) = slot.0.try_lock()
            && held
                .connection
                .as_ref()
                .is_some_and(|pooled| std::ptr::eq(Arc::as_ptr(pooled), connection.as_ptr()))
        {
            held.connection = None;
        }
    }
}

/// Time until a certificate expires; none if it has.
fn left_until(not_after: SystemTime, clock: &Clock) -> Duration {
    not_after.duration_since(clock.now()).unwrap_or_default()
}

/// Waits for a renewed own identity; for ever if there is none.
async fn changed(own: &mut Option<IdentityRx>) {
    match own {
        Some(rx) => {
            if rx.changed().await.is_err() {
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}

/// Opens a TCP connection without delay of small writes.
pub(crate) async fn dial_tcp(authority: &Authority) -> Result<TcpStream, DialError> {
    let failed = |error: std::io::Error| DialError::Tcp {
        authority: authority.clone(),
        cause: io_text(&error),
    };
    let stream = TcpStream::connect(authority.as_str())
        .await
        .map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// An I/O error in the words of the reference.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds are open-ended; the rest keep the system's text"
)]
pub(crate) fn io_text(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        ErrorKind::TimedOut => "i/o timeout".to_owned(),
        ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
        ErrorKind::UnexpectedEof => "EOF".to_owned(),
        ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        _ => error.to_string(),
    }
}
