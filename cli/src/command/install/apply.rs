//! Objects put into a cluster and taken out of it, by the API server's own means.
//!
//! Server-side apply under one name, so that fields that others own stay theirs: `caBundle`, the trust bundle that
//! Sentry fills. Nothing of another installation is touched.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use ironside_cluster::definitions::{self, Step};
use ironside_resources::yaml;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use serde_json::{Value, json};

use super::{Plan, RELEASE};
use crate::cluster::control_plane::SYSTEM;
use crate::cluster::{Cluster, failed, is_missing};

/// Who writes, as the API server keeps it.
const MANAGER: &str = "ironside";
/// The programs that a wait is for.
const PROGRAMS: [&str; 3] = ["dapr-sentry", "dapr-operator", "dapr-sidecar-injector"];
/// How often they are looked at.
const STEP: Duration = Duration::from_millis(500);
/// What is said of a definition that is another project's.
const FOREIGN: &str = "this cluster has a CustomResourceDefinition accesscontrols.dapr.io of another project (it lacks \
     the label app.kubernetes.io/part-of=ironside): it is not taken over";
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
        match self.api.get(&self.name).await {
            Ok(held) => Ok(Some(held)),
            // On a new cluster the kind itself is not known yet.
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => {
                Err(failed(&error)).with_context(|| format!("cannot read {}", self.words))
            }
        }
    }
}

fn is_ours(object: &DynamicObject, namespace: &str) -> bool {
    is_noted(object.metadata.annotations.as_ref(), namespace)
}

/// Whether annotations are those of the release.
fn is_noted(notes: Option<&BTreeMap<String, String>>, namespace: &str) -> bool {
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
    let rules = rules.as_ref().map(value).transpose()?;
    ensure!(
        !rules.is_some_and(|rules| definitions::is_foreign(&rules)),
        FOREIGN
    );
    Ok(())
}

/// Refuses to take definitions away from a control plane that stays: another one, or one of another namespace.
pub(super) async fn refuse_others(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    refuse_foreign(cluster, namespace).await?;
    let api: Api<Deployment> = Api::all(cluster.client());
    let only = ListParams::default().fields("metadata.name=dapr-operator");
    let found = api.list(&only).await.map_err(|error| failed(&error));
    for one in found.context("cannot list deployments")?.items {
        let place = one.metadata.namespace.unwrap_or_default();
        let notes = one.metadata.annotations.as_ref();
        if place != namespace || !is_noted(notes, namespace) {
            bail!(
                "a control plane that stays needs the definitions: its Deployment dapr-operator in namespace {place} \
                 is not of the release {RELEASE} in namespace {namespace}. Nothing was removed"
            );
        }
    }
    Ok(())
}

/// Brings the definitions of kinds to this version, and waits until they are known.
///
/// One that a later version applied is left alone, as the operator does: it comes back with that version.
pub(super) async fn define(cluster: &Cluster) -> anyhow::Result<Vec<(String, String)>> {
    let own = ironside_chassis::build_info::VERSION;
    let mut left = Vec::new();
    for text in crate::chart::definitions() {
        let mut definition: Value =
            yaml::from_str(text).context("a definition of this build cannot be read")?;
        let place = Place::of(cluster, &definition)?;
        let held = place.held().await?;
        if let Some(held) = held.as_ref().map(value).transpose()? {
            match definitions::step(&held, own) {
                Step::Apply => {}
                Step::Foreign => bail!(FOREIGN),
                Step::Later(by) => {
                    left.push((place.name, by));
                    continue;
                }
            }
        }
        definitions::stamp(&mut definition, own);
        put(cluster, &definition).await?;
    }
    Ok(left)
}

fn value(object: &DynamicObject) -> anyhow::Result<Value> {
    serde_json::to_value(object).context("an object of the cluster cannot be written")
}

/// Takes what the plan does not say from what is installed.
pub(super) async fn keep(cluster: &Cluster, plan: &mut Plan) -> anyhow::Result<()> {
    let read = |version: &str, kind: &str, name: &str| {
        json!({
            "apiVersion": version, "kind": kind,
            "metadata": {"name": name, "namespace": plan.namespace},
        })
    };
    let operator = read("apps/v1", "Deployment", "dapr-operator");
    let system = read("dapr.io/v1alpha1", "Configuration", SYSTEM);
    if plan.is_replicated.is_none() {
        let held = Place::of(cluster, &operator)?.held().await?;
        let count = held.and_then(|held| held.data.pointer("/spec/replicas")?.as_u64());
        plan.is_replicated = count.map(|count| count > 1);
    }
    if plan.is_mutual.is_none() {
        let held = Place::of(cluster, &system)?.held().await?;
        plan.is_mutual = held.and_then(|held| held.data.pointer("/spec/mtls/enabled")?.as_bool());
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

/// Whether Helm knows the release. The history of one that it removed is none.
pub(super) async fn is_release(cluster: &Cluster, namespace: &str) -> anyhow::Result<bool> {
    let api: Api<Secret> = Api::namespaced(cluster.client(), namespace);
    let labels = format!("owner=helm,name={RELEASE}");
    let found = api.list(&ListParams::default().labels(&labels)).await;
    let found = found.map_err(|error| failed(&error));
    let found = found.context("cannot list Helm's releases")?;
    Ok(found.items.iter().any(|one| {
        let labels = one.metadata.labels.as_ref();
        let status = labels.and_then(|labels| labels.get("status"));
        !matches!(
            status.map(String::as_str),
            Some("superseded" | "uninstalled")
        )
    }))
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

/// How many objects of a definition's kind there are.
pub(super) async fn stored(cluster: &Cluster, definition: &DynamicObject) -> anyhow::Result<usize> {
    let text = |pointer: &str| definition.data.pointer(pointer).and_then(Value::as_str);
    let (Some(kind), Some(plural)) = (text("/spec/names/kind"), text("/spec/names/plural")) else {
        return Ok(0);
    };
    let kind = GroupVersionKind::gvk("dapr.io", "v1alpha1", kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
    let found = api.list(&ListParams::default()).await;
    Ok(found.map_err(|error| failed(&error))?.items.len())
}

/// Takes a definition away, and all objects of its kind with it.
pub(super) async fn remove_definition(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    delete(&Place::of(cluster, &definition(name))?).await
}

/// The definitions that go with a control plane, and the names of those that stay.
///
/// If it was here, all were its own. If it was not, only those go that are known to be this project's: the others may
/// be what is kept of another control plane.
pub(super) async fn parted(
    cluster: &Cluster,
    was_here: bool,
) -> anyhow::Result<(Vec<DynamicObject>, Vec<String>)> {
    let (mut going, mut staying) = (Vec::new(), Vec::new());
    for one in held_definitions(cluster).await? {
        let is_going = was_here || definitions::is_applied(&value(&one)?);
        let part = if is_going { &mut going } else { &mut staying };
        part.push(one);
    }
    let staying = staying.into_iter().filter_map(|one| one.metadata.name);
    Ok((going, staying.collect()))
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
