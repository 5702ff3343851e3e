//! Rows CL-30 to CL-35: how a run ends.

use std::time::Duration;

use rustix::process::Signal;

use crate::rig::{LONG, Server, Stopwatch, World, http, lives, number_after, sidecars, until};

fn app_pid(text: &str) -> i32 {
    i32::from(number_after(text, "app is "))
}

/// Fact: CL-30.
#[test]
fn an_interrupt_ends_everything_in_order() {
    let world = World::new();
    let id = world.id("trap");
    let script =
        "trap 'echo done > trapped; exit 0' TERM; echo \"app is $$\"; while :; do sleep 0.05; done";
    let mut run = world.up(&["run", "--app-id", &id, "--", "bash", "-c", script]);
    run.wait_for("app is ");
    let pid = app_pid(&run.stdout());
    let watch = Stopwatch::start();
    run.signal_group(Signal::INT);
    assert_eq!(
        run.end().code(),
        Some(0),
        "{}{}",
        run.stdout(),
        run.stderr()
    );
    assert!(watch.elapsed() < Duration::from_secs(6));
    assert_eq!(world.read("trapped"), "done\n");
    assert!(sidecars(&id).is_empty() && !lives(pid));
    let text = run.stdout();
    for line in [
        "terminated signal received: shutting down",
        "Exited Dapr successfully",
        "Exited App successfully",
    ] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
}

/// Fact: CL-31.
#[test]
fn a_call_in_flight_finishes() {
    let world = World::new();
    let id = world.id("flight");
    let app = Server::start("200 OK", "slow", Duration::from_secs(2));
    let port = app.port.to_string();
    let mut run = world.up(&["run", "--app-id", &id, "--app-port", &port]);
    let sidecar = number_after(&run.stdout(), "HTTP Port: ");
    let path = format!("/v1.0/invoke/{id}/method/slow");
    let call = std::thread::spawn(move || http(sidecar, "POST", &path, &[], "{}"));
    until("call at the app", LONG, || {
        app.seen()
            .iter()
            .any(|seen| seen.contains("/slow"))
            .then_some(())
    });
    run.signal(Signal::TERM);
    let answer = call.join().unwrap().expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "slow"));
    assert_eq!(run.end().code(), Some(0));
    assert!(
        run.stdout().contains("Daprd shutdown gracefully"),
        "{}",
        run.stdout()
    );
}

/// Fact: CL-32.
#[test]
fn the_app_ends_before_its_sidecar() {
    let world = World::new();
    // The shell asks its sidecar while it handles the signal.
    let script = "
        ask() {
            exec 3<>/dev/tcp/127.0.0.1/$DAPR_HTTP_PORT
            printf 'GET /v1.0/healthz HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' >&3
            head -n 1 <&3 > asked; exit 0
        }
        trap ask TERM; echo ready; while :; do sleep 0.05; done";
    let mut run = world.up(&[
        "run",
        "--app-id",
        &world.id("asks"),
        "--",
        "bash",
        "-c",
        script,
    ]);
    run.wait_for("ready\n");
    assert_eq!(run.stop().code(), Some(0));
    assert!(
        world.read("asked").contains(" 204"),
        "{:?}",
        world.read("asked")
    );
}

/// Fact: CL-33.
#[test]
fn an_interrupt_at_the_start_is_honoured_at_once() {
    let world = World::new();
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let mut run = world.start(&[
        "run",
        "--app-id",
        &world.id("early"),
        "--app-port",
        &closed,
        "--",
        "sleep",
        "60",
    ]);
    run.wait_for("Starting Dapr with id");
    let watch = Stopwatch::start();
    run.signal(Signal::INT);
    run.end();
    assert!(
        watch.elapsed() < Duration::from_secs(2),
        "{:?}\n{}",
        watch.elapsed(),
        run.stdout()
    );
}

/// Fact: CL-34.
#[test]
fn children_do_not_outlive_a_killed_command_line() {
    let world = World::new();
    let id = world.id("killed");
    let mut run = world.up(&[
        "run",
        "--app-id",
        &id,
        "--",
        "bash",
        "-c",
        "echo \"app is $$\"; sleep 60; true",
    ]);
    run.wait_for("app is ");
    let pid = app_pid(&run.stdout());
    assert!(lives(pid) && !sidecars(&id).is_empty());
    run.signal(Signal::KILL);
    until("end of the children", Duration::from_secs(2), || {
        (!lives(pid) && sidecars(&id).is_empty()).then_some(())
    });
}

/// Fact: CL-35.
#[test]
fn a_shutdown_by_the_api_ends_the_run() {
    let world = World::new();
    let mut run = world.up(&["run", "--app-id", &world.id("api"), "--", "sleep", "60"]);
    let port = number_after(&run.stdout(), "HTTP Port: ");
    assert_eq!(
        http(port, "POST", "/v1.0/shutdown", &[], "")
            .unwrap()
            .status,
        204
    );
    assert_eq!(run.end().code(), Some(0));
    let text = run.stdout();
    assert!(
        text.contains("Exited Dapr successfully") && text.contains("Exited App successfully"),
        "{text}"
    );
}

/// Fact: cli-and-clients 1.8 OURS.
#[test]
fn a_second_signal_kills_at_once() {
    let world = World::new();
    let script = "trap '' TERM INT; echo ready; while :; do sleep 0.05; done";
    let mut run = world.up(&[
        "run",
        "--app-id",
        &world.id("stubborn"),
        "--",
        "bash",
        "-c",
        script,
    ]);
    run.wait_for("ready\n");
    run.signal(Signal::INT);
    run.wait_for("terminated signal received");
    let watch = Stopwatch::start();
    run.signal(Signal::INT);
    run.end();
    assert!(
        watch.elapsed() < Duration::from_secs(3),
        "{:?}",
        watch.elapsed()
    );
}

/// Fact: cli-and-clients 1.8.
#[test]
fn a_sidecar_that_fails_fails_the_run() {
    let world = World::new();
    let config = world.write("bad.yaml", "spec: [");
    let seen = world.ironside(&[
        "run",
        "--config",
        config.to_str().unwrap(),
        "--",
        "sleep",
        "60",
    ]);
    assert_eq!(seen.code, Some(1), "{}", seen.stdout);
    let id = world.id("dies");
    let mut run = world.up(&["run", "--app-id", &id, "--", "sleep", "60"]);
    let pid = rustix::process::Pid::from_raw(sidecars(&id)[0]).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(run.end().code(), Some(1));
    assert!(
        run.stderr()
            .contains("The daprd process exited with error code: signal: killed"),
        "{}",
        run.stderr()
    );
}
