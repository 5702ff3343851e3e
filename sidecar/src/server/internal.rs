//! Stage 16, `accept`: the port on which other sidecars call.
//!
//! Owns the way from a TCP connection to a verified peer: with mTLS on, a handshake (bounded in time and
//! number) proves who is there, once for the connection; then every request goes to `inbound/` with that
//! proof. Refuses to judge what the peer may do.

use std::{convert::Infallible, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ironside_chassis::tasks::Group;
use ironside_identity::VerifiedPeer;
use ironside_transport::{HANDSHAKE_LIMIT, TlsServer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    accept::Accepted,
    conn::{self, IDLE_LIMIT, Life, Streams},
    lease::Lease,
    observe::{Observed, Record},
    opening::Opening,
};
use crate::{inbound, worker::Worker};

/// Scope of this port's lines.
const LOG: &str = "dapr.runtime.grpc.internal";
/// Handshakes at once on one data thread; each costs a signature, and more would only queue for the CPU.
const HANDSHAKES: usize = 256;

/// What serves the internal port of one data thread.
#[derive(Clone)]
pub(crate) struct Internal {
    worker: Arc<Worker>,
    tls: Option<Arc<TlsServer>>,
    handshakes: Arc<Semaphore>,
    tasks: Group,
    drain: CancellationToken,
}

// === impl Internal ===

impl Internal {
    /// Serves for `worker`; `tls` is `None` while mTLS is off.
    pub(crate) fn new(
        worker: Arc<Worker>,
        tls: Option<TlsServer>,
        tasks: Group,
        drain: CancellationToken,
    ) -> Self {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        Self {
            worker,
            tls: tls.map(Arc::new),
            handshakes,
            tasks,
            drain,
        }
    }

    /// Serves a connection that came in; this port has no socket file.
    pub(crate) fn accepted(&self, accepted: Accepted) {
        match accepted {
            Accepted::Tcp(stream, _from) => self.tasks.spawn(self.clone().connection(stream)),
            Accepted::Unix(_) => {}
        }
    }

    async fn connection(self, stream: TcpStream) {
        let Some(tls) = self.tls.clone() else {
            return self.serve(stream, None).await;
        };
        // A peer that would wait longer for its turn has given up by then, as its own limit is the same.
        let turn = tokio::time::timeout(HANDSHAKE_LIMIT, self.handshakes.clone().acquire_owned());
        let Ok(Ok(slot)) = turn.await else {
            debug!(target: LOG, "too many handshakes at once: connection closed");
            return;
        };
        let shaken = tls.accept(stream).await;
        drop(slot);
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
        let (streams, opening) = (Arc::new(Streams::default()), Opening::default());
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
        let builder = conn::grpc(self.tasks.clone(), shared.config.read_buffer);
        let (worker, counted) = (Arc::clone(&self.worker), Arc::clone(&streams));
        let service = hyper::service::service_fn(move |request| {
            handle(
                Arc::clone(&worker),
                peer.clone(),
                Arc::clone(&counted),
                request,
            )
        });
        let connection = builder.serve_connection(TokioIo::new(opening.count(stream)), service);
        let life = Life {
            drain: self.drain,
            opening,
            streams,
            idle: Some(IDLE_LIMIT),
            lease,
        };
        if let Err(err) = conn::drive(connection, life).await {
            debug!(target: LOG, err = %err, "connection ended");
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
    let record = Record::internal(&worker.shared, &head, open);
    let request = Request::from_parts(head, record.counted(incoming));
    let response = inbound::serve(&worker, peer.as_ref(), request).await;
    Ok(record.finish(response))
}
