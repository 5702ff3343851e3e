//! How many requests one source may make, and how many connections it may hold.
//!
//! Owns a token bucket per source and the bound on their number (fact O-S12), and the share of the connection slots
//! that one source gets: a silent crowd from one address must not shut out the rest. The instant is an argument. Who a
//! source is, is read off the connection: an IPv4 address, or the /64 network of an IPv6 address.

use ironside_chassis::Tick;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Connections that a source may hold at once.
const MAX_CONNECTIONS: usize = 128;
/// Requests that a source may make at once: more sidecars than one node runs.
const BURST: u32 = 250;
/// Time in which one more request is granted; 50 a second.
const REFILL: Duration = Duration::from_millis(20);
/// Sources that are told apart; beyond it the ones that have been quiet are forgotten.
const MAX_SOURCES: usize = 4096;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

/// The buckets of all sources.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    buckets: HashMap<Source, Bucket>,
}

/// When the bucket will be full again: the only state a token bucket needs.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at: Tick,
}

/// The open connections of all sources. Clones are the same count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<HashMap<Source, usize>>>);

/// One open connection; it is counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    all: Connections,
    source: Source,
}

// === impl Source ===

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.into()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
        }
    }
}

// === impl Limiter ===

impl Limiter {
    /// Takes one token of the source; `false` if it has none.
    pub(crate) fn admit(&mut self, source: Source, now: Tick) -> bool {
        if !self.buckets.contains_key(&source) {
            self.make_room(now);
        }
        let bucket = self
            .buckets
            .entry(source)
            .or_insert(Bucket { full_at: now });
        let full_at = bucket.full_at.max(now) + REFILL;
        if full_at.since(now) > REFILL * BURST {
            return false;
        }
        bucket.full_at = full_at;
        true
    }

    /// Forgets sources whose buckets are full; if none is, all of them: a flood from everywhere starts over.
    fn make_room(&mut self, now: Tick) {
        if self.buckets.len() >= MAX_SOURCES {
            self.buckets.retain(|_, bucket| bucket.full_at > now);
        }
        if self.buckets.len() >= MAX_SOURCES {
            self.buckets.clear();
        }
    }
}

// === impl Connections ===

impl Connections {
    /// Counts one more connection of the source; `None` if it holds its share already.
    pub(crate) fn open(&self, source: Source) -> Option<Connection> {
        let mut counts = self.counts();
        let count = counts.entry(source).or_default();
        if *count >= MAX_CONNECTIONS {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Connection {
            all: self.clone(),
            source,
        })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut counts = self.all.counts();
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::from(IpAddr::from([10, 0, 0, last]))
    }

    fn at(millis: u64) -> Tick {
        Tick::at(Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_is_granted_and_then_a_steady_flow() {
        let mut limiter = Limiter::default();
        let granted = (0..1000)
            .filter(|_| limiter.admit(source(1), at(0)))
            .count();
        assert_eq!(granted, 250);
        assert!(
            limiter.admit(source(2), at(0)),
            "another source is not affected"
        );
        assert!(!limiter.admit(source(1), at(19)));
        assert!(limiter.admit(source(1), at(20)));
        assert!(!limiter.admit(source(1), at(20)));
        let granted = (1000..2000)
            .filter(|&t| limiter.admit(source(1), at(t)))
            .count();
        assert_eq!(granted, 98, "what was saved until then, and 50 a second");
    }

    #[test]
    fn memory_is_bounded() {
        let mut limiter = Limiter::default();
        for n in 0..50_000_u32 {
            assert!(limiter.admit(Source(IpAddr::from(n.to_be_bytes())), at(0)));
        }
        assert!(limiter.buckets.len() <= MAX_SOURCES);
    }

    #[test]
    fn one_source_gets_its_share_of_the_connections() {
        let all = Connections::default();
        let mut held: Vec<_> = (0..MAX_CONNECTIONS)
            .map(|_| all.open(source(1)).unwrap())
            .collect();
        assert!(all.open(source(1)).is_none());
        assert!(all.open(source(2)).is_some());
        held.pop();
        assert!(all.open(source(1)).is_some());
        held.clear();
        assert!(all.counts().is_empty(), "nothing is remembered of the gone");
    }

    #[test]
    fn one_network_is_one_source() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
    }
}
