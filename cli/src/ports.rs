//! Free ports for sidecars, held until the sidecar binds them.
//!
//! Random ports lie below the range from which the system takes the local ends of connections, and are distinct across
//! parallel runs: each run locks a small file per port for as long as it lives, and keeps the port itself busy until
//! just before the sidecar starts. Facts: cli-and-clients 1.4, CH11, CL-27, CL-28.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use rand::Rng;

use crate::locks::{Lock, Locks};

/// The first random port: above what well-known services use.
const FIRST: u16 = 20_000;
/// The first port that is too high: Linux takes local ends of connections from here on (`ip_local_port_range`).
const END: u16 = 32_768;
/// How many random ports are tried before giving up; the range holds 12,768.
const TRIES: usize = 4_000;

/// Hands ports out, each one once.
#[derive(Debug)]
pub(crate) struct Ports {
    locks: Locks,
    taken: BTreeSet<u16>,
}

/// A port that is ours.
#[derive(Debug)]
pub(crate) struct Held {
    port: u16,
    /// Keeps other runs off it, for as long as this value lives.
    _lock: Lock,
    /// Keeps everybody off it until the sidecar starts.
    listener: Option<TcpListener>,
}

/// Why there is no port.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PortError {
    /// The one asked for is in use.
    #[error("invalid configuration for {what}. Port {port} is not available")]
    Taken {
        /// Which port, as the reference names it.
        what: &'static str,
        /// Its number.
        port: i64,
    },
    /// All tries met a port in use.
    #[error("no free port between {FIRST} and {END} for {what}")]
    Exhausted {
        /// Which port.
        what: &'static str,
    },
}

// === impl Ports ===

impl Ports {
    /// Hands ports out that none of `taken` is.
    pub(crate) fn new(locks: Locks, taken: impl IntoIterator<Item = u16>) -> Self {
        Self {
            locks,
            taken: taken.into_iter().collect(),
        }
    }

    /// The port asked for, or a free one for anything below 1.
    pub(crate) fn port(
        &mut self,
        what: &'static str,
        asked: i64,
        rng: &mut impl Rng,
    ) -> Result<Held, PortError> {
        if asked < 1 {
            return self.any(what, rng);
        }
        let port = u16::try_from(asked).ok();
        port.and_then(|port| self.hold(port))
            .ok_or(PortError::Taken { what, port: asked })
    }

    fn any(&mut self, what: &'static str, rng: &mut impl Rng) -> Result<Held, PortError> {
        (0..TRIES)
            .find_map(|_| self.hold(rng.random_range(FIRST..END)))
            .ok_or(PortError::Exhausted { what })
    }

    fn hold(&mut self, port: u16) -> Option<Held> {
        if self.taken.contains(&port) {
            return None;
        }
        let lock = self.locks.take(&port.to_string())?;
        let listener = listen(port)?;
        self.taken.insert(port);
        Some(Held {
            port,
            _lock: lock,
            listener: Some(listener),
        })
    }
}

// === impl Held ===

impl Held {
    /// The number.
    pub(crate) fn number(&self) -> u16 {
        self.port
    }

    /// Lets the sidecar bind it; other runs stay off.
    pub(crate) fn make_way(&mut self) {
        self.listener = None;
    }
}

/// Listens on all interfaces of both families, or of the one there is.
fn listen(port: u16) -> Option<TcpListener> {
    let both = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    match both {
        Ok(listener) => Some(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => None,
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).ok(),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn ports_are_distinct_and_below_the_local_range() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = BTreeSet::new();
        let mut held = Vec::new();
        // Equal seeds: without locks the runs would ask for the same ports.
        for _ in 0..50 {
            let mut rng = SmallRng::seed_from_u64(7);
            let mut run = Ports::new(Locks::below(Some(folder.path()), "ports"), []);
            for what in ["HTTPPort", "GRPCPort", "MetricsPort", "InternalGRPCPort"] {
                let mut port = run.port(what, -1, &mut rng).unwrap();
                port.make_way();
                assert!(seen.insert(port.number()), "{} twice", port.number());
                assert!((FIRST..END).contains(&port.number()));
                held.push(port);
            }
        }
    }

    /// Fact: CL-27.
    #[test]
    fn a_port_in_use_is_refused_by_name() {
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = i64::from(busy.local_addr().unwrap().port());
        let mut rng = SmallRng::seed_from_u64(1);
        let refused = Ports::new(Locks::below(None, "ports"), [])
            .port("HTTPPort", port, &mut rng)
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("invalid configuration for HTTPPort. Port {port} is not available")
        );
    }

    #[test]
    fn a_port_of_a_listed_instance_or_out_of_range_is_refused() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut ports = Ports::new(Locks::below(None, "ports"), [21_000]);
        assert!(ports.port("GRPCPort", 21_000, &mut rng).is_err());
        assert!(ports.port("GRPCPort", 70_000, &mut rng).is_err());
    }
}
