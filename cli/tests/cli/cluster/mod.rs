//! The commands that look at a cluster, against an API server on loopback.

mod annotate;
mod doctor;
mod install;
mod reading;
mod rules;
mod trust;
mod workloads;

use std::fs;
use std::process::Command;

use ironside_testkit::kube::ApiServer;
use serde_json::{Value, json};

use crate::rig::{Finished, World, finish};

/// A folder, and an API server that its kubeconfig leads to.
pub(crate) struct ClusterWorld {
    pub(crate) world: World,
    pub(crate) api: ApiServer,
}

impl ClusterWorld {
    pub(crate) fn new() -> Self {
        let (world, api) = (World::new(), ApiServer::start());
        fs::write(world.path().join("kubeconfig"), api.kubeconfig()).unwrap();
        Self { world, api }
    }

    /// The command line with these words, its cluster in the environment.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.world.command(words);
        command.env("KUBECONFIG", self.world.path().join("kubeconfig"));
        command
    }

    pub(crate) fn ironside(&self, words: &[&str]) -> Finished {
        finish(&mut self.command(words))
    }

    pub(crate) fn put(&self, object: Value) -> Value {
        self.api.put(object)
    }

    /// A pod with a sidecar.
    pub(crate) fn app(&self, namespace: &str, name: &str, native: bool) {
        let daprd = json!({"name": "daprd", "image": "r/daprd:1", "args": [
            "--app-id", name, "--app-port", "3000",
        ]});
        let app = json!({"name": "app", "image": "r/app:1"});
        let spec = match native {
            true => json!({"containers": [app], "initContainers": [daprd]}),
            false => json!({"containers": [app, daprd]}),
        };
        self.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{name}-1"), "namespace": namespace,
                "labels": {"dapr.io/sidecar-injected": "true", "dapr.io/app-id": name}},
            "spec": spec,
        }));
    }

    /// A pod of the control plane.
    pub(crate) fn program(&self, label: &str, name: &str, ready: bool) {
        let state = match ready {
            true => json!({"running": {}}),
            false => json!({"waiting": {"reason": "CrashLoopBackOff"}}),
        };
        self.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "dapr-system", "labels": {"app": label}},
            "spec": {"containers": [{"name": label, "image": "r:5000/operator:1.2.3"}]},
            "status": {"phase": "Running", "containerStatuses": [{"name": label, "image": "i", "imageID": "",
                "ready": ready, "restartCount": 0, "state": state}]},
        }));
    }

    /// The system configuration, which says where the control plane is.
    pub(crate) fn system(&self, mtls: Value) {
        self.put(json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration",
            "metadata": {"name": "daprsystem", "namespace": "dapr-system"}, "spec": {"mtls": mtls},
        }));
    }

    /// The roots that everybody may read.
    pub(crate) fn roots(&self, pem: &str) {
        self.put(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "dapr-trust-bundle", "namespace": "dapr-system"}, "data": {"ca.crt": pem},
        }));
    }
}

/// The words of each line of a table.
pub(crate) fn rows(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect()
}
