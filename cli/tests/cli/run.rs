//! Rows CL-12 and CL-20 to CL-29, CL-37 to CL-40: what `run` starts and tells.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ironside_testkit::certs::Ca;

use crate::rig::{
    LONG, Running, Server, World, exchange, finish, http, number_after, sidecars, until,
};

/// Fact: CL-20.
#[test]
fn an_app_that_ends_well_ends_the_run_well() {
    let world = World::new();
    let seen = world.ironside(&["run", "--", "bash", "-c", "echo test"]);
    assert_eq!(seen.code, Some(0), "{}{}", seen.stdout, seen.stderr);
    assert!(
        seen.stdout.lines().any(|line| line == "test"),
        "{}",
        seen.stdout
    );
    for line in [
        "Exited App successfully",
        "Exited Dapr successfully",
        "You're up and running!",
    ] {
        assert!(seen.stdout.contains(line), "no {line:?} in {}", seen.stdout);
    }
    assert!(
        !seen.stdout.contains("Could not update sidecar metadata"),
        "{}",
        seen.stdout
    );
    assert!(world.path().join(".dapr/bin/daprd").is_symlink());
}

/// Fact: CL-21.
#[test]
fn an_app_that_fails_fails_the_run() {
    let world = World::new();
    let seen = world.ironside(&["run", "--", "bash", "-c", "exit 3"]);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr
            .contains("The App process exited with error code: 3\n"),
        "{}",
        seen.stderr
    );
    assert!(
        seen.stderr
            .contains("Error exiting App: app exited with status 3\n"),
        "{}",
        seen.stderr
    );
    assert!(
        seen.stdout.contains("Exited Dapr successfully"),
        "{}",
        seen.stdout
    );
    let killed = world.ironside(&["run", "--", "bash", "-c", "kill -9 $$"]);
    assert_eq!(killed.code, Some(1));
    assert!(
        killed
            .stderr
            .contains("The App process was terminated by signal: killed"),
        "{}",
        killed.stderr
    );
}

fn variable<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .collect()
}

/// Fact: CL-22, CL-23, CL-25.
#[test]
fn the_app_sees_its_surroundings() {
    let world = World::new();
    let id = world.id("env");
    let mut command = world.command(&["run", "--app-id", &id, "env", "--log-level", "error"]);
    let seen = finish(
        command
            .env("DAPR_HTTP_PORT", "1")
            .env("APP_ID", "x")
            .env_remove("APP_PORT"),
    );
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let text = &seen.stdout;
    assert_eq!(variable(text, "APP_ID"), [id.as_str()]);
    assert_eq!(variable(text, "APP_PROTOCOL"), ["http"]);
    assert_eq!(variable(text, "APP_CHANNEL_ADDRESS"), ["127.0.0.1"]);
    assert_eq!(
        variable(text, "DAPR_HTTP_PORT"),
        [number_after(text, "HTTP Port: ").to_string()]
    );
    assert_eq!(
        variable(text, "DAPR_GRPC_PORT"),
        [number_after(text, "gRPC Port: ").to_string()]
    );
    assert_eq!(variable(text, "DAPR_METRICS_PORT").len(), 1);
    assert!(variable(text, "APP_PORT").is_empty());
}

/// Fact: CL-24.
#[test]
fn a_deprecated_flag_works_and_warns() {
    let world = World::new();
    let app = Server::start("200 OK", "", Duration::ZERO);
    let port = app.port.to_string();
    let seen = world.ironside(&[
        "run",
        "--app-protocol",
        "grpc",
        "--app-ssl",
        "--app-port",
        &port,
        "env",
    ]);
    assert_eq!(variable(&seen.stdout, "APP_PROTOCOL"), ["grpcs"]);
    assert_eq!(variable(&seen.stdout, "APP_PORT"), [port.as_str()]);
    assert!(
        seen.stderr.contains("Flag --app-ssl has been deprecated"),
        "{}",
        seen.stderr
    );
}

/// Fact: CL-26.
#[test]
fn a_command_that_is_not_there_is_named() {
    let world = World::new();
    let id = world.id("missing");
    let seen = world.ironside(&["run", "--app-id", &id, "no-such-program"]);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr
            .contains("Failed to find command no-such-program"),
        "{}",
        seen.stderr
    );
    assert!(
        seen.stderr
            .contains("Start App failed, try to stop Dapr successfully"),
        "{}",
        seen.stderr
    );
    assert!(sidecars(&id).is_empty());
}

/// Fact: CL-27.
#[test]
fn a_port_in_use_is_named() {
    let world = World::new();
    let busy = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    for (flag, what) in [
        ("--dapr-http-port", "HTTPPort"),
        ("--dapr-grpc-port", "GRPCPort"),
        ("--metrics-port", "MetricsPort"),
        ("--dapr-internal-grpc-port", "InternalGRPCPort"),
    ] {
        let seen = world.ironside(&["run", flag, &port, "true"]);
        assert_eq!(seen.code, Some(1));
        let expected = format!("invalid configuration for {what}. Port {port} is not available");
        assert!(seen.stderr.contains(&expected), "{}", seen.stderr);
    }
}

/// Fact: CL-28.
#[test]
fn fifty_runs_at_once_share_no_port() {
    let world = World::new();
    let mut runs: Vec<_> = (0..50)
        .map(|_| {
            world.start(&[
                "run",
                "--log-level",
                "error",
                "--",
                "bash",
                "-c",
                "env; echo all said; sleep 60",
            ])
        })
        .collect();
    let mut ports = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for run in &mut runs {
        until("start", Duration::from_secs(90), || {
            run.stdout().contains("all said\n").then_some(())
        });
        let text = run.stdout();
        ids.insert(variable(&text, "APP_ID")[0].to_owned());
        for name in ["DAPR_HTTP_PORT", "DAPR_GRPC_PORT", "DAPR_METRICS_PORT"] {
            let port: u16 = variable(&text, name)[0].parse().unwrap();
            assert!(ports.insert(port) && port < 32_768, "{name} {port}");
        }
        assert!(!text.contains("might not be responding"), "{text}");
    }
    assert_eq!(ids.len(), runs.len());
    for run in &runs {
        run.signal(rustix::process::Signal::TERM);
    }
    for run in &mut runs {
        assert_eq!(run.end().code(), Some(0));
    }
}

/// Fact: CL-29.
#[test]
fn a_sidecar_may_run_alone() {
    let world = World::new();
    let mut run = world.up(&["run", "--app-id", &world.id("alone")]);
    let text = run.stdout();
    assert!(
        text.contains("WARNING: no application command found."),
        "{text}"
    );
    assert!(
        text.contains("You're up and running! Dapr logs will appear here."),
        "{text}"
    );
    assert_eq!(run.stop().code(), Some(0));
}

/// Fact: CL-12.
#[test]
fn the_references_arguments_are_accepted() {
    let world = World::new();
    let id = world.id("vector");
    let run = world.up(&[
        "run",
        "--app-id",
        &id,
        "--placement-host-address",
        "localhost",
        "--scheduler-host-address",
        "localhost",
    ]);
    let line = std::fs::read(format!("/proc/{}/cmdline", sidecars(&id)[0])).unwrap();
    let line = String::from_utf8(line).unwrap().replace('\0', " ");
    for words in [
        "--profile-port -1 ",
        "--app-port 0 ",
        "--placement-host-address localhost:50005 ",
        "--scheduler-host-address localhost:50006 ",
        "--app-max-concurrency -1 ",
    ] {
        assert!(line.contains(words), "no {words:?} in {line}");
    }
    let port = number_after(&run.stdout(), "HTTP Port: ");
    until("ready", LONG, || {
        http(port, "GET", "/v1.0/healthz", &[], "").filter(|answer| answer.status == 204)
    });
}

/// Fact: CL-12.
#[test]
fn mutual_tls_in_the_configuration_reaches_the_sidecar() {
    let world = World::new();
    let id = world.id("mtls");
    let config = world.write(
        "c.yaml",
        "kind: Configuration\nspec:\n  mtls:\n    enabled: true\n",
    );
    // With a root and no Sentry the sidecar waits.
    let mut command =
        world.command(&["run", "--app-id", &id, "--config", config.to_str().unwrap()]);
    let mut run = Running::start(command.env("DAPR_TRUST_ANCHORS", Ca::new().root_pem()));
    let line = until("sidecar", LONG, || {
        let pid = *sidecars(&id).first()?;
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()
    });
    assert!(
        line.contains("--enable-mtls\0--sentry-address\0localhost:50001\0"),
        "{line}"
    );
    run.stop();
}

/// Fact: CL-37.
#[test]
fn sockets_replace_ports() {
    let world = World::new();
    let id = world.id("uds");
    let app = Server::start("200 OK", "over a socket", Duration::ZERO);
    let folder = world.path().to_str().unwrap();
    let port = app.port.to_string();
    let mut run = world.up(&[
        "run",
        "--app-id",
        &id,
        "--app-port",
        &port,
        "-u",
        folder,
        "--",
        "sleep",
        "60",
    ]);
    let socket = world.path().join(format!("dapr-{id}-http.socket"));
    assert!(socket.exists() && world.path().join(format!("dapr-{id}-grpc.socket")).exists());
    let answer = until("ready", LONG, || {
        let stream = UnixStream::connect(&socket).ok()?;
        exchange(stream, "GET", "/v1.0/healthz", &[], "").filter(|answer| answer.status == 204)
    });
    assert_eq!(answer.body, "");
    let invoked = world.ironside(&["invoke", "-a", &id, "-m", "hi", "-u", folder]);
    assert!(
        invoked.code == Some(0) && invoked.stdout.starts_with("over a socket\n"),
        "{}",
        invoked.stderr
    );
    assert_eq!(run.stop().code(), Some(0));
    assert!(!socket.exists());
}

/// Fact: CL-39.
#[test]
fn resources_are_checked_and_foreign_components_skipped() {
    let world = World::new();
    let missing = world.ironside(&["run", "--resources-path", "nowhere", "true"]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.stderr.contains("error validating resources path"),
        "{}",
        missing.stderr
    );
    let redis = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: statestore\nspec:\n  type: state.redis\n  version: v1\n";
    world.write("res/redis.yaml", redis);
    let seen = world.ironside(&["run", "--resources-path", "res", "true"]);
    assert_eq!(seen.code, Some(0), "{}{}", seen.stdout, seen.stderr);
    let naming: Vec<&str> = seen
        .stdout
        .lines()
        .filter(|line| line.contains("statestore"))
        .collect();
    assert_eq!(naming.len(), 1, "{}", seen.stdout);
}

/// Fact: CL-40.
#[test]
fn metadata_calls_are_in_the_api_log() {
    let world = World::new();
    let seen = world.ironside(&[
        "run",
        "--enable-api-logging",
        "--log-level",
        "info",
        "--",
        "sleep",
        "0.5",
    ]);
    let calls: Vec<&str> = seen
        .stdout
        .lines()
        .filter(|line| line.contains("HTTP API Called"))
        .collect();
    for key in ["appCommand", "cliPID", "appPID"] {
        let path = format!("PUT /v1.0/metadata/{key}");
        assert!(
            calls.iter().any(|line| line.contains(&path)),
            "no {path} in {}",
            seen.stdout
        );
    }
}
