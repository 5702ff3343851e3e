//! The command line of the sidecar, word by word.
//!
//! Owns the table of kubernetes 2.9: which words, in which order, under which condition. The list stays the
//! reference's, so that its sidecars start with it; what is ours alone travels in the environment. Words that belong
//! to services which are not installed are left out.

use super::annotations::Annotations;
use super::settings::Service;
use super::{HTTP_PORT, Input, PUBLIC_PORT};

/// Where the sockets are, in the sidecar.
pub(super) const SOCKETS: &str = "/var/run/dapr-sockets";
/// The port of the control plane's services.
const TLS_PORT: u16 = 443;
/// The kind of service that has a flag of its own.
const PLACEMENT: &str = "placement";

/// Words that are collected.
#[derive(Default)]
struct Words(Vec<String>);

/// Makes the list, without the program.
pub(super) fn daprd(input: &Input<'_>, annotations: &Annotations<'_>) -> Vec<String> {
    let mut words = Words::default();
    addresses(input, annotations, &mut words);
    app(annotations, &mut words);
    services(input, annotations, &mut words);
    health(annotations, &mut words);
    words.text(annotations, "app-binding-options-timeout");
    words.truthy(annotations, "log-as-json");
    words.truthy(annotations, "enable-profiling");
    if input.mtls {
        words.push("--enable-mtls");
    }
    words.truthy(annotations, "app-ssl");
    limits(annotations, &mut words);
    if annotations.some("unix-domain-socket-path").is_some() {
        words.pair("unix-domain-socket", SOCKETS);
    }
    if let Some(duration) = annotations.get("block-shutdown-duration") {
        words.pair("dapr-block-shutdown-duration", duration);
    }
    words.text(annotations, "actors-disseminate-timeout");
    scheduler(input, annotations, &mut words);
    words.text(annotations, "disable-init-endpoints");
    words.0
}

/// Rows 1 to 12.
fn addresses(input: &Input<'_>, annotations: &Annotations<'_>, words: &mut Words) {
    let text = |name, default| annotations.get(name).unwrap_or(default);
    let settings = input.settings;
    words.pair("dapr-http-port", HTTP_PORT);
    words.pair("dapr-grpc-port", annotations.int("grpc-port", GRPC_PORT));
    let internal = annotations.int("internal-grpc-port", INTERNAL_PORT);
    words.pair("dapr-internal-grpc-port", internal);
    let listen = text("sidecar-listen-addresses", "[::1],127.0.0.1");
    words.pair("dapr-listen-addresses", listen);
    words.pair("dapr-public-port", PUBLIC_PORT);
    words.pair("app-id", input.app_id);
    words.pair("app-protocol", text("app-protocol", "http"));
    words.pair("log-level", text("log-level", "info"));
    let grace = annotations.int("graceful-shutdown-seconds", -1);
    words.pair("dapr-graceful-shutdown-seconds", grace);
    words.pair("mode", "kubernetes");
    let operator = settings.address("dapr-api", TLS_PORT);
    words.pair("control-plane-address", operator);
    let sentry = settings.address("dapr-sentry", TLS_PORT);
    words.pair("sentry-address", sentry);
}

/// Port of the gRPC API, where a pod says nothing.
pub(super) const GRPC_PORT: i64 = 50001;
/// Port for other sidecars, where a pod says nothing.
pub(super) const INTERNAL_PORT: i64 = 50002;
/// Port of the metrics, where a pod says nothing.
pub(super) const METRICS_PORT: i64 = 9090;

/// Rows 13 to 16.
fn app(annotations: &Annotations<'_>, words: &mut Words) {
    let port = annotations.int("app-port", 0);
    if port > 0 {
        words.pair("app-port", port);
    }
    if annotations.bool("enable-metrics", true) {
        words.push("--enable-metrics");
        let port = annotations.int("metrics-port", METRICS_PORT);
        words.pair("metrics-port", port);
    } else {
        // The sidecar's own default is on.
        words.push("--enable-metrics=false");
    }
    words.some(annotations, "config");
    words.some(annotations, "app-channel-address");
}

/// Rows 17 to 21.
fn services(input: &Input<'_>, annotations: &Annotations<'_>, words: &mut Words) {
    let settings = input.settings;
    let address = |service: &Service| settings.address(&service.service, service.port);
    let named = |service: &Service| format!("{}:{}", service.name, address(service));
    match (annotations.get("placement-host-address"), &settings.actors) {
        (Some(placement), _) => {
            let placement = unquoted(placement);
            if !placement.is_empty() {
                words.pair("placement-host-address", placement);
            }
        }
        (None, Some(actors)) if actors.name == PLACEMENT => {
            words.pair("placement-host-address", address(actors));
        }
        (None, Some(actors)) => words.pair("actors-service", named(actors)),
        (None, None) => {}
    }
    if let Some(reminders) = &settings.reminders {
        words.pair("reminders-service", named(reminders));
    }
    words.some(annotations, "sentry-request-jwt-audiences");
    if annotations.get("enable-api-logging").is_some() {
        let on = annotations.bool("enable-api-logging", false);
        words.push(format!("--enable-api-logging={on}"));
    }
    words.truthy(annotations, "disable-builtin-k8s-secret-store");
    payloads(annotations, words);
}

/// Bodies in the log, which nobody gets without asking; a sidecar of the reference does not know the flags.
fn payloads(annotations: &Annotations<'_>, words: &mut Words) {
    if !annotations.bool("log-payloads", false) {
        return;
    }
    words.push("--log-payloads");
    words.number(
        annotations,
        "log-payload-max-bytes",
        "log-payload-max-bytes",
    );
    words.some(annotations, "log-payload-redact");
}

/// Row 22.
fn health(annotations: &Annotations<'_>, words: &mut Words) {
    if !annotations.bool("enable-app-health-check", false) {
        return;
    }
    words.push("--enable-app-health-check");
    let path = annotations.get("app-health-check-path");
    words.pair("app-health-check-path", path.unwrap_or("/healthz"));
    let numbers = [
        ("app-health-probe-interval", 5),
        ("app-health-probe-timeout", 500),
        ("app-health-threshold", 3),
    ];
    for (name, default) in numbers {
        words.pair(name, annotations.int(name, default));
    }
}

/// Rows 28 to 32.
fn limits(annotations: &Annotations<'_>, words: &mut Words) {
    words.number(annotations, "app-max-concurrency", "app-max-concurrency");
    words.number(
        annotations,
        "http-max-request-size",
        "dapr-http-max-request-size",
    );
    words.some(annotations, "max-body-size");
    words.number(
        annotations,
        "http-read-buffer-size",
        "dapr-http-read-buffer-size",
    );
    words.some(annotations, "read-buffer-size");
}

/// Row 36.
fn scheduler(input: &Input<'_>, annotations: &Annotations<'_>, words: &mut Words) {
    match annotations.get("scheduler-host-address") {
        Some(address) => words.pair("scheduler-host-address", unquoted(address)),
        None if input.settings.scheduler => {
            let address = input.settings.address("dapr-scheduler-server-a", TLS_PORT);
            words.pair("scheduler-host-address", address);
        }
        None => {}
    }
}

fn unquoted(text: &str) -> &str {
    text.trim_matches([' ', '"', '\'', '\t'])
}

// === impl Words ===

impl Words {
    fn push(&mut self, word: impl Into<String>) {
        self.0.push(word.into());
    }

    /// A flag and its value, as two words: other tools look for them so.
    fn pair(&mut self, flag: &str, value: impl ToString) {
        self.push(format!("--{flag}"));
        self.push(value.to_string());
    }

    /// The flag of the annotation's name, if it is truthy.
    fn truthy(&mut self, annotations: &Annotations<'_>, name: &str) {
        if annotations.bool(name, false) {
            self.push(format!("--{name}"));
        }
    }

    /// The flag of the annotation's name, if it is there, even empty.
    fn text(&mut self, annotations: &Annotations<'_>, name: &str) {
        if let Some(text) = annotations.get(name) {
            self.pair(name, text);
        }
    }

    /// The flag of the annotation's name, if it is not empty.
    fn some(&mut self, annotations: &Annotations<'_>, name: &str) {
        if let Some(text) = annotations.some(name) {
            self.pair(name, text);
        }
    }

    /// A number, if it can be read.
    fn number(&mut self, annotations: &Annotations<'_>, name: &str, flag: &str) {
        if let Some(number) = annotations.number(name) {
            self.pair(flag, number);
        }
    }
}
