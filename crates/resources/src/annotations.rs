//! The annotations of pods that Ironside knows.
//!
//! Owns their names, how their values are spelled, their defaults and what they do, as one table: the injector judges
//! pods by it, the command line completes from it, `docs/annotations.md` is made of it. Also owns the one reading of
//! [`is_enabled`] that injector and operator share. What becomes of a pod is the injector's business. Source:
//! kubernetes 2.17, 2.18.

/// What all names begin with.
pub const PREFIX: &str = "dapr.io/";
/// Asks for a sidecar.
pub const ENABLED: &str = "dapr.io/enabled";
/// The name of the app.
pub const APP_ID: &str = "dapr.io/app-id";
/// Marks pods of the control plane; no pod of an app has it.
pub const CONTROL_PLANE: &str = "dapr.io/control-plane";

/// One annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The name behind [`PREFIX`].
    pub name: &'static str,
    /// How its value is spelled.
    pub kind: Kind,
    /// What holds without it, in words; empty when nothing is said then.
    pub default: &'static str,
    /// What it does, in one line.
    pub effect: &'static str,
    /// What becomes of it here.
    pub support: Support,
}

/// How a value is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A yes or no.
    Bool,
    /// A whole number between two bounds.
    Int(i64, i64),
    /// A port between a bound and 65535.
    Port(i64),
    /// Any text.
    Text,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// A duration in Go's spelling.
    Duration,
    /// A quantity of Kubernetes.
    Quantity,
    /// Pairs `name=value`, separated by commas.
    Pairs,
    /// Pairs `volume:path`, separated by commas.
    Mounts,
}

/// What becomes of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It does what it says.
    Full,
    /// It is passed on to the sidecar; one of Ironside ignores it.
    Passed,
    /// It is ignored, and a warning says so.
    Ignored,
}

/// Numbers of 32 bits, as probes have them.
const MAX_32: i64 = i32::MAX as i64;

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    effect: &'static str,
    support: Support,
) -> Annotation {
    Annotation {
        name,
        kind,
        default,
        effect,
        support,
    }
}

use Kind::{Bool, Duration, Int, Mounts, Pairs, Port, Quantity, Text, Word};
use Support::{Full, Ignored, Passed};

/// All of them, in the order of the documentation.
pub const TABLE: &[Annotation] = &[
    key("enabled", Bool, "false", "inject a sidecar", Full),
    key(
        "app-id",
        Text,
        "name of the pod",
        "name of the app: `--app-id`, the label, the Service",
        Full,
    ),
    key(
        "app-port",
        Port(0),
        "0 (none)",
        "port of the app: `--app-port`",
        Full,
    ),
    key(
        "app-protocol",
        Word(&["http", "https", "h2c", "grpc", "grpcs"]),
        "`http`",
        "`--app-protocol`, and `APP_PROTOCOL` for the app",
        Full,
    ),
    key(
        "app-ssl",
        Bool,
        "false",
        "deprecated, use `app-protocol`: `--app-ssl`",
        Full,
    ),
    key(
        "app-channel-address",
        Text,
        "`127.0.0.1`",
        "where the app listens: `--app-channel-address`",
        Full,
    ),
    key(
        "app-max-concurrency",
        Int(i64::MIN, i64::MAX),
        "",
        "`--app-max-concurrency`",
        Full,
    ),
    key(
        "config",
        Text,
        "",
        "name of a Configuration in the namespace of the pod: `--config`",
        Full,
    ),
    key(
        "grpc-port",
        Port(1),
        "50001",
        "port of the gRPC API: `--dapr-grpc-port`",
        Full,
    ),
    key(
        "internal-grpc-port",
        Port(1),
        "50002",
        "port for other sidecars; the same for all apps that call each other: `--dapr-internal-grpc-port`",
        Full,
    ),
    key(
        "sidecar-listen-addresses",
        Text,
        "`[::1],127.0.0.1`",
        "where the APIs listen: `--dapr-listen-addresses`",
        Full,
    ),
    key(
        "unix-domain-socket-path",
        Text,
        "",
        "folder in the app's containers in which the APIs are Unix sockets",
        Full,
    ),
    key(
        "api-token-secret",
        Text,
        "",
        "Secret whose key `token` clients of the API must send",
        Full,
    ),
    key(
        "app-token-secret",
        Text,
        "",
        "Secret whose key `token` is sent to the app",
        Full,
    ),
    key(
        "enable-api-logging",
        Bool,
        "",
        "log calls of the API: `--enable-api-logging`",
        Full,
    ),
    key(
        "log-level",
        Word(&["debug", "info", "warn", "error", "fatal"]),
        "`info`",
        "`--log-level`",
        Full,
    ),
    key("log-as-json", Bool, "false", "`--log-as-json`", Full),
    key(
        "log-payloads",
        Bool,
        "false",
        "log bodies and headers of invocations: `--log-payloads`",
        Full,
    ),
    key(
        "log-payload-max-bytes",
        Int(0, 1_048_576),
        "1024",
        "bytes of each body that are logged: `--log-payload-max-bytes`",
        Full,
    ),
    key(
        "log-payload-redact",
        Text,
        "",
        "names, separated by commas, whose values are not logged: `--log-payload-redact`",
        Full,
    ),
    key(
        "max-body-size",
        Quantity,
        "4Mi",
        "longest body: `--max-body-size`",
        Full,
    ),
    key(
        "read-buffer-size",
        Quantity,
        "4Ki",
        "longest head of a request: `--read-buffer-size`",
        Full,
    ),
    key(
        "http-max-request-size",
        Int(i64::MIN, i64::MAX),
        "",
        "older form of `max-body-size`, in MB",
        Full,
    ),
    key(
        "http-read-buffer-size",
        Int(i64::MIN, i64::MAX),
        "",
        "older form of `read-buffer-size`, in KB",
        Full,
    ),
    key(
        "graceful-shutdown-seconds",
        Int(i64::MIN, i64::MAX),
        "-1 (5 s)",
        "time to drain: `--dapr-graceful-shutdown-seconds`",
        Full,
    ),
    key(
        "block-shutdown-duration",
        Duration,
        "",
        "serve for so long after the stop was asked for: `--dapr-block-shutdown-duration`",
        Full,
    ),
    key(
        "enable-app-health-check",
        Bool,
        "false",
        "probe the app: `--enable-app-health-check` and the next four",
        Full,
    ),
    key(
        "app-health-check-path",
        Text,
        "`/healthz`",
        "path of the probe",
        Full,
    ),
    key(
        "app-health-probe-interval",
        Int(i64::MIN, i64::MAX),
        "5",
        "seconds between probes",
        Full,
    ),
    key(
        "app-health-probe-timeout",
        Int(i64::MIN, i64::MAX),
        "500",
        "milliseconds that a probe may take",
        Full,
    ),
    key(
        "app-health-threshold",
        Int(i64::MIN, i64::MAX),
        "3",
        "failed probes in a row that make the app unhealthy",
        Full,
    ),
    key(
        "enable-metrics",
        Bool,
        "true",
        "serve metrics; `false` closes the port",
        Full,
    ),
    key("metrics-port", Port(1), "9090", "port of the metrics", Full),
    key(
        "sidecar-image",
        Text,
        "image of the chart",
        "image of the sidecar",
        Full,
    ),
    key(
        "sidecar-cpu-request",
        Quantity,
        "",
        "CPU that the sidecar asks for",
        Full,
    ),
    key(
        "sidecar-cpu-limit",
        Quantity,
        "",
        "CPU that the sidecar may use",
        Full,
    ),
    key(
        "sidecar-memory-request",
        Quantity,
        "",
        "memory that the sidecar asks for",
        Full,
    ),
    key(
        "sidecar-memory-limit",
        Quantity,
        "",
        "memory that the sidecar may use",
        Full,
    ),
    key(
        "sidecar-liveness-probe-delay-seconds",
        Int(0, MAX_32),
        "180",
        "initial delay of the liveness probe",
        Full,
    ),
    key(
        "sidecar-liveness-probe-timeout-seconds",
        Int(1, MAX_32),
        "3",
        "timeout of the liveness probe",
        Full,
    ),
    key(
        "sidecar-liveness-probe-period-seconds",
        Int(1, MAX_32),
        "10",
        "period of the liveness probe",
        Full,
    ),
    key(
        "sidecar-liveness-probe-threshold",
        Int(1, MAX_32),
        "5",
        "failures that restart the sidecar",
        Full,
    ),
    key(
        "sidecar-readiness-probe-delay-seconds",
        Int(0, MAX_32),
        "1",
        "initial delay of the readiness probe",
        Full,
    ),
    key(
        "sidecar-readiness-probe-timeout-seconds",
        Int(1, MAX_32),
        "1",
        "timeout of the readiness probe",
        Full,
    ),
    key(
        "sidecar-readiness-probe-period-seconds",
        Int(1, MAX_32),
        "1",
        "period of the readiness probe",
        Full,
    ),
    key(
        "sidecar-readiness-probe-threshold",
        Int(1, MAX_32),
        "5",
        "failures that make the pod unready",
        Full,
    ),
    key(
        "sidecar-seccomp-profile-type",
        Word(&["RuntimeDefault", "Unconfined"]),
        "`RuntimeDefault`",
        "seccomp profile of the sidecar; empty leaves it out",
        Full,
    ),
    key("env", Pairs, "", "environment of the sidecar", Full),
    key(
        "env-from-secret",
        Pairs,
        "",
        "environment of the sidecar from Secrets: `NAME=secret:key` or `NAME=secret`",
        Full,
    ),
    key(
        "volume-mounts",
        Mounts,
        "",
        "volumes of the pod in the sidecar, read-only",
        Full,
    ),
    key(
        "volume-mounts-rw",
        Mounts,
        "",
        "volumes of the pod in the sidecar",
        Full,
    ),
    key(
        "enable-native-sidecar",
        Bool,
        "value of the chart",
        "a native sidecar, or a container beside the app",
        Full,
    ),
    key(
        "sidecar-svc-annotations",
        Pairs,
        "",
        "annotations of the Service of the app; read by the operator",
        Full,
    ),
    key(
        "enable-profiling",
        Bool,
        "false",
        "`--enable-profiling`",
        Passed,
    ),
    key(
        "enable-debug",
        Bool,
        "false",
        "run the sidecar in a debugger",
        Ignored,
    ),
    key(
        "debug-port",
        Port(1),
        "40000",
        "port of the debugger",
        Ignored,
    ),
    key(
        "disable-builtin-k8s-secret-store",
        Bool,
        "false",
        "`--disable-builtin-k8s-secret-store`",
        Passed,
    ),
    key(
        "placement-host-address",
        Text,
        "as installed",
        "`--placement-host-address`; empty for none",
        Passed,
    ),
    key(
        "actors-disseminate-timeout",
        Text,
        "",
        "`--actors-disseminate-timeout`",
        Passed,
    ),
    key(
        "scheduler-host-address",
        Text,
        "as installed",
        "`--scheduler-host-address`",
        Passed,
    ),
    key(
        "app-binding-options-timeout",
        Text,
        "",
        "`--app-binding-options-timeout`",
        Passed,
    ),
    key(
        "disable-init-endpoints",
        Text,
        "",
        "`--disable-init-endpoints`",
        Passed,
    ),
    key(
        "sentry-request-jwt-audiences",
        Text,
        "",
        "audiences of a JWT from Sentry: `--sentry-request-jwt-audiences`",
        Full,
    ),
    key(
        "pluggable-components",
        Text,
        "",
        "containers that are components: they get no environment of an app",
        Ignored,
    ),
    key(
        "pluggable-components-sockets-folder",
        Text,
        "",
        "where components put their sockets",
        Ignored,
    ),
    key(
        "inject-pluggable-components",
        Bool,
        "false",
        "add containers of components",
        Ignored,
    ),
    key(
        "component-container",
        Text,
        "",
        "on Components, not on pods",
        Ignored,
    ),
];

/// Finds the annotation of this name, prefix included.
#[must_use]
pub fn find(name: &str) -> Option<&'static Annotation> {
    let name = name.strip_prefix(PREFIX)?;
    TABLE.iter().find(|known| known.name == name)
}

/// Says whether a text says yes: `y yes true t on 1`, any case, trimmed.
#[must_use]
pub fn is_truthy(text: &str) -> bool {
    let word = text.trim();
    ["y", "yes", "true", "t", "on", "1"]
        .iter()
        .any(|yes| word.eq_ignore_ascii_case(yes))
}

/// Says whether a text clearly says no: `n no false f off 0` or nothing, any case, trimmed. What is neither this nor
/// [`is_truthy`] counts as no, and may have been meant as yes. The chart's webhook has the same list.
#[must_use]
pub fn is_falsy(text: &str) -> bool {
    let word = text.trim();
    ["n", "no", "false", "f", "off", "0", ""]
        .iter()
        .any(|no| word.eq_ignore_ascii_case(no))
}

/// Says whether a pod asks for a sidecar, by the value of [`ENABLED`]; the same everywhere, where the reference has
/// one reading in the injector and another in the operator.
#[must_use]
pub fn is_enabled(value: Option<&str>) -> bool {
    value.is_some_and(is_truthy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Fact: kubernetes.md 2.17 has 64; those of payloads are ours.
    #[test]
    fn there_are_sixty_seven_different_ones() {
        let names: BTreeSet<_> = TABLE.iter().map(|known| known.name).collect();
        assert_eq!((names.len(), TABLE.len()), (64 + 3, 64 + 3));
        assert_eq!(
            find("dapr.io/app-id").map(|known| known.name),
            Some("app-id")
        );
        assert_eq!(find("app-id"), None);
        assert_eq!(find("dapr.io/nothing"), None);
    }

    /// Fact: kubernetes.md 2.5 (c), KI-10.
    #[test]
    fn truthy_values_ask_for_a_sidecar() {
        for yes in ["true", "TRUE", "yes", "on", "1", " t "] {
            assert!(is_enabled(Some(yes)), "{yes}");
        }
        for no in ["", "false", "0", "enabled", "truthy"] {
            assert!(!is_enabled(Some(no)), "{no}");
        }
        assert!(!is_enabled(None));
    }

    #[test]
    fn a_text_that_says_neither_yes_nor_no_is_told_apart() {
        for no in ["n", "No", "FALSE", "f", " off ", "0", "", "  "] {
            assert!(is_falsy(no) && !is_truthy(no), "{no}");
        }
        for neither in ["ture", "enabled", "2", "00", "nope", "true,false"] {
            assert!(!is_falsy(neither) && !is_truthy(neither), "{neither}");
        }
        assert!(!is_falsy("true"));
    }
}
