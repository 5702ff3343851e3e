//! A control plane whose operator may act in one namespace alone: what it has to do there it does. Row KH-10.

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{self, Helm, Machine, Place, Sample};
use serde_json::{Value, json};

use crate::breaking::{CONTROL, OPERATOR, kubectl, reaches, restarts};
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

async fn one(_machine: &Machine, place: &Place) -> Result<()> {
    let watched = format!("dapr_operator.watchNamespace={}", place.namespace());
    let helm = Helm::new(place.cluster());
    helm.install(&["global.rbac.namespaced=true", &watched])?;
    let found = bound(place)?;
    ensure!(found.is_empty(), "rights everywhere: {found:?}");
    ensure!(may_list(place, place.namespace())?, "not even here");
    ensure!(!may_list(place, "default")?, "elsewhere as well");

    for app in ["callee", "caller"] {
        place.start(&Sample::with_sidecar(app)).await?;
    }
    let caller = place.pod("app=caller").await?;
    // Its Service is the operator's work.
    reaches(place, &caller, "callee").await?;
    put(
        place,
        "AccessControl",
        "callee",
        &json!({"mode": "Enforce", "defaultAction": "deny"}),
    )?;
    kubectl(
        place,
        &[
            "wait",
            "--for=condition=Programmed",
            "accesscontrol/callee",
            "--timeout=90s",
        ],
    )?;
    let call = crate::breaking::invocation("callee");
    let outcome = place.call(&caller, &call).await?;
    ensure!(outcome["status"] == 403, "{outcome}");
    let control = place.beside(CONTROL);
    for pod in control.pods(&format!("app={OPERATOR}")).await? {
        ensure!(restarts(&pod) == 0, "the operator was started again");
    }
    Ok(())
}

/// KH-10: no right outside of its namespace, and yet Services, rules and their receipts.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn an_operator_of_one_namespace_does_its_work() {
    let name = "namespaced::an_operator_of_one_namespace_does_its_work";
    k8s::test_on_bare(name, one).await;
}
