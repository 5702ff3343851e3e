//! Rows CL-60 to CL-75: `run -f`.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::rig::{LONG, Running, Stopwatch, World, finish, lives, sidecars, until};

/// A template of two apps with ids of their own.
fn two_apps(world: &World, first: &str, second: &str) -> (String, String) {
    let (a, b) = (world.id("one"), world.id("two"));
    let text = format!(
        "version: 1\nname: pair\napps:\n- appDirPath: a\n  appID: {a}\n{first}- appDirPath: b\n  appID: {b}\n{second}"
    );
    world.write("dapr.yaml", &text);
    for folder in ["a", "b"] {
        fs::create_dir_all(world.path().join(folder)).unwrap();
    }
    (a, b)
}

const SLEEPS: &str = "  command: [sleep, \"60\"]\n";

/// The only file of a folder's logs whose name begins so; checks the fourteen digits.
fn log(world: &World, folder: &str, start: &str) -> String {
    let logs = world.path().join(folder).join(".dapr/logs");
    let names: Vec<String> = fs::read_dir(logs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(start))
        .collect();
    assert_eq!(names.len(), 1, "{start}: {names:?}");
    let digits = names[0]
        .strip_prefix(start)
        .unwrap()
        .strip_suffix(".log")
        .unwrap();
    assert!(
        digits.len() == 14 && digits.chars().all(|c| c.is_ascii_digit()),
        "{names:?}"
    );
    world.read(&format!("{folder}/.dapr/logs/{}", names[0]))
}

/// Fact: CL-60, CL-61, CL-71.
#[test]
fn apps_of_a_folder_start_in_order_and_stop_together() {
    let world = World::new();
    let elsewhere = World::new();
    let chatty = "  command: [bash, -c, \"echo hello from $APP_ID; sleep 60\"]\n";
    let (a, b) = two_apps(&world, chatty, SLEEPS);
    let mut run = world.start(&["run", "-f", "."]);
    run.wait_for(&format!("== APP - {a} == hello from {a}\n"));
    let text = run.stdout();
    let lines: Vec<&str> = text.lines().take(6).collect();
    for (index, id, folder) in [(0, &a, "a"), (3, &b, "b")] {
        assert!(
            lines[index].ends_with(&format!("Validating config and starting app \"{id}\"")),
            "{text}"
        );
        assert!(
            lines[index + 1].contains(&format!("Started Dapr with app id \"{id}\". HTTP Port: ")),
            "{text}"
        );
        assert!(lines[index + 1].contains(". gRPC Port: "), "{text}");
        let logs = world.path().join(folder).join(".dapr/logs");
        assert!(
            lines[index + 2].ends_with(&format!(
                "Writing log files to directory : {}",
                logs.display()
            )),
            "{text}"
        );
    }
    let template = fs::canonicalize(world.path().join("dapr.yaml")).unwrap();
    let listed = until("metadata", LONG, || {
        let rows: serde_json::Value =
            serde_json::from_str(&world.ironside(&["list", "-o", "json"]).stdout).ok()?;
        let row = rows
            .as_array()?
            .iter()
            .find(|row| row["appId"] == b.as_str())
            .cloned();
        row.filter(|row| row["appPid"] != 0)
    });
    assert_eq!(listed["runTemplatePath"], template.to_str().unwrap());
    assert_eq!(listed["runTemplateName"], "pair");
    assert!(
        listed["appLogPath"]
            .as_str()
            .unwrap()
            .contains(&format!("{b}_app_")),
        "{listed}"
    );
    let stopped = elsewhere.ironside(&["stop", "-f", world.path().to_str().unwrap()]);
    assert!(
        stopped.code == Some(0)
            && stopped
                .stdout
                .contains("Dapr and app processes stopped successfully"),
        "{}",
        stopped.stderr
    );
    assert!(sidecars(&a).is_empty() && sidecars(&b).is_empty());
    assert_eq!(run.end().code(), Some(0));
    assert!(run.stdout().contains(
        "Received signal to stop Dapr and app processes. Shutting down Dapr and app processes."
    ));
    assert!(
        !run.stdout().contains("dapr initialized"),
        "{}",
        run.stdout()
    );
    let app_log = log(&world, "a", &format!("{a}_app_"));
    assert!(
        app_log.contains("hello from") && app_log.contains("Exited App successfully"),
        "{app_log}"
    );
    let daprd_log = log(&world, "a", &format!("{a}_daprd_"));
    for line in [
        "dapr initialized",
        "You're up and running! Dapr logs will appear here.",
        "Exited Dapr successfully",
    ] {
        assert!(daprd_log.contains(line), "no {line:?} in {daprd_log}");
    }
    let again = elsewhere.ironside(&["stop", "-f", world.path().to_str().unwrap()]);
    let text = "Failed to stop Dapr and app processes: couldn't find apps with run file";
    assert!(
        again.code == Some(0) && again.stderr.contains(text),
        "{}",
        again.stderr
    );
}

/// Fact: cli-and-clients 1.12 "`stop`": one of several apps ends, with its sidecar; the others stay.
#[test]
fn one_app_of_a_template_can_be_stopped() {
    let world = World::new();
    let (a, b) = two_apps(&world, SLEEPS, SLEEPS);
    let mut run = world.start(&["run", "-f", "."]);
    let app = until("both", LONG, || {
        let rows: serde_json::Value =
            serde_json::from_str(&world.ironside(&["list", "-o", "json"]).stdout).ok()?;
        let pid = |id: &str| {
            let row = rows.as_array()?.iter().find(|row| row["appId"] == id)?;
            row["appPid"].as_i64().filter(|pid| *pid > 0)
        };
        pid(&b).and(pid(&a))
    });
    let watch = Stopwatch::start();
    let stopped = world.ironside(&["stop", &a]);
    assert!(
        stopped.stdout.contains("app stopped successfully"),
        "{}",
        stopped.stderr
    );
    assert!(
        watch.elapsed() < Duration::from_secs(5),
        "{:?}",
        watch.elapsed()
    );
    assert!(sidecars(&a).is_empty() && !lives(i32::try_from(app).unwrap()));
    assert!(!sidecars(&b).is_empty());
    run.wait_for(&format!("app id \"{a}\" exited"));
    assert_eq!(run.stop().code(), Some(0));
}

/// The JavaScript quick start of the reference ends on its first failed call.
#[test]
fn the_next_app_starts_when_the_one_before_listens() {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let world = World::new();
    // Bound and silent: nobody else takes the port, and nobody gets through.
    let server = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(
        &server,
        &std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0),
    )
    .unwrap();
    let address = std::net::SocketAddr::try_from(getsockname(&server).unwrap()).unwrap();
    let port = address.port();
    let first = format!("  appPort: {port}\n  command: [bash, -c, \"touch up; exec sleep 60\"]\n");
    let second =
        format!("  command: [bash, -c, \"exec 3<>/dev/tcp/127.0.0.1/{port} && echo through\"]\n");
    let (_, b) = two_apps(&world, &first, &second);
    let mut run = world.start(&["run", "-f", "."]);
    until("the first app", LONG, || {
        world.path().join("a/up").exists().then_some(())
    });
    listen(&server, 8).unwrap();
    run.wait_for(&format!("== APP - {b} == through\n"));
    assert_eq!(run.stop().code(), Some(0));
}

/// Fact: CL-60.
#[test]
fn a_template_may_come_from_the_standard_input() {
    let world = World::new();
    two_apps(&world, SLEEPS, SLEEPS);
    let mut command = world.command(&["run", "-f", "-"]);
    let file = fs::File::open(world.path().join("dapr.yaml")).unwrap();
    let mut run = Running::start(command.stdin(Stdio::from(file)));
    until("both", LONG, || {
        (run.stdout().matches("Started Dapr with app id").count() == 2).then_some(())
    });
    assert_eq!(run.stop().code(), Some(0));
}

/// Fact: CL-62.
#[test]
fn logs_go_where_the_template_says() {
    let world = World::new();
    let quiet = "  command: [bash, -c, \"echo said; sleep 60\"]\n  appLogDestination: file\n  daprdLogDestination: console\n";
    let (a, _) = two_apps(&world, quiet, SLEEPS);
    let mut run = world.start(&["run", "-f", "dapr.yaml"]);
    run.wait_for("dapr initialized");
    until("the app's line", LONG, || {
        log(&world, "a", &format!("{a}_app_"))
            .contains("said\n")
            .then_some(())
    });
    run.stop();
    assert!(!run.stdout().contains("said"), "{}", run.stdout());
    let names: Vec<_> = fs::read_dir(world.path().join("a/.dapr/logs"))
        .unwrap()
        .collect();
    assert_eq!(names.len(), 1);
}

/// Fact: CL-63.
#[test]
fn a_wrong_template_names_the_key() {
    let world = World::new();
    world.write("a/x", "");
    for (name, text, expected) in [
        ("v.yaml", "apps: [{appDirPath: a}]", "version"),
        ("d.yaml", "version: 1\napps: [{appID: x}]", "appDirPath"),
        (
            "p.yaml",
            "version: 1\napps: [{appDirPath: nowhere}]",
            "appDirPath",
        ),
        (
            "l.yaml",
            "version: 1\napps: [{appDirPath: a, appLogDestination: tape}]",
            "invalid log destination type: tape",
        ),
        (
            "i.yaml",
            "version: 1\napps: [{appDirPath: a, containerImagePullPolicy: x}]",
            "containerImagePullPolicy",
        ),
        ("n.yaml", "version: 1", "No apps to run"),
        ("t.txt", "version: 1", "is not a YAML file"),
        ("y.yaml", "version: [", "error parsing run template file"),
    ] {
        world.write(name, text);
        let seen = world.ironside(&["run", "-f", name]);
        assert_eq!(seen.code, Some(1), "{name}");
        assert!(seen.stderr.contains(expected), "{name}: {}", seen.stderr);
    }
}

/// Fact: CL-65.
#[test]
fn an_app_overrides_what_is_common() {
    let world = World::new();
    let id = world.id("over");
    let text = format!(
        "version: 1
common:
  env: {{DEBUG: true, N: 9083}}
  enableApiLogging: true
apps:
- appDirPath: .
  appID: {id}
  command: [bash, -c, 'echo \"saw $DEBUG $N\"; sleep 60']
  env: {{DEBUG: false}}
  enableApiLogging: false
"
    );
    world.write("dapr.yaml", &text);
    let mut run = world.start(&["run", "-f", "."]);
    run.wait_for(&format!("== APP - {id} == saw false 9083\n"));
    let line = fs::read_to_string(format!("/proc/{}/cmdline", sidecars(&id)[0])).unwrap();
    assert!(!line.contains("--enable-api-logging\0"), "{line}");
    run.stop();
}

/// Fact: CL-67.
#[test]
fn unknown_keys_are_warned_about_or_refused() {
    let world = World::new();
    let id = world.id("keys");
    world.write(
        "dapr.yaml",
        &format!("version: 1\napps:\n- appDirPath: .\n  appID: {id}\n  appPrt: 80\n"),
    );
    let strict = world.ironside(&["run", "-f", ".", "--strict"]);
    assert!(
        strict.code == Some(1) && strict.stderr.contains("unknown key 'appPrt' in line 5"),
        "{}",
        strict.stderr
    );
    let mut run = world.start(&["run", "-f", ".", "--app-id", "other"]);
    run.wait_for("Started Dapr with app id");
    run.stop();
    assert!(
        run.stderr().contains("unknown key 'appPrt' in line 5"),
        "{}",
        run.stderr()
    );
    assert!(
        run.stdout()
            .contains("ignored when --run-file is given: --app-id"),
        "{}",
        run.stdout()
    );
}

/// Fact: CL-68.
#[test]
fn an_app_without_a_command_is_a_sidecar_alone() {
    let world = World::new();
    let (a, b) = two_apps(&world, "", SLEEPS);
    let mut run = world.start(&["run", "-f", "."]);
    run.wait_for(&format!("Started Dapr with app id \"{b}\""));
    assert!(
        run.stdout().contains(&format!(
            "No application command found for app \"{a}\" present in "
        )),
        "{}",
        run.stdout()
    );
    assert!(!sidecars(&a).is_empty());
    run.stop();
}

/// Fact: CL-69.
#[test]
fn a_blank_command_stops_everything() {
    let world = World::new();
    let (a, b) = two_apps(&world, SLEEPS, "  command: [\"\"]\n");
    let seen = world.ironside(&["run", "-f", "."]);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr.contains(&format!(
            "Error starting Dapr and app (\"{b}\"): exec: no command"
        )),
        "{}",
        seen.stderr
    );
    assert!(sidecars(&a).is_empty() && sidecars(&b).is_empty());
}

/// Fact: CL-70.
#[test]
fn an_app_that_fails_is_told_and_the_rest_goes_on() {
    let world = World::new();
    let (a, b) = two_apps(&world, "  command: [bash, -c, \"exit 1\"]\n", SLEEPS);
    let mut run = world.start(&["run", "-f", "."]);
    run.wait_for(&format!(
        "The App process of app id \"{a}\" exited with error code: exit status 1"
    ));
    until("log", LONG, || {
        let text = log(&world, "a", &format!("{a}_app_"));
        text.contains("The App process exited with error code: exit status 1")
            .then_some(())
    });
    assert!(!sidecars(&a).is_empty() && !sidecars(&b).is_empty());
    assert_eq!(run.stop().code(), Some(0));
    let strict = world.ironside(&["run", "-f", ".", "--fail-fast"]);
    assert_eq!(strict.code, Some(1), "{}", strict.stdout);
}

/// Fact: CL-73.
#[test]
fn a_very_long_line_passes() {
    let world = World::new();
    let long = "  command: [bash, -c, \"head -c 1048576 /dev/zero | tr '\\\\0' x; echo; echo after; sleep 60\"]\n";
    let (a, _) = two_apps(&world, long, SLEEPS);
    let mut run = world.start(&["run", "-f", "."]);
    run.wait_for(&format!("== APP - {a} == after\n"));
    let text = run.stdout();
    let line = text.lines().find(|line| line.contains("xxxx")).unwrap();
    assert_eq!(line.len(), format!("== APP - {a} == ").len() + (1 << 20));
    run.stop();
}

/// Fact: CL-74.
#[test]
fn sockets_in_a_template_carry_the_metadata() {
    let world = World::new();
    let id = world.id("sock");
    let text = format!(
        "version: 1\napps:\n- appDirPath: .\n  appID: {id}\n  unixDomainSocket: s\n  command: [sleep, \"60\"]\n"
    );
    world.write("dapr.yaml", &text);
    fs::create_dir(world.path().join("s")).unwrap();
    let watch = Stopwatch::start();
    let mut run = world.start(&["run", "-f", "."]);
    let pid = run.pid().as_raw_nonzero().get();
    until("metadata", LONG, || {
        let rows: serde_json::Value =
            serde_json::from_str(&world.ironside(&["list", "-o", "json"]).stdout).ok()?;
        let row = rows
            .as_array()?
            .iter()
            .find(|row| row["appId"] == id.as_str())
            .cloned()?;
        (row["cliPid"] == pid).then_some(())
    });
    assert!(
        watch.elapsed() < Duration::from_secs(3),
        "{:?}",
        watch.elapsed()
    );
    run.stop();
}

/// Fact: CL-75, CH3.
#[test]
fn an_interrupt_of_the_parents_group_reaches_the_run() {
    let world = World::new();
    let (a, b) = two_apps(&world, SLEEPS, SLEEPS);
    let program = env!("CARGO_BIN_EXE_ironside");
    // A shell that, like make, waits for its child in the same group.
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("'{program}' run -f . ; echo \"run gave $?\"; exit 0"),
        ])
        .current_dir(world.path())
        .env("DAPR_RUNTIME_PATH", world.path())
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null());
    let mut shell = Running::start(&mut command);
    shell.wait_for(&format!("Started Dapr with app id \"{b}\""));
    shell.signal_group(Signal::INT);
    shell.end();
    until("end of all", LONG, || {
        (sidecars(&a).is_empty() && sidecars(&b).is_empty()).then_some(())
    });
}

/// Fact: cli-and-clients 1.10 "App lines".
#[test]
fn colours_are_kept_out_of_files() {
    let world = World::new();
    let coloured = "  command: [bash, -c, \"printf '\\\\033[31mred\\\\033[0m\\\\n'; sleep 60\"]\n";
    let (a, _) = two_apps(&world, coloured, SLEEPS);
    let mut run = world.start(&["run", "-f", "."]);
    run.wait_for(&format!("== APP - {a} == red\n"));
    run.stop();
    assert!(log(&world, "a", &format!("{a}_app_")).contains("red\n"));
}

/// Fact: CL-63 (a file that is not there).
#[test]
fn a_missing_template_is_named() {
    let world = World::new();
    let mut command = world.command(&["run", "-f", "nowhere.yaml"]);
    let seen = finish(&mut command);
    assert!(
        seen.code == Some(1) && seen.stderr.contains("nowhere.yaml"),
        "{}",
        seen.stderr
    );
}
