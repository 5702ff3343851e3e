//! The renders in the binary are what Helm makes of the chart.
//!
//! Needs Helm (`IRONSIDE_HELM`, else on the PATH), so it runs with `cargo xtask e2e chart`; with `UPDATE=1` it writes
//! them.

use std::fs;
use std::process::Command;

/// Decision 0009.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart; UPDATE=1 cargo test -p ironside --test cli -- --ignored renders"]
fn the_renders_are_up_to_date() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let variable = |wanted: &str| {
        let mut all = std::env::vars_os();
        all.find(|(name, _)| name == wanted).map(|(_, value)| value)
    };
    let is_update = variable("UPDATE").is_some();
    let helm = variable("IRONSIDE_HELM").unwrap_or_else(|| "helm".into());
    for (name, more) in [
        ("single", None),
        ("replicated", Some("global.ha.enabled=true")),
    ] {
        let mut command = Command::new(&helm);
        command
            .current_dir(root)
            .args(["template", "ironside", "charts/ironside", "--skip-tests"])
            .args([
                "--kube-version",
                "1.34.0",
                "--namespace",
                "ironside-namespace",
            ])
            .args(["--set", "global.registry=ironside.registry.invalid"])
            .args(["--set", "global.tag=ironside-tag"]);
        if let Some(value) = more {
            command.args(["--set", value]);
        }
        let done = command.output().unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        let rendered = String::from_utf8(done.stdout).unwrap();
        let path = format!("{root}/cli/render/{name}.yaml");
        if is_update {
            fs::write(&path, rendered).unwrap();
            continue;
        }
        let held = fs::read_to_string(&path).unwrap();
        assert!(
            held == rendered,
            "{path} is not what Helm makes of the chart: run this test with UPDATE=1"
        );
    }
}
