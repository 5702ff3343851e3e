//! Which addresses of which app are still believed.
//!
//! Owns life times and the bounds of memory: an entry lives for a fixed time after it was last
//! seen, and neither the number of keys nor that of addresses per key grows without end, whatever
//! a network sends. Time comes in as an argument, counted from any fixed start. Refuses to pick
//! one of several addresses ([`crate::pick`] does).

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use crate::Authority;

/// Addresses per key with a time to live.
#[derive(Debug)]
pub struct Cache<K> {
    lifetime: Duration,
    limits: Limits,
    entries: HashMap<K, BTreeMap<Authority, Expiry>>,
}

/// How much a cache may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Keys; a further key is refused.
    pub keys: usize,
    /// Addresses per key; a further address is refused.
    pub addresses: usize,
}

type Expiry = Duration;

// === impl Cache ===

impl<K: Eq + Hash + Clone> Cache<K> {
    /// An empty cache whose entries live for `lifetime` after they were last seen.
    #[must_use]
    pub fn new(lifetime: Duration, limits: Limits) -> Self {
        Self {
            lifetime,
            limits,
            entries: HashMap::new(),
        }
    }

    /// Notes that the address was seen; true if it is new. Expired entries make room first.
    pub fn saw(&mut self, key: &K, address: Authority, now: Duration) -> bool {
        let expiry = now.saturating_add(self.lifetime);
        if !self.entries.contains_key(key) {
            self.make_room(now);
            if self.entries.len() >= self.limits.keys {
                return false;
            }
        }
        let addresses = self.entries.entry(key.clone()).or_default();
        addresses.retain(|_, expiry| *expiry > now);
        if addresses.len() >= self.limits.addresses && !addresses.contains_key(&address) {
            return false;
        }
        addresses.insert(address, expiry).is_none()
    }

    /// Forgets one address of a key; true if it was there.
    pub fn forget(&mut self, key: &K, address: &Authority) -> bool {
        let Some(addresses) = self.entries.get_mut(key) else {
            return false;
        };
        let known = addresses.remove(address).is_some();
        if addresses.is_empty() {
            self.entries.remove(key);
        }
        known
    }

    /// Forgets an address under every key, because nobody answers there; true if it was known.
    pub fn forget_everywhere(&mut self, address: &Authority) -> bool {
        let mut known = false;
        self.entries.retain(|_, addresses| {
            known |= addresses.remove(address).is_some();
            !addresses.is_empty()
        });
        known
    }

    /// Drops what has expired; true if anything had.
    pub fn expire(&mut self, now: Duration) -> bool {
        let mut changed = false;
        self.entries.retain(|_, addresses| {
            let before = addresses.len();
            addresses.retain(|_, expiry| *expiry > now);
            changed |= addresses.len() != before;
            !addresses.is_empty()
        });
        changed
    }

    /// The addresses of a key that are still believed at `now`, in order.
    pub fn addresses(&self, key: &K, now: Duration) -> impl Iterator<Item = &Authority> {
        self.entries
            .get(key)
            .into_iter()
            .flatten()
            .filter(move |(_, expiry)| **expiry > now)
            .map(|(address, _)| address)
    }

    /// The keys that have addresses, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    fn make_room(&mut self, now: Duration) {
        if self.entries.len() >= self.limits.keys {
            self.expire(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        keys: 2,
        addresses: 2,
    };

    fn cache() -> Cache<&'static str> {
        Cache::new(Duration::from_secs(60), LIMITS)
    }

    fn at(port: u16) -> Authority {
        Authority::new("10.0.0.1", port).expect("valid")
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ports(cache: &Cache<&'static str>, key: &'static str, now: u64) -> Vec<u16> {
        cache
            .addresses(&key, secs(now))
            .map(Authority::port)
            .collect()
    }

    #[test]
    fn entry_lives_for_its_time_after_the_last_sighting() {
        let mut cache = cache();
        assert!(cache.saw(&"a", at(1), secs(0)));
        assert!(cache.saw(&"a", at(2), secs(10)));
        assert!(!cache.saw(&"a", at(1), secs(30)));
        assert_eq!(ports(&cache, "a", 69), [1, 2]);
        assert_eq!(ports(&cache, "a", 70), [1]);
        assert_eq!(ports(&cache, "a", 90), [0_u16; 0]);
        assert!(cache.expire(secs(70)));
        assert!(!cache.expire(secs(70)));
        assert!(cache.expire(secs(90)));
        assert_eq!(cache.keys().count(), 0);
    }

    #[test]
    fn goodbyes_and_failures_forget_at_once() {
        let mut cache = cache();
        for key in ["a", "b"] {
            cache.saw(&key, at(1), secs(0));
        }
        cache.saw(&"a", at(2), secs(0));
        assert!(cache.forget(&"a", &at(1)));
        assert!(!cache.forget(&"a", &at(1)));
        assert_eq!(ports(&cache, "a", 1), [2]);
        assert_eq!(ports(&cache, "b", 1), [1]);
        assert!(cache.forget_everywhere(&at(1)));
        assert!(!cache.forget_everywhere(&at(1)));
        assert_eq!(cache.keys().collect::<Vec<_>>(), [&"a"]);
    }

    #[test]
    fn bounds_hold_until_something_expires() {
        let mut cache = cache();
        for port in 1..=9 {
            cache.saw(&"a", at(port), secs(0));
        }
        assert_eq!(ports(&cache, "a", 1), [1, 2]);
        cache.saw(&"b", at(1), secs(30));
        assert!(!cache.saw(&"c", at(1), secs(30)));
        assert!(cache.saw(&"c", at(1), secs(60)));
        assert_eq!(ports(&cache, "a", 60), [0_u16; 0]);
        assert!(!cache.saw(&"b", at(1), secs(61)));
    }
}
