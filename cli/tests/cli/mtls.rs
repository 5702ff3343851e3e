//! `mtls` over the folder of a Sentry: what it holds, its export, and the wish for a rotation.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::rig::{Running, World};

/// A Sentry over the folder `ca`, with ports of the system's choice.
fn sentry(world: &World) -> Running {
    fs::create_dir_all(world.path().join("ca")).unwrap();
    let mut sentry = world.start(&[
        "sentry",
        "--issuer-credentials=ca",
        "--port=0",
        "--healthz-port=0",
        "--metrics-port=0",
        "--listen-address=127.0.0.1",
        "--healthz-listen-address=127.0.0.1",
        "--metrics-listen-address=127.0.0.1",
    ]);
    sentry.wait_for("Running gRPC server on port");
    sentry
}

const FOLDER: &str = "--issuer-credentials=ca";

#[test]
fn a_rotation_is_asked_for_and_seen() {
    let world = World::new();
    let mut sentry = sentry(&world);
    let seen = world.ironside(&["mtls", FOLDER]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(seen.stdout.starts_with("Phase steady: "), "{}", seen.stdout);
    assert!(seen.stdout.contains("CERTIFICATE"), "{}", seen.stdout);
    assert!(!seen.stdout.contains("next root"), "{}", seen.stdout);

    let seen = world.ironside(&["mtls", "renew-certificate", FOLDER]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(
        seen.stdout.contains("Phase distribute since "),
        "{}",
        seen.stdout
    );
    sentry.wait_for("New root and issuer made");
    let json = world.ironside(&["mtls", FOLDER, "-o", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["managed"], true);
    assert_eq!(json["phase"], "distribute");
    let roles: Vec<_> = json["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["certificate"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["root", "next root", "issuer"]);

    // Nobody answers, and the wish is kept.
    drop(sentry);
    let words = ["mtls", "rnc", FOLDER, "--timeout", "0"];
    let seen = world.ironside(&words);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(
        seen.stdout.contains("No Sentry has answered yet"),
        "{}",
        seen.stdout
    );
    assert!(world.path().join("ca/rotate.request").exists());
}

/// Fact: CL-82, CL-83, on one machine.
#[test]
fn certificates_are_exported_and_their_end_is_told() {
    let world = World::new();
    drop(sentry(&world));
    let seen = world.ironside(&["mtls", "export", FOLDER, "-o", "out/certs"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let said = seen.stdout + &seen.stderr;
    assert!(
        said.contains("Trust certs successfully exported to "),
        "{said}"
    );
    for name in ["ca.crt", "issuer.crt", "issuer.key"] {
        let copy = format!("out/certs/{name}");
        assert_eq!(world.read(&copy), world.read(&format!("ca/{name}")));
        let mode = fs::metadata(world.path().join(&copy)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }
    let again = world.ironside(&["mtls", "export", FOLDER, "-o", "out/certs"]);
    assert_eq!(again.code, Some(1), "nothing is overwritten");
    let seen = world.ironside(&["mtls", "expiry", FOLDER]);
    assert!(
        seen.stdout
            .starts_with("Root certificate expires in 8759 hours. Expiry date: "),
        "{}",
        seen.stdout
    );
}

#[test]
fn a_supplied_authority_and_an_empty_folder_are_told_apart() {
    let world = World::new();
    drop(sentry(&world));
    fs::remove_file(world.path().join("ca/ca-state.json")).unwrap();
    let seen = world.ironside(&["mtls", FOLDER]);
    assert!(seen.stdout.starts_with("Supplied: "), "{}", seen.stdout);
    for (words, why) in [
        (
            &["mtls", "renew-certificate", FOLDER][..],
            "was supplied: Sentry does not replace it",
        ),
        (
            &["mtls", "--issuer-credentials=."],
            "there is no certificate authority in .",
        ),
        (
            &["mtls", "expiry", "--issuer-credentials=none"],
            "issuer credentials folder none",
        ),
        (&["mtls"], "name the folder of Sentry"),
        (
            &["mtls", FOLDER, "-o", "xml"],
            "An invalid output format was specified.",
        ),
    ] {
        let seen = world.ironside(words);
        assert_eq!(seen.code, Some(1), "{words:?}");
        let said = seen.stdout + &seen.stderr;
        assert!(said.contains(why), "{words:?}: {said}");
    }
    assert!(!world.path().join("ca/rotate.request").exists());
}
