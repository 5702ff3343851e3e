//! `annotate`: files, folders, the standard input, and what is refused.

use std::io::Write as _;
use std::process::Stdio;

use crate::rig::World;

const TWO: &str = "kind: Deployment\nmetadata:\n  name: node\nspec: {}\n---\nkind: Deployment\nmetadata:\n  name: python # two\nspec: {}\n";

/// CL-89: only the object that is meant changes, runs can be chained, and slips are told.
#[test]
fn objects_are_annotated_one_by_one() {
    let world = World::new();
    world.write("m/two.yaml", TWO);
    let words = ["annotate", "-k", "-r", "node", "-a", "app", "-p", "3000"];
    let once = world.ironside(&[&words[..], &["m"]].concat());
    assert_eq!(once.code, Some(0), "{}", once.stderr);
    let (first, second) = once.stdout.split_once("---\n").unwrap();
    for line in [
        "dapr.io/enabled: \"true\"",
        "dapr.io/app-id: \"app\"",
        "dapr.io/app-port: \"3000\"",
    ] {
        assert!(first.contains(line), "{first}");
    }
    assert!(!first.contains("max-body-size"), "{first}");
    assert_eq!(second, TWO.split_once("---\n").unwrap().1);

    let mut child = world
        .command(&[
            "annotate",
            "-k",
            "-r",
            "python",
            "--enable-metrics=false",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take();
    input.unwrap().write_all(once.stdout.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let twice = String::from_utf8(done.stdout).unwrap();
    let (same, second) = twice.split_once("---\n").unwrap();
    assert_eq!(same, first);
    assert!(second.contains("name: python # two"), "{second}");
    assert!(
        second.contains("dapr.io/enable-metrics: \"false\""),
        "{second}"
    );
    assert!(second.contains("dapr.io/app-id: \"default-deployment-python\""));

    for (words, text) in [
        (&["annotate", "m/two.yaml"][..], "add -k"),
        (
            &["annotate", "-k"],
            "please specify a Kubernetes resource file",
        ),
        (
            &["annotate", "-k", "-n", "x", "m/two.yaml"],
            "--resource is required when --namespace is provided.",
        ),
        (
            &["annotate", "-k", "-r", "ruby", "m/two.yaml"],
            "there is no workload of the name ruby",
        ),
        (&["annotate", "-k", "none.yaml"], "reading none.yaml"),
        (
            &["annotate", "-k", "http://127.0.0.1:1/x.yaml"],
            "fetching http://127.0.0.1:1/x.yaml",
        ),
    ] {
        let seen = world.ironside(words);
        assert_eq!(seen.code, Some(1), "{words:?}");
        assert!(seen.stderr.contains(text), "{words:?}: {}", seen.stderr);
        assert_eq!(seen.stdout, "", "nothing to apply");
    }
}
