//! Rows CL-41 to CL-50: `list`, `stop`, `invoke`.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use crate::rig::{
    LONG, Running, Server, Stopwatch, World, http, lives, number_after, sidecars, until,
};

/// The row of an app in `list -o json`.
fn row(world: &World, id: &str) -> Option<serde_json::Value> {
    let rows: serde_json::Value =
        serde_json::from_str(&world.ironside(&["list", "-o", "json"]).stdout).unwrap();
    rows.as_array()
        .unwrap()
        .iter()
        .find(|row| row["appId"] == id)
        .cloned()
}

/// Fact: CL-41.
#[test]
fn list_has_three_forms() {
    let world = World::new();
    let id = world.id("listed");
    let run = world.up(&["run", "--app-id", &id, "--", "bash", "-c", "sleep 60; true"]);
    let port = number_after(&run.stdout(), "HTTP Port: ");
    let table = world.ironside(&["list"]);
    let mut lines = table.stdout.lines();
    let header: Vec<&str> = lines
        .next()
        .unwrap()
        .split("  ")
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .collect();
    for column in [
        "APP ID",
        "HTTP PORT",
        "GRPC PORT",
        "APP PORT",
        "COMMAND",
        "AGE",
        "CREATED",
        "DAPRD PID",
        "CLI PID",
        "APP PID",
    ] {
        assert!(header.contains(&column), "no {column} in {header:?}");
    }
    let line = lines.find(|line| line.starts_with(&id)).unwrap();
    assert!(
        line.contains(&port.to_string()) && line.contains("bash -c sleep 60;..."),
        "{line}"
    );
    let row = row(&world, &id).unwrap();
    assert_eq!(row["httpPort"], port);
    assert_eq!(row["cliPid"], run.pid().as_raw_nonzero().get());
    assert_eq!(row["command"], "bash -c sleep 60; true");
    assert!(lives(
        i32::try_from(row["appPid"].as_i64().unwrap()).unwrap()
    ));
    let yaml = world.ironside(&["list", "-o", "yaml"]).stdout;
    assert!(yaml.contains(&format!("appId: {id}\n")), "{yaml}");
    let bad = world.ironside(&["list", "-o", "bad"]);
    assert!(
        bad.code == Some(1)
            && bad
                .stderr
                .contains("An invalid output format was specified."),
        "{}",
        bad.stderr
    );
}

/// Starts a sidecar by hand.
fn by_hand(world: &World, id: &str) -> (Running, u16) {
    let link = world.path().join("daprd");
    symlink(env!("CARGO_BIN_EXE_ironside"), &link).unwrap();
    let port = || {
        TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port()
    };
    let (http, grpc, internal) = (port(), port(), port());
    let mut command = Command::new(&link);
    command
        .args(["--app-id", id, "--enable-metrics=false"])
        .args([
            "--dapr-http-port",
            &http.to_string(),
            "--dapr-grpc-port",
            &grpc.to_string(),
        ])
        .args(["--dapr-internal-grpc-port", &internal.to_string()])
        .current_dir(world.path());
    (Running::start(&mut command), http)
}

/// Fact: CL-42.
#[test]
fn a_sidecar_started_by_hand_is_listed_and_stopped() {
    let world = World::new();
    let id = world.id("byhand");
    let (mut sidecar, port) = by_hand(&world, &id);
    until("ready", LONG, || {
        http(port, "GET", "/v1.0/healthz", &[], "").filter(|answer| answer.status == 204)
    });
    assert_eq!(row(&world, &id).unwrap()["cliPid"], 0);
    let stopped = world.ironside(&["stop", "-a", &id]);
    assert!(
        stopped
            .stdout
            .contains(&format!("app stopped successfully: {id}")),
        "{}",
        stopped.stderr
    );
    assert_eq!(sidecar.end().code(), Some(0));
}

/// resiliency-observability 4: the level changes while the sidecar runs, and goes back to that of its start.
#[test]
fn the_level_of_a_running_sidecar() {
    let world = World::new();
    let id = world.id("level");
    let (mut sidecar, port) = by_hand(&world, &id);
    until("ready", LONG, || {
        http(port, "GET", "/v1.0/healthz", &[], "").filter(|answer| answer.status == 204)
    });
    let lines = |text: &str| sidecar.stdout().matches(text).count();
    let at_start = lines("Log level set to: info");
    for (word, line, count) in [
        ("debug", "Log level set to: debug", 1),
        ("reset", "Log level set to: info", at_start + 1),
    ] {
        let changed = world.ironside(&["log-level", &id, word]);
        assert_eq!(changed.code, Some(0), "{}", changed.stderr);
        until(line, LONG, || (lines(line) == count).then_some(()));
    }
    for (words, told) in [
        (&["log-level", &id, "loud"][..], "name an app id"),
        (&["log-level", &id], "name an app id"),
        (
            &["log-level", "nobody", "debug"],
            "couldn't find app id nobody",
        ),
    ] {
        let refused = world.ironside(words);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(
            refused.code == Some(1) && said.contains(told),
            "{words:?}: {said}"
        );
    }
    assert_eq!(lines("Log level set to: debug"), 1);
    assert_eq!(world.ironside(&["stop", "-a", &id]).code, Some(0));
    assert_eq!(sidecar.end().code(), Some(0));
}

/// A signal without a handler ends a process; one of another make is therefore left alone.
#[test]
fn a_process_that_does_not_listen_is_left_alone() {
    let world = World::new();
    let id = world.id("deaf");
    let shell = world.path().join("daprd");
    symlink("/bin/sh", &shell).unwrap();
    let mut command = Command::new(&shell);
    command.args(["-c", "sleep 60; true", "--app-id", &id]);
    let other = Running::start(&mut command);
    until("listed", LONG, || row(&world, &id));
    let refused = world.ironside(&["log-level", &id, "debug"]);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(
        refused.code == Some(1) && said.contains("does not listen for it"),
        "{said}"
    );
    assert!(lives(other.pid().as_raw_nonzero().get()));
}

/// Fact: CL-43.
#[test]
fn a_sidecar_that_never_answers_does_not_block_the_list() {
    let world = World::new();
    let id = world.id("hung");
    let deaf = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = deaf.local_addr().unwrap().port().to_string();
    // A shell of that name is a process of that name; the flags are words that it ignores.
    let shell = world.path().join("daprd");
    symlink("/bin/sh", &shell).unwrap();
    let mut command = Command::new(&shell);
    command.args([
        "-c",
        "sleep 60; true",
        "--app-id",
        &id,
        "--dapr-http-port",
        &port,
    ]);
    let _hung = Running::start(&mut command);
    until("the process", LONG, || {
        (!sidecars(&id).is_empty()).then_some(())
    });
    let watch = Stopwatch::start();
    let row = row(&world, &id);
    assert!(
        watch.elapsed() < Duration::from_secs(2),
        "{:?}",
        watch.elapsed()
    );
    assert_eq!(row.unwrap()["cliPid"], 0);
}

/// Fact: CL-44.
#[test]
fn stop_ends_the_whole_run() {
    let world = World::new();
    let id = world.id("stopped");
    let mut run = world.up(&["run", "--app-id", &id, "--", "sleep", "60"]);
    let app = row(&world, &id).unwrap()["appPid"].as_i64().unwrap();
    let stopped = world.ironside(&["stop", "-a", &id]);
    assert_eq!(stopped.code, Some(0));
    assert!(
        stopped
            .stdout
            .contains(&format!("app stopped successfully: {id}")),
        "{}",
        stopped.stderr
    );
    // It returns when all are gone.
    assert!(sidecars(&id).is_empty() && !lives(i32::try_from(app).unwrap()));
    assert_eq!(run.end().code(), Some(0));
    let nobody = world.ironside(&["stop", "-a", "nobody-at-all"]);
    assert_eq!(nobody.code, Some(0));
    let expected = "failed to stop app id nobody-at-all: couldn't find app id nobody-at-all";
    assert!(nobody.stderr.contains(expected), "{}", nobody.stderr);
}

#[test]
fn stop_without_a_name_says_what_is_missing() {
    let world = World::new();
    let nothing = world.ironside(&["stop"]);
    assert_eq!(nothing.code, Some(1));
    assert!(
        nothing.stderr.contains("nothing to stop: name app ids"),
        "{}",
        nothing.stderr
    );
}

/// Fact: CL-46.
#[test]
fn a_token_is_sent_along() {
    let world = World::new();
    let id = world.id("token");
    let app = Server::start("200 OK", "{}", Duration::ZERO);
    let port = app.port.to_string();
    let with = |words: &[&str]| {
        let mut command = world.command(words);
        command.env("DAPR_API_TOKEN", "t");
        command
    };
    let words = [
        "run",
        "--app-id",
        &id,
        "--app-port",
        &port,
        "--",
        "sleep",
        "60",
    ];
    let mut run = Running::start(&mut with(&words));
    run.wait_for("You're up and running!");
    assert!(
        !run.stdout().contains("Could not update"),
        "{}",
        run.stdout()
    );
    let rows = crate::rig::finish(&mut with(&["list", "-o", "json"])).stdout;
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    let row = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["appId"] == id.as_str())
        .unwrap();
    assert_eq!(row["cliPid"], run.pid().as_raw_nonzero().get());
    let invoked = crate::rig::finish(&mut with(&["invoke", "-a", &id, "-m", "x"]));
    assert_eq!(invoked.code, Some(0), "{}", invoked.stderr);
    let stopped = crate::rig::finish(&mut with(&["stop", "-a", &id]));
    assert!(
        stopped.stdout.contains("app stopped successfully"),
        "{}",
        stopped.stderr
    );
    assert_eq!(run.end().code(), Some(0));
}

/// Fact: CL-47, CL-49.
#[test]
fn invoke_sends_what_it_is_given() {
    let world = World::new();
    let id = world.id("invoked");
    let app = Server::start("200 OK", "pong", Duration::ZERO);
    let port = app.port.to_string();
    let _run = world.up(&["run", "--app-id", &id, "--app-port", &port]);
    let file = world.write("body.json", "{\"from\":\"file\"}");
    let file = file.to_str().unwrap();
    let base = ["invoke", "-a", &id, "-m"];
    let call = |words: &[&str]| world.ironside(&[&base[..], words].concat());
    for (words, body) in [
        (&["ping", "--data", "{\"a\":1}"][..], "{\"a\":1}"),
        (&["ping", "--data-file", file], "{\"from\":\"file\"}"),
    ] {
        let seen = call(words);
        assert_eq!(
            (seen.code, seen.stdout.lines().next()),
            (Some(0), Some("pong")),
            "{}",
            seen.stderr
        );
        assert!(
            seen.stdout.contains("App invoked successfully"),
            "{}",
            seen.stdout
        );
        let request = app
            .seen()
            .into_iter()
            .rfind(|request| request.contains("/ping"))
            .unwrap();
        assert!(
            request.starts_with("POST /ping ") && request.ends_with(body),
            "{request}"
        );
        assert!(
            request
                .to_lowercase()
                .contains("content-type: application/json"),
            "{request}"
        );
    }
    let both = call(&["ping", "-d", "x", "-f", file]);
    let text = "Only one of --data and --data-file allowed in the same invoke command";
    assert!(
        both.code == Some(1) && both.stderr.contains(text),
        "{}",
        both.stderr
    );
    let missing = call(&["ping", "-f", "nowhere.json"]);
    let text = "Error reading payload from 'nowhere.json'. Error: ";
    assert!(
        missing.code == Some(1) && missing.stderr.contains(text),
        "{}",
        missing.stderr
    );
    assert_eq!(call(&["m?a=1", "--verb", "GET"]).code, Some(0));
    assert!(
        app.seen()
            .iter()
            .any(|request| request.starts_with("GET /m?a=1 ")),
        "{:?}",
        app.seen()
    );
}

/// Fact: CL-48, CL-50.
#[test]
fn invoke_says_what_went_wrong() {
    let world = World::new();
    let nobody = world.ironside(&["invoke", "-a", "nobody-at-all", "-m", "x"]);
    let text = "error invoking app nobody-at-all: app ID nobody-at-all not found";
    assert!(
        nobody.code == Some(1) && nobody.stderr.contains(text),
        "{}",
        nobody.stderr
    );
    for (status, body) in [
        ("404 Not Found", ""),
        ("500 Internal Server Error", "the reason"),
    ] {
        let id = world.id(&format!("failing{}", &status[..3]));
        let app = Server::start(status, body, Duration::ZERO);
        let port = app.port.to_string();
        let _run = world.up(&["run", "--app-id", &id, "--app-port", &port]);
        let seen = world.ironside(&["invoke", "-a", &id, "-m", "x", "--header", "X-A=b=c"]);
        assert_eq!(seen.code, Some(1));
        assert!(
            seen.stderr
                .contains(&format!("error invoking app {id}: {status}\n")),
            "{}",
            seen.stderr
        );
        assert!(seen.stderr.contains(body), "{}", seen.stderr);
        let request = app
            .seen()
            .into_iter()
            .find(|request| request.contains("/x"))
            .unwrap()
            .to_lowercase();
        assert!(request.contains("\r\nx-a: b=c\r\n"), "{request}");
    }
}

/// Fact: cli-and-clients 1.13 OURS (`--from`, `--timeout`).
#[test]
fn invoke_can_go_through_another_sidecar() {
    let world = World::new();
    let (callee, caller) = (world.id("callee"), world.id("caller"));
    let app = Server::start("200 OK", "through two", Duration::ZERO);
    let slow = Server::start("200 OK", "late", Duration::from_secs(5));
    let port = app.port.to_string();
    let _callee = world.up(&["run", "--app-id", &callee, "--app-port", &port]);
    let slow_port = slow.port.to_string();
    let _caller = world.up(&["run", "--app-id", &caller, "--app-port", &slow_port]);
    let seen = until("discovery", LONG, || {
        let seen = world.ironside(&["invoke", "-a", &callee, "--from", &caller, "-m", "x"]);
        (seen.code == Some(0)).then_some(seen)
    });
    assert!(seen.stdout.starts_with("through two\n"), "{}", seen.stdout);
    let request = app
        .seen()
        .into_iter()
        .rfind(|request| request.contains("/x"))
        .unwrap()
        .to_lowercase();
    assert!(
        request.contains(&format!("dapr-caller-app-id: {caller}")),
        "{request}"
    );
    let watch = Stopwatch::start();
    let late = world.ironside(&["invoke", "-a", &caller, "-m", "x", "--timeout", "300ms"]);
    assert!(
        late.code == Some(1) && watch.elapsed() < Duration::from_secs(3),
        "{}",
        late.stderr
    );
}

/// Fact: cli-and-clients 1.2 (`publish`).
#[test]
fn publish_relays_the_refusal() {
    let world = World::new();
    let id = world.id("publisher");
    let _run = world.up(&["run", "--app-id", &id]);
    let seen = world.ironside(&[
        "publish", "-i", &id, "-p", "pubsub", "-t", "topic", "-d", "{}",
    ]);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr.contains("ERR_PUBSUB_NOT_FOUND"),
        "{}",
        seen.stderr
    );
}
