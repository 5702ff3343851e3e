//! Which flag is which annotation.
//!
//! One table for the grammar and for the manifest. Facts: cli-and-clients 1.16, table; kubernetes 2.17.

use std::collections::BTreeMap;

use ironside_chassis::args::parse_bool;

use crate::grammar::{Flag, Values};

const fn text(name: &'static str) -> Flag {
    Flag::text(name, "Sets the annotation of this name")
}

const fn number(name: &'static str) -> Flag {
    Flag::number(name, "Sets the annotation of this name")
}

const fn switch(name: &'static str) -> Flag {
    Flag::switch(name, "Sets the annotation of this name")
}

/// The flags of the command.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::switch("kubernetes", "The manifests are for Kubernetes").short('k'),
    Flag::text(
        "resource",
        "The name of the workload; the first one without it",
    )
    .short('r'),
    Flag::text("namespace", "The namespace of the workload").short('n'),
    Flag::text(
        "app-id",
        "The id of the app (default: <namespace>-<kind>-<name>)",
    )
    .short('a'),
    Flag::number("app-port", "The port that the app listens on").short('p'),
    Flag::text("config", "The Configuration of the sidecar").short('c'),
    text("app-protocol"),
    number("app-max-concurrency"),
    switch("app-ssl"),
    text("log-level"),
    switch("log-as-json"),
    text("env"),
    switch("enable-api-logging"),
    number("metrics-port"),
    switch("enable-metrics"),
    switch("enable-debug"),
    switch("enable-profile"),
    text("api-token-secret"),
    text("app-token-secret"),
    text("unix-domain-socket-path"),
    text("volume-mounts"),
    text("volume-mounts-rw"),
    text("placement-host-address"),
    switch("disable-builtin-k8s-secret-store"),
    number("graceful-shutdown-seconds"),
    text("max-body-size"),
    text("read-buffer-size"),
    switch("http-stream-request-body"),
    text("cpu-limit"),
    text("memory-limit"),
    text("cpu-request"),
    text("memory-request"),
    text("listen-addresses"),
    text("dapr-image"),
    number("liveness-probe-delay"),
    number("liveness-probe-timeout"),
    number("liveness-probe-period"),
    number("liveness-probe-threshold"),
    number("readiness-probe-delay"),
    number("readiness-probe-timeout"),
    number("readiness-probe-period"),
    number("readiness-probe-threshold"),
];

/// The annotation of a flag; none for those that say what is annotated.
fn annotation(flag: &str) -> Option<&'static str> {
    Some(match flag {
        "app-id" => "dapr.io/app-id",
        "app-port" => "dapr.io/app-port",
        "config" => "dapr.io/config",
        "app-protocol" => "dapr.io/app-protocol",
        "app-max-concurrency" => "dapr.io/app-max-concurrency",
        "app-ssl" => "dapr.io/app-ssl",
        "log-level" => "dapr.io/log-level",
        "log-as-json" => "dapr.io/log-as-json",
        "env" => "dapr.io/env",
        "enable-api-logging" => "dapr.io/enable-api-logging",
        "metrics-port" => "dapr.io/metrics-port",
        "enable-metrics" => "dapr.io/enable-metrics",
        "enable-debug" => "dapr.io/enable-debug",
        "enable-profile" => "dapr.io/enable-profiling",
        "api-token-secret" => "dapr.io/api-token-secret",
        "app-token-secret" => "dapr.io/app-token-secret",
        "unix-domain-socket-path" => "dapr.io/unix-domain-socket-path",
        "volume-mounts" => "dapr.io/volume-mounts",
        "volume-mounts-rw" => "dapr.io/volume-mounts-rw",
        "placement-host-address" => "dapr.io/placement-host-address",
        "disable-builtin-k8s-secret-store" => "dapr.io/disable-builtin-k8s-secret-store",
        "graceful-shutdown-seconds" => "dapr.io/graceful-shutdown-seconds",
        "max-body-size" => "dapr.io/max-body-size",
        "read-buffer-size" => "dapr.io/read-buffer-size",
        "http-stream-request-body" => "dapr.io/http-stream-request-body",
        "cpu-limit" => "dapr.io/sidecar-cpu-limit",
        "memory-limit" => "dapr.io/sidecar-memory-limit",
        "cpu-request" => "dapr.io/sidecar-cpu-request",
        "memory-request" => "dapr.io/sidecar-memory-request",
        "listen-addresses" => "dapr.io/sidecar-listen-addresses",
        "dapr-image" => "dapr.io/sidecar-image",
        "liveness-probe-delay" => "dapr.io/sidecar-liveness-probe-delay-seconds",
        "liveness-probe-timeout" => "dapr.io/sidecar-liveness-probe-timeout-seconds",
        "liveness-probe-period" => "dapr.io/sidecar-liveness-probe-period-seconds",
        "liveness-probe-threshold" => "dapr.io/sidecar-liveness-probe-threshold",
        "readiness-probe-delay" => "dapr.io/sidecar-readiness-probe-delay-seconds",
        "readiness-probe-timeout" => "dapr.io/sidecar-readiness-probe-timeout-seconds",
        "readiness-probe-period" => "dapr.io/sidecar-readiness-probe-period-seconds",
        "readiness-probe-threshold" => "dapr.io/sidecar-readiness-probe-threshold",
        _ => return None,
    })
}

/// The annotations that the command line asks for, and no others.
pub(super) fn annotations(values: &Values) -> BTreeMap<&'static str, String> {
    let given = values.names().filter_map(|name| {
        let text = values.text(name)?;
        // A switch may be written in many ways.
        let is_switch = FLAGS
            .iter()
            .any(|flag| flag.name == name && flag.kind == crate::grammar::Kind::Switch);
        let text = match parse_bool(text) {
            Ok(on) if is_switch => on.to_string(),
            Ok(_) | Err(_) => text.to_owned(),
        };
        Some((annotation(name)?, text))
    });
    given.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_but_those_that_choose_is_an_annotation() {
        let without: Vec<&str> = FLAGS
            .iter()
            .map(|flag| flag.name)
            .filter(|name| annotation(name).is_none())
            .collect();
        assert_eq!(without, ["kubernetes", "resource", "namespace"]);
    }
}
