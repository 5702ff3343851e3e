//! The flags of `injector`.
//!
//! Every flag of the reference is here (process-interface 5). `config` and `trust-anchors-file` are our own, as the
//! operator has them.

use ironside_chassis::args::{Flag, Flags};

/// The table, in the order of the configuration reference.
pub const FLAGS: Flags = Flags::new("injector", TABLE);

const TABLE: &[Flag] = &[
    Flag::text(
        "config",
        "daprsystem",
        "name of the Configuration of the control plane, in its namespace",
    ),
    Flag::int("port", "4000", "port of the webhook"),
    Flag::text(
        "listen-address",
        "",
        "address of the webhook; empty means all",
    ),
    Flag::int("healthz-port", "8080", "port of the health endpoint"),
    Flag::text(
        "healthz-listen-address",
        "",
        "address of the health endpoint; empty means all",
    ),
    Flag::bool(
        "scheduler-enabled",
        "true",
        "tell sidecars the address of a scheduler; the chart, which brings none, says false",
    ),
    Flag::text(
        "trust-anchors-file",
        "",
        "file of the trust anchors; empty means the ConfigMap that DAPR_TRUST_ANCHORS_CONFIGMAP names, else \
         DAPR_TRUST_ANCHORS_FILE",
    ),
    Flag::text(
        "kubeconfig",
        "",
        "path of a kubeconfig, used outside of pods; empty means $HOME/.kube/config",
    ),
    Flag::text("log-level", "info", "debug, info, warn, error or fatal"),
    Flag::text(
        "log-file",
        "",
        "append the log to this file instead of stdout",
    ),
    Flag::bool("log-as-json", "false", "log JSON objects instead of text"),
    Flag::bool("enable-metrics", "true", "serve metrics"),
    Flag::int("metrics-port", "9090", "port of the metrics endpoint"),
    Flag::text(
        "metrics-listen-address",
        "0.0.0.0",
        "address of the metrics endpoint",
    ),
];
