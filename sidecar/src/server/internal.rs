//! Stage 16, `accept`: the port on which other sidecars call.
//!
//! Owns the way from a TCP connection to a verified peer: with mTLS on, a handshake (bounded in time, and in
//! number by `strangers.rs`) proves who is there, once for the connection; then every request goes to
//! `inbound/` with that proof. Refuses to judge what the peer may do.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ironside_chassis::tasks::Group;
use ironside_identity::VerifiedPeer;
use ironside_transport::TlsServer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    accept::Accepted,
    conn::{self, IDLE_LIMIT, Life, Streams},
    lease::Lease,
    leftover::Leftover,
    observe::{self, Observed, Record},
    strangers::Strangers,
};
use crate::{inbound, worker::Worker};

/// Scope of this port's lines.
const LOG: &str = "dapr.runtime.grpc.internal";

/// What serves the internal port of one data thread.
#[derive(Clone)]
pub(crate) struct Internal {
    worker: Arc<Worker>,
    tls: Option<Arc<TlsServer>>,
    strangers: Strangers,
    tasks: Group,
    ends: Ends,
}

/// What ends connections of peers.
#[derive(Clone)]
pub(crate) struct Ends {
    /// Those that are there now should go elsewhere. Who comes later knows no other place, and is served.
    pub(crate) depart: CancellationToken,
    /// All of them end.
    pub(crate) drain: CancellationToken,
}

// === impl Internal ===

impl Internal {
    /// Serves for `worker`; `tls` is `None` while mTLS is off.
    pub(crate) fn new(
        worker: Arc<Worker>,
        tls: Option<TlsServer>,
        tasks: Group,
        ends: Ends,
    ) -> Self {
        Self {
            worker,
            tls: tls.map(Arc::new),
            strangers: Strangers::default(),
            tasks,
            ends,
        }
    }

    /// Serves a connection that came in; this port has no socket file.
    pub(crate) fn accepted(&self, accepted: Accepted) {
        match accepted {
            Accepted::Tcp(stream, from) => {
                self.tasks.spawn(self.clone().connection(stream, from));
            }
            Accepted::Unix(_) => {}
        }
    }

    async fn connection(self, stream: TcpStream, from: SocketAddr) {
        let Some(tls) = self.tls.clone() else {
            return self.serve(stream, None).await;
        };
        let stranger = self.strangers.enter(from.ip());
        let shaken = tokio::select! {
            shaken = tls.accept(stream) => shaken,
            () = stranger.cut() => {
                debug!(target: LOG, "too many connections wait for their handshake: the oldest is closed");
                return;
            }
        };
        drop(stranger);
        match shaken {
            Ok((stream, peer)) => {
                debug!(target: LOG, { peer.id = %peer.id }, "peer verified");
                self.worker
                    .shared
                    .verified
                    .record(&peer, self.worker.shared.clock.now());
                self.serve(stream, Some(Arc::new(peer))).await;
            }
            Err(err) => debug!(target: LOG, err = %err, "peer refused"),
        }
    }

    async fn serve<S>(self, stream: S, peer: Option<Arc<VerifiedPeer>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = &self.worker.shared;
        let streams = Arc::new(Streams::within(&shared.traffic));
        let lease = peer
            .clone()
            .zip(shared.identity.clone())
            .map(|(peer, identity)| {
                Lease::new(
                    peer,
                    shared.verified.clone(),
                    identity,
                    shared.clock.clone(),
                )
            });
        let builder = conn::internal(self.tasks.clone(), shared.config.read_buffer);
        let (worker, counted) = (Arc::clone(&self.worker), Arc::clone(&streams));
        let service = hyper::service::service_fn(move |request| {
            handle(
                Arc::clone(&worker),
                peer.clone(),
                Arc::clone(&counted),
                request,
            )
        });
        let connection = builder.serve_connection(TokioIo::new(streams.count(stream)), service);
        let life = Life {
            drain: self.ends.of_one(),
            streams,
            idle: Some(IDLE_LIMIT),
            lease,
        };
        if let Err(err) = conn::drive(connection, life).await {
            debug!(target: LOG, err = %err, "connection ended");
        }
    }
}

// === impl Ends ===

impl Ends {
    /// What ends a connection that begins now.
    fn of_one(self) -> CancellationToken {
        if self.depart.is_cancelled() {
            self.drain
        } else {
            self.depart
        }
    }
}

async fn handle(
    worker: Arc<Worker>,
    peer: Option<Arc<VerifiedPeer>>,
    streams: Arc<Streams>,
    request: Request<Incoming>,
) -> Result<Response<Observed>, Infallible> {
    let open = streams.open();
    let (head, incoming) = request.into_parts();
    let mut record = Record::internal(&worker.shared, &head, open);
    // Rules are asked once a call is known, which may be much later: they are not taken from here.
    let live = worker.shared.live();
    let context = observe::hop_context(&worker.shared, &live, &head, &mut record);
    drop(live);
    let leftover = Leftover::default();
    let request = Request::from_parts(head, leftover.watch(record.counted(incoming)));
    let response = inbound::serve(&worker, peer.as_ref(), request, context).await;
    leftover.drain().await;
    Ok(record.finish(response))
}
