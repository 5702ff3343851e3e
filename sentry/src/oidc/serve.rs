//! The port of discovery.
//!
//! Owns accepting connections and their bounds: how many there are, how long a request may take to arrive. Until
//! there is a certificate to show, connections are closed at once.

use super::Documents;
use super::tls::SCOPE;
use crate::jwt::JwtIssuer;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ironside_chassis::tasks::Group;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections served at once.
const MAX_CONNECTIONS: usize = 128;
/// Time to shake hands, and to read the head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// A connection that is older is closed; such documents are read once an hour.
const MAX_AGE: Duration = Duration::from_secs(60);
/// Longest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// Pause after a failed accept (no descriptors left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(crate) struct OidcServer {
    pub(crate) documents: Documents,
    pub(crate) jwt: watch::Receiver<Arc<JwtIssuer>>,
    /// None for plain HTTP.
    pub(crate) tls: Option<watch::Receiver<Option<Arc<ServerConfig>>>>,
    pub(crate) stop: CancellationToken,
}

// === impl OidcServer ===

impl OidcServer {
    /// Accepts connections until the owner's end.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, connections: Group) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = accept(&listener, &slots) => accepted,
            };
            match accepted {
                Ok((tcp, slot)) => {
                    let server = Arc::clone(&self);
                    connections.spawn(async move {
                        let stop = server.stop.clone();
                        let served = tokio::time::timeout(MAX_AGE, server.connection(tcp));
                        stop.run_until_cancelled_owned(served).await;
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

    async fn connection(self: Arc<Self>, tcp: TcpStream) {
        let Some(tls) = &self.tls else {
            return self.serve(tcp).await;
        };
        let Some(config) = tls.borrow().clone() else {
            debug!(target: SCOPE, "connection refused: no TLS certificate yet");
            return;
        };
        let shaken = tokio::time::timeout(HEAD_LIMIT, TlsAcceptor::from(config).accept(tcp)).await;
        match shaken {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(cause)) => debug!(target: SCOPE, err = %cause, "connection refused"),
            Err(_elapsed) => debug!(target: SCOPE, "connection refused: handshake took too long"),
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| async { Ok::<_, Infallible>(self.answer(request)) });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(cause) = connection.await {
            debug!(target: SCOPE, err = %cause, "connection ended");
        }
    }

    fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, _body) = request.into_parts();
        let jwt = Arc::clone(&self.jwt.borrow());
        self.documents.answer(&head, &jwt)
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await;
    let slot = slot.map_err(std::io::Error::other)?;
    let (tcp, _address) = listener.accept().await?;
    Ok((tcp, slot))
}
