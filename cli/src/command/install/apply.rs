//! Objects put into a cluster and taken out of it, by the API server's own means.
//!
//! Server-side apply under one name, so that fields that others own stay theirs: `caBundle`, the trust bundle that
//! Sentry fills. Nothing of another installation is touched.

use std::time::Duration;

use anyhow::{Context as _, bail};
use ironside_resources::yaml;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use serde_json::{Value, json};

use super::{Plan, RELEASE};
use crate::cluster::{Cluster, failed, is_missing};

/// Who writes, as the API server keeps it.
const MANAGER: &str = "ironside";
/// The programs that a wait is for.
const PROGRAMS: [&str; 3] = ["dapr-sentry", "dapr-operator", "dapr-sidecar-injector"];
/// How often they are looked at.
const STEP: Duration = Duration::from_millis(500);
/// How long a new kind may take to be known.
const KNOWN: Duration = Duration::from_secs(20);

/// Where an object belongs.
struct Place {
    api: Api<DynamicObject>,
    words: String,
    name: String,
}

// === impl Place ===

impl Place {
    fn of(cluster: &Cluster, object: &Value) -> anyhow::Result<Self> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        let (Some(version), Some(kind), Some(name)) = (version, kind, text("/metadata/name"))
        else {
            bail!("an object of the chart has no name");
        };
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let namespace = text("/metadata/namespace");
        let api = match namespace {
            Some(namespace) => Api::namespaced_with(cluster.client(), namespace, &resource),
            None => Api::all_with(cluster.client(), &resource),
        };
        Ok(Self {
            api,
            words: format!("{kind} {name}"),
            name: name.to_owned(),
        })
    }

    async fn apply(&self, object: &Value) -> Result<(), kube::Error> {
        let params = PatchParams::apply(MANAGER).force();
        let done = self
            .api
            .patch(&self.name, &params, &Patch::Apply(object))
            .await;
        done.map(drop)
    }

    async fn held(&self) -> anyhow::Result<Option<DynamicObject>> {
        let held = self.api.get_opt(&self.name).await;
        held.map_err(|error| failed(&error))
            .with_context(|| format!("cannot read {}", self.words))
    }
}

fn is_ours(object: &DynamicObject, namespace: &str) -> bool {
    let notes = object.metadata.annotations.as_ref();
    let note = |name: &str| notes.and_then(|notes| notes.get(name)).map(String::as_str);
    note("meta.helm.sh/release-name") == Some(RELEASE)
        && note("meta.helm.sh/release-namespace") == Some(namespace)
}

/// Refuses a cluster with another control plane, as the chart does.
pub(super) async fn refuse_foreign(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let hook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "dapr-sidecar-injector"},
    });
    let hook = Place::of(cluster, &hook)?.held().await?;
    if hook.is_some_and(|hook| !is_ours(&hook, namespace)) {
        bail!(
            "this cluster has a Dapr control plane already: its MutatingWebhookConfiguration dapr-sidecar-injector is \
             not of the release {RELEASE} in namespace {namespace}. Two cannot share a cluster; docs/kubernetes.md says \
             how to move"
        );
    }
    let rules = definition("accesscontrols.dapr.io");
    let rules = Place::of(cluster, &rules)?.held().await?;
    let label = |one: DynamicObject| {
        let labels = one.metadata.labels.unwrap_or_default();
        labels.get("app.kubernetes.io/part-of").cloned()
    };
    if rules.is_some_and(|rules| label(rules).as_deref() != Some("ironside")) {
        bail!(
            "this cluster has a CustomResourceDefinition accesscontrols.dapr.io of another project (it lacks the label \
             app.kubernetes.io/part-of=ironside): it is not taken over"
        );
    }
    Ok(())
}

/// Brings the definitions of kinds to this version, and waits until they are known.
pub(super) async fn definitions(cluster: &Cluster) -> anyhow::Result<()> {
    for text in crate::chart::definitions() {
        let definition: Value =
            yaml::from_str(text).context("a definition of this build cannot be read")?;
        put(cluster, &definition).await?;
    }
    Ok(())
}

fn definition(name: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
    })
}

/// Applies the objects, and the namespace before them.
pub(super) async fn all(cluster: &Cluster, plan: &Plan, objects: &[Value]) -> anyhow::Result<()> {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": plan.namespace}});
    if Place::of(cluster, &namespace)?.held().await?.is_none() {
        put(cluster, &namespace).await?;
    }
    for object in objects {
        // Without certificates of the user's own the bundle is Sentry's: an apply would take its data for ours.
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        let is_bundle = name == Some("dapr-trust-bundle") && plan.authority.is_none();
        if is_bundle && Place::of(cluster, object)?.held().await?.is_some() {
            continue;
        }
        put(cluster, object).await?;
    }
    Ok(())
}

/// Applies one object; one of a new kind is tried until the API server knows it.
async fn put(cluster: &Cluster, object: &Value) -> anyhow::Result<()> {
    let place = Place::of(cluster, object)?;
    let tried = async {
        loop {
            match place.apply(object).await {
                Err(error) if is_missing(&error) => tokio::time::sleep(STEP).await,
                done => return done,
            }
        }
    };
    let done = tokio::time::timeout(KNOWN, tried).await;
    let done =
        done.with_context(|| format!("the API server does not know the kind of {}", place.words))?;
    done.map_err(|error| failed(&error))
        .with_context(|| format!("cannot apply {}", place.words))
}

/// Waits until the programs are rolled out.
pub(super) async fn ready(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let api: Api<Deployment> = Api::namespaced(cluster.client(), namespace);
    for program in PROGRAMS {
        loop {
            let held = api.get_opt(program).await;
            let held = held.map_err(|error| failed(&error))?;
            if held.as_ref().is_some_and(is_rolled_out) {
                break;
            }
            tokio::time::sleep(STEP).await;
        }
    }
    Ok(())
}

fn is_rolled_out(deployment: &Deployment) -> bool {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == Some(wanted)
            && status.available_replicas == Some(wanted)
            && status.replicas == Some(wanted)
    })
}

/// Whether this project's control plane is in a namespace.
pub(super) async fn is_installed(cluster: &Cluster, namespace: &str) -> anyhow::Result<bool> {
    let sentry = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "dapr-sentry", "namespace": namespace},
    });
    let held = Place::of(cluster, &sentry)?.held().await?;
    Ok(held.is_some_and(|held| is_ours(&held, namespace)))
}

/// Helm's records of the release.
async fn records(cluster: &Cluster, namespace: &str) -> anyhow::Result<Vec<String>> {
    let api: Api<Secret> = Api::namespaced(cluster.client(), namespace);
    let labels = format!("owner=helm,name={RELEASE}");
    let found = api.list(&ListParams::default().labels(&labels)).await;
    let found = found.map_err(|error| failed(&error));
    let found = found.context("cannot list Helm's releases")?;
    Ok(found
        .items
        .into_iter()
        .filter_map(|one| one.metadata.name)
        .collect())
}

/// Whether Helm knows the release.
pub(super) async fn is_release(cluster: &Cluster, namespace: &str) -> anyhow::Result<bool> {
    Ok(!records(cluster, namespace).await?.is_empty())
}

/// Takes away what is this release's, in reverse; says how much that was.
pub(super) async fn remove(
    cluster: &Cluster,
    namespace: &str,
    objects: &[Value],
) -> anyhow::Result<usize> {
    let mut gone = 0;
    for object in objects.iter().rev() {
        let place = Place::of(cluster, object)?;
        let held = match place.held().await {
            Ok(held) => held,
            Err(error) => return Err(error),
        };
        if !held.is_some_and(|held| is_ours(&held, namespace)) {
            continue;
        }
        delete(&place).await?;
        gone += 1;
    }
    let api: Api<Secret> = Api::namespaced(cluster.client(), namespace);
    for name in records(cluster, namespace).await? {
        let done = api.delete(&name, &DeleteParams::default()).await;
        done.map_err(|error| failed(&error))
            .context("cannot delete Helm's record")?;
    }
    Ok(gone)
}

async fn delete(place: &Place) -> anyhow::Result<()> {
    match place
        .api
        .delete(&place.name, &DeleteParams::default())
        .await
    {
        Err(error) if !is_missing(&error) => {
            Err(failed(&error)).with_context(|| format!("cannot delete {}", place.words))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The kinds that have objects, with their number.
pub(super) async fn stored(cluster: &Cluster) -> anyhow::Result<Vec<(String, usize)>> {
    let mut all = Vec::new();
    for definition in held_definitions(cluster).await? {
        let text = |pointer: &str| definition.data.pointer(pointer).and_then(Value::as_str);
        let (Some(kind), Some(plural)) = (text("/spec/names/kind"), text("/spec/names/plural"))
        else {
            continue;
        };
        let kind = GroupVersionKind::gvk("dapr.io", "v1alpha1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
        let found = api.list(&ListParams::default()).await;
        let count = found.map_err(|error| failed(&error))?.items.len();
        if count > 0 {
            all.push((definition.metadata.name.unwrap_or_default(), count));
        }
    }
    Ok(all)
}

/// Takes the definitions away, and all objects of their kinds with them.
pub(super) async fn remove_definitions(cluster: &Cluster) -> anyhow::Result<()> {
    for held in held_definitions(cluster).await? {
        let name = held.metadata.name.unwrap_or_default();
        delete(&Place::of(cluster, &definition(&name))?).await?;
    }
    Ok(())
}

async fn held_definitions(cluster: &Cluster) -> anyhow::Result<Vec<DynamicObject>> {
    let mut all = Vec::new();
    for text in crate::chart::definitions() {
        let ours: Value =
            yaml::from_str(text).context("a definition of this build cannot be read")?;
        all.extend(Place::of(cluster, &ours)?.held().await?);
    }
    Ok(all)
}
