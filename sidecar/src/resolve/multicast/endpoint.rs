//! One socket of multicast DNS: answers for this sidecar, hears the others.
//!
//! Owns the socket's options, the sequence probe, announce, answer, goodbye, and the bound on how
//! often it answers. What is said and understood is `wire.rs`'s; what is remembered `search.rs`'s.
//! Every wait has an end: by a packet, a deadline of the sequence, or the stop.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use ironside_chassis::clock::{Clock, Tick};
use rand::Rng as _;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::links::Link;
use super::search::Search;
use super::wire::{Announced, GOODBYE, Incoming, Sender, TTL, Way, read};

#[cfg(test)]
mod tests;

/// The port of multicast DNS.
const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// RFC 6762 11: packets that crossed a router have a smaller one.
const HOPS: u32 = 255;
/// Bytes; RFC 6762 17.
const MAX_PACKET: usize = 9000;
/// How often probes and announcements are sent. Fact: 6.3, row Browse answer.
const REPEATS: u32 = 2;
/// Between two probes lies a random part of this. RFC 6762 8.1.
const PROBE_PAUSE: Duration = Duration::from_millis(250);
/// Between the announcements. RFC 6762 8.3.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(1);
/// Answers a second at most, whoever asks.
const MAX_ANSWERS: u32 = 50;
/// After a failed read; a link that went away fails every read.
const RECOVERY: Duration = Duration::from_secs(1);
/// Failed reads in a row after which the socket is given up.
const MAX_FAILURES: u32 = 5;

/// A socket that speaks multicast DNS on one link.
#[derive(Debug)]
pub(super) struct Endpoint {
    socket: UdpSocket,
    group: SocketAddr,
    link: Link,
    own: Vec<IpAddr>,
}

/// What an endpoint works with.
#[derive(Debug, Clone)]
pub(super) struct Duties {
    /// What to announce and answer.
    pub(super) announced: Option<Arc<Announced>>,
    /// Where sightings go.
    pub(super) search: Arc<Search>,
    /// The time, for the bound on answers.
    pub(super) clock: Clock,
}

/// Lets through a number of things a second.
#[derive(Debug, Default)]
struct Budget {
    second: u64,
    spent: u32,
}

// === impl Endpoint ===

impl Endpoint {
    /// Joins the group on a link; `own` are the addresses of this machine.
    ///
    /// # Errors
    /// What the kernel says about the socket or the group.
    pub(super) fn open(link: &Link, own: &[IpAddr]) -> io::Result<Self> {
        let (socket, group) = match link.address() {
            Some(IpAddr::V4(address)) => open_v4(link.index, address)?,
            Some(IpAddr::V6(_)) => open_v6(link.index)?,
            None => return Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            group,
            link: link.clone(),
            own: own.to_vec(),
        })
    }

    /// The link it speaks on.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Sends to everybody on the link; a failure is noted and otherwise like a lost packet.
    pub(super) async fn shout(&self, bytes: &[u8]) {
        self.send(bytes, self.group).await;
    }

    /// Announces, answers and listens until the stop, then says goodbye.
    ///
    /// Ends by itself when the socket cannot be read any more.
    pub(super) async fn serve(&self, duties: &Duties, stop: &CancellationToken) {
        let introduced = self.introduce(duties.announced.as_deref());
        let listening = self.listen(duties);
        tokio::pin!(introduced, listening);
        let mut quiet = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = &mut introduced, if !quiet => quiet = true,
                () = &mut listening => return,
            }
        }
        if let Some(Ok(bytes)) = duties.announced.as_deref().map(|a| a.announcement(GOODBYE)) {
            self.shout(&bytes).await;
        }
    }

    async fn introduce(&self, announced: Option<&Announced>) {
        let Some(announced) = announced else { return };
        let (Ok(probe), Ok(hello)) = (announced.probe(), announced.announcement(TTL)) else {
            return;
        };
        for _ in 0..REPEATS {
            self.shout(&probe).await;
            let pause = PROBE_PAUSE.mul_f64(rand::rng().random());
            sleep(pause).await;
        }
        for repeat in 0..REPEATS {
            if repeat > 0 {
                sleep(ANNOUNCE_PAUSE).await;
            }
            self.shout(&hello).await;
        }
    }

    async fn listen(&self, duties: &Duties) {
        let mut buffer = vec![0; MAX_PACKET];
        let mut budget = Budget::default();
        let mut failures = 0;
        while failures < MAX_FAILURES {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, from)) => {
                    failures = 0;
                    let packet = buffer.get(..length).unwrap_or_default();
                    self.heard(packet, from, duties, &mut budget).await;
                }
                Err(err) => {
                    failures += 1;
                    debug!(target: "dapr.contrib", interface = %self.link.name, %err, "multicast DNS cannot be read");
                    sleep(RECOVERY).await;
                }
            }
        }
    }

    async fn heard(&self, packet: &[u8], from: SocketAddr, duties: &Duties, budget: &mut Budget) {
        let Some(sender) = self.sender(from.ip()) else {
            return;
        };
        match read(packet, sender) {
            None => {}
            Some(Incoming::Answer(sightings)) => {
                for sighting in &sightings {
                    duties.search.sighted(sighting, self.link.index);
                }
            }
            Some(Incoming::Question(question)) => {
                let legacy = from.port() != self.group.port();
                let announced = duties.announced.as_deref();
                let Some(reply) = announced.and_then(|own| own.answer(&question, legacy)) else {
                    return;
                };
                if budget.allows(duties.clock.monotonic()) {
                    let to = match reply.way {
                        Way::Group => self.group,
                        Way::Asker => from,
                    };
                    self.send(&reply.bytes, to).await;
                }
            }
        }
    }

    /// Who sent a packet; `None` for packets from beyond the link.
    fn sender(&self, address: IpAddr) -> Option<Sender> {
        if address.is_loopback() || self.own.contains(&address) {
            return Some(Sender::ThisMachine);
        }
        self.link.is_neighbour(address).then_some(Sender::Other)
    }

    async fn send(&self, bytes: &[u8], to: SocketAddr) {
        if let Err(err) = self.socket.send_to(bytes, to).await {
            debug!(target: "dapr.contrib", interface = %self.link.name, %to, %err, "multicast DNS cannot be sent");
        }
    }
}

fn open_v4(index: u32, address: Ipv4Addr) -> io::Result<(Socket, SocketAddr)> {
    let socket = shared_socket(Domain::IPV4)?;
    // Elsewhere a socket hears only the groups it joined anyway.
    #[cfg(target_os = "linux")]
    socket.set_multicast_all_v4(false)?;
    socket.set_multicast_ttl_v4(HOPS)?;
    socket.set_multicast_if_v4(&address)?;
    socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
    Ok((socket, SocketAddr::from((GROUP_V4, PORT))))
}

fn open_v6(index: u32) -> io::Result<(Socket, SocketAddr)> {
    let socket = shared_socket(Domain::IPV6)?;
    socket.set_only_v6(true)?;
    #[cfg(target_os = "linux")]
    socket.set_multicast_all_v6(false)?;
    socket.set_multicast_hops_v6(HOPS)?;
    socket.set_multicast_if_v6(index)?;
    socket.join_multicast_v6(&GROUP_V6, index)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into())?;
    Ok((socket, SocketAddrV6::new(GROUP_V6, PORT, 0, index).into()))
}

/// A datagram socket whose port other responders of this machine may use too.
fn shared_socket(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    Ok(socket)
}

// === impl Budget ===

impl Budget {
    fn allows(&mut self, now: Tick) -> bool {
        let second = now.since_start().as_secs();
        if second != self.second {
            *self = Self { second, spent: 0 };
        }
        self.spent = self.spent.saturating_add(1);
        self.spent <= MAX_ANSWERS
    }
}
