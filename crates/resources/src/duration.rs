//! Durations in Go's spelling, as flags and manifests write them.
//!
//! [`GoDuration`] reads `300ms`, `1m30s`, `24h`, `-1.5h` and writes the normal
//! form `1m30s`, `3m0s`, `24h0m0s`. It refuses a missing unit (except `0`) and
//! anything beyond 64 bits of nanoseconds. Source: process-interface 1, 2.8.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

const NANOSECOND: u64 = 1;
const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// A signed span of time with the range and spelling of Go's `time.Duration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

/// Why a text is no duration; the texts are Go's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    /// No number, a stray sign, or too large.
    #[error("time: invalid duration {0:?}")]
    Invalid(Box<str>),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(Box<str>),
    /// A unit Go does not know.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit.
        unit: Box<str>,
        /// The whole text.
        text: Box<str>,
    },
}

// === impl GoDuration ===

impl GoDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Returns the duration of `nanos` nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Returns the whole number of nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Returns whether the span is below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Returns the span as an unsigned one; `None` when it is negative.
    #[must_use]
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

impl From<Duration> for GoDuration {
    /// Saturates at about 292 years.
    fn from(span: Duration) -> Self {
        Self(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            Some(_) | None => (false, text),
        };
        if unsigned == "0" {
            return Ok(Self::ZERO);
        }
        let invalid = || DurationError::Invalid(text.into());
        if unsigned.is_empty() {
            return Err(invalid());
        }
        let (mut total, mut rest) = (0_u64, unsigned);
        while !rest.is_empty() {
            let (term, after) = term(rest, text)?;
            total = total.checked_add(term).ok_or_else(invalid)?;
            rest = after;
        }
        let signed = if negative {
            0_i64.checked_sub_unsigned(total)
        } else {
            i64::try_from(total).ok()
        };
        signed.map(Self).ok_or_else(invalid)
    }
}

/// Reads one `number unit` pair of `text` at the start of `rest`.
fn term<'a>(rest: &'a str, text: &str) -> Result<(u64, &'a str), DurationError> {
    let invalid = || DurationError::Invalid(text.into());
    let (whole, after) = digits(rest);
    let (fraction, after) = match after.strip_prefix('.') {
        Some(after) => digits(after),
        None => ("", after),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid());
    }
    let end = after.find(|c: char| c == '.' || c.is_ascii_digit());
    let (name, after) = after.split_at(end.unwrap_or(after.len()));
    let unit = unit(name, text)?;
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_overflow| invalid())?
    };
    let nanos = whole.checked_mul(unit).ok_or_else(invalid)?;
    let nanos = nanos.checked_add(part_of(unit, fraction));
    Ok((nanos.ok_or_else(invalid)?, after))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

fn unit(name: &str, text: &str) -> Result<u64, DurationError> {
    Ok(match name {
        "ns" => NANOSECOND,
        "us" | "µs" | "μs" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "" => return Err(DurationError::MissingUnit(text.into())),
        _ => {
            return Err(DurationError::UnknownUnit {
                unit: name.into(),
                text: text.into(),
            });
        }
    })
}

/// Returns `0.<digits>` of `unit`, cut to whole nanoseconds.
fn part_of(unit: u64, digits: &str) -> u64 {
    let (mut part, mut scale) = (0_u128, 1_u128);
    // 18 digits are finer than a nanosecond of an hour; more cannot change the result.
    for digit in digits.bytes().take(18) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(part * u128::from(unit) / scale).unwrap_or(u64::MAX)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.is_negative() {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            _ if nanos < MICROSECOND => write!(f, "{nanos}ns"),
            _ if nanos < MILLISECOND => decimal(f, nanos, MICROSECOND, "µs"),
            _ if nanos < SECOND => decimal(f, nanos, MILLISECOND, "ms"),
            _ => {
                let (hours, minutes) = (nanos / HOUR, nanos % HOUR / MINUTE);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                decimal(f, nanos % MINUTE, SECOND, "s")
            }
        }
    }
}

/// Writes `nanos` in `unit`s with as many decimals as there are.
fn decimal(f: &mut fmt::Formatter<'_>, nanos: u64, unit: u64, name: &str) -> fmt::Result {
    let (whole, part) = (nanos / unit, nanos % unit);
    if part == 0 {
        return write!(f, "{whole}{name}");
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{part:0width$}");
    write!(f, "{whole}.{}{name}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_read_as_go_reads_them() {
        let table: &[(&str, i64)] = &[
            ("0", 0),
            ("-0", 0),
            ("+0", 0),
            ("300ms", 300_000_000),
            ("1m30s", 90_000_000_000),
            ("24h", 86_400_000_000_000),
            ("-1.5h", -5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+5s", 5_000_000_000),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("3μs", 3_000),
            ("1ns", 1),
            ("1.9ns", 1),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("1s1s", 2_000_000_000),
        ];
        for &(text, nanos) in table {
            assert_eq!(text.parse(), Ok(GoDuration(nanos)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_in_go_words() {
        let table = [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("s", "time: invalid duration \"s\""),
            (".s", "time: invalid duration \".s\""),
            ("5", "time: missing unit in duration \"5\""),
            ("1h5", "time: missing unit in duration \"1h5\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1 s", "time: unknown unit \" s\" in duration \"1 s\""),
            ("--1s", "time: invalid duration \"--1s\""),
            (
                "9223372036854775808ns",
                "time: invalid duration \"9223372036854775808ns\"",
            ),
            ("3000000h", "time: invalid duration \"3000000h\""),
            (
                "99999999999999999999s",
                "time: invalid duration \"99999999999999999999s\"",
            ),
        ];
        for (text, want) in table {
            let error = text.parse::<GoDuration>().unwrap_err();
            assert_eq!(error.to_string(), want);
        }
    }

    #[test]
    fn durations_are_written_in_normal_form() {
        let table = [
            ("2s", "2s"),
            ("3m", "3m0s"),
            ("500ms", "500ms"),
            ("90s", "1m30s"),
            ("24h", "24h0m0s"),
            ("1h", "1h0m0s"),
            ("1500ms", "1.5s"),
            ("1500us", "1.5ms"),
            ("1ns", "1ns"),
            ("1001ns", "1.001µs"),
            ("-2s", "-2s"),
            ("0", "0s"),
            ("1h0.5s", "1h0m0.5s"),
        ];
        for (text, want) in table {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), want);
        }
        assert_eq!(
            GoDuration(i64::MIN).to_string(),
            "-2562047h47m16.854775808s"
        );
    }

    #[test]
    fn a_negative_span_is_no_std_duration() {
        assert_eq!(GoDuration(-1).to_std(), None);
        assert_eq!(GoDuration(5).to_std(), Some(Duration::from_nanos(5)));
        assert_eq!(GoDuration::from(Duration::MAX), GoDuration(i64::MAX));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _no_panic = text.parse::<GoDuration>();
        }

        #[test]
        fn near_durations_are_read_or_refused(text in "[-+]?([0-9.]{0,25}(ns|us|ms|s|m|h|d)?){0,3}") {
            let _no_panic = text.parse::<GoDuration>();
        }

        #[test]
        fn what_is_written_is_read_back(nanos: i64) {
            let written = GoDuration(nanos).to_string();
            prop_assert_eq!(written.parse(), Ok(GoDuration(nanos)));
        }
    }
}
