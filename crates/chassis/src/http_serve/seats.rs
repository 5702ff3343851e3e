//! Whose connections are served, and whose ends when all places are taken.
//!
//! Nobody waits behind clients that are slow or do not read: a newcomer gets the place of the address that has
//! most, the newcomer counted, and of its connections the oldest one goes. So an address that holds one keeps it
//! as long as another one holds two. Refused: sockets, and how long a connection may last.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// All places.
#[derive(Clone, Debug)]
pub(super) struct Seats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// How many there were so far.
    count: u64,
    /// The oldest first.
    seats: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    id: u64,
    address: IpAddr,
    lost: CancellationToken,
}

/// One connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    inner: Arc<Inner>,
    id: u64,
    lost: CancellationToken,
}

// === impl Seats ===

impl Seats {
    /// `most` places, of which none is taken.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Inner {
            most,
            taken: Mutex::default(),
        }))
    }

    /// Takes a place, if need be that of another connection.
    pub(super) fn take(&self, address: IpAddr) -> Seat {
        let lost = CancellationToken::new();
        let mut taken = self.0.lock();
        let id = taken.count;
        taken.count += 1;
        taken.seats.push(Place {
            id,
            address: address.to_canonical(),
            lost: lost.clone(),
        });
        if taken.seats.len() > self.0.most {
            taken.unseat(id);
        }
        drop(taken);
        let inner = Arc::clone(&self.0);
        Seat { inner, id, lost }
    }
}

// === impl Inner ===

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Taken ===

impl Taken {
    /// Ends the oldest connection of the address that has most; `newcomer` stays.
    fn unseat(&mut self, newcomer: u64) {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for place in &self.seats {
            *counts.entry(place.address).or_default() += 1;
        }
        let most = counts.values().copied().max();
        let is_greedy = |place: &Place| counts.get(&place.address).copied() == most;
        let mut seats = self.seats.iter();
        let oldest = seats.position(|place| place.id != newcomer && is_greedy(place));
        if let Some(at) = oldest {
            self.seats.remove(at).lost.cancel();
        }
    }
}

// === impl Seat ===

impl Seat {
    /// Returns when the place went to somebody else.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.inner.lock().seats.retain(|place| place.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_lost(seat: &Seat) -> bool {
        seat.lost.is_cancelled()
    }

    #[test]
    fn the_oldest_of_the_address_that_has_most_makes_room() {
        let seats = Seats::new(4);
        let lonely = seats.take(address(1));
        let crowd: Vec<_> = (0..9).map(|_| seats.take(address(2))).collect();
        let lost: Vec<_> = crowd.iter().map(is_lost).collect();
        let want = [true, true, true, true, true, true, false, false, false];
        assert_eq!(lost, want);
        assert!(!is_lost(&lonely));
        let other = seats.take(address(3));
        assert!(is_lost(&crowd[6]) && !is_lost(&crowd[7]));
        assert!(!is_lost(&lonely) && !is_lost(&other));
    }

    #[test]
    fn where_everybody_has_one_the_oldest_goes() {
        let seats = Seats::new(3);
        let crowd: Vec<_> = (1..=3).map(|last| seats.take(address(last))).collect();
        let again = seats.take(address(3));
        assert!(is_lost(&crowd[2]), "two of one address");
        let newcomer = seats.take(address(4));
        assert!(is_lost(&crowd[0]) && !is_lost(&crowd[1]));
        drop((again, newcomer, crowd));
        assert!(seats.0.lock().seats.is_empty());
    }

    #[test]
    fn a_place_comes_back() {
        let seats = Seats::new(1);
        drop(seats.take(address(1)));
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x0001]);
        let first = seats.take(mapped);
        assert!(!is_lost(&first));
        let second = seats.take(address(1));
        assert!(is_lost(&first), "the same, as IPv6 has it");
        assert!(!is_lost(&second));
    }
}
