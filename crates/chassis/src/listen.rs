//! Taking ports and socket files.
//!
//! Owns the reference's patience (a port still held by a dying predecessor is
//! tried again for ten seconds), the meaning of address texts, one listener
//! per worker, and the removal of socket files. What is served on a listener
//! is not known here. Source: process-interface 2.3, service-invocation 1.1.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::num::NonZeroUsize;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

mod unix;

pub use unix::{UnixBindError, UnixSocket};

/// How long a port in use is tried again: process-interface 2.3.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// First pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two tries.
const LAST_PAUSE: Duration = Duration::from_millis(500);
/// Connections the kernel holds until they are accepted; it cuts to its own limit.
const BACKLOG: i32 = 4096;

/// What to listen on.
#[derive(Clone, Debug)]
pub struct Binding<'a> {
    /// Host names or addresses, `[::1]` or `::1`; empty text, or no entry, means all interfaces.
    pub addresses: &'a [String],
    /// The port; 0 lets the system choose one for each address.
    pub port: u16,
    /// How many listeners to make for each address; more than one share the port.
    pub workers: NonZeroUsize,
    /// How long to try again while a port is in use.
    pub patience: Duration,
}

/// The listeners of one server.
#[derive(Debug)]
pub struct Bound {
    /// For each worker its listeners, one per address that could be bound; non-blocking.
    pub workers: Vec<Vec<TcpListener>>,
    /// Where the server listens, one per address that could be bound.
    pub local: Vec<SocketAddr>,
    /// The addresses that could not be bound, and why.
    pub refused: Vec<Refused>,
}

/// An address that could not be bound.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct Refused {
    /// Address and port as asked for.
    pub address: String,
    /// The system's reason.
    pub cause: io::Error,
}

/// Not one address could be bound.
#[derive(Debug, Error)]
#[error("could not listen on any endpoint: {}", list(.0))]
pub struct BindError(pub Vec<Refused>);

fn list(refused: &[Refused]) -> String {
    let texts: Vec<String> = refused.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl<'a> Binding<'a> {
    /// One worker on `port` of `addresses`, with the usual patience.
    #[must_use]
    pub const fn new(addresses: &'a [String], port: u16) -> Self {
        Self {
            addresses,
            port,
            workers: NonZeroUsize::MIN,
            patience: PATIENCE,
        }
    }

    /// The same for `workers` that share each port.
    #[must_use]
    pub const fn workers(mut self, workers: NonZeroUsize) -> Self {
        self.workers = workers;
        self
    }

    /// The same, trying again for `patience`; zero tries once.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// Binds as many of the addresses as possible.
///
/// # Errors
/// [`BindError`] when none could be bound.
pub async fn bind(wanted: &Binding<'_>) -> Result<Bound, BindError> {
    let all_interfaces = [String::new()];
    let addresses = if wanted.addresses.is_empty() {
        &all_interfaces
    } else {
        wanted.addresses
    };
    let mut bound = Bound {
        workers: (0..wanted.workers.get()).map(|_| Vec::new()).collect(),
        local: Vec::new(),
        refused: Vec::new(),
    };
    let mut open: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let (mut pause, mut left) = (FIRST_PAUSE, wanted.patience);
    while !open.is_empty() {
        open.retain(|address| bound.try_once(address, wanted, left.is_zero()));
        if open.is_empty() {
            break;
        }
        tokio::time::sleep(pause.min(left)).await;
        left = left.saturating_sub(pause);
        pause = LAST_PAUSE.min(pause * 2);
    }
    if bound.local.is_empty() {
        return Err(BindError(bound.refused));
    }
    Ok(bound)
}

impl Bound {
    /// Returns whether `address` should be tried again.
    fn try_once(&mut self, address: &str, wanted: &Binding<'_>, last: bool) -> bool {
        let cause = match bind_address(address, wanted.port, wanted.workers) {
            Ok((local, listeners)) => {
                for (worker, listener) in self.workers.iter_mut().zip(listeners) {
                    worker.push(listener);
                }
                self.local.push(local);
                return false;
            }
            Err(cause) => cause,
        };
        // Only a port in use may become free; an address the machine lacks will not appear.
        if cause.kind() == io::ErrorKind::AddrInUse && !last {
            return true;
        }
        let address = format!("{address}:{}", wanted.port);
        self.refused.push(Refused { address, cause });
        false
    }
}

fn bind_address(
    address: &str,
    port: u16,
    workers: NonZeroUsize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for candidate in candidates(address, port)? {
        match bind_socket(candidate, workers) {
            Ok(bound) => return Ok(bound),
            // In use is an answer for this name; another of its addresses must not hide it.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The socket addresses a text stands for, best first.
fn candidates(address: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if address.is_empty() {
        // Dual stack where there is IPv6, IPv4 alone where there is not.
        let any = [
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ];
        return Ok(any.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = bare.unwrap_or(address);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let mut found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

fn bind_socket(
    address: SocketAddr,
    workers: NonZeroUsize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = listening(address, Port::Own)?;
    let local = first.local_addr()?;
    if workers == NonZeroUsize::MIN {
        return Ok((local, vec![first]));
    }
    // The first socket proved that nobody else holds the port; a shared one would join a
    // second process of this user without a word.
    drop(first);
    let shared = (0..workers.get()).map(|_| listening(local, Port::Shared));
    Ok((local, shared.collect::<io::Result<_>>()?))
}

#[derive(Clone, Copy, PartialEq)]
enum Port {
    Own,
    Shared,
}

fn listening(address: SocketAddr, port: Port) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if port == Port::Shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests;
