//! What any HTTP or gRPC client may expect: rows of `cli-and-clients.md` 5.5 and 5.6 that need no SDK.

#![cfg(test)]

mod apps;
mod blocks;
mod http;

use std::fmt::Debug;

use anyhow::{Result, ensure};

fn same<T: PartialEq + Debug>(what: &str, expected: T, found: T) -> Result<()> {
    ensure!(
        expected == found,
        "{what}: expected {expected:?}, found {found:?}"
    );
    Ok(())
}
