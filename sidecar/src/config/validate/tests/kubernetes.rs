//! What the injector passes.

use super::*;
use crate::config::Demand;

/// Every row of kubernetes 2.9, as an injector with everything switched on writes it.
const ARGUMENTS: &str = "--dapr-http-port 3500 --dapr-grpc-port 50001 --dapr-internal-grpc-port 50002 \
    --dapr-listen-addresses [::1],127.0.0.1 --dapr-public-port 3501 --app-id app1 --app-protocol http \
    --log-level info --dapr-graceful-shutdown-seconds -1 --mode kubernetes \
    --control-plane-address dapr-api.dapr-system.svc.cluster.local:443 \
    --sentry-address dapr-sentry.dapr-system.svc.cluster.local:443 --app-port 3000 \
    --enable-metrics --metrics-port 9090 --config appconfig --app-channel-address 127.0.0.1 \
    --placement-host-address dapr-placement-server:50005 --actors-service placement:p:50005 \
    --reminders-service default:r:1 --sentry-request-jwt-audiences a,b --enable-api-logging=true \
    --disable-builtin-k8s-secret-store --enable-app-health-check --app-health-check-path /healthz \
    --app-health-probe-interval 5 --app-health-probe-timeout 500 --app-health-threshold 3 \
    --app-binding-options-timeout 3s --log-as-json --enable-profiling --enable-mtls --app-ssl \
    --app-max-concurrency 7 --dapr-http-max-request-size 8 --max-body-size 8Mi \
    --dapr-http-read-buffer-size 8 --read-buffer-size 8Ki --unix-domain-socket /var/run/dapr-sockets \
    --dapr-block-shutdown-duration 2s --actors-disseminate-timeout 2s \
    --scheduler-host-address dapr-scheduler-server-a.dapr-system.svc.cluster.local:443 \
    --disable-init-endpoints config,subscribe";

/// The variables of kubernetes 2.10, and those of ours.
fn environment() -> Environment {
    Environment::from([
        ("NAMESPACE", "shop"),
        ("DAPR_TRUST_ANCHORS", "pem"),
        ("POD_NAME", "app1-7f-x"),
        ("DAPR_CONTROLPLANE_NAMESPACE", "dapr-system"),
        ("DAPR_CONTROLPLANE_TRUST_DOMAIN", "cluster.local"),
        ("DAPR_HOST_IP", "10.1.2.3"),
        ("DAPR_ENV_KEYS", "A B"),
        ("DAPR_API_TOKEN", "t"),
        ("APP_API_TOKEN", "u"),
        ("DAPR_ACCESS_CONTROL", "required"),
        (
            "DAPR_TRUST_ANCHORS_CACHE",
            "/var/run/dapr.io/anchors/anchors.pem",
        ),
    ])
}

fn start(arguments: &str, env: &Environment, machine: Machine) -> Result<Startup, ConfigError> {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    startup(&given(&words), env, machine)
}

/// KI-30: a sidecar of ours takes every argument and variable of an injector.
#[test]
fn everything_that_an_injector_passes_is_accepted() {
    let Startup { config, warnings } = start(ARGUMENTS, &environment(), machine()).unwrap();
    let kubernetes = config.kubernetes.unwrap();
    assert_eq!(kubernetes.configuration.as_deref(), Some("appconfig"));
    assert_eq!(
        &*kubernetes.operator_address,
        "dapr-api.dapr-system.svc.cluster.local:443"
    );
    assert_eq!(
        kubernetes.operator.to_string(),
        "spiffe://cluster.local/ns/dapr-system/dapr-operator"
    );
    assert_eq!(kubernetes.pod_name.as_deref(), Some("app1-7f-x"));
    assert!(config.files.configurations.is_empty());
    assert_eq!(config.stream.unwrap().demand, Demand::Required);
    assert_eq!(config.grace, Some(Duration::from_secs(5)));
    let identity = config.identity.unwrap();
    assert_eq!(identity.token, TokenSource::Kubernetes);
    let cache = identity.trust_anchors_cache.unwrap();
    assert_eq!(cache, PathBuf::from("/var/run/dapr.io/anchors/anchors.pem"));
    assert!(config.is_mtls);
    assert_eq!(config.namespace.as_str(), "shop");
    assert!(
        warnings
            .iter()
            .any(|line| line.contains("--placement-host-address")),
        "{warnings:?}"
    );
}

/// The annotations behind these two are passed on even when they are empty (kubernetes 2.9, rows 34 and 36).
#[test]
fn empty_values_of_an_injector_are_none() {
    let words = [
        "--app-id",
        "a",
        "--dapr-block-shutdown-duration",
        "",
        "--scheduler-host-address",
        "",
    ];
    let config = with_env(&words, &Environment::default()).unwrap().config;
    assert_eq!(config.block_shutdown, None);
}

const LEAST: &str =
    "--app-id app1 --mode kubernetes --control-plane-address o:443 --sentry-address s:443";

/// Security 2.8: with mutual TLS off there is an identity all the same, for the control plane.
#[test]
fn the_control_plane_is_always_asked_with_an_identity() {
    let config = start(LEAST, &environment(), machine()).unwrap().config;
    assert!(!config.is_mtls);
    assert!(config.identity.is_some());
    assert!(config.stream.is_some());
    assert!(!config.is_operator_unasked);
    assert_eq!(config.kubernetes.unwrap().configuration, None);
    let file = environment().with([("DAPR_SENTRY_TOKEN_FILE", "/t".to_owned())]);
    let identity = start(LEAST, &file, machine()).unwrap().config.identity;
    let validator = ironside_transport::sentry_client::Validator::Kubernetes;
    let path = PathBuf::from("/t");
    assert_eq!(
        identity.unwrap().token,
        TokenSource::File { path, validator }
    );
}

/// Kubernetes 2.12: root is refused unless the variable is exactly `true`.
#[test]
fn root_is_refused() {
    let root = || Machine {
        is_root: true,
        ..machine()
    };
    let variable = "DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK";
    for value in ["", "1", "True", "false"] {
        let env = environment().with([(variable, value.to_owned())]);
        let refused = start(LEAST, &env, root()).unwrap_err().to_string();
        assert!(
            refused.contains("refusing to run as root"),
            "{value:?}: {refused}"
        );
    }
    let env = environment().with([(variable, "true".to_owned())]);
    assert!(start(LEAST, &env, root()).is_ok());
    let standalone = startup(&given(&["--app-id", "a"]), &Environment::default(), root());
    assert!(standalone.is_ok());
}

#[test]
fn what_the_mode_needs_is_named() {
    for (arguments, text) in [
        (
            "--app-id a --mode kubernetes --sentry-address s:1",
            "control plane address is required",
        ),
        (
            "--app-id a --mode kubernetes --control-plane-address o:1",
            "sentry address is required",
        ),
    ] {
        let refused = start(arguments, &environment(), machine())
            .unwrap_err()
            .to_string();
        assert!(refused.contains(text), "{refused}");
    }
    let files = format!("{LEAST} --config a --config b --resources-path /x");
    let Startup { config, warnings } = start(&files, &environment(), machine()).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(
        config.kubernetes.unwrap().configuration.as_deref(),
        Some("a")
    );
    assert!(config.files.resources.is_empty());
}
