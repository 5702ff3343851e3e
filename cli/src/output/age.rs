//! How long something has been running, and since when, in the reference's short forms.
//!
//! Facts: cli-and-clients 1.1 "Tables" (`Age`, `Created`).

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The age as `<n>s`, then whole minutes, hours, days.
pub(crate) fn age(of: Duration) -> String {
    let seconds = of.as_secs();
    match seconds {
        0..=60 => format!("{seconds}s"),
        61..=3600 => format!("{}m", seconds / 60),
        3601..=86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The instant as `YYYY-MM-DD hh:mm.ss` in the machine's time zone, with a dot before the seconds.
pub(crate) fn created(at: SystemTime) -> String {
    local(at, "%Y-%m-%d %H:%M.%S", TimeZone::system())
}

/// The instant as fourteen digits in the machine's time zone, for names of log files.
pub(crate) fn digits(at: SystemTime) -> String {
    local(at, "%Y%m%d%H%M%S", TimeZone::system())
}

fn local(at: SystemTime, form: &str, zone: TimeZone) -> String {
    Timestamp::try_from(at)
        .unwrap_or_default()
        .to_zoned(zone)
        .strftime(form)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_grows_from_seconds_to_days() {
        for (seconds, expected) in [
            (0, "0s"),
            (60, "60s"),
            (61, "1m"),
            (3600, "60m"),
            (3601, "1h"),
            (86_400, "24h"),
            (86_401, "1d"),
            (900_000, "10d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn created_has_a_dot_before_the_seconds() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_785_585_607);
        assert_eq!(
            local(at, "%Y-%m-%d %H:%M.%S", TimeZone::UTC),
            "2026-08-01 12:00.07"
        );
        assert_eq!(digits(at).len(), 14);
    }
}
