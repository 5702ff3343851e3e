//! What the configuration says about the database.
//!
//! Owns the keys of service-invocation 6.5, their defaults and bounds; spelled in any case, values
//! as text, numbers (seconds) or truth values. Refuses to open anything.

use std::str::FromStr as _;
use std::time::Duration;

use ironside_resources::GoDuration;
use serde_json::Value;

#[cfg(test)]
mod tests;

/// Fact: 6.5, key `timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// Fact: 6.5, key `busyTimeout`.
const DEFAULT_BUSY_TIMEOUT: Duration = Duration::from_millis(800);
/// Fact: 6.5, key `updateInterval`.
const DEFAULT_UPDATE_INTERVAL: Duration = Duration::from_secs(5);
/// Fact: 6.5, key `cleanupInterval`.
const DEFAULT_CLEANUP_INTERVAL: Duration = Duration::from_secs(3600);
/// Between the timeout and the update interval lies this at least. Fact: 6.5.
const MARGIN: Duration = Duration::from_secs(1);

/// Validated settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// Where the database is, as a `file:` URI.
    pub(super) uri: String,
    /// How long a look-up waits.
    pub(super) timeout: Duration,
    /// How long SQLite waits for a lock.
    pub(super) busy_timeout: Duration,
    /// How changes reach the disk.
    pub(super) journal: Journal,
    /// The table of sidecars; a valid identifier.
    pub(super) table: Identifier,
    /// The table of the schema's version; a valid identifier.
    pub(super) metadata_table: Identifier,
    /// A row not renewed in this time does not count; whole seconds.
    pub(super) update_interval: Duration,
    /// Between two removals of rows that nobody renews.
    pub(super) cleanup_interval: Duration,
}

/// How changes reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Journal {
    /// Readers and one writer at the same time.
    WriteAhead,
    /// SQLite's own choice.
    Default,
}

/// A table's name that needs no quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identifier(Box<str>);

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingsError {
    /// There is no `connectionString`.
    #[error("missing connection string: set connectionString to the path of the database")]
    NoConnectionString,
    /// A key's value is of the wrong kind.
    #[error("{key}: {value} is not {expected}")]
    Value {
        /// The key, as documented.
        key: &'static str,
        /// What was written.
        value: Box<str>,
        /// What is allowed.
        expected: &'static str,
    },
    /// The update interval has a fraction of a second.
    #[error("update interval must not contain fractions of seconds")]
    Fraction,
    /// The update interval is too short for the timeout.
    #[error("update interval must be at least 1s greater than timeout")]
    Interval,
    /// The timeout is too short.
    #[error("timeout must be at least 1s")]
    Timeout,
}

/// The keys of a configuration, found in any case.
struct Keys<'a>(Option<&'a serde_json::Map<String, Value>>);

// === impl Settings ===

impl Settings {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// [`SettingsError`] names the key or the rule.
    pub(super) fn parse(configuration: &Value) -> Result<Self, SettingsError> {
        let keys = Keys(configuration.as_object());
        let connection = keys.text(&["connectionString", "url"], "")?;
        if connection.is_empty() {
            return Err(SettingsError::NoConnectionString);
        }
        let settings = Self {
            uri: uri(&connection),
            timeout: keys.span(&["timeout", "timeoutInSeconds"], DEFAULT_TIMEOUT)?,
            busy_timeout: keys.span(&["busyTimeout"], DEFAULT_BUSY_TIMEOUT)?,
            journal: if keys.truth("disableWAL")? {
                Journal::Default
            } else {
                Journal::WriteAhead
            },
            table: keys.identifier("tableName", "hosts")?,
            metadata_table: keys.identifier("metadataTableName", "metadata")?,
            update_interval: keys.span(&["updateInterval"], DEFAULT_UPDATE_INTERVAL)?,
            cleanup_interval: keys.span(
                &["cleanupInterval", "cleanupIntervalInSeconds"],
                DEFAULT_CLEANUP_INTERVAL,
            )?,
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        if self.timeout < Duration::from_secs(1) {
            return Err(SettingsError::Timeout);
        }
        if self.update_interval.subsec_nanos() != 0 {
            return Err(SettingsError::Fraction);
        }
        if self.update_interval < self.timeout.saturating_add(MARGIN) {
            return Err(SettingsError::Interval);
        }
        Ok(())
    }

    /// The path in the URI, for people.
    pub(super) fn path(&self) -> &str {
        let path = self.uri.strip_prefix("file:").unwrap_or(&self.uri);
        path.split_once('?').map_or(path, |(path, _)| path)
    }

    /// Whether the database ends with this process, so that nobody else can read it.
    pub(super) fn is_in_memory(&self) -> bool {
        self.path() == ":memory:" || self.uri.contains("mode=memory")
    }

    /// Between two renewals of the own row. Fact: 6.5.
    pub(super) fn renew_interval(&self) -> Duration {
        self.update_interval.saturating_sub(self.timeout)
    }
}

fn uri(connection: &str) -> String {
    if connection.starts_with("file:") {
        connection.to_owned()
    } else {
        format!("file:{connection}")
    }
}

// === impl Identifier ===

impl Identifier {
    /// The name.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl Keys ===

impl Keys<'_> {
    fn get(&self, names: &[&'static str]) -> Option<(&'static str, &Value)> {
        let map = self.0?;
        names.iter().find_map(|name| {
            let mut keys = map.iter().filter(|(_, value)| !value.is_null());
            let (_, value) = keys.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
            Some((*name, value))
        })
    }

    fn text(&self, names: &[&'static str], default: &str) -> Result<String, SettingsError> {
        match self.get(names) {
            None => Ok(default.to_owned()),
            Some((_, Value::String(text))) => Ok(text.trim().to_owned()),
            Some((key, other)) => Err(refused(key, other, "text")),
        }
    }

    fn span(&self, names: &[&'static str], default: Duration) -> Result<Duration, SettingsError> {
        let Some((key, value)) = self.get(names) else {
            return Ok(default);
        };
        let written = plain(value);
        let seconds = written.parse().ok().map(Duration::from_secs);
        let spelled = || GoDuration::from_str(&written).ok()?.to_std();
        seconds
            .or_else(spelled)
            .filter(|span| !span.is_zero())
            .ok_or_else(|| refused(key, value, "a duration above zero, as 5s or 1h"))
    }

    fn truth(&self, name: &'static str) -> Result<bool, SettingsError> {
        let Some((key, value)) = self.get(&[name]) else {
            return Ok(false);
        };
        match plain(value).to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
            "" | "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
            _ => Err(refused(key, value, "true or false")),
        }
    }

    fn identifier(&self, name: &'static str, default: &str) -> Result<Identifier, SettingsError> {
        let text = self.text(&[name], default)?;
        let mut bytes = text.bytes();
        let starts = bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
        if starts && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Ok(Identifier(text.into()));
        }
        let expected = "a name of letters, digits and underscores";
        Err(refused(name, &Value::String(text), expected))
    }
}

/// A value as text, without the quotes of a string.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), |text| text.trim().to_owned())
}

fn refused(key: &'static str, value: &Value, expected: &'static str) -> SettingsError {
    SettingsError::Value {
        key,
        value: value.to_string().into(),
        expected,
    }
}
