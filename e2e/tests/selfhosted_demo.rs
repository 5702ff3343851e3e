//! The README's quick start: `ironside demo` on a bare machine.

#![cfg(test)]

use std::{net::TcpListener, process::Command, time::Duration};

use anyhow::{Result, ensure};
use ironside_e2e::{World, binaries, program::Program};

/// No home, no `PATH`, no runtime folder, and the reference's own port taken.
#[tokio::test]
async fn demo_works_on_a_bare_machine() -> Result<()> {
    let world = World::new();
    // Whoever holds it, it is taken now.
    let _taken = TcpListener::bind(("127.0.0.1", 3500));
    let mut demo = Command::new(binaries::path("ironside"));
    demo.env_clear().env("TMPDIR", world.path()).arg("demo");
    let mut demo = Program::start(&world, "demo", &mut demo);
    let status = demo.exit(Duration::from_secs(60)).await?;
    let log = demo.log();
    ensure!(status.code() == Some(0), "{status}: {log}");
    for part in [
        "Discovery",
        "HTTP call",
        "gRPC call",
        "Streaming",
        "spiffe://public/ns/default/",
        "Policy under load",
        "denied",
        "0 of",
        "p99",
        "through both sidecars and mutual TLS",
        "ironside demo --stay",
        "ironside run",
    ] {
        ensure!(log.contains(part), "no {part:?} in {log}");
    }
    Ok(())
}
