//! A cluster moves from Dapr: what its chart leaves behind is taken over, what is somebody else's is not, objects of a
//! kind that has two versions are converted, and the authority comes along, so that running pods notice nothing.
//! Decisions 5 and 6; row KH-13.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ironside_e2e::k8s::{self, Helm, Machine, Place, Sample};
use serde_json::{Value, json};

use crate::authority::{Authority, holds, installed_from};
use crate::breaking::{CONTROL, Load, kubectl, reaches};

/// Kinds that both projects have.
const KINDS: [(&str, &str); 4] = [
    ("components", "Component"),
    ("configurations", "Configuration"),
    ("httpendpoints", "HTTPEndpoint"),
    ("resiliencies", "Resiliency"),
];

/// A definition as another project's chart leaves it: any field, no columns.
fn definition(plural: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.dapr.io"), "labels": {"app.kubernetes.io/part-of": "dapr"}},
        "spec": {
            "group": "dapr.io", "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind, "listKind": format!("{kind}List"), "singular": kind.to_lowercase()},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    })
}

fn crd(place: &Place, plural: &str) -> Result<Value> {
    let name = format!("{plural}.dapr.io");
    let text = kubectl(place, &["get", "crd", &name, "--output=json"])?;
    serde_json::from_str(&text).context("what kubectl prints")
}

/// Takes a definition away; one of an earlier run may be there.
fn undefine(place: &Place, plural: &str) -> Result<()> {
    let name = format!("{plural}.dapr.io");
    kubectl(place, &["delete", "crd", "--ignore-not-found", &name]).map(drop)
}

/// What Dapr's chart leaves: definitions, and the user's objects of them.
fn remains(place: &Place) -> Result<()> {
    undefine(place, "accesscontrols")?;
    for (plural, kind) in KINDS {
        undefine(place, plural)?;
        place.apply(&definition(plural, kind).to_string())?;
        let name = format!("crd/{plural}.dapr.io");
        kubectl(place, &["wait", "--for=condition=Established", &name])?;
    }
    let object = json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "Resiliency", "metadata": {"name": "kept"},
        "spec": {"policies": {"timeouts": {"long": "20s"}}, "targets": {"apps": {"callee": {"timeout": "long"}}}},
    });
    place.apply(&object.to_string()).map(drop)
}

/// Dapr's definition of Subscription as its chart leaves it: two versions, and a webhook that nobody has filled in.
fn subscriptions() -> Value {
    let mut it = definition("subscriptions", "Subscription");
    let schema = it["spec"]["versions"][0]["schema"].clone();
    it["spec"]["versions"] = json!([
        {"name": "v1alpha1", "served": true, "storage": false, "schema": schema},
        {"name": "v2alpha1", "served": true, "storage": true, "schema": schema},
    ]);
    it["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": "replaceme", "name": "dapr-webhook", "path": "/convert"}},
    }});
    it
}

/// A Subscription in a version, which says in its own way where messages go.
fn subscription(name: &str, version: &str, ways: &Value) -> String {
    let mut it = json!({
        "apiVersion": format!("dapr.io/{version}"), "kind": "Subscription", "metadata": {"name": name},
        "spec": {"topic": "news", "pubsubname": "bus"},
    });
    for (key, value) in ways.as_object().into_iter().flatten() {
        it["spec"][key] = value.clone();
    }
    it.to_string()
}

/// A Subscription as the API server gives it in a version.
fn read(place: &Place, name: &str, version: &str) -> Result<Value> {
    let namespace = place.namespace();
    let path = format!("--raw=/apis/dapr.io/{version}/namespaces/{namespace}/subscriptions/{name}");
    let text = kubectl(place, &["get", &path])?;
    serde_json::from_str(&text).context("what kubectl prints")
}

/// Leaves a Subscription whose other version nobody can read any more.
fn subscribed(place: &Place) -> Result<()> {
    undefine(place, "subscriptions")?;
    place.apply(&subscriptions().to_string())?;
    let name = "crd/subscriptions.dapr.io";
    kubectl(place, &["wait", "--for=condition=Established", name])?;
    let rule = json!([{"match": "event.type == \"late\"", "path": "/late"}]);
    let ways = json!({"routes": {"default": "/all", "rules": rule}});
    place.apply(&subscription("before", "v2alpha1", &ways))?;
    let other = read(place, "before", "v1alpha1");
    ensure!(other.is_err(), "converted by nobody: {other:?}");
    Ok(())
}

/// Subscriptions are read and written in both versions: the API server asks the operator.
async fn converted(place: &Place) -> Result<()> {
    let asked = async || read(place, "before", "v1alpha1").ok();
    let first = place.until("an older version is read", asked).await?;
    ensure!(first["spec"]["route"] == "/all", "{first}");
    let second = read(place, "before", "v2alpha1")?;
    ensure!(second["spec"]["routes"]["default"] == "/all", "{second}");

    // A rule that the older version cannot hold survives that somebody writes it.
    let ways = json!({"spec": {"route": "/most"}}).to_string();
    let object = ["patch", "subscriptions.v1alpha1.dapr.io", "before"];
    let patch = ["--type=merge", "--patch", &ways];
    kubectl(place, &[&object[..], &patch].concat())?;
    let second = read(place, "before", "v2alpha1")?;
    let routes = &second["spec"]["routes"];
    ensure!(routes["default"] == "/most", "{second}");
    ensure!(routes["rules"][0]["path"] == "/late", "{second}");
    place.apply(&subscription("after", "v1alpha1", &json!({"route": "/x"})))?;
    let second = read(place, "after", "v2alpha1")?;
    ensure!(second["spec"]["routes"]["default"] == "/x", "{second}");
    // The cluster goes on without the operator that would be asked.
    undefine(place, "subscriptions")
}

/// An install is refused with these words, and nothing of a control plane is made.
fn refused(place: &Place, helm: &Helm, words: &str) -> Result<()> {
    let error = match helm.install(&[]) {
        Ok(said) => anyhow::bail!("installed: {said}"),
        Err(error) => error.to_string(),
    };
    ensure!(error.contains(words), "{error}");
    let made = ["get", "deployments,secrets", "--output=name"];
    let made = kubectl(&place.beside(CONTROL), &made)?;
    ensure!(made.trim().is_empty(), "made: {made}");
    Ok(())
}

/// The authority in files, as the guide has it.
fn exported(place: &Place, folder: &Path) -> Result<()> {
    for file in ["ca.crt", "issuer.crt", "issuer.key"] {
        let path = format!("--output=jsonpath={{.data.{}}}", file.replace('.', "\\."));
        let control = place.beside(CONTROL);
        let text = kubectl(&control, &["get", "secret", "dapr-trust-bundle", &path])?;
        let content = BASE64_STANDARD.decode(text.trim()).context("base64")?;
        fs::write(folder.join(file), content).context(file)?;
    }
    Ok(())
}

/// Every definition has become this project's, with the object that was there.
async fn adopted(place: &Place) -> Result<()> {
    for (plural, _kind) in KINDS {
        let look = async || {
            let found = crd(place, plural).ok()?;
            let notes = &found["metadata"]["annotations"]["dapr.io/applied-by-version"];
            let schema = &found["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let whole = notes.is_string() && schema["properties"]["spec"].is_object();
            whole.then_some(())
        };
        place
            .until(&format!("{plural}.dapr.io is adopted"), look)
            .await?;
    }
    kubectl(place, &["get", "resiliency.dapr.io", "kept"]).map(drop)
}

async fn moved(_machine: &Machine, place: &Place) -> Result<()> {
    let authority = Authority::make("dapr", 365)?;
    let helm = authority.given(Helm::new(place.cluster()));
    remains(place)?;
    subscribed(place)?;

    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "dapr-sidecar-injector", "annotations": {
            "meta.helm.sh/release-name": "dapr", "meta.helm.sh/release-namespace": CONTROL,
        }},
    });
    place.apply(&webhook.to_string())?;
    let words = format!("belongs to the Helm release dapr in namespace {CONTROL}");
    refused(place, &helm, &words)?;
    let webhook = ["mutatingwebhookconfiguration", "dapr-sidecar-injector"];
    kubectl(place, &[&["delete"], &webhook[..]].concat())?;

    undefine(place, "accesscontrols")?;
    place.apply(&definition("accesscontrols", "AccessControl").to_string())?;
    refused(place, &helm, "accesscontrols.dapr.io of another project")?;
    undefine(place, "accesscontrols")?;

    helm.install(&[])?;
    holds(place, &authority.ca).await?;
    adopted(place).await?;
    converted(place).await?;
    let load = Load::start(place).await?;
    let caller = load.pod().to_owned();

    let folder = tempfile::tempdir()?;
    exported(place, folder.path())?;
    Helm::new(place.cluster()).uninstall()?;
    load.goes_on().await?;
    let helm = installed_from(Helm::new(place.cluster()), folder.path());
    helm.install(&[])?;
    holds(place, &authority.ca).await?;
    place.start(&Sample::with_sidecar("late")).await?;
    reaches(place, &place.pod("app=late").await?, "callee").await?;
    reaches(place, &caller, "late").await?;
    load.goes_on().await?;
    load.end("the control plane replaced by one with the same authority")
        .await
}

/// Decisions 5 and 6, KH-13: refusals, adoption, conversion, and trust that moves along.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn a_cluster_moves_from_dapr_with_its_authority() {
    let name = "moving::a_cluster_moves_from_dapr_with_its_authority";
    Box::pin(k8s::test_on_bare(name, moved)).await;
}
