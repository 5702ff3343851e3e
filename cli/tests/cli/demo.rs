//! `demo`: what a newcomer sees first must work anywhere.

use std::net::TcpListener;
use std::time::Duration;

use crate::rig::{Running, Stopwatch, World, finish, http, number_after};

/// The demo's command in a hostile place: no home, nothing in the environment but a temporary folder.
fn command(world: &World, words: &[&str]) -> std::process::Command {
    let mut command = world.command(words);
    command.env_clear().env("TMPDIR", world.path());
    command
}

#[test]
fn the_demo_shows_everything_in_time() {
    let world = World::new();
    // Taken if it was free; not ours to free if it was not.
    let _port = TcpListener::bind(("127.0.0.1", 3500));
    let watch = Stopwatch::start();
    let seen = finish(&mut command(&world, &["demo"]));
    assert_eq!(seen.code, Some(0), "{}{}", seen.stdout, seen.stderr);
    assert!(
        watch.elapsed() < Duration::from_secs(15),
        "{:?}",
        watch.elapsed()
    );
    for text in [
        "Discovery",
        "HTTP call",
        "gRPC call",
        "Streaming",
        " verified spiffe://public/ns/default/orders-",
        " verified spiffe://public/ns/default/greeter-",
        "calls failed",
        "p99",
        "HTTP, through both sidecars and mutual TLS",
        "gRPC, app called directly",
        "Three commands to try next:",
        "ironside demo --stay",
    ] {
        assert!(seen.stdout.contains(text), "no {text:?} in {}", seen.stdout);
    }
    assert!(!seen.stdout.contains('\u{1b}'), "{}", seen.stdout);
    assert_eq!(leftovers(&world), Vec::<String>::new());
}

fn leftovers(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.path()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with("ironside-demo-"))
        .collect()
}

#[test]
fn with_stay_it_can_be_called_until_ctrl_c() {
    let world = World::new();
    let mut demo = Running::start(&mut command(&world, &["demo", "--stay"]));
    demo.wait_for("Everything keeps running until Ctrl-C");
    demo.wait_for("/v1.0/metadata");
    let text = demo.stdout();
    let curl = text
        .lines()
        .find(|line| line.contains("curl -X POST") && line.contains("/method/orders"));
    let url = curl.unwrap().rsplit(' ').next().unwrap();
    let port = number_after(url, "http://127.0.0.1:");
    let path = url.split_once(&port.to_string()).unwrap().1;
    let answer = http(
        port,
        "POST",
        path,
        &[("Content-Type", "application/json")],
        "{}",
    )
    .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(
        answer.body.contains("\"from\":\"greeter-"),
        "{}",
        answer.body
    );
    assert_eq!(demo.stop().code(), Some(0));
    assert!(http(port, "GET", "/v1.0/healthz", &[], "").is_none());
    assert_eq!(leftovers(&world), Vec::<String>::new());
}
