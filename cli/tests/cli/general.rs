//! Rows CL-01 to CL-12: names, errors, versions, completion.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::rig::{Stopwatch, World, finish};

/// Fact: CL-01.
#[test]
fn a_wrong_command_line_shows_usage_and_exits_255() {
    let world = World::new();
    for (words, expected) in [
        (&["run", "--flag"][..], "Error: unknown flag: --flag\n"),
        (
            &["stop", "-a", "x", "-p", "test"],
            "Error: unknown shorthand flag: 'p' in -p\n",
        ),
        (
            &["invoke", "--app-id", "x"],
            "Error: required flag(s) \"method\" not set\n",
        ),
        (
            &["rum"],
            "Error: unknown command \"rum\" for \"ironside\"\n",
        ),
    ] {
        let seen = world.ironside(words);
        assert_eq!(seen.code, Some(255), "{words:?}");
        assert!(seen.stderr.contains(expected), "{words:?}: {}", seen.stderr);
        assert!(seen.stderr.contains("\nUsage:\n"), "{}", seen.stderr);
    }
    let seen = world.ironside(&["run", "--flag"]);
    assert!(
        seen.stderr.contains("\n  -a, --app-id string"),
        "{}",
        seen.stderr
    );
}

/// Fact: CL-04.
#[test]
fn the_version_has_two_lines_or_is_json() {
    let world = World::new();
    for words in [&["--version"][..], &["-v"], &["version"]] {
        let seen = world.ironside(words);
        let lines: Vec<&str> = seen.stdout.lines().collect();
        assert!(
            lines[0].starts_with("CLI version: ") && lines[0].ends_with(' '),
            "{lines:?}"
        );
        assert!(
            lines[1].starts_with("Runtime version: ") && lines.len() == 2,
            "{lines:?}"
        );
        assert_eq!(seen.code, Some(0));
    }
    let json: serde_json::Value =
        serde_json::from_str(&world.ironside(&["version", "-o", "json"]).stdout).unwrap();
    assert!(
        json["Cli version"].is_string() && json["Runtime version"].is_string(),
        "{json}"
    );
    assert_eq!(world.ironside(&["version", "-o", "xml"]).code, Some(1));
    assert!(
        world
            .ironside(&["build-info"])
            .stdout
            .starts_with("CLI:\n\tVersion: ")
    );
}

/// Fact: CL-05.
#[test]
fn called_daprd_it_is_the_sidecar() {
    let world = World::new();
    let link = world.path().join("daprd");
    symlink(env!("CARGO_BIN_EXE_ironside"), &link).unwrap();
    let watch = Stopwatch::start();
    let seen = finish(Command::new(&link).arg("--version"));
    assert_eq!(
        (seen.code, seen.stdout.lines().count(), seen.stderr.as_str()),
        (Some(0), 1, "")
    );
    assert!(watch.elapsed().as_millis() < 2_000, "{:?}", watch.elapsed());
    let seen = finish(Command::new(&link).arg("--build-info"));
    let starts: Vec<&str> = seen
        .stdout
        .lines()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(starts, ["Version", "Git Commit", "Git Version"]);
}

#[test]
fn called_by_its_name_it_is_a_program_of_the_control_plane() {
    let world = World::new();
    for name in ["operator", "injector"] {
        let link = world.path().join(name);
        symlink(env!("CARGO_BIN_EXE_ironside"), &link).unwrap();
        // Outside of a cluster it lacks what it needs.
        let seen = finish(Command::new(&link).env_remove("NAMESPACE"));
        assert_eq!(seen.code, Some(1));
        let scope = format!("scope=dapr.{name}");
        assert!(seen.stdout.contains(&scope), "{}", seen.stdout);
    }
}

/// Fact: CL-07.
#[test]
fn status_lines_are_json_when_asked() {
    let world = World::new();
    for words in [
        &["--log-as-json", "stop", "nobody-at-all"][..],
        &["invoke", "-a", "nobody-at-all", "-m", "x", "--log-as-json"],
        &["init", "--log-as-json"],
        &["uninstall", "--log-as-json"],
        &["workflow", "list", "--log-as-json"],
        &["--log-as-json", "workflow", "list"],
    ] {
        let seen = world.ironside(words);
        let all = format!("{}{}", seen.stdout, seen.stderr);
        assert!(
            !all.is_empty() && !all.contains('\u{1b}'),
            "{words:?}: {all}"
        );
        for line in all.lines() {
            let value: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|_| panic!("{words:?}: {line}"));
            assert!(
                value["time"].is_string()
                    && value["status"].is_string()
                    && value["msg"].is_string(),
                "{line}"
            );
        }
    }
}

/// Fact: CL-09.
#[test]
fn completion_prints_a_script_for_each_shell() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let seen = world.ironside(&["completion", shell]);
        assert_eq!(seen.code, Some(0));
        assert!(seen.stdout.contains("app-id"), "{shell}: {}", seen.stdout);
    }
    let bare = world.ironside(&["completion"]);
    assert!(
        bare.code == Some(0) && bare.stdout.contains("Usage:"),
        "{}",
        bare.stdout
    );
}

/// Fact: CL-10.
#[test]
fn commands_that_are_not_offered_say_so() {
    let world = World::new();
    for (words, block) in [
        (&["workflow", "list"][..], "workflow"),
        (&["wf", "run", "x"], "workflow"),
        (&["scheduler", "get", "x"], "jobs"),
        (&["dashboard"], "dashboard"),
    ] {
        let seen = world.ironside(words);
        assert_eq!(seen.code, Some(1), "{words:?}");
        assert!(
            seen.stderr.contains(block) && seen.stderr.lines().count() == 1,
            "{words:?}: {}",
            seen.stderr
        );
    }
}

/// Fact: CL-11.
#[test]
fn the_flag_beats_the_variable() {
    let world = World::new();
    let other = World::new();
    let path = other.path().to_str().unwrap();
    assert_eq!(
        world.ironside(&["init", "--runtime-path", path]).code,
        Some(0)
    );
    assert!(other.path().join(".dapr/bin/daprd").is_symlink());
    assert!(!world.path().join(".dapr").exists());
}

/// Fact: cli-and-clients 1.17.
#[test]
fn init_and_uninstall_may_be_repeated() {
    let world = World::new();
    for _ in 0..2 {
        let seen = world.ironside(&["init", "--container-runtime", "podman", "--slim"]);
        assert_eq!(seen.code, Some(0), "{}", seen.stderr);
        assert_eq!(
            seen.stdout.matches("--container-runtime").count(),
            1,
            "{}",
            seen.stdout
        );
    }
    assert!(
        world
            .read(".dapr/config.yaml")
            .contains("kind: Configuration")
    );
    for words in [
        &["uninstall"][..],
        &["uninstall", "--all"],
        &["uninstall", "--all"],
    ] {
        let seen = world.ironside(words);
        assert!(
            seen.code == Some(0) && seen.stdout.contains("Dapr has been removed successfully"),
            "{}",
            seen.stdout
        );
    }
    assert!(!world.path().join(".dapr").exists());
}

#[test]
fn help_is_there_for_every_command() {
    let world = World::new();
    for words in [&["help", "run"][..], &["run", "--help"], &["run", "-h"]] {
        let seen = world.ironside(words);
        assert!(
            seen.code == Some(0) && seen.stdout.contains("ironside run [flags]"),
            "{}",
            seen.stdout
        );
    }
    assert!(world.ironside(&[]).stdout.contains("Available Commands:"));
}
