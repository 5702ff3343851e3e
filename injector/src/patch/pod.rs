//! What is read of a pod, and nothing else.
//!
//! Owns the parts that a decision or the patch needs. Everything else of the pod passes by unread, so that fields of a
//! newer API are no error; `null` counts as absent, as it does for the API server.

use super::annotations::Annotations;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// A pod as it arrives, before it has been stored.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    pub(crate) spec: Spec,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: Option<String>,
    pub(crate) labels: Option<BTreeMap<String, Option<String>>>,
    annotations: Option<BTreeMap<String, Option<String>>>,
    pub(crate) owner_references: Option<Vec<Owner>>,
}

/// Who made the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Owner {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) controller: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Spec {
    pub(crate) containers: Option<Vec<Container>>,
    pub(crate) init_containers: Option<Vec<Container>>,
    pub(crate) volumes: Option<Vec<Named>>,
    pub(crate) tolerations: Option<Vec<Toleration>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) env: Option<Vec<Named>>,
    pub(crate) volume_mounts: Option<Vec<Mount>>,
}

/// Anything with a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Named {
    pub(crate) name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Mount {
    pub(crate) name: String,
    pub(crate) mount_path: String,
}

/// A toleration; two are the same when all fields are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Toleration {
    key: String,
    operator: String,
    value: String,
    effect: String,
    toleration_seconds: Option<i64>,
}

/// Why a pod can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodError {
    /// A field has another type than it should.
    #[error("the pod cannot be decoded: {0}")]
    Decode(#[from] serde_json::Error),
    /// A container is something else.
    #[error("the pod cannot be decoded: a container is no object")]
    Container,
    /// There is nothing to patch.
    #[error("the pod has no {0}")]
    Missing(&'static str),
}

// === impl Pod ===

impl Pod {
    /// Reads the object of a review.
    pub(crate) fn read(object: &Value) -> Result<Self, PodError> {
        for part in ["metadata", "spec"] {
            if !object.get(part).is_some_and(Value::is_object) {
                return Err(PodError::Missing(part));
            }
        }
        // A list would be read as fields in order; what is added to it later needs an object.
        for list in ["/spec/containers", "/spec/initContainers"] {
            let all = object.pointer(list).and_then(Value::as_array);
            if !all.into_iter().flatten().all(Value::is_object) {
                return Err(PodError::Container);
            }
        }
        Ok(Self::deserialize(object)?)
    }

    /// Its annotations.
    pub(crate) fn annotations(&self) -> Annotations<'_> {
        Annotations::new(self.metadata.annotations.as_ref())
    }

    /// Says whether a container of this name is there, of either kind.
    pub(crate) fn has_container(&self, name: &str) -> bool {
        let Spec {
            containers,
            init_containers,
            ..
        } = &self.spec;
        let all = containers.iter().chain(init_containers).flatten();
        all.into_iter().any(|container| container.name == name)
    }

    /// The names of its volumes.
    pub(crate) fn volume_names(&self) -> HashSet<&str> {
        let volumes = self.spec.volumes.iter().flatten();
        volumes.map(|volume| volume.name.as_str()).collect()
    }

    /// Who is responsible for it: the controller, else the first owner.
    pub(crate) fn owner(&self) -> Option<&Owner> {
        let owners = self.metadata.owner_references.as_deref()?;
        let controller = owners.iter().find(|owner| owner.controller == Some(true));
        controller.or(owners.first())
    }
}

// === impl Toleration ===

impl PartialEq for Toleration {
    fn eq(&self, other: &Self) -> bool {
        // Nothing stands for the default.
        let operator = |toleration: &Self| match toleration.operator.as_str() {
            "" | "Equal" => None,
            _ => Some(toleration.operator.clone()),
        };
        self.key == other.key
            && operator(self) == operator(other)
            && self.value == other.value
            && self.effect == other.effect
            && self.toleration_seconds == other.toleration_seconds
    }
}
