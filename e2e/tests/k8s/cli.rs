//! The command line on a real cluster: what it reads, explains, installs and runs there. Rows CL-80 to CL-93.
//!
//! Tables, texts and refusals have their tests beside the command line, against an API server of the tests' own; here
//! it is asked whether a real cluster understands what it is asked.

mod install;
mod run;

use std::{os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{
    binaries,
    k8s::{self, Helm, Machine, Place, Sample},
};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use crate::{
    breaking::CONTROL,
    shop::{ORDERS, Shop, put},
};

/// What the command line said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    /// The standard output as JSON.
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("{self:?}"))
    }
}

fn command(place: &Place, words: &[&str]) -> Command {
    let mut command = Command::new(binaries::path("ironside"));
    command
        .env("KUBECONFIG", place.cluster().kubeconfig())
        .env("NO_COLOR", "1")
        .args(words);
    command
}

fn ironside(place: &Place, words: &[&str]) -> Result<Said> {
    said(&mut command(place, words))
}

fn said(command: &mut Command) -> Result<Said> {
    let output = command.output().context("starting the command line")?;
    Ok(Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The command ends with this code.
fn ends(place: &Place, words: &[&str], code: i32) -> Result<Said> {
    let said = ironside(place, words)?;
    ensure!(said.code == Some(code), "{words:?}: not {code}: {said:?}");
    Ok(said)
}

async fn reading(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let namespace = place.namespace();
    place.start(&Sample::with_sidecar(ORDERS)).await?;
    // CL-80
    let rows = ends(place, &["status", "-k", "-o", "json"], 0)?.json()?;
    for program in ["dapr-operator", "dapr-sentry", "dapr-sidecar-injector"] {
        let mut rows = rows.as_array().into_iter().flatten();
        let row = rows.find(|row| row["name"] == program);
        let row = row.with_context(|| format!("{program} in {rows:?}"))?;
        ensure!(
            row["namespace"] == CONTROL && row["version"] == "e2e",
            "{row}"
        );
    }
    // CL-87: native, as all of the chart's default.
    let list = ["list", "-k", "--namespace", namespace, "-o", "json"];
    let rows = ends(place, &list, 0)?.json()?;
    ensure!(
        rows[0]["appId"] == ORDERS && rows[0]["appPort"] == "8080",
        "{rows}"
    );
    // CL-88
    let log = ends(place, &["logs", "-k", "-a", ORDERS, "-n", namespace], 0)?;
    ensure!(log.stdout.contains("app_id=orders"), "{log:?}");
    let log = ends(place, &["logs", "-k", "-a", "nobody", "-n", namespace], 1)?;
    ensure!(
        log.stderr.contains("Please check app-id (nobody)"),
        "{log:?}"
    );
    // CL-92
    put(
        place,
        "Configuration",
        "tracing",
        &json!({"tracing": {"samplingRate": "1"}}),
    )?;
    put(
        place,
        "Component",
        "store",
        &json!({"type": "state.in-memory", "version": "v1", "metadata": []}),
    )?;
    for (kind, name) in [("components", "store"), ("configurations", "tracing")] {
        let words = [kind, "-k", "--namespace", namespace, "-o", "json"];
        let objects = ends(place, &words, 0)?.json()?;
        ensure!(objects[0]["name"] == name, "{objects}");
        let words = [kind, "-k", "--namespace", namespace, "-o", "yaml"];
        let yaml = ends(place, &words, 0)?.stdout;
        let objects: Value = ironside_resources::yaml::from_str(&yaml)?;
        ensure!(objects[0]["name"] == name, "{yaml}");
    }
    annotated(place).await
}

/// CL-89 to the end: what comes out is what a cluster takes.
async fn annotated(place: &Place) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("plain.yaml");
    std::fs::write(&file, Sample::new("plain").manifest().to_string())?;
    let file = file.to_str().context("a path")?;
    let words = ["annotate", "-k", "-a", "plain", "-p", "8080", file];
    place.apply(&ends(place, &words, 0)?.stdout)?;
    place.rolled_out("plain").await?;
    let list = ["list", "-k", "--namespace", place.namespace(), "-o", "json"];
    let rows = ends(place, &list, 0)?.json()?;
    let ids: Vec<&Value> = rows
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| &row["appId"])
        .collect();
    ensure!(ids.contains(&&json!("plain")), "{rows}");
    Ok(())
}

/// CL-80, CL-87, CL-88, CL-89, CL-92: what a cluster has is shown, and annotated manifests are taken.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_cluster_is_read() {
    k8s::test("cli::a_cluster_is_read", reading).await;
}

async fn rules(place: &Place) -> Result<()> {
    let shop = Shop::open(place, Sample::with_sidecar(ORDERS)).await?;
    shop.rule("Enforce", "deny")?;
    shop.receipt()?;
    let namespace = place.namespace();
    let callee = format!("{namespace}/{ORDERS}");
    for (caller, path, code, status) in [
        ("web", "/open", 0, 200),
        ("web", "/door", 2, 403),
        ("mail", "/door", 2, 403),
    ] {
        let from = format!("{namespace}/{caller}");
        let words = [
            "accesscontrol",
            "check",
            "-k",
            "--caller",
            &from,
            "--callee",
            &callee,
            "--verb",
            "GET",
            "--path",
            path,
        ];
        ends(place, &words, code)?;
        // The sidecars say the same.
        let pod = if caller == "web" {
            shop.web()
        } else {
            shop.mail()
        };
        shop.always(pod, ORDERS, path, status).await?;
    }
    ends(
        place,
        &["accesscontrol", "lint", "-k", "--callee", &callee],
        0,
    )?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("new.yaml");
    for (door, code) in [("deny", 0), ("allow", 2)] {
        let mut rules = shop.rules("Enforce", door);
        rules["metadata"]["namespace"] = json!(namespace);
        std::fs::write(&file, rules.to_string())?;
        let new = file.to_str().context("a path")?;
        let words = ["accesscontrol", "diff", "-k", new, "--callee", &callee];
        let said = ends(place, &words, code)?;
        ensure!(
            said.stdout.contains("deny -> allow") == (code == 2),
            "{said:?}"
        );
    }
    // A rule that says nothing new.
    let mut twice = shop.rules("Enforce", "deny");
    let operations = twice
        .pointer_mut("/spec/policies/0/operations")
        .and_then(Value::as_array_mut);
    operations
        .context("rules")?
        .push(json!({"name": "/open", "action": "allow"}));
    place.apply(&twice.to_string())?;
    let said = ends(
        place,
        &["accesscontrol", "lint", "-k", "--callee", &callee],
        2,
    )?;
    ensure!(said.stdout.contains("duplicate"), "{said:?}");
    Ok(())
}

/// Cli-and-clients 1.17 and K225: rules in force are tried, looked through and compared, and sidecars agree.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn rules_in_force_are_explained() {
    k8s::test("cli::rules_in_force_are_explained", rules).await;
}

/// The checks of `doctor` that found something wrong, with their texts.
fn findings(said: &Said) -> Result<Vec<(String, String)>> {
    let all = said.json()?;
    let all = all["findings"].as_array().context("findings")?.clone();
    let found = all
        .iter()
        .filter(|one| one["level"] != "ok" && one["level"] != "info");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(found
        .map(|one| (text(&one["check"]), text(&one["message"])))
        .collect())
}

/// With `--call` the sidecar of `web` calls `orders`; one finding is of this kind.
fn called(place: &Place, path: &str, code: i32, is_it: impl Fn(&str, &str) -> bool) -> Result<()> {
    let [from, to] = ["web", ORDERS].map(|app| format!("{}/{app}", place.namespace()));
    let words = [
        "doctor", "-k", &from, &to, "--path", path, "--call", "-o", "json",
    ];
    let said = ends(place, &words, code)?.json()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = said["findings"].as_array().context("findings")?;
    let found = all
        .iter()
        .any(|one| is_it(&text(&one["check"]), &text(&one["message"])));
    ensure!(found, "{words:?}: {said}");
    Ok(())
}

async fn examined(_machine: &Machine, place: &Place) -> Result<()> {
    let namespace = place.namespace();
    let shop = Shop::open_under(place, Sample::with_sidecar(ORDERS)).await?;
    let way = |from: &str, to: &str, path: &str, code: i32| {
        let (from, to) = (format!("{namespace}/{from}"), format!("{namespace}/{to}"));
        ends(
            place,
            &["doctor", "-k", &from, &to, "--path", path, "-o", "json"],
            code,
        )
    };
    // What the API server made of the definitions and what it says of the rights is as it should be.
    let well = findings(&ends(place, &["doctor", "-k", "-o", "json"], 0)?)?;
    ensure!(
        well.iter()
            .all(|(check, _)| !["definitions", "rights"].contains(&check.as_str())),
        "{well:?}"
    );
    way("web", ORDERS, "/open", 0)?;
    called(place, "/open", 0, |check, text| {
        check == "call" && text.contains("the app answered 200 OK")
    })?;
    shop.rule("Enforce", "deny")?;
    shop.receipt()?;
    way("web", ORDERS, "/open", 0)?;
    called(place, "/open", 0, |check, text| {
        check == "call" && text.contains("the app answered 200 OK")
    })?;
    // The rules say so, and so does the callee's sidecar.
    called(place, "/door", 2, |check, text| {
        check == "policy" && text.contains("called by") && text.contains("403 Forbidden")
    })?;
    let denied = findings(&way("web", ORDERS, "/door", 2)?)?;
    ensure!(
        denied.iter().any(|(check, _)| check == "policy"),
        "{denied:?}"
    );
    // An app that ends as soon as it starts.
    let broken = Sample::with_sidecar("broken").argument("--no-such-flag");
    place.apply(&broken.manifest().to_string())?;
    let crashing = async || {
        let pods = place.pods("app=broken").await.ok()?;
        let status = pods.first()?.status.clone()?.container_statuses?;
        status
            .iter()
            .any(|one| one.name == "app" && one.restart_count > 0)
            .then_some(())
    };
    place.until("an app that crashes", crashing).await?;
    let down = findings(&way("web", "broken", "/", 2)?)?;
    ensure!(down.iter().any(|(check, _)| check == "app"), "{down:?}");
    let nobody = findings(&way("web", "nobody", "/", 2)?)?;
    ensure!(!nobody.is_empty());
    Ok(())
}

/// `doctor`: a cluster and a pair that are well, a pair denied by rules, one whose app is down, one that is not there.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn doctor_tells_what_is_wrong() {
    k8s::test_on_own("cli::doctor_tells_what_is_wrong", &[], examined).await;
}

async fn trust(_machine: &Machine, place: &Place) -> Result<()> {
    // CL-81
    let said = ends(place, &["mtls", "-k"], 0)?;
    ensure!(
        said.stdout
            .contains("Mutual TLS is enabled in your Kubernetes cluster"),
        "{said:?}"
    );
    // CL-82
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("certs");
    let words = [
        "mtls",
        "export",
        "-k",
        "-o",
        out.to_str().context("a path")?,
    ];
    ends(place, &words, 0)?;
    let secret = place
        .beside(CONTROL)
        .api::<Secret>()
        .get("dapr-trust-bundle")
        .await?;
    let data = secret.data.context("data of the bundle")?;
    for name in ["ca.crt", "issuer.crt", "issuer.key"] {
        let file = out.join(name);
        let held = data
            .get(name)
            .with_context(|| format!("{name} of the bundle"))?;
        ensure!(std::fs::read(&file)? == held.0, "{name} differs");
        let mode = std::fs::metadata(&file)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "{name}: {mode:o}");
    }
    // CL-83
    let said = ends(place, &["mtls", "expiry", "-k"], 0)?;
    ensure!(
        said.stdout.contains("Root certificate expires in "),
        "{said:?}"
    );
    Ok(())
}

/// A command that takes its time, beside what else goes on.
async fn said_within(place: &Place, words: &[&str]) -> Result<Said> {
    let mut command = command(place, words);
    tokio::task::spawn_blocking(move || said(&mut command)).await?
}

/// CL-81, CL-82, CL-83: the authority is shown and exported.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn the_authority_is_looked_after() {
    k8s::test_on_own("cli::the_authority_is_looked_after", &[], trust).await;
}
