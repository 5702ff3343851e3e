//! The gRPC port: mutual TLS in, HTTP/2 on, several services.
//!
//! Owns accepting connections and their bounds, who is at the other end, and which service answers a path. A
//! connection lives no longer than the certificate that was shown on it; at a stop it has [`DRAIN`] to end.

pub(crate) mod api;
pub(crate) mod assigned;
pub(crate) mod authz;
pub(crate) mod relay;
pub(crate) mod secrets;
pub(crate) mod shelf;
pub(crate) mod sources;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ironside_chassis::tasks::Group;
use ironside_chassis::{Clock, Tasks};
use ironside_cluster::{Guest, Guests, Limits};
use ironside_discovery::Discovery;
use ironside_identity::VerifiedPeer;
use ironside_proto::operator::operator_server::OperatorServer;
use ironside_transport::TlsServer;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service as _;
use tracing::{debug, warn};

/// The logger of this part.
pub(crate) const SCOPE: &str = "dapr.operator.api";
/// Connections served at once: one of each sidecar, two while it reconnects.
const MAX_CONNECTIONS: usize = 40_000;
/// Those of them that have not proved yet who they are. Sidecars in the node's network share its address, so an address
/// may have some. Beyond the half, those go whose address has the most: no number of addresses keeps others out.
const STRANGERS: Limits = Limits {
    connections: MAX_CONNECTIONS / 2,
    connections_each: 256,
    bytes: 0,
    bytes_each: 0,
    bytes_least: 0,
};
/// Requests and streams on one connection.
const MAX_STREAMS: u32 = 64;
/// Longest request; all name a namespace and an object.
const MAX_MESSAGE: usize = 64 * 1024;
/// What a connection may send ahead of being read.
const WINDOW: u32 = 256 * 1024;
/// Longest list of request headers.
const MAX_HEADERS: u32 = 16 * 1024;
/// Bytes of answers that may wait on one connection.
const MAX_SEND: usize = 256 * 1024;
/// Silent connections are pinged after this time, and closed if they don't answer in as much.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Time that a connection has to end (kubernetes 3.9: forced after 5 s).
const DRAIN: Duration = Duration::from_secs(4);
/// Pause after a failed accept (no descriptors left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The services of access control, which share the port.
pub(crate) struct AccessControl {
    pub(crate) discovery: Discovery,
    pub(crate) relay: relay::Relay,
}

/// What all connections share.
pub(crate) struct Server {
    tls: TlsServer,
    operator: OperatorServer<api::Api>,
    access: AccessControl,
    slots: Arc<Semaphore>,
    strangers: Guests,
    streams: Group,
    clock: Clock,
    stop: CancellationToken,
}

// === impl Server ===

impl Server {
    /// Makes a server whose connections end when `tasks` is cancelled.
    pub(crate) fn new(
        tls: TlsServer,
        api: api::Api,
        access: AccessControl,
        clock: Clock,
        tasks: &Tasks,
    ) -> Arc<Self> {
        Arc::new(Self {
            tls,
            operator: OperatorServer::new(api).max_decoding_message_size(MAX_MESSAGE),
            access,
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            strangers: Guests::new(STRANGERS),
            streams: tasks.group("grpc-stream"),
            clock,
            stop: tasks.token(),
        })
    }

    /// Accepts connections until the owner's end.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, connections: Group) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = accept(&listener, &self.slots) => accepted,
            };
            match accepted {
                Ok((tcp, from, slot)) => {
                    let Some(stranger) = self.strangers.connect(from.ip()) else {
                        debug!(target: SCOPE, "connection from {from} refused: too many of this address");
                        continue;
                    };
                    let server = Arc::clone(&self);
                    connections.spawn(async move {
                        server.connection(tcp, from, stranger).await;
                        drop(slot);
                    });
                }
                Err(cause) => {
                    warn!(target: SCOPE, err = %cause, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, from: SocketAddr, stranger: Arc<Guest>) {
        let accepted = tokio::select! {
            () = self.stop.cancelled() => return,
            () = stranger.lost() => return,
            accepted = self.tls.accept(tcp) => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(cause) => {
                debug!(target: SCOPE, err = %cause, "connection from {from} refused");
                return;
            }
        };
        drop(stranger);
        let life = peer.not_after.duration_since(self.clock.now());
        let life = life.unwrap_or_default();
        let server = Arc::clone(&self);
        let service =
            service_fn(move |request| Arc::clone(&server).answer(request, peer.clone(), from));
        let connection = http2::Builder::new(self.streams.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .max_send_buf_size(MAX_SEND)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(life) => {}
            ended = connection.as_mut() => return tell_end(ended),
        }
        connection.as_mut().graceful_shutdown();
        if let Ok(ended) = tokio::time::timeout(DRAIN, connection).await {
            tell_end(ended);
        }
    }

    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        peer: VerifiedPeer,
        from: SocketAddr,
    ) -> Result<Response<Body>, Infallible> {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(from);
        let path = request.uri().path();
        let service = path
            .strip_prefix('/')
            .and_then(|path| path.split('/').next());
        match service {
            Some("dapr.proto.operator.v1.Operator") => self.operator.clone().call(request).await,
            Some("accesscontrol.v1.AccessControlDiscovery") => {
                self.access.discovery.service().call(request).await
            }
            Some("accesscontrol.v1.AccessControlRelay") => {
                self.access.relay.service().call(request).await
            }
            other => {
                let text = format!("unknown service {}", other.unwrap_or_default());
                Ok(Status::unimplemented(text).into_http())
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (tcp, from) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    Ok((tcp, from, slot))
}

fn tell_end(ended: hyper::Result<()>) {
    if let Err(cause) = ended {
        debug!(target: SCOPE, err = %cause, "connection ended");
    }
}
