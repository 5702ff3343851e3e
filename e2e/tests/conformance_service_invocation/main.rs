//! Service invocation, row by row: chapter 8 of the fact sheet `service-invocation.md` against real programs.
//!
//! Each file holds the rows of one theme, which share their programs; a row names its fact by id. `deferred`
//! lists the rows that need parts this suite does not have; the test below holds that no row is in neither.

#![cfg(test)]

mod access;
mod api;
mod app_channel;
mod bodies;
mod deferred;
mod denials;
mod failures;
mod from_grpc;
mod headers;
mod lifecycle;
mod mtls;
mod outside;
mod peers;
mod proxying;
mod resolution;
mod rig;
mod targets;
mod to_grpc;

use std::{collections::BTreeSet, fs, path::Path};

/// The sheet numbers its rows from 1 to this.
const LAST: usize = 162;

#[test]
fn every_row_is_tested_or_deferred() {
    let mut tested = BTreeSet::new();
    for entry in fs::read_dir(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance_service_invocation"),
    )
    .unwrap()
    {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .is_some_and(|name| name != "deferred.rs" && name != "main.rs")
        {
            tested.extend(rows_of(&fs::read_to_string(&path).unwrap()));
        }
    }
    let deferred: BTreeSet<usize> = deferred::DEFERRED
        .iter()
        .map(|(number, _)| *number)
        .collect();
    for (number, reason) in deferred::DEFERRED {
        eprintln!("SI-{number:03} deferred: {reason}");
    }
    let both: Vec<_> = tested.intersection(&deferred).collect();
    assert!(both.is_empty(), "tested and deferred: {both:?}");
    let missing: Vec<_> = (1..=LAST)
        .filter(|row| !tested.contains(row) && !deferred.contains(row))
        .collect();
    assert!(
        missing.is_empty(),
        "neither tested nor deferred: {missing:?}"
    );
    eprintln!(
        "service invocation: {} rows tested, {} deferred",
        tested.len(),
        deferred.len()
    );
}

/// The numbers of the rows that a source file runs: every `.row("SI-nnn` in it.
fn rows_of(source: &str) -> BTreeSet<usize> {
    let ids = source
        .split(".row(")
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    let numbers = ids
        .flat_map(|ids| ids.split(' '))
        .filter_map(|id| id.strip_prefix("SI-")?.parse().ok());
    numbers.collect()
}
