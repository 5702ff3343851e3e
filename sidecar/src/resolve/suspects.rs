//! Addresses at which nobody answered a moment ago.
//!
//! Owns how long such an address is passed over while its app has others. It is a delay, not a
//! verdict: a sidecar that is just starting or just leaving is still in the registry. Time comes in
//! as an argument.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ironside_resolution::Authority;

/// How long an address is passed over.
const SUSPICION: Duration = Duration::from_secs(2);
/// Addresses remembered at once.
const LIMIT: usize = 1024;

/// The addresses under suspicion.
#[derive(Debug, Default)]
pub(super) struct Suspects(Mutex<HashMap<Authority, Duration>>);

// === impl Suspects ===

impl Suspects {
    /// Suspects an address from now on; false if it is suspected already.
    pub(super) fn add(&self, address: &Authority, now: Duration) -> bool {
        let mut suspects = self.lock();
        suspects.retain(|_, until| *until > now);
        if suspects.contains_key(address) {
            return false;
        }
        if suspects.len() < LIMIT {
            suspects.insert(address.clone(), now.saturating_add(SUSPICION));
        }
        true
    }

    /// Takes suspects out of the addresses of an app, unless all of them are.
    pub(super) fn filter(&self, addresses: &mut Vec<Authority>, now: Duration) {
        let suspects = self.lock();
        let suspected =
            |address: &Authority| suspects.get(address).is_some_and(|until| *until > now);
        if addresses.iter().all(suspected) {
            return;
        }
        addresses.retain(|address| !suspected(address));
    }

    /// True while an address is suspected.
    pub(super) fn has(&self, address: &Authority, now: Duration) -> bool {
        let suspects = self.lock();
        suspects.get(address).is_some_and(|until| *until > now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Authority, Duration>> {
        // The map is valid after any interrupted change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Authority {
        Authority::new("127.0.0.1", port).expect("valid")
    }

    fn left(suspects: &Suspects, ports: &[u16], now: u64) -> Vec<u16> {
        let mut addresses = ports.iter().map(|port| at(*port)).collect();
        suspects.filter(&mut addresses, Duration::from_secs(now));
        addresses.iter().map(Authority::port).collect()
    }

    #[test]
    fn suspects_are_passed_over_for_a_moment_while_there_are_others() {
        let suspects = Suspects::default();
        assert!(suspects.add(&at(1), Duration::from_secs(10)));
        assert!(!suspects.add(&at(1), Duration::from_secs(11)));
        assert_eq!(left(&suspects, &[1, 2], 11), [2]);
        assert_eq!(left(&suspects, &[1], 11), [1]);
        assert_eq!(left(&suspects, &[], 11), [0_u16; 0]);
        assert_eq!(left(&suspects, &[1, 2], 12), [1, 2]);
        assert!(suspects.add(&at(1), Duration::from_secs(12)));
    }
}
