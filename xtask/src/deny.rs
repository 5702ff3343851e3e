//! Bans, licences and sources of the dependency tree, by cargo-deny.
//!
//! The tool is installed from the crate registry into the cache folder at a pinned version; advisories
//! are asked only where a database of them is already present, because CI has no other network.

use anyhow::Result;

use crate::{steps::Steps, surroundings::Surroundings};

/// The version that `deny.toml` is written for.
const VERSION: &str = "0.20.2";

/// Installs cargo-deny if needed and runs it.
///
/// # Errors
/// If cargo could not be started.
pub(crate) fn run(around: &Surroundings, steps: &mut Steps) -> Result<()> {
    let root = around.cache().join(format!("cargo-deny-{VERSION}"));
    let program = root.join("bin").join("cargo-deny");
    if !program.exists() {
        steps.run(
            "install cargo-deny",
            around
                .cargo()
                .args(["install", "cargo-deny", "--version", VERSION])
                .args(["--debug", "--locked", "--no-default-features", "--root"])
                .arg(&root)
                // One target folder of its own, kept, so that an interrupted build goes on where it stopped.
                .env("CARGO_TARGET_DIR", around.cache().join("cargo-deny-build")),
        )?;
    }
    if !program.exists() {
        steps.note("cargo-deny could not be installed: is the crate registry reachable?");
        return Ok(());
    }
    steps.run(
        "bans, licences, sources",
        around.program(&program).args([
            "--workspace",
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ]),
    )?;
    if around.advisories().is_some() {
        return steps.run(
            "advisories",
            around.program(&program).args([
                "--workspace",
                "check",
                "--disable-fetch",
                "advisories",
            ]),
        );
    }
    steps.note("advisories: no database under $CARGO_HOME/advisory-dbs, left out");
    Ok(())
}
