//! The rules of a cluster, in the form in which files of rules are tried.
//!
//! Reads the AccessControls of one namespace or of all, and the Configuration that the callee's sidecars name. What
//! is asked of the rules then is asked of files in the same way. Changes nothing.

use anyhow::Context as _;
use ironside_policy::Callee;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::{Session, rules::Sources};
use crate::cluster::sidecars::Sidecar;
use crate::cluster::{ACCESS_CONTROLS, CONFIGURATIONS, Cluster};

/// Reads the rules that apply to an app, or all of the cluster.
pub(super) fn sources(session: &Session, callee: Option<&Callee>) -> anyhow::Result<Sources> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let cluster = Cluster::of(session).await?;
        of(&cluster, callee).await
    })
}

/// As [`sources`], with a connection that is there.
pub(crate) async fn of(cluster: &Cluster, callee: Option<&Callee>) -> anyhow::Result<Sources> {
    let namespace = callee.map(|callee| callee.namespace.as_str());
    let objects = cluster.objects(ACCESS_CONTROLS, namespace).await?;
    let mut sources = Sources::default();
    for object in objects.unwrap_or_default() {
        let (name, text) = stored(&object, "AccessControl");
        sources.add_resource(name, text);
    }
    if let Some(callee) = callee
        && let Some(configuration) = configuration(cluster, callee).await?
    {
        let (name, text) = stored(&configuration, "Configuration");
        sources.add_configuration(name, text);
    }
    Ok(sources)
}

/// The Configuration that the sidecars of an app name, if they name one that is there.
async fn configuration(
    cluster: &Cluster,
    callee: &Callee,
) -> anyhow::Result<Option<DynamicObject>> {
    let namespace = callee.namespace.as_str();
    let labels = format!("dapr.io/app-id={}", callee.app_id);
    let pods = cluster.pods(Some(namespace), &labels).await?;
    let named = pods.iter().filter_map(Sidecar::of);
    let Some(name) = named
        .filter_map(|sidecar| sidecar.flag("config"))
        .find(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    let all = cluster.objects(CONFIGURATIONS, Some(namespace)).await?;
    let found = all
        .unwrap_or_default()
        .into_iter()
        .find(|one| one.metadata.name.as_deref() == Some(name));
    let missing = || {
        format!(
            "the Configuration {namespace}/{name} of {} does not exist",
            callee.app_id
        )
    };
    found.with_context(missing).map(Some)
}

/// What the user wrote of an object, and where it is.
fn stored(object: &DynamicObject, kind: &str) -> (String, String) {
    let name = object.metadata.name.clone().unwrap_or_default();
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let mut written = json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    });
    if let Some(members) = written.as_object_mut() {
        for member in ["spec", "scopes"] {
            let value = object.data.get(member).filter(|value| !value.is_null());
            members.extend(value.map(|value: &Value| (member.to_owned(), value.clone())));
        }
    }
    // The loader reads files of YAML, and JSON is YAML.
    (
        format!("cluster/{namespace}/{name}.yaml"),
        written.to_string(),
    )
}
