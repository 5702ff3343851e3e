//! The database: its schema, this sidecar's row, and everybody's rows.
//!
//! Owns every SQL statement. Blocks, so it is called from threads for blocking work only. The
//! schema and the note of its version are shared with the reference (service-invocation 6.5), so
//! that both may use one file. Time comes in as seconds of the Unix epoch.

use std::time::Duration;

use ironside_identity::AppId;
use ironside_resolution::Authority;
use rand::Rng as _;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};
use tracing::info;

use super::super::LOG;
use super::COMPONENT;
use super::settings::{Journal, Settings};

/// Where the metadata table keeps the schema's version.
const VERSION_KEY: &str = "nr-migrations";
/// The version of the schema below.
const VERSION: u32 = 1;
/// How often the first statements are tried: many sidecars may start at the same moment, and where
/// two of them hold what the other needs, SQLite refuses at once instead of waiting.
const START_TRIES: u32 = 100;
/// How long SQLite waits in each of them.
const START_PATIENCE: Duration = Duration::from_millis(100);
/// The longest pause between two of them, in milliseconds.
const START_PAUSE_MS: u64 = 20;
/// Rows read at most.
const MAX_ROWS: u32 = 100_000;

/// An open database.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    table: String,
    update_interval: i64,
    cleanup_interval: i64,
}

/// The own row: whoever replaced it has another ID.
#[derive(Debug, Clone)]
pub(super) struct Registration {
    id: String,
    address: Authority,
}

/// Whether the own row is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Renewed.
    Kept,
    /// Somebody replaced or removed it.
    Lost,
}

// === impl Store ===

impl Store {
    /// Opens the database and makes the tables if need be.
    ///
    /// # Errors
    /// What SQLite says.
    pub(super) fn open(settings: &Settings) -> rusqlite::Result<Self> {
        let mut tries = 1;
        let connection = loop {
            match prepared(settings) {
                Err(cause) if is_busy(&cause) && tries < START_TRIES => tries += 1,
                outcome => break outcome?,
            }
            let pause = rand::rng().random_range(1..=START_PAUSE_MS);
            std::thread::sleep(Duration::from_millis(pause));
        };
        connection.busy_timeout(settings.busy_timeout)?;
        Ok(Self {
            connection,
            table: settings.table.as_str().to_owned(),
            update_interval: whole_seconds(settings.update_interval),
            cleanup_interval: whole_seconds(settings.cleanup_interval),
        })
    }

    /// Enters this sidecar, replacing any row of the same address.
    ///
    /// # Errors
    /// What SQLite says.
    pub(super) fn register(
        &self,
        app: &AppId,
        address: &Authority,
        now: i64,
    ) -> rusqlite::Result<Registration> {
        let registration = Registration {
            id: random_id(),
            address: address.clone(),
        };
        let sql = format!(
            "REPLACE INTO {} (registration_id, address, app_id, namespace, last_update) VALUES (?1, ?2, ?3, '', ?4)",
            self.table
        );
        let row = params![registration.id, address.as_str(), app.as_str(), now];
        self.connection.execute(&sql, row)?;
        Ok(registration)
    }

    /// Says that this sidecar still lives.
    ///
    /// # Errors
    /// What SQLite says; the row may still be there.
    pub(super) fn renew(&self, own: &Registration, now: i64) -> rusqlite::Result<Renewal> {
        let sql = format!(
            "UPDATE {} SET last_update = ?1 WHERE registration_id = ?2 AND address = ?3",
            self.table
        );
        let row = params![now, own.id, own.address.as_str()];
        let renewed = self.connection.execute(&sql, row)?;
        Ok(if renewed == 0 {
            Renewal::Lost
        } else {
            Renewal::Kept
        })
    }

    /// Takes the own row away.
    ///
    /// # Errors
    /// What SQLite says.
    pub(super) fn deregister(&self, own: &Registration) -> rusqlite::Result<()> {
        let sql = format!(
            "DELETE FROM {} WHERE registration_id = ?1 AND address = ?2",
            self.table
        );
        let row = params![own.id, own.address.as_str()];
        self.connection.execute(&sql, row).map(drop)
    }

    /// The rows that were renewed within the update interval; others are passed over.
    ///
    /// Both instants are cut to whole seconds, so a row may look one second older than it is: a row
    /// exactly as old as the interval still counts, or a renewal that comes a moment late would
    /// hide a sidecar that lives.
    ///
    /// # Errors
    /// What SQLite says.
    pub(super) fn live(&self, now: i64) -> rusqlite::Result<Vec<(AppId, Authority)>> {
        let sql = format!(
            "SELECT app_id, address FROM {} WHERE ?1 - last_update <= ?2 LIMIT ?3",
            self.table
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![now, self.update_interval, MAX_ROWS], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        let mut live = Vec::new();
        for row in rows {
            let (app, address) = row?;
            if let (Ok(app), Ok(address)) = (AppId::parse(&app), Authority::parse(&address)) {
                live.push((app, address));
            }
        }
        Ok(live)
    }

    /// Removes rows that nobody renewed within the cleanup interval; returns how many.
    ///
    /// The reference removes the younger ones, its own among them (H6).
    ///
    /// # Errors
    /// What SQLite says.
    pub(super) fn clean_up(&self, now: i64) -> rusqlite::Result<usize> {
        let oldest = self.cleanup_interval.max(self.update_interval);
        let sql = format!("DELETE FROM {} WHERE ?1 - last_update > ?2", self.table);
        self.connection.execute(&sql, params![now, oldest])
    }
}

/// A new connection, with the journal and the schema as they should be. It is given up where this
/// fails: locks that a refused statement took go with it.
fn prepared(settings: &Settings) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&settings.uri, flags)?;
    connection.busy_timeout(START_PATIENCE)?;
    if settings.journal == Journal::WriteAhead && !settings.is_in_memory() {
        let journal = "PRAGMA journal_mode=WAL";
        connection.query_row(journal, [], |_| Ok(()))?;
    }
    migrate(&mut connection, settings)?;
    Ok(connection)
}

/// Whether somebody else holds what is needed.
fn is_busy(cause: &rusqlite::Error) -> bool {
    let code = cause.sqlite_error_code();
    code == Some(ErrorCode::DatabaseBusy) || code == Some(ErrorCode::DatabaseLocked)
}

/// Brings the schema up to date; one sidecar at a time.
fn migrate(connection: &mut Connection, settings: &Settings) -> rusqlite::Result<()> {
    let behavior = rusqlite::TransactionBehavior::Exclusive;
    let transaction = connection.transaction_with_behavior(behavior)?;
    let metadata = settings.metadata_table.as_str();
    let known = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1)";
    if !transaction.query_row(known, [metadata], |row| row.get::<_, bool>(0))? {
        info!(target: LOG, component = COMPONENT, "Creating metadata table '{metadata}' if it doesn't exist");
        let create =
            format!("CREATE TABLE {metadata} (key text NOT NULL PRIMARY KEY, value text NOT NULL)");
        transaction.execute(&create, [])?;
    }
    let read = format!("SELECT value FROM {metadata} WHERE key = ?1");
    let version: Option<String> = transaction
        .query_row(&read, [VERSION_KEY], |row| row.get(0))
        .optional()?;
    let version: u32 = version.and_then(|text| text.parse().ok()).unwrap_or(0);
    if version < VERSION {
        info!(target: LOG, component = COMPONENT, "Performing migration {VERSION}");
        create_hosts(&transaction, settings.table.as_str())?;
        let note = format!("REPLACE INTO {metadata} (key, value) VALUES (?1, ?2)");
        transaction.execute(&note, params![VERSION_KEY, VERSION.to_string()])?;
    }
    transaction.commit()
}

fn create_hosts(connection: &Connection, table: &str) -> rusqlite::Result<()> {
    info!(target: LOG, component = COMPONENT, "Creating hosts table '{table}'");
    connection.execute_batch(&format!(
        "CREATE TABLE {table} (
            registration_id TEXT NOT NULL PRIMARY KEY,
            address TEXT NOT NULL,
            app_id TEXT NOT NULL,
            namespace TEXT NOT NULL,
            last_update INTEGER NOT NULL
        );
        CREATE UNIQUE INDEX {table}_address_idx ON {table} (address);
        CREATE INDEX {table}_last_update_idx ON {table} (last_update);"
    ))
}

fn whole_seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

/// A random UUID, the form in which the reference writes its own.
fn random_id() -> String {
    let bits: u128 = rand::rng().random();
    let marked = bits & !(0xf << 76) & !(0b11 << 62) | (0x4 << 76) | (0b10 << 62);
    let hex = format!("{marked:032x}");
    let mut parts = Vec::new();
    let mut rest = hex.as_str();
    for length in [8, 4, 4, 4] {
        let (part, tail) = rest.split_at(length);
        parts.push(part);
        rest = tail;
    }
    parts.push(rest);
    parts.join("-")
}

#[cfg(test)]
mod tests;
