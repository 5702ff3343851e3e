//! Lines against the reference's own, levels, and the promise that none is lost.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::SystemTime;

use jiff::tz::{Offset, TimeZone};
use proptest::prelude::*;
use serde_json::{Value, json};
use tracing::{debug, error, info, warn};

use super::line::{Format, Line, Stamp, push_value, rfc3339};
use super::*;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `speak` under a subscriber and returns the lines without their time.
fn lines(options: LogOptions, speak: impl FnOnce(&LogHandle)) -> Vec<String> {
    let out = Shared::default();
    let (layer, handle) = build(options, "rig".into(), Box::new(out.clone())).unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || speak(&handle));
    drop(handle);
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    let cut = |line: &str| match line.split_once(" level=") {
        Some((_, rest)) => format!("level={rest}"),
        None => line.to_owned(),
    };
    text.lines().map(cut).collect()
}

fn app(level: Level) -> LogOptions {
    LogOptions {
        level,
        app_id: Some("appa".into()),
        ..LogOptions::default()
    }
}

fn at(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

fn line(message: &str) -> Line<'static> {
    Line {
        time: at(1_785_578_400_123_456_789),
        level: Level::Info,
        scope: "dapr.runtime",
        message: message.to_owned(),
        fields: vec![
            ("component", Value::from("nr (sqlite/v1)")),
            ("code", json!(200)),
        ],
    }
}

fn stamp() -> Stamp {
    Stamp {
        app_id: Some("myapp".into()),
        instance: "host1".into(),
    }
}

/// Fact: process-interface 7, golden 35 (the key `component`).
#[test]
fn a_text_line_is_the_reference_line() {
    assert_eq!(
        line("dapr initialized. Status: Running. Init Elapsed 12ms").render(
            Format::Text,
            &stamp(),
            &TimeZone::UTC
        ),
        "time=\"2026-08-01T10:00:00.123456789Z\" level=info \
         msg=\"dapr initialized. Status: Running. Init Elapsed 12ms\" app_id=myapp code=200 \
         component=\"nr (sqlite/v1)\" instance=host1 scope=dapr.runtime type=log ver=unknown\n"
    );
}

#[test]
fn a_json_line_has_sorted_keys() {
    assert_eq!(
        line("a\nb").render(Format::Json, &stamp(), &TimeZone::UTC),
        "{\"app_id\":\"myapp\",\"code\":200,\"component\":\"nr (sqlite/v1)\",\
         \"instance\":\"host1\",\"level\":\"info\",\"msg\":\"a\\nb\",\
         \"scope\":\"dapr.runtime\",\"time\":\"2026-08-01T10:00:00.123456789Z\",\
         \"type\":\"log\",\"ver\":\"unknown\"}\n"
    );
}

#[test]
fn a_field_wins_over_the_stamp_and_not_over_fixed_keys() {
    let mut line = line("x");
    line.fields = vec![("app_id", "other".into()), ("level", "odd".into())];
    let text = line.render(Format::Text, &stamp(), &TimeZone::UTC);
    assert!(
        text.contains(" app_id=other fields.level=odd instance=host1 "),
        "{text}"
    );
    assert!(text.contains(" level=info "), "{text}");
}

#[test]
fn values_are_quoted_as_go_quotes() {
    let table = [
        ("", ""),
        ("plain-._/@^+09", "plain-._/@^+09"),
        ("two words", r#""two words""#),
        ("a=b", r#""a=b""#),
        ("say \"x\" \\", r#""say \"x\" \\""#),
        ("a\nb\tc\r", r#""a\nb\tc\r""#),
        ("\u{7}\u{8}\u{b}\u{c}", r#""\a\b\v\f""#),
        ("\u{0}\u{1f}\u{7f}", r#""\x00\x1f\x7f""#),
        ("Loading components…", "\"Loading components…\""),
        ("é", "\"é\""),
        ("e\u{301}", "\"e\u{301}\""),
        ("\u{a0}", r#""\u00a0""#),
        ("\u{200b}\u{feff}", r#""\u200b\ufeff""#),
        ("\u{2028}", r#""\u2028""#),
        ("\u{e0001}", r#""\U000e0001""#),
        ("😀", "\"😀\""),
        ("5%", "\"5%\""),
        ("[::]:80", "\"[::]:80\""),
    ];
    for (value, want) in table {
        let mut line = String::new();
        push_value(&mut line, value);
        assert_eq!(line, want);
    }
}

#[test]
fn time_is_written_as_go_writes_it() {
    let table = [
        (0, "1970-01-01T00:00:00Z"),
        (1_785_578_400_000_000_000, "2026-08-01T10:00:00Z"),
        (1_785_578_400_450_998_010, "2026-08-01T10:00:00.45099801Z"),
        (1_785_578_400_500_000_000, "2026-08-01T10:00:00.5Z"),
    ];
    for (nanos, want) in table {
        assert_eq!(rfc3339(at(nanos), &TimeZone::UTC), want);
    }
    let zone = |seconds| TimeZone::fixed(Offset::from_seconds(seconds).unwrap());
    assert_eq!(rfc3339(at(0), &zone(7200)), "1970-01-01T02:00:00+02:00");
    assert_eq!(rfc3339(at(0), &zone(-34_200)), "1969-12-31T14:30:00-09:30");
}

#[test]
fn events_become_lines() {
    let got = lines(app(Level::Info), |_handle| {
        info!(target: "dapr.runtime", "app id: {}", "appa");
        warn!(target: "dapr.runtime.http", err = %"boom town", attempt = 3_u32, "failed");
        debug!(target: "dapr.runtime", "hidden");
        crate::fatal!(target: "dapr.runtime", "Fatal error from runtime: {}", "x");
    });
    let tail = "type=log ver=unknown";
    assert_eq!(
        got,
        [
            format!(
                "level=info msg=\"app id: appa\" app_id=appa instance=rig scope=dapr.runtime {tail}"
            ),
            format!(
                "level=warning msg=failed app_id=appa attempt=3 err=\"boom town\" instance=rig scope=dapr.runtime.http {tail}"
            ),
            format!(
                "level=fatal msg=\"Fatal error from runtime: x\" app_id=appa instance=rig scope=dapr.runtime {tail}"
            ),
        ]
    );
}

#[test]
fn without_app_id_there_is_no_such_key() {
    let got = lines(
        LogOptions::default(),
        |_handle| info!(target: "dapr.sentry", "hi"),
    );
    assert_eq!(
        got,
        ["level=info msg=hi instance=rig scope=dapr.sentry type=log ver=unknown"]
    );
}

fn speak_at_all_levels() {
    debug!(target: "dapr.x", "debug");
    info!(target: "dapr.x", "info");
    info!(target: "dapr.runtime.http-info", "pinned");
    debug!(target: "dapr.runtime.http-info", "pinned-debug");
    warn!(target: "dapr.x", "warn");
    error!(target: "dapr.x", "error");
    crate::fatal!(target: "dapr.x", "fatal");
    info!(target: "h2::codec", "frame");
    warn!(target: "rustls", "library");
}

fn messages(lines: &[String]) -> Vec<&str> {
    let message = |line: &'_ String| -> Option<usize> { line.find(" msg=") };
    lines
        .iter()
        .map(|line| {
            line[message(line).unwrap() + 5..]
                .split(' ')
                .next()
                .unwrap()
        })
        .collect()
}

#[test]
fn each_level_lets_its_own_pass() {
    let table: &[(Level, &[&str])] = &[
        (Level::Fatal, &["pinned", "fatal"]),
        (Level::Error, &["pinned", "error", "fatal"]),
        (Level::Warn, &["pinned", "warn", "error", "fatal"]),
        (Level::Info, &["info", "pinned", "warn", "error", "fatal"]),
        (
            Level::Debug,
            &[
                "debug",
                "info",
                "pinned",
                "pinned-debug",
                "warn",
                "error",
                "fatal",
                "library",
            ],
        ),
    ];
    for (level, want) in table {
        let got = lines(app(*level), |_handle| speak_at_all_levels());
        assert_eq!(messages(&got), *want, "{level}");
    }
}

#[test]
fn the_level_changes_while_running() {
    let got = lines(app(Level::Error), |handle| {
        for level in [Level::Error, Level::Debug, Level::Error] {
            handle.set_level(level);
            debug!(target: "dapr.x", "at-{level}");
            error!(target: "dapr.x", "now-{level}");
        }
    });
    assert_eq!(
        messages(&got),
        ["now-error", "at-debug", "now-debug", "now-error"]
    );
}

/// A stream whose reader does nothing until told.
struct Stalled {
    go: Receiver<()>,
    out: Shared,
    entered: Sender<()>,
}

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _told = self.entered.send(());
        let _go = self.go.recv();
        self.out.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stalled_reader_costs_lines_not_calls() {
    let ((go, wait), (entered, is_in)) = (channel(), channel());
    let out = Shared::default();
    let stalled = Stalled {
        go: wait,
        out: out.clone(),
        entered,
    };
    let (layer, handle) = build(app(Level::Info), "rig".into(), Box::new(stalled)).unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        info!(target: "dapr.x", "first");
        is_in.recv_timeout(Duration::from_secs(10)).unwrap();
        let long = "y".repeat(1 << 20);
        for _ in 0..3 {
            info!(target: "dapr.x", "{long}");
        }
        drop(go);
        handle.flush();
        info!(target: "dapr.x", "last");
    });
    drop(handle);
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("msg=first "), "{}", text.len());
    assert!(text.contains("msg=last "));
    assert!(text.contains("level=warning msg=\"log lines were dropped"));
    assert!(text.contains("dropped="));
}

#[test]
fn a_log_file_is_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.log");
    std::fs::write(&path, "before\n").unwrap();
    let mut file = append_to(path.clone()).unwrap();
    file.write_all(b"after\n").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
    let error = append_to(folder.path().join("no/such/folder.log")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("failed to open the log file ")
    );
}

proptest! {
    #[test]
    fn a_text_line_is_one_line(message in "\\PC*|[\\x00-\\xff]*", value in "[\\x00-\\xff]*") {
        let mut line = line(&message);
        line.fields = vec![("k", value.into())];
        let text = line.render(Format::Text, &stamp(), &TimeZone::UTC);
        prop_assert_eq!(text.matches('\n').count(), 1);
        prop_assert!(text.ends_with('\n'));
    }

    #[test]
    fn a_json_line_is_read_back(message: String) {
        let text = line(&message).render(Format::Json, &stamp(), &TimeZone::UTC);
        let object: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(object["msg"].as_str(), Some(message.as_str()));
    }
}
