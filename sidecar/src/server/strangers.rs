//! Connections whose peer has not proved yet who it is.
//!
//! Owns their bound: a stranger costs memory and a descriptor, and says nothing for as long as it likes. No
//! place is kept for those that wait: a newcomer always gets in, and when there are too many, the oldest of
//! the source with the most goes. A peer that means it needs milliseconds, so it is through long before. The
//! time that a handshake may take is the transport's.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Strangers at once on one data thread; half of the 1,024 descriptors that systems commonly grant.
const LIMIT: usize = 512;

/// The strangers of one data thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Strangers(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// In the order of their arrival.
    waiting: BTreeMap<u64, Waiting>,
    arrived: u64,
}

#[derive(Debug)]
struct Waiting {
    from: IpAddr,
    cut: CancellationToken,
}

/// One stranger; dropped when it has proved who it is, or is gone.
#[derive(Debug)]
pub(super) struct Stranger {
    all: Strangers,
    number: u64,
    cut: CancellationToken,
}

// === impl Strangers ===

impl Strangers {
    /// Lets one more in.
    pub(super) fn enter(&self, from: IpAddr) -> Stranger {
        let cut = CancellationToken::new();
        let mut table = self.lock();
        if table.waiting.len() >= LIMIT {
            table.cut_one();
        }
        table.arrived += 1;
        let number = table.arrived;
        let waiting = Waiting {
            from,
            cut: cut.clone(),
        };
        table.waiting.insert(number, waiting);
        drop(table);
        Stranger {
            all: self.clone(),
            number,
            cut,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is valid after any interrupted change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Table ===

impl Table {
    fn cut_one(&mut self) {
        let mut sources: HashMap<IpAddr, usize> = HashMap::new();
        for waiting in self.waiting.values() {
            *sources.entry(waiting.from).or_default() += 1;
        }
        let most = sources.values().copied().max();
        let oldest = self
            .waiting
            .iter()
            .find(|(_, waiting)| sources.get(&waiting.from).copied() == most)
            .map(|(number, _)| *number);
        if let Some(gone) = oldest.and_then(|number| self.waiting.remove(&number)) {
            gone.cut.cancel();
        }
    }
}

// === impl Stranger ===

impl Stranger {
    /// Waits until this one has to make room.
    pub(super) async fn cut(&self) {
        self.cut.cancelled().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.all.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn is_cut(stranger: &Stranger) -> bool {
        stranger.cut.is_cancelled()
    }

    #[test]
    fn a_newcomer_gets_in_and_the_oldest_goes() {
        let strangers = Strangers::default();
        let silent: Vec<Stranger> = (0..LIMIT).map(|_| strangers.enter(source(1))).collect();
        assert!(!silent.iter().any(is_cut));
        let good = strangers.enter(source(1));
        let cut: Vec<bool> = silent.iter().map(is_cut).collect();
        assert!(cut[0] && !cut[1..].contains(&true));
        assert!(!is_cut(&good));
        assert_eq!(strangers.lock().waiting.len(), LIMIT);
    }

    #[test]
    fn a_flood_from_one_source_takes_no_place_of_another() {
        let strangers = Strangers::default();
        let slow = strangers.enter(source(2));
        let flood: Vec<Stranger> = (0..4 * LIMIT).map(|_| strangers.enter(source(1))).collect();
        assert!(!is_cut(&slow));
        assert_eq!(flood.iter().filter(|s| !is_cut(s)).count(), LIMIT - 1);
    }

    #[test]
    fn whoever_is_through_makes_room() {
        let strangers = Strangers::default();
        let first = strangers.enter(source(1));
        for _ in 0..2 * LIMIT {
            drop(strangers.enter(source(1)));
        }
        assert!(!is_cut(&first));
        drop(first);
        assert!(strangers.lock().waiting.is_empty());
    }
}
