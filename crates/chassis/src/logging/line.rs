//! One event as one line: logrus text or JSON.
//!
//! Owns the order of keys, Go's quoting and Go's time. Pure: time and zone
//! come in as arguments.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use ironside_telemetry::quoted;
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde_json::{Map, Value};

use super::level::Level;
use crate::build_info;

/// Text for people and Loki, JSON for collectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

/// What every line of a process carries.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    pub(super) app_id: Option<String>,
    pub(super) instance: String,
}

/// One event, ready to be written.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) time: SystemTime,
    pub(super) level: Level,
    pub(super) scope: &'a str,
    pub(super) message: String,
    /// Fields of the event; those that repeat a stamped key win.
    pub(super) fields: Vec<(&'a str, Value)>,
}

// === impl Line ===

impl<'a> Line<'a> {
    /// Renders the line, newline included.
    pub(super) fn render(self, format: Format, stamp: &'a Stamp, zone: &TimeZone) -> String {
        let time = rfc3339(self.time, zone);
        let (level, message) = (self.level.printed(), self.message.clone());
        let keys = self.keys(stamp);
        match format {
            Format::Text => text(&time, level, &message, &keys),
            Format::Json => json(time, level, message, keys),
        }
    }

    /// All keys after the message, sorted, each once.
    fn keys(self, stamp: &'a Stamp) -> Vec<(Cow<'a, str>, Value)> {
        let mut keys: Vec<(Cow<'a, str>, Value)> = Vec::with_capacity(self.fields.len() + 5);
        keys.extend(
            self.fields
                .into_iter()
                .map(|(key, value)| (unshadowed(key), value)),
        );
        let stamped = [
            ("app_id", stamp.app_id.as_deref()),
            ("instance", Some(stamp.instance.as_str())),
            ("scope", Some(self.scope)),
            ("type", Some("log")),
            ("ver", Some(build_info::LOG_VERSION)),
        ];
        for (key, value) in stamped {
            keys.extend(value.map(|value| (Cow::Borrowed(key), Value::from(value))));
        }
        // Stable: a field of the event stands before the stamped one of its name.
        keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        keys.dedup_by(|(later, _), (kept, _)| later == kept);
        keys
    }
}

/// The three fixed keys cannot be taken by a field; logrus moves such a field aside.
fn unshadowed(key: &str) -> Cow<'_, str> {
    match key {
        "time" | "level" | "msg" => Cow::Owned(format!("fields.{key}")),
        _ => Cow::Borrowed(key),
    }
}

fn text(time: &str, level: &str, message: &str, keys: &[(Cow<'_, str>, Value)]) -> String {
    let mut line = String::with_capacity(160 + message.len());
    line.push_str("time=");
    push_value(&mut line, time);
    line.push_str(" level=");
    line.push_str(level);
    if !message.is_empty() {
        line.push_str(" msg=");
        push_value(&mut line, message);
    }
    for (key, value) in keys {
        line.push(' ');
        line.push_str(key);
        line.push('=');
        match value.as_str() {
            Some(text) => push_value(&mut line, text),
            None => push_value(&mut line, &value.to_string()),
        }
    }
    line.push('\n');
    line
}

fn json(time: String, level: &str, message: String, keys: Vec<(Cow<'_, str>, Value)>) -> String {
    let mut all: Vec<(Cow<'_, str>, Value)> = keys;
    all.push(("time".into(), time.into()));
    all.push(("level".into(), level.into()));
    all.push(("msg".into(), message.into()));
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    let object: Map<String, Value> = all
        .into_iter()
        .map(|(key, value)| (key.into_owned(), value))
        .collect();
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line
}

/// Appends `value`, quoted in Go's manner when it holds more than the plain characters.
pub(super) fn push_value(line: &mut String, value: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/@^+".contains(&byte);
    if value.bytes().all(plain) {
        line.push_str(value);
        return;
    }
    // Writing to a String cannot fail.
    let _infallible = write!(line, "{}", quoted(value));
}

/// RFC 3339 with nanoseconds, trailing zeros cut, as Go's `RFC3339Nano`.
pub(super) fn rfc3339(time: SystemTime, zone: &TimeZone) -> String {
    let stamp = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    let offset = zone.to_offset(stamp);
    let local = offset.to_datetime(stamp);
    let mut text = format!("{}", local.strftime("%Y-%m-%dT%H:%M:%S"));
    let nanos = local.subsec_nanosecond();
    if nanos != 0 {
        let digits = format!(".{nanos:09}");
        text.push_str(digits.trim_end_matches('0'));
    }
    push_offset(&mut text, offset);
    text
}

fn push_offset(text: &mut String, offset: Offset) {
    let seconds = offset.seconds();
    if seconds == 0 {
        text.push('Z');
        return;
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    // Writing to a String cannot fail.
    let _infallible = write!(text, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
}
