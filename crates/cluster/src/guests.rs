//! Bounds against clients that prove nothing, for webhooks: an API server shows no certificate, so anybody may call.
//!
//! Owns how many connections there are and how many bytes of requests are held, in all and for one address, and when
//! a connection without requests has been there for too long. Bytes count as they arrive, not as they are announced,
//! and nobody waits for room: who finds none is told so, and the next one may find some. What is read is the
//! webhook's business.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// A connection on which nothing was asked yet is given up after so long.
const SILENCE: Duration = Duration::from_secs(5);
/// One on which nothing is asked any more.
const IDLE: Duration = Duration::from_secs(60);

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address.
    pub connections_each: usize,
    /// Bytes of requests in all.
    pub bytes: usize,
    /// Bytes of requests of one address.
    pub bytes_each: usize,
}

/// Everybody who is connected.
#[derive(Debug, Clone)]
pub struct Guests(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    all: Share,
    each: HashMap<IpAddr, Share>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Share {
    connections: usize,
    bytes: usize,
}

/// One connection; its end gives its place back.
#[derive(Debug)]
pub struct Guest {
    inner: Arc<Inner>,
    address: IpAddr,
    /// Requests that have begun, and those that have ended.
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A request under way, and the bytes of it that are held.
#[derive(Debug)]
pub struct Visit {
    guest: Arc<Guest>,
    bytes: usize,
}

// === impl Guests ===

impl Guests {
    /// Nobody is connected.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let book = Mutex::default();
        Self(Arc::new(Inner { limits, book }))
    }

    /// Takes a connection in; none if there are as many as there may be.
    #[must_use]
    pub fn connect(&self, address: IpAddr) -> Option<Arc<Guest>> {
        let address = address.to_canonical();
        let limits = self.0.limits;
        let mut book = self.0.book();
        let held = book.each.get(&address).copied().unwrap_or_default();
        if book.all.connections >= limits.connections || held.connections >= limits.connections_each
        {
            return None;
        }
        book.all.connections += 1;
        book.each.entry(address).or_default().connections += 1;
        drop(book);
        Some(Arc::new(Guest {
            inner: Arc::clone(&self.0),
            address,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
        }))
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, address: IpAddr, bytes: usize) -> bool {
        let mut book = self.book();
        let held = book.each.get(&address).copied().unwrap_or_default();
        let fits =
            |held: usize, limit: usize| held.checked_add(bytes).is_some_and(|sum| sum <= limit);
        if !fits(book.all.bytes, self.limits.bytes) || !fits(held.bytes, self.limits.bytes_each) {
            return false;
        }
        book.all.bytes += bytes;
        book.each.entry(address).or_default().bytes += bytes;
        true
    }

    fn give(&self, address: IpAddr, back: Share) {
        let mut book = self.book();
        book.all.less(back);
        if let Some(held) = book.each.get_mut(&address) {
            held.less(back);
            if held.connections == 0 && held.bytes == 0 {
                book.each.remove(&address);
            }
        }
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
        self.begun.fetch_add(1, Ordering::Relaxed);
        Visit {
            guest: Arc::clone(self),
            bytes: 0,
        }
    }

    /// Returns when nothing was asked for so long that the connection is better ended.
    pub async fn idle(&self) {
        let mut pause = SILENCE;
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            let is_silent = self.begun.load(Ordering::Relaxed) == begun;
            if is_silent && self.ended.load(Ordering::Relaxed) == begun {
                return;
            }
            pause = IDLE;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let back = Share {
            connections: 1,
            bytes: 0,
        };
        self.inner.give(self.address, back);
    }
}

// === impl Visit ===

impl Visit {
    /// Takes room for more bytes of the request, until it ends; says whether there was any.
    #[must_use]
    pub fn hold(&mut self, bytes: usize) -> bool {
        let is_held = self.guest.inner.take(self.guest.address, bytes);
        if is_held {
            self.bytes += bytes;
        }
        is_held
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.guest.ended.fetch_add(1, Ordering::Relaxed);
        let back = Share {
            connections: 0,
            bytes: self.bytes,
        };
        self.guest.inner.give(self.guest.address, back);
    }
}
