//! The stable port of the internal gRPC listener.
//!
//! Owns the arithmetic that gives the same port to the same app ID, directory, user and machine after a
//! restart (process-interface 2.3). Refuses to own sockets: whether that port is free is asked by `app.rs`.

use std::path::Path;

use sha2::{Digest as _, Sha256};

/// First port of the range; chosen by the reference.
const FIRST: u16 = 47_300;

/// What the port is derived from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed<'a> {
    /// Own app ID.
    pub(crate) app_id: &'a str,
    /// Working directory of this process.
    pub(crate) directory: &'a Path,
    /// Effective user.
    pub(crate) uid: u32,
    /// Name of this machine.
    pub(crate) hostname: &'a str,
}

/// Returns the port that belongs to `seed`: 47300 up to 65534.
///
/// # Source
/// process-interface 2.3: the first two bytes of SHA-256 over the four parts joined by `|`, little-endian,
/// modulo (65535 - 47300), plus 47300.
pub(crate) fn stable(seed: Seed<'_>) -> u16 {
    let Seed {
        app_id,
        directory,
        uid,
        hostname,
    } = seed;
    let text = format!("{app_id}|{}|{uid}|{hostname}", directory.display());
    let [low, high, ..] = <[u8; 32]>::from(Sha256::digest(text.as_bytes()));
    u16::from_le_bytes([low, high]) % (u16::MAX - FIRST) + FIRST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(app_id: &str, directory: &str, uid: u32, hostname: &str) -> u16 {
        stable(Seed {
            app_id,
            directory: Path::new(directory),
            uid,
            hostname,
        })
    }

    /// Values computed from the formula with another program (`sha256sum`).
    #[test]
    fn known_seeds_give_known_ports() {
        // SHA-256("appa|/work|1000|rig") and SHA-256("a|/|0|h")
        assert_eq!(port("appa", "/work", 1000, "rig"), 62_564);
        assert_eq!(port("a", "/", 0, "h"), 51_574);
    }

    #[test]
    fn every_part_matters_and_the_range_holds() {
        let base = port("appa", "/work", 1000, "rig");
        for other in [
            port("appb", "/work", 1000, "rig"),
            port("appa", "/home", 1000, "rig"),
            port("appa", "/work", 0, "rig"),
        ] {
            assert_ne!(base, other);
        }
        for n in 0..2000 {
            assert!((FIRST..u16::MAX).contains(&port(&format!("app{n}"), "/", n, "h")));
        }
    }
}
