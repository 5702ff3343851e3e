//! The definitions on a real API server: created, and each rule refused and accepted once. Rows KC-01 to KC-14.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use ironside_e2e::{
    binaries::root,
    k8s::{self, PATIENCE, Place},
};
use ironside_resources::yaml;
use serde_json::{Value, json};

/// The kinds, by plural.
const KINDS: [&str; 5] = [
    "accesscontrols",
    "components",
    "configurations",
    "httpendpoints",
    "resiliencies",
];

/// Applies the definitions of this checkout; those that are there already stay as they are.
fn define(place: &Place) -> Result<()> {
    let folder = root().join("crds");
    let folder = folder.to_string_lossy();
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--filename",
        folder.as_ref(),
    ];
    let said = place.kubectl(&apply, None)?;
    ensure!(said.ok, "{}", said.stderr);
    for kind in KINDS {
        let name = format!("crd/{kind}.dapr.io");
        let wait = ["wait", "--for=condition=Established", &name];
        let said = place.kubectl(&wait, None)?;
        ensure!(said.ok, "{}", said.stderr);
    }
    Ok(())
}

fn read(place: &Place, arguments: &[&str]) -> Result<Value> {
    let said = place.kubectl(&[arguments, &["--output", "json"]].concat(), None)?;
    ensure!(said.ok, "{arguments:?}: {}", said.stderr);
    serde_json::from_str(&said.stdout).context("what kubectl prints")
}

async fn established(place: &Place) -> Result<()> {
    define(place)?;
    for kind in KINDS {
        let found = read(place, &["get", "crd", &format!("{kind}.dapr.io")])?;
        let conditions = found["status"]["conditions"].as_array();
        for condition in conditions.into_iter().flatten() {
            let (kind, status) = (&condition["type"], &condition["status"]);
            let is_good = (kind != "NonStructuralSchema") == (status == "True");
            ensure!(is_good, "{condition}");
        }
    }
    Ok(())
}

/// KC-01: the API server takes the definitions, the estimated cost of their rules among them.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn the_definitions_are_established() {
    k8s::test("crds::the_definitions_are_established", established).await;
}

/// The object of a case, as one of this namespace.
fn object(case: &Value) -> Value {
    let mut object = case["object"].clone();
    object["apiVersion"] = json!("dapr.io/v1alpha1");
    object["metadata"] = json!({"generateName": "case-"});
    object
}

/// Judges a case; returns what is wrong with the answer.
fn judge(place: &Place, case: &Value) -> Result<Option<String>> {
    let object = object(case);
    // Unknown keys are one of the cases: a strict client would not even ask.
    let create = [
        "create",
        "--validate=false",
        "--output",
        "json",
        "--filename",
        "-",
    ];
    let said = place.kubectl(&create, Some(&object.to_string()))?;
    if let Some(parts) = case.get("refused").and_then(Value::as_array) {
        let mut parts = parts.iter().filter_map(Value::as_str);
        let is_told = !said.ok && parts.all(|part| said.stderr.contains(part));
        return Ok(
            (!is_told).then(|| format!("not refused as it should be: {object}: {}", said.stderr))
        );
    }
    if !said.ok {
        return Ok(Some(format!("refused: {object}: {}", said.stderr)));
    }
    let stored: Value = serde_json::from_str(&said.stdout).context("what kubectl prints")?;
    let want = case.get("stored").unwrap_or(&object["spec"]);
    let is_same = stored["spec"] == *want && stored.get("scopes") == object.get("scopes");
    Ok((!is_same).then(|| format!("stored otherwise: {object}: {stored}")))
}

async fn cases(place: &Place) -> Result<()> {
    define(place)?;
    let path = root().join("e2e/golden/crds/cases.yaml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut wrong = Vec::new();
    let mut count = 0;
    for document in yaml::documents(&text) {
        if let Some(case) = yaml::decode::<Value>(document)? {
            count += 1;
            wrong.extend(judge(place, &case)?);
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(count > 50, "only {count} cases");
    Ok(())
}

/// KC-02 to KC-11, security 4.3: what the tests beside the schema say is what a real API server says.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn every_rule_is_refused_and_accepted_once() {
    k8s::test("crds::every_rule_is_refused_and_accepted_once", cases).await;
}

/// Takes what an older definition did not have out of a schema.
fn forget_rules(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for word in ["x-kubernetes-validations", "maxItems", "maxLength"] {
                members.remove(word);
            }
            members.values_mut().for_each(forget_rules);
        }
        Value::Array(list) => list.iter_mut().for_each(forget_rules),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn ratchets(place: &Place) -> Result<()> {
    // A group of its own: others use the real one at the same time.
    let group = format!("{}.test", place.namespace());
    let text = fs::read_to_string(root().join("crds/configurations.dapr.io.yaml"))?;
    let mut definition: Value = yaml::from_str(&text)?;
    let name = format!("configurations.{group}");
    definition["metadata"]["name"] = json!(name);
    definition["spec"]["group"] = json!(group);
    definition["spec"]["names"]["categories"] = json!([]);
    definition["spec"]["names"]["shortNames"] = json!([]);
    let mut older = definition.clone();
    forget_rules(&mut older["spec"]["versions"]);
    place.apply(&older.to_string())?;
    let wait = [
        "wait",
        "--for=condition=Established",
        &format!("crd/{name}"),
    ];
    let said = place.kubectl(&wait, None)?;
    ensure!(said.ok, "{}", said.stderr);
    let outcome = ratchet(place, &group, &definition).await;
    let said = place.kubectl(&["delete", "crd", &name, "--wait=false"], None)?;
    ensure!(said.ok, "{}", said.stderr);
    outcome
}

async fn ratchet(place: &Place, group: &str, definition: &Value) -> Result<()> {
    let bad = json!({
        "apiVersion": format!("{group}/v1alpha1"),
        "kind": "Configuration",
        "metadata": {"name": "old"},
        "spec": {"accessControl": {"defaultAction": "alow", "policies": [{"appId": "a"}]}},
    });
    place.apply(&bad.to_string())?;
    place.apply(&definition.to_string())?;
    let named = format!("configurations.{group}");
    let patch = |spec: Value| {
        let patch = json!({"spec": spec}).to_string();
        place.kubectl(
            &["patch", &named, "old", "--type=merge", "--patch", &patch],
            None,
        )
    };
    // The new definition is in force when a new mistake is refused.
    let refused = async || {
        let said = patch(json!({"accessControl": {"defaultAction": "blok"}})).ok()?;
        (!said.ok && said.stderr.contains("must be allow or deny")).then_some(())
    };
    place
        .until("the new definition is in force", refused)
        .await?;
    let unrelated = patch(json!({"tracing": {"samplingRate": "1"}}))?;
    ensure!(unrelated.ok, "an unrelated edit: {}", unrelated.stderr);
    let mended = patch(json!({"accessControl": {"defaultAction": "allow"}}))?;
    ensure!(mended.ok, "a mended field: {}", mended.stderr);
    Ok(())
}

/// KC-12
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn an_old_bad_object_may_be_edited_elsewhere() {
    k8s::test("crds::an_old_bad_object_may_be_edited_elsewhere", ratchets).await;
}

async fn shown(place: &Place) -> Result<()> {
    define(place)?;
    let object = |kind: &str, spec: Value| {
        let api = "dapr.io/v1alpha1";
        json!({"apiVersion": api, "kind": kind, "metadata": {"name": "one"}, "spec": spec})
            .to_string()
    };
    for (kind, spec, word, columns, row) in [
        (
            "HTTPEndpoint",
            json!({"baseUrl": "https://api.example.org"}),
            "hep",
            "NAME URL AGE",
            "one https://api.example.org",
        ),
        (
            "Configuration",
            json!({"tracing": {"samplingRate": "0.5"}, "accessControl": {"defaultAction": "deny"}}),
            "daprcfg",
            "NAME TRACING METRICS ACCESS AGE",
            "one 0.5 true deny",
        ),
        (
            "Component",
            json!({"type": "state.redis", "version": "v1", "metadata": []}),
            "components",
            "NAME TYPE VERSION AGE",
            "one state.redis v1",
        ),
        (
            "Resiliency",
            json!({"policies": {}, "targets": {}}),
            "dres",
            "NAME SCOPES AGE",
            "one",
        ),
        (
            "AccessControl",
            json!({"defaultAction": "deny"}),
            "acl",
            "NAME MODE DEFAULT POLICIES APPLIED ACCEPTED AGE",
            "one Enforce deny",
        ),
    ] {
        place.apply(&object(kind, spec))?;
        let said = place.kubectl(&["get", word], None)?;
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = said.stdout.lines().map(words).collect();
        let [head, first] = lines.as_slice() else {
            bail!("{said:?}");
        };
        assert_eq!(head, columns);
        ensure!(first.starts_with(row), "{first}");
    }
    Ok(())
}

/// KC-13
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn kubectl_shows_what_matters() {
    k8s::test("crds::kubectl_shows_what_matters", shown).await;
}

async fn told(place: &Place) -> Result<()> {
    define(place)?;
    place.apply(
        r#"{"apiVersion": "dapr.io/v1alpha1", "kind": "Resiliency", "metadata": {"name": "r"},
            "spec": {"policies": {}, "targets": {}}}"#,
    )?;
    let before = read(place, &["get", "resiliency", "r"])?;
    let status = json!({"status": {"observedGeneration": 1, "conditions": [{
        "type": "Accepted", "status": "True", "reason": "Compiled", "message": "", "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}});
    let status = status.to_string();
    let patch = [
        "patch",
        "resiliency",
        "r",
        "--subresource=status",
        "--type=merge",
        "--patch",
        &status,
    ];
    let said = place.kubectl(&patch, None)?;
    ensure!(said.ok, "{}", said.stderr);
    let wait = ["wait", "--for=condition=Accepted", "resiliency/r"];
    let limit = format!("--timeout={}s", PATIENCE.as_secs());
    let said = place.kubectl(&[&wait[..], &[&limit]].concat(), None)?;
    ensure!(said.ok, "{}", said.stderr);
    let after = read(place, &["get", "resiliency", "r"])?;
    assert_eq!(
        before["metadata"]["generation"],
        after["metadata"]["generation"]
    );
    assert_eq!(before["spec"], after["spec"]);
    Ok(())
}

/// KC-14, as far as the API server goes: a status leaves the generation as it was.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_status_is_no_change_of_the_object() {
    k8s::test("crds::a_status_is_no_change_of_the_object", told).await;
}
