//! A control plane whose operator may act in one namespace alone: what it has to do there it does, and what nobody
//! has allowed is closed. Row KH-10.

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{self, Helm, Machine, Place, Sample};
use serde_json::{Value, json};

use crate::breaking::{CONTROL, OPERATOR, kubectl, reaches, restarts};
use crate::live::echo;
use crate::shop::put;

/// Bindings for the whole cluster that name the operator's account.
fn bound(place: &Place) -> Result<Vec<String>> {
    let text = kubectl(place, &["get", "clusterrolebindings", "--output=json"])?;
    let list: Value = serde_json::from_str(&text).context("what kubectl prints")?;
    let names = |binding: &Value| {
        let mut subjects = binding["subjects"].as_array().into_iter().flatten();
        subjects.any(|subject| subject["name"] == OPERATOR && subject["namespace"] == CONTROL)
    };
    let all = list["items"].as_array().context("bindings")?;
    let found = all.iter().filter(|binding| names(binding));
    Ok(found
        .map(|binding| binding["metadata"]["name"].to_string())
        .collect())
}

/// Whether the operator may list pods of a namespace.
fn may_list(place: &Place, namespace: &str) -> Result<bool> {
    let account = format!("--as=system:serviceaccount:{CONTROL}:{OPERATOR}");
    let asked = ["auth", "can-i", "list", "pods", &account, "--namespace"];
    let said = place.kubectl(&[&asked[..], &[namespace]].concat(), None)?;
    match said.stdout.trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => anyhow::bail!("{said:?}"),
    }
}

/// Rules for everybody, which every sidecar has.
fn ruled(place: &Place, action: &str) -> Result<()> {
    let rules = json!({"mode": "Enforce", "defaultAction": action});
    put(place, "AccessControl", "callee", &rules)?;
    let receipt = ["wait", "--for=condition=Programmed", "accesscontrol/callee"];
    kubectl(place, &[&receipt[..], &["--timeout=90s"]].concat()).map(drop)
}

/// The header of an endpoint comes from a Secret, and gets to whoever is called.
async fn secret(place: &Place, caller: &str) -> Result<()> {
    place.apply(
        r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
            "stringData": {"remote": "from-the-secret"}}"#,
    )?;
    // Past the sidecar, as to a server elsewhere.
    place.apply(
        r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"},
            "spec": {"selector": {"app": "callee"}, "ports": [{"port": 80, "targetPort": 8080}]}}"#,
    )?;
    let base = format!("http://server.{}.svc.cluster.local", place.namespace());
    let header = json!({"name": "x-key", "secretKeyRef": {"name": "keys", "key": "remote"}});
    let spec = json!({"baseUrl": base, "headers": [header]});
    put(place, "HTTPEndpoint", "remote", &spec)?;
    let has_it = |answer: &Value| {
        let header = answer["echo"]["headers"]["x-key"].to_string();
        answer["status"] == 200 && header.contains("from-the-secret")
    };
    echo(place, caller, has_it).await.map(drop)
}

async fn one(_machine: &Machine, place: &Place) -> Result<()> {
    let watched = format!("dapr_operator.watchNamespace={}", place.namespace());
    let helm = Helm::new(place.cluster());
    let secrets = format!(
        "dapr_operator.secretResolution.namespaces[0]={}",
        place.namespace()
    );
    let closed = "accessControl.denyByDefault=true";
    helm.install(&["global.rbac.namespaced=true", closed, &watched, &secrets])?;
    let found = bound(place)?;
    ensure!(found.is_empty(), "rights everywhere: {found:?}");
    ensure!(may_list(place, place.namespace())?, "not even here");
    ensure!(!may_list(place, "default")?, "elsewhere as well");

    for app in ["callee", "caller"] {
        place.start(&Sample::with_sidecar(app)).await?;
    }
    let caller = place.pod("app=caller").await?;
    let call = crate::breaking::invocation("callee");
    let is_closed = async || {
        let outcome = place.call(&caller, &call).await.ok()?;
        (outcome["status"] == 403).then_some(())
    };
    // Its Service is the operator's work.
    place
        .until("an app without rules is closed", is_closed)
        .await?;
    ruled(place, "allow")?;
    reaches(place, &caller, "callee").await?;
    ruled(place, "deny")?;
    let outcome = place.call(&caller, &call).await?;
    ensure!(outcome["status"] == 403, "{outcome}");
    secret(place, &caller).await?;
    let control = place.beside(CONTROL);
    for pod in control.pods(&format!("app={OPERATOR}")).await? {
        ensure!(restarts(&pod) == 0, "the operator was started again");
    }
    Ok(())
}

/// KH-10, KG-07, M8: no right outside of its namespace, and yet Services, rules and their receipts, and secrets that it
/// is given; an app without rules is closed where that is the default.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn an_operator_of_one_namespace_does_its_work() {
    let name = "namespaced::an_operator_of_one_namespace_does_its_work";
    k8s::test_on_bare(name, one).await;
}
