//! The keys, defaults and bounds of service-invocation 6.5.

use serde_json::json;

use super::*;

fn parsed(configuration: Value) -> Settings {
    Settings::parse(&configuration).expect("valid")
}

#[track_caller]
fn refused(configuration: Value, text: &str) {
    let error = Settings::parse(&configuration).expect_err("refused");
    assert_eq!(error.to_string(), text);
}

#[test]
fn defaults_are_those_of_the_reference() {
    let expected = Settings {
        uri: "file:names.db".to_owned(),
        timeout: Duration::from_secs(1),
        busy_timeout: Duration::from_millis(800),
        journal: Journal::WriteAhead,
        table: Identifier("hosts".into()),
        metadata_table: Identifier("metadata".into()),
        update_interval: Duration::from_secs(5),
        cleanup_interval: Duration::from_secs(3600),
    };
    assert_eq!(parsed(json!({"connectionString": "names.db"})), expected);
    assert_eq!(expected.renew_interval(), Duration::from_secs(4));
    assert_eq!(expected.path(), "names.db");
}

#[test]
fn keys_are_read_in_any_case_and_by_their_other_names() {
    let settings = parsed(json!({
        "URL": "file:/tmp/n.db?cache=private",
        "timeoutInSeconds": 2,
        "busytimeout": "50ms",
        "DisableWal": "true",
        "tableName": "apps_1",
        "metadataTableName": "_meta",
        "updateInterval": "10s",
        "cleanupInterval": "90m",
    }));
    assert_eq!(settings.path(), "/tmp/n.db");
    assert_eq!(settings.timeout, Duration::from_secs(2));
    assert_eq!(settings.busy_timeout, Duration::from_millis(50));
    assert_eq!(settings.journal, Journal::Default);
    assert_eq!(settings.table.as_str(), "apps_1");
    assert_eq!(settings.metadata_table.as_str(), "_meta");
    assert_eq!(settings.renew_interval(), Duration::from_secs(8));
    assert_eq!(settings.cleanup_interval, Duration::from_secs(5400));
    let text = parsed(json!({"url": "a", "timeout": "2", "updateInterval": 3, "disableWAL": null}));
    assert_eq!(text.timeout, Duration::from_secs(2));
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let none = "missing connection string: set connectionString to the path of the database";
    refused(json!({}), none);
    refused(json!({"connectionString": " "}), none);
    refused(Value::Null, none);
    refused(json!([1]), none);
    refused(json!({"url": 5}), "url: 5 is not text");
    let span = "is not a duration above zero, as 5s or 1h";
    refused(
        json!({"url": "a", "timeout": "soon"}),
        &format!("timeout: \"soon\" {span}"),
    );
    refused(
        json!({"url": "a", "busyTimeout": 0}),
        &format!("busyTimeout: 0 {span}"),
    );
    refused(
        json!({"url": "a", "updateInterval": "-5s"}),
        &format!("updateInterval: \"-5s\" {span}"),
    );
    refused(
        json!({"url": "a", "timeout": "900ms"}),
        "timeout must be at least 1s",
    );
    refused(
        json!({"url": "a", "updateInterval": "5500ms"}),
        "update interval must not contain fractions of seconds",
    );
    refused(
        json!({"url": "a", "timeout": "4500ms"}),
        "update interval must be at least 1s greater than timeout",
    );
    let name = "is not a name of letters, digits and underscores";
    for bad in ["", "1a", "a b", "a;drop table hosts", "é"] {
        refused(
            json!({"url": "a", "tableName": bad}),
            &format!("tableName: {bad:?} {name}"),
        );
    }
    refused(
        json!({"url": "a", "disableWAL": "perhaps"}),
        "disableWAL: \"perhaps\" is not true or false",
    );
}

#[test]
fn databases_in_memory_are_told_apart() {
    for (uri, expected) in [
        (":memory:", true),
        ("file::memory:?cache=shared", true),
        ("file:x?mode=memory", true),
        ("names.db", false),
    ] {
        assert_eq!(
            parsed(json!({"url": uri})).is_in_memory(),
            expected,
            "{uri}"
        );
    }
}
