//! Ports for programs that must be told theirs, free of collisions between tests that run at once.
//!
//! All lie below 32768, where the kernel takes no port for outgoing connections. A test process owns blocks of
//! a hundred: it listens on the first port of a block for as long as it lives, so that the kernel itself keeps
//! other processes away.

use std::{
    net::TcpListener,
    sync::{Mutex, PoisonError},
};

const FIRST: u16 = 10_000;
const BLOCK: u16 = 100;
const BLOCKS: u16 = 220;

struct Blocks {
    held: Vec<TcpListener>,
    next: u16,
    left: u16,
}

/// A port of 127.0.0.1 that nobody listens on and no other test will be given.
///
/// # Panics
/// If all blocks are taken.
#[must_use]
pub fn free() -> u16 {
    static OWNED: Mutex<Blocks> = Mutex::new(Blocks {
        held: Vec::new(),
        next: 0,
        left: 0,
    });
    let mut blocks = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if blocks.left == 0 {
            let (start, lease) = lease();
            blocks.held.push(lease);
            (blocks.next, blocks.left) = (start.saturating_add(1), BLOCK.saturating_sub(1));
        }
        let port = blocks.next;
        blocks.next = blocks.next.saturating_add(1);
        blocks.left = blocks.left.saturating_sub(1);
        // Another program of the machine may sit there.
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

fn lease() -> (u16, TcpListener) {
    let turn = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap_or(0);
    let starts =
        (0..BLOCKS).map(|step| FIRST.saturating_add(turn.saturating_add(step) % BLOCKS * BLOCK));
    let mut leases =
        starts.filter_map(|start| Some((start, TcpListener::bind(("127.0.0.1", start)).ok()?)));
    leases.next().expect("a block of ports is free")
}
