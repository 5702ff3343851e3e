//! The container of the sidecar.
//!
//! Owns the tables of kubernetes 2.8, 2.12 and 2.13: image, ports, probes, what it may do and use. A native sidecar is
//! the same container with a policy of restarts and a startup probe: the app starts when the sidecar can be used, and
//! the probe asks for what does not wait for the app, or neither would ever start.

use super::annotations::Annotations;
use super::args::{self, GRPC_PORT, INTERNAL_PORT, METRICS_PORT};
use super::pod::Toleration;
use super::{DAPRD, HTTP_PORT, Input, PUBLIC_PORT, environment, lint, volumes};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, HTTPGetAction, Probe, ResourceRequirements,
    SeccompProfile, SecurityContext, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// The program, in the image.
const PROGRAM: &str = "/daprd";
/// Health of everything, the app included.
const HEALTH: &str = "/v1.0/healthz";
/// Health of what the app needs; does not wait for the app.
const HEALTH_OUTBOUND: &str = "/v1.0/healthz/outbound";
/// How often the startup probe asks, and how often it may fail: an outage of Sentry of ten minutes is survived.
const STARTUP_PERIOD: i32 = 1;
const STARTUP_FAILURES: i32 = 600;
const STARTUP_TIMEOUT: i32 = 3;

/// Makes the container.
pub(super) fn daprd(input: &Input<'_>, annotations: &Annotations<'_>, native: bool) -> Container {
    let settings = input.settings;
    let image = annotations.get("sidecar-image");
    let words = args::daprd(input, annotations);
    let (command, args) = match is_entry_point_ignored(input) {
        true => (Some(vec![PROGRAM.to_owned()]), words),
        // The image may have an entry point that wraps what it is given.
        false => (
            None,
            [PROGRAM.to_owned()].into_iter().chain(words).collect(),
        ),
    };
    Container {
        name: DAPRD.to_owned(),
        image: Some(image.unwrap_or(&settings.image).to_owned()),
        image_pull_policy: Some(settings.pull_policy.to_owned()),
        command,
        args: Some(args),
        ports: Some(ports(annotations)),
        env: Some(environment::daprd(input, annotations)),
        volume_mounts: Some(volumes::mounts(input, annotations)),
        readiness_probe: Some(probe(annotations, "readiness", [1, 1, 1, 5], get(HEALTH))),
        liveness_probe: Some(probe(annotations, "liveness", [180, 3, 10, 5], connect())),
        startup_probe: native.then(startup),
        restart_policy: native.then(|| "Always".to_owned()),
        security_context: Some(security(input, annotations)),
        resources: resources(annotations),
        // Whoever describes a pod that does not start reads why.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn is_entry_point_ignored(input: &Input<'_>) -> bool {
    let have = input.pod.spec.tolerations.as_deref().unwrap_or_default();
    let wanted: &[Toleration] = &input.settings.ignore_entrypoint;
    have.iter().any(|toleration| wanted.contains(toleration))
}

fn ports(annotations: &Annotations<'_>) -> Vec<ContainerPort> {
    let number = |name, default: i64| {
        let number = annotations.int(name, default);
        i32::try_from(number).unwrap_or_default()
    };
    let all = [
        ("dapr-http", i32::from(HTTP_PORT)),
        ("dapr-grpc", number("grpc-port", GRPC_PORT)),
        ("dapr-internal", number("internal-grpc-port", INTERNAL_PORT)),
        ("dapr-metrics", number("metrics-port", METRICS_PORT)),
    ];
    let all = all.into_iter().map(|(name, port)| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        ..ContainerPort::default()
    });
    all.collect()
}

/// A probe whose numbers may be annotated: delay, timeout, period, threshold.
fn probe(annotations: &Annotations<'_>, kind: &str, defaults: [i32; 4], action: Probe) -> Probe {
    let [delay, timeout, period, threshold] = defaults;
    let number =
        |what: &str, default| annotations.int32(&format!("sidecar-{kind}-probe-{what}"), default);
    Probe {
        initial_delay_seconds: Some(number("delay-seconds", delay)),
        timeout_seconds: Some(number("timeout-seconds", timeout)),
        period_seconds: Some(number("period-seconds", period)),
        failure_threshold: Some(number("threshold", threshold)),
        ..action
    }
}

fn startup() -> Probe {
    Probe {
        timeout_seconds: Some(STARTUP_TIMEOUT),
        period_seconds: Some(STARTUP_PERIOD),
        failure_threshold: Some(STARTUP_FAILURES),
        ..get(HEALTH_OUTBOUND)
    }
}

fn get(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(PUBLIC_PORT.into()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

fn connect() -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction {
            port: IntOrString::Int(PUBLIC_PORT.into()),
            ..TCPSocketAction::default()
        }),
        ..Probe::default()
    }
}

/// What a namespace that enforces the restricted standard demands, unless something else is asked for.
fn security(input: &Input<'_>, annotations: &Annotations<'_>) -> SecurityContext {
    let security = input.settings.security;
    let seccomp = annotations.get("sidecar-seccomp-profile-type");
    let seccomp = seccomp.unwrap_or("RuntimeDefault");
    SecurityContext {
        allow_privilege_escalation: Some(false),
        run_as_non_root: Some(security.run_as_non_root),
        run_as_user: security.run_as_user,
        run_as_group: security.run_as_group,
        read_only_root_filesystem: Some(security.read_only_root),
        capabilities: security.drop_all.then(|| Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        seccomp_profile: (!seccomp.is_empty()).then(|| SeccompProfile {
            type_: seccomp.to_owned(),
            ..SeccompProfile::default()
        }),
        ..SecurityContext::default()
    }
}

/// What can be read of the four quantities; one that can't be leaves the others as they are.
fn resources(annotations: &Annotations<'_>) -> Option<ResourceRequirements> {
    let quantities = |kind: &str| {
        let mut all = BTreeMap::new();
        for resource in ["cpu", "memory"] {
            let text = annotations.some(&format!("sidecar-{resource}-{kind}"));
            if let Some(text) = text.filter(|text| lint::is_amount(text)) {
                all.insert(resource.to_owned(), Quantity(text.to_owned()));
            }
        }
        (!all.is_empty()).then_some(all)
    };
    let (requests, limits) = (quantities("request"), quantities("limit"));
    if requests.is_none() && limits.is_none() {
        return None;
    }
    Some(ResourceRequirements {
        requests,
        limits,
        ..ResourceRequirements::default()
    })
}
