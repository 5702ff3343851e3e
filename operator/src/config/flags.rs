//! The flags of `operator`.
//!
//! Every flag of the reference is here (kubernetes 3.1); `manage-crds` is our own. A resync of caches is not needed:
//! `cache-sync-period` is read and does nothing.

use ironside_chassis::args::{Flag, Flags};

/// The table, in the order of the configuration reference.
pub const FLAGS: Flags = Flags::new("operator", TABLE);

const TABLE: &[Flag] = &[
    Flag::text(
        "config",
        "daprsystem",
        "name of the Configuration of the control plane, in its namespace; awaited if it is not there yet",
    ),
    Flag::int("port", "6500", "port of the gRPC API"),
    Flag::text(
        "listen-address",
        "",
        "address of the gRPC API; empty means all",
    ),
    Flag::int("healthz-port", "8080", "port of the health endpoint"),
    Flag::text(
        "healthz-listen-address",
        "",
        "address of the health endpoint; empty means all",
    ),
    Flag::int(
        "webhook-server-port",
        "19443",
        "port of the conversion webhook, which is served for an existing definition of Subscription only",
    ),
    Flag::text(
        "webhook-server-listen-address",
        "",
        "address of the conversion webhook; empty means all",
    ),
    Flag::text(
        "trust-anchors-file",
        "/var/run/secrets/dapr.io/tls/ca.crt",
        "file of the trust anchors; when it is not given, DAPR_TRUST_ANCHORS_CONFIGMAP may name a ConfigMap instead",
    ),
    Flag::text(
        "watch-interval",
        "0",
        "how often pods without the sidecar they asked for are looked for: 0 is off, once, or a duration of at least 1s",
    ),
    Flag::int(
        "max-pod-restarts-per-minute",
        "20",
        "most pods that are restarted in a minute; 0 or less means no limit",
    ),
    Flag::bool(
        "watchdog-can-patch-pod-labels",
        "false",
        "label pods that have a sidecar of their own, so that they are not looked at again",
    ),
    Flag::bool(
        "disable-leader-election",
        "false",
        "act as the only operator; for one replica",
    ),
    Flag::bool(
        "disable-service-reconciler",
        "false",
        "make no Services for apps",
    ),
    Flag::text(
        "watch-namespace",
        "",
        "look at this namespace only; empty means all",
    ),
    Flag::bool(
        "enable-argo-rollout-service-reconciler",
        "false",
        "make Services for Rollouts of Argo too",
    ),
    Flag::duration("cache-sync-period", "0s", "accepted, does nothing"),
    Flag::bool(
        "access-control-deny-by-default",
        "false",
        "deny calls to apps that no AccessControl applies to",
    ),
    Flag::bool(
        "manage-crds",
        "false",
        "upgrade the definitions of the project's own kinds by server-side apply",
    ),
    Flag::text(
        "kubeconfig",
        "",
        "path of a kubeconfig, used outside of pods; empty means KUBECONFIG, then $HOME/.kube/config",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_names_every_flag() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let guide = std::fs::read_to_string(path).unwrap();
        let own = guide.split("## The operator's flags").nth(1).unwrap();
        for flag in TABLE {
            let name = format!("`--{}`", flag.name);
            assert!(own.contains(&name), "{name}");
        }
    }
}
