//! Bounds against clients that prove nothing, for webhooks: an API server shows no certificate, so anybody may call.
//!
//! Owns how many connections there are and how many bytes of requests are held, in all and for one address, when a
//! connection without requests has been there for too long, and whose goes when all places are taken: that of an
//! address which has more than the newcomer, so that many addresses together cannot keep an API server out either.
//! Bytes count as they arrive, not as they are announced, and nobody waits for room: who finds none is told so, and
//! the next one may find some. What is read is the webhook's business.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

#[cfg(test)]
mod tests;

/// A connection on which nothing was asked yet is given up after so long.
const SILENCE: Duration = Duration::from_secs(5);
/// One on which nothing is asked any more: longer than API servers keep theirs (90 s), so that none is closed on one.
const IDLE: Duration = Duration::from_secs(120);
/// Connections that lost their place and finish what they are doing: at most this part of all.
const LEAVING_PART: usize = 4;

/// One connection.
const PLACE: Share = Share {
    connections: 1,
    bytes: 0,
};

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address.
    pub connections_each: usize,
    /// Bytes of requests in all, what each address may hold in any case among them.
    pub bytes: usize,
    /// Bytes of requests of one address.
    pub bytes_each: usize,
    /// What an address may hold of them however much the others do: so much is kept free for every connection.
    pub bytes_least: usize,
}

/// Everybody who is connected.
#[derive(Debug, Clone)]
pub struct Guests(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    /// Counts connections and requests, to know what was asked last.
    turn: AtomicU64,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    all: Share,
    /// What addresses hold beyond the least that each may.
    shared: usize,
    each: HashMap<IpAddr, Share>,
    /// Who has a place, by the turn at which it came.
    seats: HashMap<u64, Arc<Seat>>,
    /// How many have lost their place and are not gone yet.
    leaving: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Share {
    connections: usize,
    bytes: usize,
}

/// What is known of one connection.
#[derive(Debug)]
struct Seat {
    address: IpAddr,
    /// Requests that have begun, and those that have ended.
    begun: AtomicU64,
    ended: AtomicU64,
    /// The turn of the last request, else that of the connection.
    last: AtomicU64,
    /// Whether the place went to somebody else.
    is_lost: watch::Sender<bool>,
}

/// One connection; its end gives its place back.
#[derive(Debug)]
pub struct Guest {
    inner: Arc<Inner>,
    seat: Arc<Seat>,
    id: u64,
}

/// A request under way, and the bytes of it that are held.
#[derive(Debug)]
pub struct Visit {
    guest: Arc<Guest>,
    bytes: usize,
}

// === impl Limits ===

impl Limits {
    /// What of this many bytes of one address is more than the least.
    const fn beyond(&self, bytes: usize) -> usize {
        bytes.saturating_sub(self.bytes_least)
    }

    /// Bytes that are no address's own: no more addresses hold any than there are connections, leaving ones included.
    #[must_use]
    pub const fn shared(&self) -> usize {
        let own = (self.connections + self.leaving()).saturating_mul(self.bytes_least);
        self.bytes.saturating_sub(own)
    }

    /// Connections that may be on the way out beside the others.
    const fn leaving(&self) -> usize {
        let part = self.connections / LEAVING_PART;
        if part == 0 { 1 } else { part }
    }
}

// === impl Guests ===

impl Guests {
    /// Nobody is connected.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner {
            limits,
            turn: AtomicU64::new(0),
            book: Mutex::default(),
        }))
    }

    /// Takes a connection in, if need be in the place of another; none if there are as many as there may be.
    #[must_use]
    pub fn connect(&self, address: IpAddr) -> Option<Arc<Guest>> {
        let address = address.to_canonical();
        let limits = self.0.limits;
        let mut book = self.0.book();
        let held = book.each.get(&address).copied().unwrap_or_default();
        if held.connections >= limits.connections_each {
            return None;
        }
        let is_full = book.all.connections >= limits.connections;
        if is_full && (book.leaving >= limits.leaving() || !book.unseat(held.connections)) {
            return None;
        }
        let id = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let seat = Arc::new(Seat {
            address,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            last: AtomicU64::new(id),
            is_lost: watch::channel(false).0,
        });
        book.all.connections += 1;
        book.each.entry(address).or_default().connections += 1;
        book.seats.insert(id, Arc::clone(&seat));
        drop(book);
        let inner = Arc::clone(&self.0);
        Some(Arc::new(Guest { inner, seat, id }))
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, address: IpAddr, bytes: usize) -> bool {
        let limits = self.limits;
        let mut book = self.book();
        let held = book.each.get(&address).copied().unwrap_or_default().bytes;
        let Some(sum) = held.checked_add(bytes) else {
            return false;
        };
        let beyond = limits.beyond(sum) - limits.beyond(held);
        if sum > limits.bytes_each.max(limits.bytes_least)
            || book.shared.saturating_add(beyond) > limits.shared()
        {
            return false;
        }
        book.shared += beyond;
        book.all.bytes += bytes;
        book.each.entry(address).or_default().bytes += bytes;
        true
    }

    fn give(&self, address: IpAddr, back: Share) {
        let mut book = self.book();
        let held = book.each.get(&address).copied().unwrap_or_default().bytes;
        let left = held.saturating_sub(back.bytes);
        let beyond = self.limits.beyond(held) - self.limits.beyond(left);
        book.shared = book.shared.saturating_sub(beyond);
        book.give(address, back);
    }
}

impl Book {
    fn give(&mut self, address: IpAddr, back: Share) {
        self.all.less(back);
        if let Some(held) = self.each.get_mut(&address) {
            held.less(back);
            if held.connections == 0 && held.bytes == 0 {
                self.each.remove(&address);
            }
        }
    }

    /// Takes a place from the address that has the most, for one that has `held`; says whether there was any to take.
    ///
    /// Who has some gets no further one where nobody has two more, or the two would take it from each other for ever.
    fn unseat(&mut self, held: usize) -> bool {
        let counts = self.each.values().map(|share| share.connections);
        let most = counts.max().unwrap_or_default();
        if most == 0 || (held > 0 && most < held + 2) {
            return false;
        }
        let is_greedy = |seat: &Seat| {
            let share = self.each.get(&seat.address);
            share.is_some_and(|share| share.connections == most)
        };
        let greedy = self.seats.iter().filter(|(_, seat)| is_greedy(seat));
        let Some(id) = greedy
            .min_by_key(|(_, seat)| seat.worth())
            .map(|(id, _)| *id)
        else {
            return false;
        };
        if let Some(seat) = self.seats.remove(&id) {
            self.give(seat.address, PLACE);
            self.leaving += 1;
            seat.is_lost.send_replace(true);
        }
        true
    }
}

impl Seat {
    /// The least is missed least: nothing is under way, and the last request is long ago.
    fn worth(&self) -> (bool, u64) {
        let is_busy = self.begun.load(Ordering::Relaxed) != self.ended.load(Ordering::Relaxed);
        (is_busy, self.last.load(Ordering::Relaxed))
    }
}

impl Share {
    const fn less(&mut self, back: Self) {
        self.connections = self.connections.saturating_sub(back.connections);
        self.bytes = self.bytes.saturating_sub(back.bytes);
    }
}

// === impl Guest ===

impl Guest {
    /// A request begins.
    #[must_use]
    pub fn visit(self: &Arc<Self>) -> Visit {
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        self.seat.last.store(turn, Ordering::Relaxed);
        self.seat.begun.fetch_add(1, Ordering::Relaxed);
        Visit {
            guest: Arc::clone(self),
            bytes: 0,
        }
    }

    /// Returns when the connection is better ended: its place was given to somebody else, or nothing was asked for
    /// long.
    pub async fn over(&self) {
        tokio::select! {
            () = self.lost() => {}
            () = self.idle() => {}
        }
    }

    /// Returns when the place was given to somebody else.
    pub async fn lost(&self) {
        let mut is_lost = self.seat.is_lost.subscribe();
        // It cannot fail: the sender lives in the seat.
        drop(is_lost.wait_for(|is_lost| *is_lost).await);
    }

    async fn idle(&self) {
        let Seat { begun, ended, .. } = &*self.seat;
        let mut pause = SILENCE;
        loop {
            let before = begun.load(Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            let is_silent = begun.load(Ordering::Relaxed) == before;
            if is_silent && ended.load(Ordering::Relaxed) == before {
                return;
            }
            pause = IDLE;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut book = self.inner.book();
        match book.seats.remove(&self.id) {
            Some(seat) => book.give(seat.address, PLACE),
            None => book.leaving = book.leaving.saturating_sub(1),
        }
    }
}

// === impl Visit ===

impl Visit {
    /// Takes room for more bytes of the request, until it ends; says whether there was any.
    #[must_use]
    pub fn hold(&mut self, bytes: usize) -> bool {
        let is_held = self.guest.inner.take(self.guest.seat.address, bytes);
        if is_held {
            self.bytes += bytes;
        }
        is_held
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.guest.seat.ended.fetch_add(1, Ordering::Relaxed);
        let back = Share {
            connections: 0,
            bytes: self.bytes,
        };
        self.guest.inner.give(self.guest.seat.address, back);
    }
}
