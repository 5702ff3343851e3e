//! A relay between two programs that breaks connections at a chosen byte.
//!
//! It forwards every byte both ways; a connection whose bytes are used up is closed on both sides at once, in
//! the middle of whatever passes. Which byte that is, a generator of its own decides, so a run can be repeated.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A relay; it stops when dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    kills: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// Pseudo-random numbers (xorshift) that several tasks draw from.
#[derive(Debug)]
struct Chance(AtomicU64);

// === impl Relay ===

impl Relay {
    /// Relays to `target`; each connection is cut after 1 to `most` bytes, both directions together.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(target: u16, most: u64, seed: u64) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let kills = Arc::new(AtomicUsize::new(0));
        let relay = accept(listener, target, most, seed, Arc::clone(&kills));
        #[expect(
            clippy::disallowed_methods,
            reason = "the relay aborts it when dropped"
        )]
        let task = tokio::spawn(relay);
        Ok(Self { port, kills, task })
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were cut.
    #[must_use]
    pub fn kills(&self) -> usize {
        self.kills.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Chance ===

impl Chance {
    /// A number from 1 to `most`.
    fn draw(&self, most: u64) -> u64 {
        let mut state = self.0.load(Ordering::Relaxed);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.store(state, Ordering::Relaxed);
        state.checked_rem(most).unwrap_or_default() + 1
    }
}

async fn accept(listener: TcpListener, target: u16, most: u64, seed: u64, kills: Arc<AtomicUsize>) {
    let chance = Chance(AtomicU64::new(seed.max(1)));
    // Ends with the relay: a connection of an ended test is of no use.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((down, _)) = listener.accept().await {
        let budget = chance.draw(most);
        let kills = Arc::clone(&kills);
        connections.spawn(async move {
            let up = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], target))).await;
            if let Ok(up) = up
                && pass(down, up, budget).await
            {
                kills.fetch_add(1, Ordering::Relaxed);
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Forwards until the budget is used up, or an end closes; true if it was cut.
async fn pass(mut down: TcpStream, mut up: TcpStream, mut budget: u64) -> bool {
    let (mut from_down, mut from_up) = (vec![0; 4096], vec![0; 4096]);
    loop {
        let (count, bytes, to) = tokio::select! {
            read = down.read(&mut from_down) => (read, &from_down, &mut up),
            read = up.read(&mut from_up) => (read, &from_up, &mut down),
        };
        let Ok(count @ 1..) = count else { return false };
        let allowed = usize::try_from(budget).unwrap_or(usize::MAX).min(count);
        let passed = bytes.get(..allowed).unwrap_or_default();
        if to.write_all(passed).await.is_err() {
            return false;
        }
        budget = budget.saturating_sub(count as u64);
        if budget == 0 {
            return true;
        }
    }
}
