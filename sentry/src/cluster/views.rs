//! What Sentry takes from a cluster's objects, and nothing else.
//!
//! Owns the parts of Pod, Configuration and ServiceAccount that a decision needs, as they are written, and their
//! views, as they are kept. An odd value is kept as odd: one bad object must not blind the watch of all the others.

use super::View;
use kube::Resource;
use kube::core::{NamespaceResourceScope, ObjectMeta, PartialObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Largest list of images that goes into a certificate, which every peer reads.
const MAX_IMAGES: usize = 4096;

/// A pod, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodView {
    pub(crate) uid: Box<str>,
    pub(crate) service_account: Box<str>,
    /// `dapr.io/control-plane`.
    pub(crate) control_plane: Option<Box<str>>,
    /// `dapr.io/app-id`.
    pub(crate) app_id: Option<Box<str>>,
    /// `dapr.io/config`.
    pub(crate) config: Option<Box<str>>,
    /// What it runs, as JSON; none if that is more than a certificate should hold.
    pub(crate) images: Option<Box<[u8]>>,
}

/// A Configuration, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigurationView {
    /// `spec.accessControl.trustDomain`; none if there is none, or an empty one.
    Domain(Option<Box<str>>),
    /// It is there, and no text.
    Odd,
}

/// A ServiceAccount, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountView {
    /// `dapr.io/allowed-app-ids`, as written.
    pub(crate) allowed_app_ids: Option<Box<str>>,
}

/// One container in a certificate; the order of the keys is that of security 1.5.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Image<'a> {
    role: &'static str,
    container_name: &'a str,
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Pod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    service_account_name: String,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    name: String,
    image: String,
    restart_policy: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    name: String,
    #[serde(rename = "imageID")]
    image_id: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Configuration {
    metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: Value,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ServiceAccount {
    metadata: ObjectMeta,
}

macro_rules! resource {
    ($name:ident, $group:literal, $version:literal, $plural:literal) => {
        impl Resource for $name {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind(_: &()) -> Cow<'_, str> {
                stringify!($name).into()
            }

            fn group(_: &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version(_: &()) -> Cow<'_, str> {
                $version.into()
            }

            fn plural(_: &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Pod, "", "v1", "pods");
resource!(Configuration, "dapr.io", "v1alpha1", "configurations");
resource!(ServiceAccount, "", "v1", "serviceaccounts");

// === impl PodView ===

impl View for PodView {
    type Object = Pod;

    fn of(pod: Pod) -> Self {
        let images = images(&pod);
        let Pod {
            metadata,
            spec,
            status: _,
        } = pod;
        let mut annotations = metadata.annotations.unwrap_or_default();
        let mut take = |name| annotations.remove(name).map(Box::<str>::from);
        Self {
            uid: metadata.uid.unwrap_or_default().into(),
            service_account: spec.service_account_name.into(),
            control_plane: take("dapr.io/control-plane"),
            app_id: take("dapr.io/app-id"),
            config: take("dapr.io/config").filter(|name| !name.is_empty()),
            images,
        }
    }
}

/// Regular containers, and init containers that stay (security 1.5).
fn images(pod: &Pod) -> Option<Box<[u8]>> {
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let digests = |statuses: &'_ [ContainerStatus]| -> BTreeMap<String, String> {
        let known = statuses
            .iter()
            .filter_map(|status| Some((status.name.clone(), digest(&status.image_id)?.to_owned())));
        known.collect()
    };
    let (regular, initial) = (
        digests(&pod.status.container_statuses),
        digests(&pod.status.init_container_statuses),
    );
    let of = |container, digests| image(container, digests);
    let all = pod.spec.containers.iter().map(|one| of(one, &regular));
    let staying = pod.spec.init_containers.iter().filter(stays);
    let all: Vec<_> = all.chain(staying.map(|one| of(one, &initial))).collect();
    let json = serde_json::to_vec(&all).ok()?;
    (json.len() <= MAX_IMAGES).then(|| json.into())
}

fn image<'a>(container: &'a Container, digests: &'a BTreeMap<String, String>) -> Image<'a> {
    Image {
        role: match container.name.as_str() {
            "daprd" => "daprd",
            _ => "app",
        },
        container_name: &container.name,
        image: &container.image,
        digest: digests.get(&container.name).map(String::as_str),
    }
}

/// What stands behind the last `@`, or the whole of a bare digest.
fn digest(image_id: &str) -> Option<&str> {
    match image_id.rsplit_once('@') {
        Some((_, digest)) => Some(digest).filter(|digest| !digest.is_empty()),
        None => Some(image_id).filter(|id| id.starts_with("sha256:")),
    }
}

// === impl ConfigurationView ===

impl View for ConfigurationView {
    type Object = Configuration;

    fn of(configuration: Configuration) -> Self {
        match configuration.spec.pointer("/accessControl/trustDomain") {
            None | Some(Value::Null) => Self::Domain(None),
            Some(Value::String(text)) if text.is_empty() => Self::Domain(None),
            Some(Value::String(text)) => Self::Domain(Some(text.as_str().into())),
            Some(_) => Self::Odd,
        }
    }
}

// === impl AccountView ===

impl View for AccountView {
    type Object = PartialObjectMeta<ServiceAccount>;

    fn of(account: PartialObjectMeta<ServiceAccount>) -> Self {
        let mut annotations = account.metadata.annotations.unwrap_or_default();
        let allowed = annotations.remove("dapr.io/allowed-app-ids");
        Self {
            allowed_app_ids: allowed.map(Box::from),
        }
    }
}

#[cfg(test)]
mod tests;
