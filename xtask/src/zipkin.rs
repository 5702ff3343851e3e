//! `e2e zipkin`: traces in a real Zipkin server.
//!
//! The server is a published artefact, fetched once into the cache folder with Maven; a Java 17 runs it. Without
//! either nothing is run, and the recipe fails: a test that is left out looks like one that passed.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{steps::Steps, surroundings::Surroundings};

/// The server: cluster.md 6.
const ARTEFACT: &str = "io.zipkin:zipkin-server:3.5.1:jar:exec";
/// Its file.
const FILE: &str = "zipkin-server-3.5.1-exec.jar";
/// What fetches it.
const FETCH: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy";

/// Runs the suite.
///
/// # Errors
/// Without the server or Java; failing tests are collected in `steps`.
pub(crate) fn run(around: &Surroundings, steps: &mut Steps) -> Result<()> {
    let java = Command::new("java").arg("-version").output();
    ensure!(
        java.is_ok_and(|output| output.status.success()),
        "the Zipkin suite needs java in PATH: Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)"
    );
    let jar = server(around)?;
    let mut tests = around.cargo();
    tests
        .env("IRONSIDE_ZIPKIN_JAR", jar)
        .args(["test", "--package", "ironside-e2e", "--test", "tracing"])
        .args(["--", "--ignored", "--nocapture", "zipkin::"]);
    steps.run("traces in a real Zipkin server", &mut tests)
}

fn server(around: &Surroundings) -> Result<PathBuf> {
    let folder = around.cache().join("zipkin");
    let jar = folder.join(FILE);
    if jar.exists() {
        return Ok(jar);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cache folder {}", folder.display()))?;
    let fetched = Command::new("mvn")
        .args(["-q", "-B", FETCH])
        .arg(format!("-Dartifact={ARTEFACT}"))
        .arg(format!("-DoutputDirectory={}", folder.display()))
        .current_dir(&folder)
        .status()
        .context("the Zipkin suite needs mvn in PATH to fetch the server (Debian: apt-get install maven)")?;
    ensure!(
        fetched.success() && jar.exists(),
        "the Zipkin server {ARTEFACT} could not be fetched"
    );
    Ok(jar)
}
