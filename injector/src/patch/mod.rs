//! The patch that gives a pod its sidecar: a pod and settings in, JSON Patch operations out.
//!
//! Owns the order of the operations (kubernetes 2.7) and nothing that a clock, a cluster or a caller could change: the
//! same input gives the same bytes. The lists that a pod lacks are made first, so that every operation is valid by RFC
//! 6902. What goes into the operations lies beside: `args`, `container`, `volumes`, `apps`; how annotations are read
//! in `annotations`, what is wrong with them in `lint`. Whether a pod gets a sidecar at all is decided in `admission`.

pub(crate) mod annotations;
mod apps;
mod args;
mod container;
mod environment;
pub(crate) mod lint;
pub(crate) mod pod;
pub(crate) mod settings;
mod volumes;

use pod::Pod;
use serde::Serialize;
use serde_json::{Value, json};
use settings::Settings;

/// The container.
pub(crate) const DAPRD: &str = "daprd";
/// Port of the HTTP API; not to be chosen (kubernetes 0.2).
pub(crate) const HTTP_PORT: u16 = 3500;
/// Port of health and metadata; not to be chosen.
pub(crate) const PUBLIC_PORT: u16 = 3501;

/// One operation; nothing is ever replaced or removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Operation {
    op: &'static str,
    path: String,
    value: Value,
}

/// All that the patch depends on.
pub(crate) struct Input<'a> {
    /// What holds for all pods.
    pub(crate) settings: &'a Settings,
    /// The trust anchors in effect, as PEM.
    pub(crate) trust_anchors: &'a str,
    /// Whether sidecars use mutual TLS.
    pub(crate) mtls: bool,
    /// The namespace of the request.
    pub(crate) namespace: &'a str,
    /// Who the app is.
    pub(crate) app_id: &'a str,
    /// The pod.
    pub(crate) pod: &'a Pod,
}

/// Why there is no patch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatchError {
    /// It cannot be written as JSON; nothing that is made here.
    #[error("the patch cannot be written: {0}")]
    Unwritable(#[from] serde_json::Error),
}

/// Makes the patch.
pub(crate) fn build(input: &Input<'_>) -> Result<Vec<Operation>, PatchError> {
    let annotations = input.pod.annotations();
    let native = annotations.bool("enable-native-sidecar", input.settings.native);
    let spec = &input.pod.spec;
    let mut patch = Patch::default();
    if spec.containers.is_none() {
        patch.add("/spec/containers", json!([]));
    }
    if input.pod.metadata.labels.is_none() {
        patch.add("/metadata/labels", json!({}));
    }
    volumes::patch(input, &annotations, &mut patch)?;
    let container = container::daprd(input, &annotations, native);
    let container = serde_json::to_value(container)?;
    if native {
        if spec.init_containers.is_none() {
            patch.add("/spec/initContainers", json!([]));
        }
        // First of all, so that the app's own init containers can call others.
        patch.add("/spec/initContainers/0", container);
    } else {
        patch.add("/spec/containers/-", container);
    }
    patch.label("sidecar-injected", "true");
    patch.label("app-id", input.app_id);
    let metrics = annotations.bool("enable-metrics", true);
    patch.label("metrics-enabled", if metrics { "true" } else { "false" });
    apps::patch(input, &annotations, native, &mut patch)?;
    Ok(patch.0)
}

/// The operations so far.
#[derive(Default)]
pub(crate) struct Patch(Vec<Operation>);

// === impl Patch ===

impl Patch {
    fn add(&mut self, path: impl Into<String>, value: Value) {
        self.0.push(Operation {
            op: "add",
            path: path.into(),
            value,
        });
    }

    fn label(&mut self, name: &str, value: &str) {
        self.add(format!("/metadata/labels/dapr.io~1{name}"), value.into());
    }

    /// Adds to a list that may not be there: one operation for all, or one for each.
    fn extend(&mut self, list: &str, is_there: bool, values: Vec<Value>) {
        if values.is_empty() {
            return;
        }
        if !is_there {
            return self.add(list, values.into());
        }
        for value in values {
            self.add(format!("{list}/-"), value);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
