//! Sidecars that share a database file, as `start` makes them.

use serde_json::json;
use tempfile::TempDir;

use super::super::tests::{app, at, instance, namespace};
use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

async fn open(dir: &TempDir, id: &str, port: u16, tasks: &Tasks) -> Started {
    let path = dir.path().join("names.db");
    // Renewed each second, with five to spare on a busy machine.
    let configuration = json!({"connectionString": path, "updateInterval": "6s", "timeout": "5s"});
    let instance = instance(id, at("127.0.0.1", port));
    let started = start(&configuration, instance, tasks, &Clock::system()).await;
    started.expect("starts")
}

async fn resolved(started: &Started, id: &str) -> Result<String, String> {
    let answer = started.resolver.resolve(&app(id), &namespace("any")).await;
    answer.map(|a| a.to_string()).map_err(|err| err.to_string())
}

async fn until(mut reached: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, reached).await.expect("in time");
}

/// Facts: service-invocation 6.5, SI-141, E5.
#[tokio::test]
async fn sidecars_find_each_other_through_the_file() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let (one_tasks, two_tasks) = (Tasks::new(), Tasks::new());
    let one = open(&dir, "appA", 1, &one_tasks).await;
    let two = open(&dir, "appB", 2, &two_tasks).await;
    assert_eq!(one.name, "sqlite");
    assert_eq!(resolved(&one, "appB").await.as_deref(), Ok("127.0.0.1:2"));
    assert_eq!(resolved(&two, "appA").await.as_deref(), Ok("127.0.0.1:1"));
    assert_eq!(
        resolved(&one, "nosuch").await,
        Err("no host found with the given ID".to_owned())
    );
    // The row goes with the sidecar, and the snapshot of the others follows.
    assert!(two_tasks.shutdown(DEADLINE).await.is_empty());
    until(async || resolved(&one, "appB").await.is_err()).await;
    assert!(one_tasks.shutdown(DEADLINE).await.is_empty());
}

#[tokio::test]
async fn replicas_are_chosen_at_random_and_new_ones_noticed() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let tasks = Tasks::new();
    let one = open(&dir, "appA", 1, &tasks).await;
    let _two = open(&dir, "appB", 2, &tasks).await;
    assert_eq!(resolved(&one, "appB").await.as_deref(), Ok("127.0.0.1:2"));
    let _three = open(&dir, "appB", 3, &tasks).await;
    until(async || resolved(&one, "appB").await.as_deref() == Ok("127.0.0.1:3")).await;
    until(async || resolved(&one, "appB").await.as_deref() == Ok("127.0.0.1:2")).await;
    // A replica that does not answer is passed over.
    one.resolver.failed(&at("127.0.0.1", 2));
    until(async || {
        let mut others = true;
        for _ in 0..20 {
            others &= resolved(&one, "appB").await.as_deref() == Ok("127.0.0.1:3");
        }
        others
    })
    .await;
    assert!(tasks.shutdown(DEADLINE).await.is_empty());
}

/// Fact: service-invocation 6.5: renewed every updateInterval − timeout, so a row never expires
/// while its sidecar lives.
#[tokio::test]
async fn rows_outlive_the_update_interval_by_renewal() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let tasks = Tasks::new();
    let one = open(&dir, "appA", 1, &tasks).await;
    let _two = open(&dir, "appB", 2, &tasks).await;
    let clock = Clock::system();
    let start = clock.monotonic();
    until(async || {
        resolved(&one, "appB").await.expect("still there");
        clock.monotonic() - start > Duration::from_secs(9)
    })
    .await;
    assert!(tasks.shutdown(DEADLINE).await.is_empty());
}

/// Fact: service-invocation 6.5: a lost registration terminates the sidecar.
#[tokio::test]
async fn lost_registration_is_told() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let tasks = Tasks::new();
    let loser = open(&dir, "appA", 1, &tasks).await;
    let winner = open(&dir, "appB", 1, &tasks).await;
    let lost = timeout(DEADLINE, loser.loss.lost()).await.expect("in time");
    assert_eq!(lost.to_string(), "Host registration lost");
    // The winner's row is left alone.
    assert_eq!(
        resolved(&winner, "appB").await.as_deref(),
        Ok("127.0.0.1:1")
    );
    assert!(tasks.shutdown(DEADLINE).await.is_empty());
}

#[tokio::test]
async fn locked_database_fails_the_lookup_in_bounded_time() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let tasks = Tasks::new();
    let path = dir.path().join("names.db");
    let configuration = json!({"connectionString": path, "disableWAL": true});
    let own = instance("appA", at("127.0.0.1", 1));
    let one = start(&configuration, own, &tasks, &Clock::system())
        .await
        .expect("starts");
    let blocker = rusqlite::Connection::open(&path).expect("opens");
    blocker.execute_batch("BEGIN EXCLUSIVE").expect("locks");
    let failed = timeout(Duration::from_secs(5), resolved(&one, "appB"))
        .await
        .expect("in time");
    let text = failed.expect_err("locked");
    assert!(text.starts_with("failed to look up address: "), "{text}");
    blocker.execute_batch("ROLLBACK").expect("unlocks");
    until(async || resolved(&one, "appA").await.is_ok()).await;
    assert!(tasks.shutdown(DEADLINE).await.is_empty());
}

#[tokio::test]
async fn database_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("missing").join("names.db");
    let own = instance("appA", at("127.0.0.1", 1));
    let configuration = json!({"connectionString": path});
    let refused = start(&configuration, own.clone(), &Tasks::new(), &Clock::system()).await;
    let Err(err) = refused else { panic!("opened") };
    assert!(
        err.to_string()
            .starts_with(&format!("failed to open {}: ", path.display())),
        "{err}"
    );
    let garbage = dir.path().join("garbage.db");
    std::fs::write(&garbage, vec![b'x'; 4096]).expect("writes");
    let configuration = json!({"connectionString": garbage});
    let refused = start(&configuration, own, &Tasks::new(), &Clock::system()).await;
    assert!(matches!(refused, Err(OpenError::Open { .. })));
}
