//! The command line of `daprd`: one table, and what was found on it.
//!
//! Owns [`TABLE`], from which the usage text and `docs/configuration.md` come, and [`Given`], the values with
//! the types of the reference's flag library (several ports are text there, so a wrong one is exit 1, not 2).
//! Refuses to judge values: `validate.rs` does. Source: process-interface 2.1.

use ironside_chassis::args::{Exit, Flag, Flags, GoDuration, Parsed};

/// Flags of building blocks that are not offered: accepted with the same types, without effect.
pub(crate) const OF_OTHER_BLOCKS: [&str; 8] = [
    "placement-host-address",
    "actors-disseminate-timeout",
    "actors-service",
    "reminders-service",
    "scheduler-host-address",
    "scheduler-job-streams",
    "app-binding-options-timeout",
    "disable-builtin-k8s-secret-store",
];

/// All flags, in the order of the documentation.
pub(crate) const TABLE: &[Flag] = &[
    Flag::text(
        "mode",
        "standalone",
        "where this runs: standalone, or kubernetes, with an operator",
    ),
    Flag::text(
        "app-id",
        "",
        "a unique ID for the app, without dots; used for discovery and identity",
    ),
    Flag::text(
        "app-port",
        "",
        "the port the app listens on; empty means that there is no app to call",
    ),
    Flag::text(
        "app-channel-address",
        "127.0.0.1",
        "the address the app listens on",
    ),
    Flag::text(
        "app-protocol",
        "http",
        "how the app is spoken to: http, https, h2c, grpc or grpcs",
    ),
    Flag::bool("app-ssl", "false", "speak TLS to the app")
        .deprecated("use '--app-protocol https' or 'grpcs' instead"),
    Flag::int(
        "app-max-concurrency",
        "-1",
        "calls the app may have at once; -1 and 0 mean any number",
    ),
    Flag::bool(
        "enable-app-health-check",
        "false",
        "probe the app's health and stop calling it while it fails",
    ),
    Flag::text(
        "app-health-check-path",
        "/healthz",
        "path of the probe; HTTP protocols only",
    ),
    Flag::int(
        "app-health-probe-interval",
        "5",
        "seconds between two probes",
    ),
    Flag::int(
        "app-health-probe-timeout",
        "500",
        "milliseconds a probe may take",
    ),
    Flag::int(
        "app-health-threshold",
        "3",
        "failures in a row that make the app unhealthy",
    ),
    Flag::text("dapr-http-port", "3500", "port of the HTTP API"),
    Flag::text("dapr-grpc-port", "50001", "port of the gRPC API"),
    Flag::text(
        "dapr-listen-addresses",
        "",
        "comma-separated addresses of the HTTP and gRPC API; empty means all interfaces",
    ),
    Flag::text(
        "dapr-public-port",
        "",
        "port that serves health and metadata only, without token; empty means none",
    ),
    Flag::text(
        "dapr-public-listen-address",
        "",
        "address of the public port; empty means all interfaces",
    ),
    Flag::text(
        "dapr-internal-grpc-port",
        "",
        "port for other sidecars; empty or 0 derives one from app ID, directory, user and host name",
    ),
    Flag::text(
        "dapr-internal-grpc-listen-address",
        "",
        "address of the internal port; 127.0.0.1, localhost or [::1] is also what discovery then announces",
    ),
    Flag::text(
        "unix-domain-socket",
        "",
        "directory of socket files that replace the TCP ports of the HTTP and gRPC API",
    ),
    Flag::text(
        "max-body-size",
        "4Mi",
        "largest HTTP body and gRPC message, as a quantity; 0 means no limit",
    ),
    Flag::int("dapr-http-max-request-size", "4", "largest body in MB")
        .deprecated("use '--max-body-size' instead"),
    Flag::text(
        "read-buffer-size",
        "4Ki",
        "largest head of an HTTP request, as a quantity",
    ),
    Flag::int("dapr-http-read-buffer-size", "4", "largest head in KB")
        .deprecated("use '--read-buffer-size' instead"),
    Flag::text(
        "allowed-origins",
        "",
        "comma-separated CORS origins of the HTTP API, or *; empty means no CORS",
    ),
    Flag::list(
        "config",
        "",
        "Configuration file; may be repeated, later files win; with --mode kubernetes the name of the object",
    ),
    Flag::list(
        "resources-path",
        "",
        "directory of resource files; may be repeated",
    ),
    Flag::text("components-path", "", "directory of resource files")
        .deprecated("use '--resources-path' instead"),
    Flag::bool(
        "enable-mtls",
        "false",
        "mutual TLS between sidecars, with an identity from Sentry",
    ),
    Flag::text("sentry-address", "", "host:port of Sentry"),
    Flag::list(
        "sentry-request-jwt-audiences",
        "",
        "audiences to ask Sentry for in a JWT",
    ),
    Flag::text(
        "tls-min-version",
        "1.3",
        "oldest TLS version between sidecars: 1.2 or 1.3",
    ),
    Flag::text(
        "control-plane-address",
        "",
        "host:port of the operator, from which AccessControl objects come, and with --mode kubernetes all others; standalone needs --enable-mtls, without it calls of peers are refused",
    ),
    Flag::text(
        "control-plane-trust-domain",
        "localhost",
        "trust domain of the control plane; when absent, DAPR_CONTROLPLANE_TRUST_DOMAIN",
    ),
    Flag::text(
        "control-plane-namespace",
        "default",
        "namespace of the control plane; when absent, DAPR_CONTROLPLANE_NAMESPACE",
    ),
    Flag::text(
        "access-control",
        "auto",
        "with an operator: required refuses calls until it sends policy, auto does without if it has none to offer; when absent, DAPR_ACCESS_CONTROL",
    ),
    Flag::duration(
        "access-control-max-staleness",
        "0",
        "time without a word from the operator after which calls are refused where AccessControl objects apply; 0 means never",
    ),
    Flag::bool(
        "enable-api-logging",
        "false",
        "log API calls; when absent, spec.logging.apiLogging decides",
    ),
    Flag::int(
        "dapr-graceful-shutdown-seconds",
        "5",
        "grace period of a shutdown; negative means 5, 0 means no end",
    ),
    Flag::duration(
        "dapr-block-shutdown-duration",
        "0",
        "how long a stop signal is held back while the app is healthy",
    ),
    Flag::list(
        "disable-init-endpoints",
        "",
        "app endpoints not to call at the start: config, subscribe",
    ),
    Flag::duration(
        "hot-reload-reconcile-interval",
        "0",
        "period at which watched files are listed again; 0 means 60s",
    ),
    Flag::bool("enable-metrics", "true", "serve metrics"),
    Flag::text("metrics-port", "9090", "port of the metrics"),
    Flag::text(
        "metrics-listen-address",
        "0.0.0.0",
        "address of the metrics",
    ),
    Flag::bool(
        "enable-profiling",
        "false",
        "accepted; no profiles are served",
    ),
    Flag::text("profile-port", "7777", "accepted; no profiles are served"),
    Flag::text("log-level", "info", "debug, info, warn, error or fatal"),
    Flag::text(
        "log-file",
        "",
        "file to append the log to; empty means stdout",
    ),
    Flag::bool("log-as-json", "false", "one JSON object a line"),
    Flag::bool(
        "log-payloads",
        "false",
        "log bodies and headers of invocations, which may hold personal data",
    ),
    Flag::uint(
        "log-payload-max-bytes",
        "1024",
        "bytes of each body that are logged, at most 1048576",
    ),
    Flag::list(
        "log-payload-redact",
        "",
        "names of headers and fields whose values are not logged, besides the usual ones",
    ),
    Flag::bool(
        "access-control-strict",
        "false",
        "refuse callers without an entry if spec.accessControl has policies and no defaultAction",
    ),
    Flag::text(
        "access-log-file",
        "",
        "file for one JSON line for each call that access control decided; empty means none",
    ),
    Flag::text(
        "access-log-max-size",
        "64Mi",
        "size of that file, as a quantity, at which a new one is begun",
    ),
    Flag::uint(
        "access-log-max-files",
        "4",
        "how many of these files are kept, the newest included",
    ),
    Flag::uint(
        "data-workers",
        "1",
        "threads that serve requests, each with listeners and connections of its own",
    ),
    Flag::bool("version", "false", "print the version and exit"),
    Flag::bool(
        "build-info",
        "false",
        "print version, commit and git version and exit",
    ),
    Flag::bool(
        "wait",
        "false",
        "wait until a sidecar on --dapr-http-port is up, at most 60s, and exit",
    ),
    Flag::text(
        "placement-host-address",
        "",
        "of a building block that is not offered",
    ),
    Flag::duration(
        "actors-disseminate-timeout",
        "30s",
        "of a building block that is not offered",
    ),
    Flag::text(
        "actors-service",
        "",
        "of a building block that is not offered",
    )
    .hidden(),
    Flag::text(
        "reminders-service",
        "",
        "of a building block that is not offered",
    )
    .hidden(),
    Flag::list(
        "scheduler-host-address",
        "",
        "of a building block that is not offered",
    ),
    Flag::uint(
        "scheduler-job-streams",
        "3",
        "of a building block that is not offered",
    ),
    Flag::duration(
        "app-binding-options-timeout",
        "3s",
        "of a building block that is not offered",
    ),
    Flag::bool(
        "disable-builtin-k8s-secret-store",
        "false",
        "of a building block that is not offered",
    ),
];

/// What ends the process before it became a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// None: be a sidecar.
    Run,
    /// `--version`
    Version,
    /// `--build-info`
    BuildInfo,
    /// `--wait`
    Wait,
}

/// The command line, as types of the flag library.
#[derive(Debug, Clone)]
pub(crate) struct Given(Parsed);

/// The injector passes this one on as the annotation has it, an empty text included: that is none.
const MAY_BE_EMPTY: &str = "--dapr-block-shutdown-duration";

/// The words without flags whose empty value means that they were not given.
fn without_empty(
    words: impl IntoIterator<Item = std::ffi::OsString>,
) -> impl Iterator<Item = std::ffi::OsString> {
    let mut words = words.into_iter().peekable();
    std::iter::from_fn(move || {
        loop {
            let word = words.next()?;
            if word != MAY_BE_EMPTY || words.next_if(|value| value.is_empty()).is_none() {
                return Some(word);
            }
        }
    })
}

// === impl Given ===

impl Given {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// [`Exit`] for a command line that the flag library refuses, and for `--help`.
    pub(crate) fn parse(words: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Self, Exit> {
        Flags::new("daprd", TABLE)
            .parse(without_empty(words))
            .map(Self)
    }

    /// Notices of deprecated flags, for stderr.
    pub(crate) fn notices(&self) -> &[String] {
        self.0.notices()
    }

    /// What the process was started for; `--version` wins over `--build-info` over `--wait`.
    pub(crate) fn errand(&self) -> Errand {
        match (
            self.0.bool("version"),
            self.0.bool("build-info"),
            self.0.bool("wait"),
        ) {
            (true, _, _) => Errand::Version,
            (_, true, _) => Errand::BuildInfo,
            (_, _, true) => Errand::Wait,
            (false, false, false) => Errand::Run,
        }
    }

    /// The flags of other building blocks that were given with a value other than their default.
    pub(crate) fn of_other_blocks(&self) -> Vec<&'static str> {
        OF_OTHER_BLOCKS
            .into_iter()
            .filter(|name| self.differs(name))
            .collect()
    }

    fn differs(&self, name: &'static str) -> bool {
        let Some(flag) = TABLE.iter().find(|flag| flag.name == name) else {
            return false;
        };
        use ironside_chassis::args::Kind;
        self.0.given(name)
            && match flag.kind {
                Kind::Text => self.0.text(name) != flag.default,
                Kind::Bool => self.0.bool(name).to_string() != flag.default,
                Kind::Int => self.0.int(name).to_string() != flag.default,
                Kind::Uint => self.0.uint(name).to_string() != flag.default,
                Kind::Duration => self.0.duration(name).to_string() != flag.default,
                Kind::List => !self.0.list(name).is_empty(),
            }
    }

    /// True if the flag was on the command line.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.0.given(name)
    }

    /// Value of a text flag of the table.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.text(name)
    }

    /// Value of a text flag, or of the variable that stands in for it.
    pub(crate) fn text_or<'a>(&'a self, name: &str, variable: Option<&'a str>) -> &'a str {
        match variable {
            Some(value) if !self.given(name) => value,
            Some(_) | None => self.text(name),
        }
    }

    /// Value of a boolean flag of the table.
    pub(crate) fn bool(&self, name: &str) -> bool {
        self.0.bool(name)
    }

    /// Value of an integer flag of the table.
    pub(crate) fn int(&self, name: &str) -> i64 {
        self.0.int(name)
    }

    /// Value of an unsigned flag of the table.
    pub(crate) fn uint(&self, name: &str) -> u64 {
        self.0.uint(name)
    }

    /// Value of a duration flag of the table.
    pub(crate) fn duration(&self, name: &str) -> GoDuration {
        self.0.duration(name)
    }

    /// Value of a list flag of the table.
    pub(crate) fn list(&self, name: &str) -> &[String] {
        self.0.list(name)
    }
}

#[cfg(test)]
mod tests;
