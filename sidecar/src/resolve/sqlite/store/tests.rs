//! The statements against a real database in a temporary folder.

use serde_json::json;
use tempfile::TempDir;

use super::super::super::tests::{app, at};
use super::*;

fn settings(dir: &TempDir) -> Settings {
    let path = dir.path().join("names.db");
    Settings::parse(&json!({"connectionString": path})).expect("valid")
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = Store::open(&settings(&dir)).expect("opens");
    (dir, store)
}

fn live(store: &Store, now: i64) -> Vec<String> {
    let mut rows: Vec<String> = store
        .live(now)
        .expect("reads")
        .into_iter()
        .map(|(app, address)| format!("{app} {address}"))
        .collect();
    rows.sort_unstable();
    rows
}

fn texts(store: &Store, sql: &str) -> Vec<String> {
    let mut statement = store.connection.prepare(sql).expect("valid");
    let rows = statement.query_map([], |row| row.get(0)).expect("runs");
    rows.map(|row| row.expect("text")).collect()
}

/// Fact: service-invocation 6.5: the table, and the note that keeps the reference from making it
/// again.
#[test]
fn schema_is_the_references() {
    let (dir, store) = store();
    let columns = "SELECT name || ' ' || type || ' ' || \"notnull\" || ' ' || pk FROM pragma_table_info('hosts')";
    assert_eq!(
        texts(&store, columns),
        [
            "registration_id TEXT 1 1",
            "address TEXT 1 0",
            "app_id TEXT 1 0",
            "namespace TEXT 1 0",
            "last_update INTEGER 1 0",
        ]
    );
    assert_eq!(
        texts(&store, "SELECT key || '=' || value FROM metadata"),
        ["nr-migrations=1"]
    );
    assert_eq!(texts(&store, "PRAGMA journal_mode"), ["wal"]);
    store
        .register(&app("appA"), &at("127.0.0.1", 1), 100)
        .expect("registers");
    let again = Store::open(&settings(&dir)).expect("opens again");
    assert_eq!(live(&again, 100), ["appA 127.0.0.1:1"]);
    assert_eq!(texts(&again, "SELECT namespace FROM hosts"), [""]);
}

/// Two that change the journal of a new file at the same moment lock each other out, and SQLite
/// then refuses one of them at once, whatever its patience.
#[test]
fn sidecars_that_start_at_the_same_moment_all_open_a_new_database() {
    for _round in 0..50 {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (settings, together) = (settings(&dir), std::sync::Barrier::new(6));
        std::thread::scope(|scope| {
            let open = || {
                together.wait();
                Store::open(&settings).map(drop)
            };
            let opened: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
            for store in opened {
                store.join().expect("no panic").expect("opens");
            }
        });
    }
}

#[test]
fn tables_and_journal_follow_the_settings() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("n.db");
    let settings =
        json!({"url": path, "tableName": "t", "metadataTableName": "m", "disableWAL": true});
    let store = Store::open(&Settings::parse(&settings).expect("valid")).expect("opens");
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    assert_eq!(texts(&store, tables), ["m", "t"]);
    assert_eq!(texts(&store, "PRAGMA journal_mode"), ["delete"]);
    let memory = Settings::parse(&json!({"url": ":memory:"})).expect("valid");
    Store::open(&memory).expect("opens");
}

/// Fact: service-invocation 6.5: rows younger than the update interval count.
#[test]
fn rows_live_for_the_update_interval() {
    let (_dir, store) = store();
    let own = store
        .register(&app("appA"), &at("::1", 1), 100)
        .expect("registers");
    store
        .register(&app("appB"), &at("127.0.0.1", 2), 103)
        .expect("registers");
    assert_eq!(live(&store, 105), ["appA [::1]:1", "appB 127.0.0.1:2"]);
    assert_eq!(live(&store, 106), ["appB 127.0.0.1:2"]);
    assert_eq!(store.renew(&own, 106), Ok(Renewal::Kept));
    assert_eq!(live(&store, 109), ["appA [::1]:1"]);
    store.deregister(&own).expect("deregisters");
    assert!(live(&store, 109).is_empty());
}

/// Fact: service-invocation 6.5: registration replaces any row with the same address.
#[test]
fn address_has_one_owner_and_the_old_one_notices() {
    let (_dir, store) = store();
    let old = store
        .register(&app("appA"), &at("127.0.0.1", 1), 100)
        .expect("registers");
    let new = store
        .register(&app("appB"), &at("127.0.0.1", 1), 100)
        .expect("registers");
    assert_eq!(live(&store, 100), ["appB 127.0.0.1:1"]);
    assert_eq!(store.renew(&old, 101), Ok(Renewal::Lost));
    store.deregister(&old).expect("does nothing");
    assert_eq!(store.renew(&new, 101), Ok(Renewal::Kept));
}

/// Fact: service-invocation H6: the cleanup removes rows older than the interval, never live ones.
#[test]
fn cleanup_removes_only_what_nobody_renews() {
    let (_dir, store) = store();
    store
        .register(&app("old"), &at("127.0.0.1", 1), 100)
        .expect("registers");
    store
        .register(&app("young"), &at("127.0.0.1", 2), 3_000)
        .expect("registers");
    assert_eq!(store.clean_up(3_700), Ok(0));
    assert_eq!(store.clean_up(3_701), Ok(1));
    assert_eq!(texts(&store, "SELECT app_id FROM hosts"), ["young"]);
}

#[test]
fn rows_that_cannot_be_dialled_are_passed_over() {
    let (_dir, store) = store();
    let insert = "INSERT INTO hosts VALUES (?1, ?1, ?2, '', 100)";
    for (address, id) in [
        ("[[::1]]:1", "a"),
        ("nowhere", "a"),
        ("h:1", "a.b"),
        ("h:2", ""),
        ("h:3", "ok"),
    ] {
        store
            .connection
            .execute(insert, [address, id])
            .expect("inserts");
    }
    assert_eq!(live(&store, 100), ["ok h:3"]);
}

#[test]
fn sidecars_may_make_the_tables_at_the_same_moment() {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::thread::scope(|scope| {
        for port in 1..=8 {
            let settings = settings(&dir);
            scope.spawn(move || {
                let store = Store::open(&settings).expect("opens");
                store.connection.busy_timeout(START_PATIENCE).expect("sets");
                store
                    .register(&app("a"), &at("h", port), 100)
                    .expect("registers");
            });
        }
    });
    let store = Store::open(&settings(&dir)).expect("opens");
    assert_eq!(live(&store, 100).len(), 8);
}

#[test]
fn registration_ids_are_random_uuids() {
    let (one, two) = (random_id(), random_id());
    assert_ne!(one, two);
    let lengths: Vec<usize> = one.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12]);
    assert_eq!(one.as_bytes()[14], b'4');
    assert!(matches!(one.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
}
