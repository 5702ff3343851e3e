//! `run --mtls`: one Sentry a user, shared by runs that come and go, whatever ends them.
//!
//! Every Sentry here goes by itself a second after its last client, or with its folder.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::rig::{
    Finished, LONG, Running, Server, Stopwatch, World, finish, http, lives, number_after,
    processes, until,
};

const PORT: &str = ".dapr/sentry/port";
const UP: &str = "You're up and running!";

/// Starts `run --mtls` with a Sentry that does not linger.
fn start(world: &World, words: &[&str]) -> Running {
    let words: Vec<&str> = ["run", "--mtls"].iter().chain(words).copied().collect();
    Running::start(
        world
            .command(&words)
            .env("IRONSIDE_SENTRY_LINGER", "1s")
            // Of another Sentry: it must not get in the way.
            .env("DAPR_TRUST_ANCHORS", "no certificate")
            .env("DAPR_CONTROLPLANE_TRUST_DOMAIN", "elsewhere"),
    )
}

fn up(world: &World, words: &[&str]) -> Running {
    let mut running = start(world, words);
    running.wait_for(UP);
    running
}

fn refused(world: &World) -> Finished {
    let mut command = world.command(&["run", "--mtls", "--app-id", "x"]);
    finish(command.env("IRONSIDE_SENTRY_LINGER", "1s"))
}

/// What the port file says, once it says something.
fn told(world: &World) -> (u16, i32) {
    let record: Value = until("port file", LONG, || {
        let record: Value = serde_json::from_str(&world.read(PORT)).ok()?;
        (record["ready"] == true).then_some(record)
    });
    let port = u16::try_from(record["port"].as_u64().unwrap()).unwrap();
    (
        port,
        i32::try_from(record["pid"].as_u64().unwrap()).unwrap(),
    )
}

/// The Sentries of a world.
fn sentries(world: &World) -> Vec<i32> {
    let file = path(world, PORT);
    processes(&["sentry", &format!("--port-file={}", file.display())])
}

fn path(world: &World, name: &str) -> PathBuf {
    fs::canonicalize(world.path()).unwrap().join(name)
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    until("its end", LONG, || (!lives(pid)).then_some(()));
}

/// The third to the sixth field of a process: parent, group, session.
fn family(pid: i32) -> Vec<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let numbers = rest.split(' ').skip(1).take(3);
    numbers.map(|number| number.parse().unwrap()).collect()
}

fn invoke(from: &Running, app_id: &str) -> (u16, String) {
    let port = number_after(&from.stdout(), "HTTP Port:");
    let path = format!("/v1.0/invoke/{app_id}/method/hello");
    let answer = until("an answer", LONG, || http(port, "GET", &path, &[], ""));
    (answer.status, answer.body)
}

#[test]
fn two_apps_call_each_other_and_sentry_outlives_the_first_but_not_the_last() {
    let world = World::new();
    let app = Server::start("200 OK", "hello", std::time::Duration::ZERO);
    let (a, b) = (world.id("a"), world.id("b"));
    let port = app.port.to_string();
    let mut first = up(&world, &["--app-id", &a, "--app-port", &port]);
    assert!(
        first
            .stdout()
            .contains("Security is initialized successfully"),
        "{}",
        first.stdout()
    );
    let (sentry_port, pid) = told(&world);
    let mut second = up(&world, &["--app-id", &b]);
    assert_eq!(told(&world), (sentry_port, pid), "one Sentry for both");
    assert_eq!(invoke(&second, &a), (200, "hello".to_owned()));
    // Without a certificate nobody gets in.
    let plain = world.up(&["run", "--app-id", &world.id("plain")]);
    let (status, body) = invoke(&plain, &a);
    assert_eq!(status, 500, "{body}");
    assert!(!body.contains("hello"), "{body}");

    let own = family(first.pid().as_raw_nonzero().get());
    let its = family(pid);
    assert_ne!(its[0], first.pid().as_raw_nonzero().get(), "no child of it");
    assert_ne!(its[1], own[1], "a group of its own");
    assert_ne!(its[2], own[2], "a session of its own");
    first.signal_group(Signal::INT);
    first.end();
    assert!(lives(pid), "it outlives the run that started it");
    let third = up(&world, &["--app-id", &world.id("c")]);
    assert_eq!(told(&world), (sentry_port, pid));
    drop(third);
    assert!(second.stop().success());
    until("the end of an unused Sentry", LONG, || {
        (!lives(pid)).then_some(())
    });
    assert!(
        world
            .read(".dapr/sentry/sentry.log")
            .contains("No client for 1s"),
        "{}",
        world.read(".dapr/sentry/sentry.log")
    );
    // Keys are the user's alone, and the next one takes the same root and port up again.
    for name in [".dapr/sentry", ".dapr/sentry/credentials"] {
        let mode = fs::metadata(world.path().join(name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o700, "{name}");
    }
    let root = world.read(".dapr/sentry/credentials/ca.crt");
    let again = up(&world, &["--app-id", &world.id("d")]);
    assert_eq!(told(&world).0, sentry_port);
    assert_eq!(world.read(".dapr/sentry/credentials/ca.crt"), root);
    let seen = world.ironside(&["mtls"]);
    assert!(seen.stdout.starts_with("Phase steady: "), "{}", seen.stderr);
    drop(again);
}

#[test]
fn runs_that_start_at_once_share_one_sentry() {
    let world = World::new();
    let mut runs: Vec<Running> = (0..5)
        .map(|number| start(&world, &["--app-id", &world.id(&format!("n{number}"))]))
        .collect();
    for run in &mut runs {
        run.wait_for(UP);
    }
    let (_, pid) = told(&world);
    assert_eq!(sentries(&world), [pid]);
    let starts = runs
        .iter()
        .filter(|run| {
            run.stderr()
                .contains("Sentry serves this user's certificates")
        })
        .count();
    assert_eq!(starts, 1);
    let log = world.read(".dapr/sentry/sentry.log");
    assert_eq!(log.matches("Running gRPC server").count(), 1, "{log}");
    // Killed runs are no clients any more.
    drop(runs);
    until("the end of an unused Sentry", LONG, || {
        (!lives(pid)).then_some(())
    });
}

#[test]
fn a_killed_sentry_is_started_again_where_it_was() {
    let world = World::new();
    let run = up(&world, &["--app-id", &world.id("a")]);
    let (port, pid) = told(&world);
    kill(pid);
    // By the run that needs it.
    let watch = Stopwatch::start();
    let next = loop {
        let (port, next) = told(&world);
        if next != pid {
            break (port, next);
        }
        assert!(
            watch.elapsed() < LONG,
            "no other Sentry: {}\n{}\n{}",
            run.stderr(),
            world.read(PORT),
            world.read(".dapr/sentry/sentry.log")
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    assert_eq!(next.0, port);
    assert!(
        run.stderr()
            .contains("Sentry has ended though apps need it: it is started again"),
        "{}",
        run.stderr()
    );
    drop(run);
    until("the end of an unused Sentry", LONG, || {
        (!lives(next.1)).then_some(())
    });
    // By the next run, over a file that says it serves, and somewhere else if its port is taken.
    fs::write(
        world.path().join(PORT),
        format!(r#"{{"port":{port},"pid":1,"version":"x","ready":true}}"#),
    )
    .unwrap();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let run = up(&world, &["--app-id", &world.id("b")]);
    assert_ne!(told(&world).0, port);
    assert!(
        run.stderr().contains(&format!(
            "Port {port}, where sentry served before, is in use by another program"
        )),
        "{}",
        run.stderr()
    );
    drop((run, taken));
}

#[test]
fn another_version_is_replaced_without_another_port() {
    let world = World::new();
    let first = up(&world, &["--app-id", &world.id("a")]);
    let (port, pid) = told(&world);
    let file = world.path().join(PORT);
    let mut record: Value = serde_json::from_str(&world.read(PORT)).unwrap();
    record["version"] = "0.0.1 old".into();
    fs::write(&file, record.to_string()).unwrap();
    let second = up(&world, &["--app-id", &world.id("b")]);
    let now = told(&world);
    assert_eq!(now.0, port);
    assert_ne!(now.1, pid);
    assert!(!lives(pid));
    assert!(
        second
            .stderr()
            .contains("Sentry of version 0.0.1 old is replaced by version "),
        "{}",
        second.stderr()
    );
    drop((first, second));
}

#[test]
fn what_keeps_sentry_from_starting_is_told_with_the_way_out() {
    let world = World::new();
    fs::create_dir_all(world.path().join(".dapr/sentry/credentials")).unwrap();
    for folder in [".dapr/sentry", ".dapr/sentry/credentials"] {
        let path = world.path().join(folder);
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    world.write(".dapr/sentry/credentials/ca.crt", "not a certificate");
    let seen = refused(&world);
    assert_eq!(seen.code, Some(1), "{}", seen.stdout);
    for text in [
        "sentry could not be started: ",
        "issuer credentials are incomplete: missing: ",
        "move the rest away to have a new CA generated",
        "its log is ",
    ] {
        assert!(seen.stderr.contains(text), "no {text:?} in {}", seen.stderr);
    }
    assert_eq!(
        world.read(".dapr/sentry/credentials/ca.crt"),
        "not a certificate"
    );
    // A folder that others may write to, as a second user's would be.
    let open = world.path().join(".dapr/sentry/credentials");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let seen = refused(&world);
    assert_eq!(seen.code, Some(1), "{}", seen.stdout);
    for text in [
        "others may write to it",
        "--runtime-path names another place",
    ] {
        assert!(seen.stderr.contains(text), "no {text:?} in {}", seen.stderr);
    }
    fs::remove_dir_all(&open).unwrap();
    fs::write(&open, "").unwrap();
    let seen = refused(&world);
    assert!(
        seen.stderr.contains("it is not a folder of this user"),
        "{}",
        seen.stderr
    );
    assert!(sentries(&world).is_empty());
}

/// A second user over one runtime path.
#[test]
#[ignore = "needs root: cargo test -p ironside --test cli -- --ignored another_user"]
fn a_folder_of_another_user_is_refused() {
    let world = World::new();
    let folder = world.path().join(".dapr/sentry");
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).unwrap();
    let seen = refused(&world);
    assert_eq!(seen.code, Some(1), "{}", seen.stdout);
    assert!(
        seen.stderr.contains("it is not a folder of this user"),
        "{}",
        seen.stderr
    );
}

#[test]
fn uninstall_ends_it_and_says_who_is_left() {
    let world = World::new();
    let mut run = up(&world, &["--app-id", &world.id("a")]);
    let (_, pid) = told(&world);
    let seen = world.ironside(&["uninstall"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(
        seen.stdout
            .contains("Apps run with certificates of the Sentry that has been ended"),
        "{}",
        seen.stdout
    );
    assert!(!lives(pid));
    assert!(sentries(&world).is_empty());
    assert!(
        world
            .path()
            .join(".dapr/sentry/credentials/ca.crt")
            .exists()
    );
    assert!(run.stop().success());
    let run = up(&world, &["--app-id", &world.id("b")]);
    let (_, pid) = told(&world);
    drop(run);
    let seen = world.ironside(&["uninstall", "--all"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(!lives(pid) && !world.path().join(".dapr").exists());
    // Nothing is there to end.
    assert_eq!(world.ironside(&["uninstall", "--all"]).code, Some(0));
}

#[test]
fn templates_take_the_key_and_the_flag() {
    let world = World::new();
    let ids: BTreeSet<String> = ["one", "two"].map(|name| world.id(name)).into();
    let apps: String = ids
        .iter()
        .map(|id| format!("- {{appDirPath: {id}, appID: {id}, daprdLogDestination: console}}\n"))
        .collect();
    for id in &ids {
        fs::create_dir_all(world.path().join(id)).unwrap();
    }
    world.write(
        "key.yaml",
        &format!("version: 1\ncommon: {{mtls: true}}\napps:\n{apps}"),
    );
    world.write("flag.yaml", &format!("version: 1\napps:\n{apps}"));
    for words in [
        &["run", "-f", "key.yaml"][..],
        &["run", "-f", "flag.yaml", "--mtls"],
    ] {
        let mut run = Running::start(world.command(words).env("IRONSIDE_SENTRY_LINGER", "1s"));
        until("both identities", LONG, || {
            let text = run.stdout();
            (text.matches("Security is initialized successfully").count() == 2).then_some(())
        });
        assert_eq!(sentries(&world).len(), 1);
        assert!(!run.stderr().contains("unknown key"), "{}", run.stderr());
        assert!(!run.stdout().contains("ignored"), "{}", run.stdout());
        run.stop();
    }
}
