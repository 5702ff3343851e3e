//! Published clients against real sidecars: rows 5.5 and 5.6 of the fact sheet `cli-and-clients.md`.
//!
//! The programs lie in `e2e/sdk` and `e2e/apps`; they print one verdict line a row, which the tests here collect.
//! What they need (a Python environment, `node_modules`, the Rust client) is put into the cache folder by
//! `cargo xtask e2e sdk`, which is the way to run them.

#![cfg(test)]

mod javascript;
mod python;
mod quickstarts;
mod rust;
mod verdicts;

use std::{path::PathBuf, process::Command};

use ironside_e2e::{Sidecar, binaries};

/// Where `cargo xtask e2e sdk` put things.
fn cache() -> PathBuf {
    binaries::setting("IRONSIDE_CACHE").expect("run this by `cargo xtask e2e sdk`")
}

fn folder(name: &str) -> PathBuf {
    binaries::root().join("e2e").join(name)
}

fn python_program() -> PathBuf {
    cache().join("python/bin/python3")
}

/// A script of `e2e/sdk/python` or `e2e/apps`.
fn python(script: &str) -> Command {
    let mut command = Command::new(python_program());
    command
        .arg(folder(script))
        .env("PYTHONPATH", folder("sdk/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A script of `e2e/sdk/javascript` or `e2e/apps`.
fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command
        .arg(folder(script))
        .env("NODE_PATH", cache().join("javascript/node_modules"));
    command
}

/// The program of `e2e/sdk/rust`.
fn rust(word: &str) -> Command {
    let mut command = Command::new(cache().join("rust/debug/ironside-sdk-rows"));
    command.arg(word);
    command
}

/// Tells a program its sidecar.
fn beside<'a>(command: &'a mut Command, sidecar: &Sidecar) -> &'a mut Command {
    command
        .env("DAPR_HTTP_PORT", sidecar.http().to_string())
        .env("DAPR_GRPC_PORT", sidecar.grpc().to_string())
}
