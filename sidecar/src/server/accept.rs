//! Stages 1 and 16, `accept`: connections come in until the process drains.
//!
//! Owns the loop over one listener (TCP or socket file), what happens when the system runs out of
//! descriptors, and the options of a stream. Refuses to own what is spoken on a connection: `conn.rs` does.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// A silent client is asked whether it is still there after so long, and again; the reference's library does so
/// on every connection.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(15));
/// Pause after a failed accept (descriptors exhausted), so as not to spin.
const PAUSE: Duration = Duration::from_millis(100);

/// One listener of one data thread.
#[derive(Debug)]
pub(crate) enum Listener {
    /// A port.
    Tcp(TcpListener),
    /// A socket file.
    Unix(UnixListener),
}

/// A connection that came in.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// Over a port.
    Tcp(TcpStream, SocketAddr),
    /// Over a socket file, whose clients have no address.
    Unix(UnixStream),
}

// === impl Listener ===

impl Listener {
    /// Takes over a bound, non-blocking port; must run inside the runtime that will serve it.
    ///
    /// # Errors
    /// The runtime's, when it cannot watch the socket.
    pub(crate) fn tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// The same for a socket file.
    ///
    /// # Errors
    /// As [`Self::tcp`].
    pub(crate) fn unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        UnixListener::from_std(listener).map(Self::Unix)
    }

    /// Hands every connection to `serve` until `drain` is cancelled, then closes the listener.
    pub(crate) async fn run(self, drain: CancellationToken, serve: impl Fn(Accepted)) {
        loop {
            let accepted = tokio::select! {
                () = drain.cancelled() => return,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok(connection) => serve(connection),
                Err(err) => {
                    warn!(target: "dapr.runtime", err = %err, "cannot accept a connection: trying again in 100ms");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                tune(&stream);
                Ok(Accepted::Tcp(stream, from))
            }
            Self::Unix(listener) => listener
                .accept()
                .await
                .map(|(stream, _unnamed)| Accepted::Unix(stream)),
        }
    }
}

/// Options of a stream. A failure costs time or a descriptor, not correctness.
fn tune(stream: &TcpStream) {
    // Without it small answers wait for acknowledgements.
    let _slow = stream.set_nodelay(true);
    let _lingering = SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE);
}
