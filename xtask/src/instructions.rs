//! `instructions`: how many instructions a decision costs, with few and with many rules (benchmarks 7, P1).
//!
//! Counts with callgrind, so a busy machine makes no difference. Fails if many rules cost more than few.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::surroundings::Surroundings;

/// Requests that are compared.
const KINDS: [&str; 9] = [
    "exact-3",
    "exact-12",
    "path-200",
    "miss",
    "unknown-caller",
    "glob",
    "double-star",
    "verb-mismatch",
    "grpc-method",
];
const SHAPES: [&str; 2] = ["spread", "one-caller"];
/// Decisions in one run of the example.
const DECISIONS: u64 = 1000;
/// The gate, in percent.
const MOST: u64 = 115;

/// Counts and compares.
pub(crate) fn run(around: &Surroundings) -> Result<()> {
    let mut build = around.cargo();
    build.args([
        "build",
        "--release",
        "-p",
        "ironside-policy",
        "--example",
        "instructions",
    ]);
    ensure!(build.status()?.success(), "building the example failed");
    eprintln!(
        "{:<12}{:<18}{:>10}{:>10}{:>8}",
        "shape", "request", "10", "100,000", "ratio"
    );
    let mut over = Vec::new();
    for shape in SHAPES {
        for kind in KINDS {
            let few = count(around, shape, "10", kind)?;
            let many = count(around, shape, "100000", kind)?;
            let percent = many * 100 / few.max(1);
            eprintln!(
                "{shape:<12}{kind:<18}{:>10}{:>10}{:>7}%",
                few / DECISIONS,
                many / DECISIONS,
                percent
            );
            if percent > MOST {
                over.push(format!("{shape} {kind}: {percent} %"));
            }
        }
    }
    if over.is_empty() {
        return Ok(());
    }
    bail!("more rules cost more than {MOST} %: {}", over.join(", "))
}

fn count(around: &Surroundings, shape: &str, rules: &str, kind: &str) -> Result<u64> {
    let example = around.target().join("release/examples/instructions");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args([
            "--collect-atstart=no",
            "--toggle-collect=*instructions::counted*",
        ])
        .arg(example)
        .args([shape, rules, kind])
        .output()
        .context("running valgrind")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {told}");
    let line = told
        .lines()
        .rev()
        .find_map(|line| line.split_once("Collected :"));
    let (_, count) = line.with_context(|| format!("no count in what valgrind said: {told}"))?;
    count.trim().parse().context("reading the count")
}
