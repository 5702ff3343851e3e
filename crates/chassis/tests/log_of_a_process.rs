//! The log of a whole process: this test starts itself as the process that logs.
//!
//! Only here is the global subscriber installed, so only here the end of a
//! process with lines still waiting can be seen.

use std::process::{Command, Stdio};

use ironside_chassis::logging::{self, InitError, LogOptions};

/// As many as the log holds while nobody reads, so that none may be dropped either.
const LINES: usize = 10_000;

#[test]
fn no_line_is_lost_at_exit() {
    let this = std::env::current_exe().unwrap();
    let child = Command::new(this)
        .args([
            "--ignored",
            "--exact",
            "process_that_ends_right_after_logging",
        ])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(child.stdout).unwrap();
    let mut numbers = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" level=info msg=\"line number ")?;
        rest.split('"').next()?.parse::<usize>().ok()
    });
    assert!((0..LINES).all(|number| numbers.next() == Some(number)));
    assert!(text.contains("level=fatal msg=\"Fatal error from runtime: x\" app_id=a instance="));
}

#[test]
#[ignore = "started by no_line_is_lost_at_exit"]
fn process_that_ends_right_after_logging() {
    let options = LogOptions {
        app_id: Some("a".into()),
        ..LogOptions::default()
    };
    let log = logging::init(options.clone()).unwrap();
    assert!(matches!(logging::init(options), Err(InitError::Twice)));
    for number in 0..LINES {
        tracing::info!(target: "dapr.runtime", "line number {number}");
    }
    ironside_chassis::fatal!(target: "dapr.runtime", "Fatal error from runtime: {}", "x");
    // No destructor runs after this, not even that of `log`.
    std::mem::forget(log);
    std::process::exit(1);
}
