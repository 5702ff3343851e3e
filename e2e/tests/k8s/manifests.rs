//! What the API server says of every object that the chart can make, word by word.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{
    binaries::root,
    k8s::{self, Helm, Place},
};

/// What a render is made with, besides the values under test.
const SETTINGS: [&str; 4] = [
    "--set",
    "global.registry=ironside.test",
    "--set",
    "global.tag=e2e",
];

/// Runs a program that reads `input`; it must succeed.
fn run(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting the program")?;
    let mut stdin = child.stdin.take().context("its input")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).context("its output")
}

async fn strict(place: &Place) -> Result<()> {
    // The kinds of the chart's own objects are those of this release.
    Helm::new(place.cluster()).shared().await?;
    let everything = fs::read_to_string(root().join("e2e/golden/chart/everything.yaml"))?;
    // Roles are made in namespaces that are there.
    let everything = everything.replace("[shop]", &format!("[{}]", place.namespace()));
    // Helm by itself renders for the version that it was built with.
    let version = place
        .cluster()
        .client()
        .apiserver_version()
        .await?
        .git_version;
    for (values, least) in [("{}", 20), (everything.as_str(), 30)] {
        let mut helm = place.cluster().helm();
        helm.args(["template", "ironside"])
            .arg(root().join("charts/ironside"))
            .args(["--namespace", place.namespace(), "--values", "-"])
            .args(["--kube-version", &version])
            .args(SETTINGS);
        let objects = run(&mut helm, values)?;
        let mut apply = place.cluster().kubectl();
        apply.args(["apply", "--server-side", "--force-conflicts"]);
        apply.args(["--dry-run=server", "--validate=strict", "--filename=-"]);
        let answer = run(&mut apply, &objects)?;
        let taken = answer.lines().count();
        k8s::figure(&format!(
            "{taken} objects of the chart are taken as they are"
        ));
        ensure!(taken > least, "only {taken} objects: {answer}");
    }
    Ok(())
}

/// KH-16: no field is unknown, misspelt or twice, and none is refused.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn every_object_of_the_chart_is_taken_word_by_word() {
    let name = "manifests::every_object_of_the_chart_is_taken_word_by_word";
    k8s::test(name, strict).await;
}
