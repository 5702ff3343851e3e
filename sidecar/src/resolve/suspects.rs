//! Addresses that failed a moment ago.
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

/// What an address is suspected of; the later the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A call to it broke.
    Broke,
    /// Nobody answers there, or not who should.
    Gone,
}

/// Until when, and of what.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    until: Duration,
    fault: Fault,
}

/// The addresses under suspicion.
#[derive(Debug, Default)]
pub(super) struct Suspects(Mutex<HashMap<Authority, Suspect>>);

// === impl Suspects ===

impl Suspects {
    /// Suspects an address from now on; false if it is suspected of as much already.
    pub(super) fn add(&self, address: &Authority, fault: Fault, now: Duration) -> bool {
        let mut suspects = self.lock();
        suspects.retain(|_, suspect| suspect.until > now);
        let until = now.saturating_add(SUSPICION);
        if let Some(known) = suspects.get_mut(address) {
            let is_worse = known.fault < fault;
            if is_worse {
                *known = Suspect { until, fault };
            }
            return is_worse;
        }
        if suspects.len() < LIMIT {
            suspects.insert(address.clone(), Suspect { until, fault });
        }
        true
    }

    /// Takes suspects out of the addresses of an app, unless all of them are.
    pub(super) fn filter(&self, addresses: &mut Vec<Authority>, now: Duration) {
        let suspects = self.lock();
        let suspected =
            |address: &Authority| suspects.get(address).is_some_and(|it| it.until > now);
        if addresses.iter().all(suspected) {
            return;
        }
        addresses.retain(|address| !suspected(address));
    }

    /// True while an address is suspected of being gone.
    pub(super) fn is_gone(&self, address: &Authority, now: Duration) -> bool {
        let suspects = self.lock();
        let suspect = suspects.get(address);
        suspect.is_some_and(|suspect| suspect.until > now && suspect.fault == Fault::Gone)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Authority, Suspect>> {
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
        let add = |port, fault, now| suspects.add(&at(port), fault, Duration::from_secs(now));
        assert!(add(1, Fault::Gone, 10));
        assert!(!add(1, Fault::Gone, 11));
        assert!(!add(1, Fault::Broke, 11));
        assert_eq!(left(&suspects, &[1, 2], 11), [2]);
        assert_eq!(left(&suspects, &[1], 11), [1]);
        assert_eq!(left(&suspects, &[], 11), [0_u16; 0]);
        assert_eq!(left(&suspects, &[1, 2], 12), [1, 2]);
        assert!(add(1, Fault::Broke, 12));
        assert!(!suspects.is_gone(&at(1), Duration::from_secs(12)));
        // What turns out to be worse counts anew.
        assert!(add(1, Fault::Gone, 13));
        assert!(suspects.is_gone(&at(1), Duration::from_secs(14)));
        assert!(!suspects.is_gone(&at(1), Duration::from_secs(15)));
    }
}
