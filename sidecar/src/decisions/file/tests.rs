//! The thread and its queues, with real files.

use std::{fs, time::SystemTime};

use ironside_chassis::Clock;
use ironside_policy::{Caller, Operation, Verb};
use ironside_telemetry::metrics::{Metrics, Settings};
use tempfile::TempDir;

use super::*;
use crate::{
    decisions::{
        Asked, Recorder,
        outbox::{Outbox, Ring},
        record::{Protocol, Record},
    },
    live::Live,
};

fn asked(path: &str) -> Asked<'_> {
    Asked {
        caller: Caller::Anonymous,
        operation: Operation::invoke(path, Verb::Get),
        raw: path,
        protocol: Protocol::Http,
        trace: None,
    }
}

fn call(recorder: &Recorder, live: &Live, path: &str) {
    let asked = asked(path);
    let decision = live.policy.decide(asked.caller, &asked.operation);
    recorder.record(live, &asked, &decision);
}

fn decisions() -> Arc<Decisions> {
    let metrics = Arc::new(Metrics::new("a", Settings::default()));
    Arc::new(Decisions::new(metrics, Clock::system(), true))
}

/// Every call of every thread is a line, in order, over however many files.
#[test]
fn threads_that_write_at_once_lose_nothing() {
    let folder = TempDir::new().unwrap();
    let decisions = decisions();
    let settings = AccessLogFile {
        path: folder.path().join("f"),
        max_size: 64 << 10,
        max_files: 1000,
    };
    let writing = start(&settings, &decisions).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let recorder = decisions.recorder();
            scope.spawn(move || {
                let live = Live::default();
                (0..2_000).for_each(|at| call(&recorder, &live, &format!("{thread}/{at}")));
            });
        }
    });
    // An exiting process does not wait so long for a slow disk.
    decisions.common.bell.stop(Duration::from_secs(60));
    drop(writing);
    let mut paths: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(paths.len() > 5);
    // The oldest has the greatest number; the newest has none.
    paths.sort_by_key(|path| {
        let number = path
            .extension()
            .map(|text| text.to_str().unwrap().parse::<u32>().unwrap());
        std::cmp::Reverse(number.unwrap_or(0))
    });
    let text: String = paths
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for thread in 0..3 {
        let start = format!("\"operation\":\"/{thread}/");
        let seen: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once(&start)?.1.split_once('"'))
            .map(|(number, _)| number)
            .collect();
        let want: Vec<String> = (0..2_000).map(|at: u32| at.to_string()).collect();
        assert_eq!(seen, want);
    }
    let dropped = decisions.common.metrics.exposition();
    assert!(!dropped.contains("\ndapr_runtime_access_log_dropped_total"));
}

/// A disk that takes nothing costs so much memory and no more; what is missing is counted.
#[test]
fn a_queue_without_room_counts() {
    let live = Live::default();
    let path = "x".repeat(900);
    let asked = asked(&path);
    let decision = live.policy.decide(asked.caller, &asked.operation);
    let record = Record::of(&live, &asked, &decision, SystemTime::UNIX_EPOCH);
    let mut outbox = Outbox::default();
    let rings: Vec<Ring> = (0..3_000).map(|_| outbox.push(&record)).collect();
    assert_eq!(rings[0], Ring::Something);
    let much = rings.iter().filter(|ring| **ring == Ring::Much).count();
    let some = rings
        .iter()
        .filter(|ring| **ring == Ring::Something)
        .count();
    assert_eq!((much, some), (1, 1));
    let mut lines = String::new();
    let left_out = outbox.take(&mut lines);
    assert!(lines.len() <= 1 << 20 && lines.ends_with("}\n"));
    assert_eq!(lines.lines().count() as u64 + left_out, 3_000);
    assert!(left_out > 0);
    assert_eq!(outbox.push(&record), Ring::Something);
}
