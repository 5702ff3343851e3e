//! What an app of a template is in a cluster: its Deployment, and the Service that it may ask for.
//!
//! Pure. Facts: cli-and-clients 1.11; annotations of kubernetes 2.17. What a template does not say is not written, so
//! that the cluster's own defaults hold.

use serde_json::{Map, Value, json};

use crate::command::run::spec::AppSpec;
use crate::command::run::template::resolve::{Container, TemplateApp};
use crate::command::run::vector::protocol;

/// The label that says whose an object is: only such objects are changed and deleted.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub(crate) const MANAGER: &str = "ironside-run";
/// Where a sidecar in a pod listens unless it is told otherwise.
const HTTP_PORT: i64 = 3500;
const GRPC_PORT: i64 = 50_001;
const METRICS_PORT: i64 = 9_090;

/// The Deployment of an app; `config` is the Configuration of its sidecar.
pub(crate) fn deployment(app: &TemplateApp, namespace: &str, config: Option<&str>) -> Value {
    let TemplateApp {
        spec, container, ..
    } = app;
    let labels = json!({"app": spec.app_id});
    let mut program = json!({
        "name": spec.app_id,
        "image": container.image,
        "imagePullPolicy": container.pull_policy,
        "env": environment(spec),
    });
    if let (true, Some(program)) = (spec.app_port > 0, program.as_object_mut()) {
        program.insert(
            "ports".to_owned(),
            json!([{"containerPort": spec.app_port}]),
        );
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": spec.app_id,
            "namespace": namespace,
            "labels": {"app": spec.app_id, MANAGED_BY: MANAGER},
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations(spec, config)},
                "spec": {"containers": [program]},
            },
        },
    })
}

/// The Service of an app that asks for one and listens; what is outside the cluster reaches it there.
pub(crate) fn service(app: &TemplateApp, namespace: &str) -> Option<Value> {
    let TemplateApp {
        spec,
        container: Container { has_service, .. },
        ..
    } = app;
    (*has_service && spec.app_port > 0).then(|| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": spec.app_id,
                "namespace": namespace,
                "labels": {"app": spec.app_id, MANAGED_BY: MANAGER},
            },
            "spec": {
                "type": "LoadBalancer",
                "selector": {"app": spec.app_id},
                "ports": [{"protocol": "TCP", "port": 80, "targetPort": spec.app_port}],
            },
        })
    })
}

/// What the app is told, each name once; the template's own values come last and win.
fn environment(spec: &AppSpec) -> Vec<Value> {
    let given = |port: i64, default: i64| if port > 0 { port } else { default }.to_string();
    let mut all: Vec<(&str, String)> = vec![
        ("APP_ID", spec.app_id.clone()),
        ("APP_CHANNEL_ADDRESS", spec.app_channel_address.clone()),
    ];
    if spec.app_port > 0 {
        all.push(("APP_PORT", spec.app_port.to_string()));
    }
    all.extend([
        ("DAPR_HTTP_PORT", HTTP_PORT.to_string()),
        ("DAPR_GRPC_PORT", given(spec.ports.grpc, GRPC_PORT)),
        ("DAPR_METRICS_PORT", given(spec.ports.metrics, METRICS_PORT)),
    ]);
    all.extend(protocol(spec).map(|protocol| ("APP_PROTOCOL", protocol.to_owned())));
    all.retain(|(name, _)| !spec.environment.iter().any(|(own, _)| own == name));
    let own = spec
        .environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()));
    all.into_iter()
        .chain(own)
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

fn annotations(spec: &AppSpec, config: Option<&str>) -> Map<String, Value> {
    let defaults = AppSpec::default();
    let differs = |value: &str, default: &str| (value != default).then(|| value.to_owned());
    let positive = |value: i64| (value > 0).then(|| value.to_string());
    let set = |value: bool| value.then(|| "true".to_owned());
    let socket = spec.unix_domain_socket.as_ref();
    let all = [
        ("enabled", Some("true".to_owned())),
        ("app-id", Some(spec.app_id.clone())),
        ("app-port", positive(spec.app_port)),
        (
            "app-protocol",
            differs(&spec.app_protocol, &defaults.app_protocol),
        ),
        ("app-ssl", set(spec.app_ssl)),
        (
            "app-channel-address",
            differs(&spec.app_channel_address, &defaults.app_channel_address),
        ),
        ("app-max-concurrency", positive(spec.app_max_concurrency)),
        ("config", config.map(str::to_owned)),
        ("grpc-port", positive(spec.ports.grpc)),
        ("internal-grpc-port", positive(spec.ports.internal)),
        ("metrics-port", positive(spec.ports.metrics)),
        (
            "sidecar-listen-addresses",
            differs(&spec.listen_addresses, ""),
        ),
        (
            "unix-domain-socket-path",
            socket.map(|path| path.display().to_string()),
        ),
        (
            "enable-api-logging",
            spec.api_logging.map(|on| on.to_string()),
        ),
        ("log-level", differs(&spec.log_level, &defaults.log_level)),
        (
            "max-body-size",
            differs(&spec.max_body_size, &defaults.max_body_size),
        ),
        (
            "read-buffer-size",
            differs(&spec.read_buffer_size, &defaults.read_buffer_size),
        ),
        ("enable-app-health-check", set(spec.health.enabled)),
        ("app-health-check-path", differs(&spec.health.path, "")),
        ("app-health-probe-interval", positive(spec.health.interval)),
        ("app-health-probe-timeout", positive(spec.health.timeout)),
        ("app-health-threshold", positive(spec.health.threshold)),
        ("enable-profiling", set(spec.enable_profiling)),
        (
            "placement-host-address",
            differs(&spec.placement_host_address, ""),
        ),
        (
            "scheduler-host-address",
            differs(&spec.scheduler_host_address, ""),
        ),
    ];
    all.into_iter()
        .filter_map(|(name, value)| Some((format!("dapr.io/{name}"), value?.into())))
        .collect()
}

#[cfg(test)]
mod tests;
