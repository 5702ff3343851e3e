//! `status -k`: the programs of the control plane.
//!
//! Facts: cli-and-clients 1.15, kubernetes 6, CL-80. In a fixed order, a row for each program that is there; a program
//! is healthy when all of its pods are.

use std::process::ExitCode;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde::Serialize;

use super::{Form, Session, nothing};
use crate::cluster::{Cluster, control_plane, sidecars};
use crate::output::age;

/// The programs, by the label `app`: ours first, then those of a control plane of Dapr.
const PROGRAMS: [&str; 6] = [
    "dapr-operator",
    "dapr-sentry",
    "dapr-sidecar-injector",
    "dapr-placement",
    "dapr-placement-server",
    "dapr-scheduler-server",
];

/// One row; the order of the fields is the order of the keys.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Row {
    name: String,
    namespace: String,
    healthy: String,
    status: String,
    replicas: usize,
    version: String,
    age: String,
    created: String,
}

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let form = Form::of(session)?;
    let cluster = Cluster::of(session).await?;
    let mut rows = Vec::new();
    for program in PROGRAMS {
        let mut pods = cluster.pods(None, &format!("app={program}")).await?;
        // A second control plane is its own row: that is worth seeing.
        pods.sort_by(|a, b| a.metadata.namespace.cmp(&b.metadata.namespace));
        for pods in pods.chunk_by(|a, b| a.metadata.namespace == b.metadata.namespace) {
            rows.extend(Row::of(program, pods, session.clock.now()));
        }
    }
    if rows.is_empty() {
        let text = "No status returned. Is Dapr initialized in your cluster?";
        return Ok(nothing(session, text));
    }
    form.print(&rows, &HEADINGS, Row::cells)?;
    control_plane::warn_of_end(session, &cluster, form != Form::Table).await;
    Ok(ExitCode::SUCCESS)
}

const HEADINGS: [&str; 8] = [
    "name",
    "namespace",
    "healthy",
    "status",
    "replicas",
    "version",
    "age",
    "created",
];

// === impl Row ===

impl Row {
    /// The row of one program in one namespace.
    fn of(program: &str, pods: &[Pod], now: SystemTime) -> Option<Self> {
        let first = pods.first()?;
        let states: Vec<State> = pods.iter().map(State::of).collect();
        let worst = states.iter().find(|state| !state.is_healthy);
        let shown = worst.or_else(|| states.first())?;
        let oldest = pods
            .iter()
            .filter_map(|pod| sidecars::created(&pod.metadata))
            .min()
            .unwrap_or(now);
        let word = if worst.is_none() { "True" } else { "False" };
        Some(Self {
            name: program.to_owned(),
            namespace: sidecars::namespace(first).to_owned(),
            healthy: word.to_owned(),
            status: shown.text.clone(),
            replicas: pods.len(),
            version: version(first),
            age: age::age(now.duration_since(oldest).unwrap_or_default()),
            created: age::created(oldest),
        })
    }

    fn cells(&self) -> Vec<String> {
        let Self {
            name,
            namespace,
            healthy,
            status,
            replicas,
            version,
            age,
            created,
        } = self;
        let replicas = &replicas.to_string();
        [
            name, namespace, healthy, status, replicas, version, age, created,
        ]
        .map(Clone::clone)
        .to_vec()
    }
}

/// How one pod is.
struct State {
    is_healthy: bool,
    text: String,
}

// === impl State ===

impl State {
    fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let main = status.and_then(|status| status.container_statuses.as_ref()?.first());
        let phase = || {
            let phase = status.and_then(|status| status.phase.clone());
            phase.unwrap_or_else(|| "Unknown".to_owned())
        };
        let Some(main) = main else {
            return Self {
                is_healthy: false,
                text: phase(),
            };
        };
        Self {
            is_healthy: main.ready,
            text: word(main).unwrap_or_else(phase),
        }
    }
}

fn word(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if state.running.is_some() {
        return Some("Running".to_owned());
    }
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or("unknown");
        return Some(format!("Waiting ({reason})"));
    }
    state.terminated.as_ref().map(|_| "Terminated".to_owned())
}

/// The version of a program: its label, else the tag of its first container's image.
pub(crate) fn version(pod: &Pod) -> String {
    let labels = pod.metadata.labels.as_ref();
    let label = labels.and_then(|labels| labels.get("app.kubernetes.io/version"));
    if let Some(label) = label.filter(|label| !label.is_empty()) {
        return label.clone();
    }
    let first = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let image = first.and_then(|container| container.image.as_deref());
    tag(image.unwrap_or_default()).to_owned()
}

/// The tag of an image; a digest is no tag, and neither is the port of a registry.
pub(crate) fn tag(image: &str) -> &str {
    let named = image.split('@').next().unwrap_or_default();
    match named.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => tag,
        Some(_) | None => "",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(labels: Value, image: &str, status: Value) -> Pod {
        let pod = json!({
            "metadata": {"name": "x", "namespace": "dapr-system", "labels": labels,
                "creationTimestamp": "2026-08-01T12:00:00Z"},
            "spec": {"containers": [{"name": "c", "image": image}]},
            "status": status,
        });
        serde_json::from_value(pod).unwrap()
    }

    fn container(state: Value, ready: bool) -> Value {
        json!({"phase": "Running", "containerStatuses": [
            {"name": "c", "image": "i", "imageID": "", "ready": ready, "restartCount": 0, "state": state},
        ]})
    }

    /// Fact: CL-80.
    #[test]
    fn a_program_is_as_well_as_its_worst_pod() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_785_585_630);
        let well = || {
            pod(
                json!({}),
                "r:1/op:2",
                container(json!({"running": {}}), true),
            )
        };
        let ill = || {
            let state = json!({"waiting": {"reason": "ImagePullBackOff"}});
            pod(json!({}), "r:1/op:2", container(state, false))
        };
        let new = || pod(json!({}), "r:1/op:2", json!({"phase": "Pending"}));
        for (pods, healthy, status) in [
            (vec![well(), well()], "True", "Running"),
            (vec![well(), ill()], "False", "Waiting (ImagePullBackOff)"),
            (vec![new()], "False", "Pending"),
        ] {
            let row = Row::of("dapr-operator", &pods, now).unwrap();
            assert_eq!(
                (row.healthy.as_str(), row.status.as_str()),
                (healthy, status)
            );
            assert_eq!(
                (row.version.as_str(), row.age.as_str(), row.replicas),
                ("2", "30s", pods.len())
            );
        }
    }

    /// Fact: kubernetes 6, row 1.
    #[test]
    fn the_version_is_a_label_or_a_tag() {
        for (labels, image, expected) in [
            (
                json!({"app.kubernetes.io/version": "0.3"}),
                "r/op@sha256:00",
                "0.3",
            ),
            (json!({}), "r:5000/op:1.18.3", "1.18.3"),
            (json!({}), "r:5000/op:1@sha256:00", "1"),
            (json!({}), "r:5000/op@sha256:00", ""),
        ] {
            assert_eq!(version(&pod(labels, image, json!({}))), expected, "{image}");
        }
    }
}
