//! From what was given to a [`Config`], or to the reason why not.
//!
//! Owns the checks and defaults of process-interface 2.1 and 2.2, with the reference's texts. Pure: the facts
//! about the machine come in as [`Machine`]. Refuses to own files: paths are not looked at here.

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use ironside_chassis::{
    args::{GoDuration, parse_decimal, parse_quantity},
    logging::{Level, LogOptions},
    secret::Secret,
};
use ironside_identity::{AppId, Namespace, SpiffeId, TrustDomain, id::DEFAULT_NAMESPACE};
use ironside_transport::{MinTls, sentry_client::TokenSource};

use super::{
    AppConfigCall, AppHealth, AppProtocol, AppTarget, Config, Files, IdentityConfig, Listen,
    Startup,
    env::{self, Environment},
    flags::Given,
};

#[cfg(test)]
mod tests;

/// Default limit of bodies and messages.
const DEFAULT_BODY: i64 = 4 << 20;
/// Default limit of a request head.
const DEFAULT_BUFFER: i64 = 4 << 10;
/// Grace period when a negative one is given; the flag's own default.
const DEFAULT_GRACE: Duration = Duration::from_secs(5);
/// Idle limit of a connection to another sidecar.
const DEFAULT_PEER_IDLE: Duration = Duration::from_secs(3 * 60);
/// Period of the sweep that enforces it.
const DEFAULT_PEER_SWEEP: Duration = Duration::from_secs(45);
/// Period of the backup listing of watched directories.
const DEFAULT_RELIST: Duration = Duration::from_secs(60);
/// Threads on the data path: more than this is a typing error.
const MAX_WORKERS: u64 = 1024;
/// Internal addresses that discovery announces as they are.
const ANNOUNCED_AS_IS: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// What the machine says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// Address for other machines.
    pub(crate) address: IpAddr,
    /// Host name.
    pub(crate) hostname: Box<str>,
}

/// Why the process does not start. The texts are those of the reference where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A value that the flags' own reading refuses.
    #[error("Failed to parse flags: {0}")]
    Flags(String),
    /// A value that the runtime refuses.
    #[error("Fatal error from runtime: {0}")]
    Runtime(String),
}

/// Reads how to log. The level is judged first, so that every other refusal finds a log.
///
/// # Errors
/// [`ConfigError::Flags`] for a word that is no level.
pub(crate) fn log_options(given: &Given) -> Result<LogOptions, ConfigError> {
    let level: Level = given.text("log-level").parse().map_err(flags)?;
    Ok(LogOptions {
        level,
        json: given.bool("log-as-json"),
        file: path(given.text("log-file")),
        app_id: Some(given.text("app-id").to_owned()),
    })
}

/// Joins flags, environment and machine.
///
/// # Errors
/// [`ConfigError`] for the first value that is refused.
pub(crate) fn startup(
    given: &Given,
    env: &Environment,
    machine: Machine,
) -> Result<Startup, ConfigError> {
    let mut warnings = Vec::new();
    check_mode(given)?;
    let app_id = AppId::parse(given.text("app-id")).map_err(runtime)?;
    let namespace =
        Namespace::parse(env.get("NAMESPACE").unwrap_or(DEFAULT_NAMESPACE)).map_err(runtime)?;
    let limits = Limits::read(given)?;
    let health = health(given)?;
    let listen = listen(given, env)?;
    let app = app(given, &listen)?;
    let (host_address, announced_host) = hosts(env, &machine, &listen)?;
    let config = Config {
        app,
        app_max_concurrency: usize::try_from(given.int("app-max-concurrency"))
            .ok()
            .filter(|n| *n > 0),
        app_health: given.bool("enable-app-health-check").then_some(health),
        max_body: limits.body,
        max_message: limits.message,
        read_buffer: limits.head,
        api_token: token(env, env::API_TOKEN),
        app_token: token(env, env::APP_TOKEN),
        host_address,
        announced_host,
        hostname: machine.hostname,
        peer_idle: variable(
            env,
            "DAPR_GRPC_MAX_CONN_IDLE",
            DEFAULT_PEER_IDLE,
            &mut warnings,
        ),
        peer_sweep: variable(
            env,
            "DAPR_GRPC_CONN_COLLECTOR_INTERVAL",
            DEFAULT_PEER_SWEEP,
            &mut warnings,
        ),
        listen,
        data_workers: workers(given)?,
        grace: grace(given, &mut warnings),
        block_shutdown: given.given("dapr-block-shutdown-duration").then(|| {
            given
                .duration("dapr-block-shutdown-duration")
                .to_std()
                .unwrap_or_default()
        }),
        identity: identity(given, env, &app_id)?,
        files: files(given),
        allowed_origins: given.text("allowed-origins").into(),
        api_logging: given
            .given("enable-api-logging")
            .then(|| given.bool("enable-api-logging")),
        app_config_call: app_config_call(given)?,
        app_id,
        namespace,
    };
    check_other_blocks(given, &mut warnings)?;
    Ok(Startup { config, warnings })
}

fn check_mode(given: &Given) -> Result<(), ConfigError> {
    match given.text("mode") {
        "standalone" => Ok(()),
        "kubernetes" => Err(runtime(
            "mode kubernetes is not offered yet: use --mode standalone",
        )),
        other => Err(runtime(format!("invalid mode: {other}"))),
    }
}

fn app(given: &Given, listen: &Listen) -> Result<Option<AppTarget>, ConfigError> {
    let port = match given.text("app-port") {
        "" => 0,
        text => port("app-port", text)?,
    };
    // The comparison counts an absent app port as 0, so the reference refuses an API port of 0 without app.
    for (name, api) in [
        ("dapr-http-port", listen.http_port),
        ("dapr-grpc-port", listen.grpc_port),
    ] {
        if api == port {
            return Err(runtime(format!(
                "the '{name}' argument value {port} conflicts with 'app-port'"
            )));
        }
    }
    let protocol = protocol(given)?;
    let address = given.text("app-channel-address").into();
    Ok((port != 0).then_some(AppTarget {
        address,
        port,
        protocol,
    }))
}

fn protocol(given: &Given) -> Result<AppProtocol, ConfigError> {
    let text = given.text("app-protocol");
    let protocol = match text.to_ascii_lowercase().as_str() {
        "" | "http" => AppProtocol::Http,
        "https" => AppProtocol::Https,
        "h2c" => AppProtocol::H2c,
        "grpc" => AppProtocol::Grpc,
        "grpcs" => AppProtocol::Grpcs,
        _ => return Err(runtime(format!("invalid value for 'app-protocol': {text}"))),
    };
    Ok(match (protocol, given.bool("app-ssl")) {
        (AppProtocol::Http, true) => AppProtocol::Https,
        (AppProtocol::Grpc, true) => AppProtocol::Grpcs,
        (other, _) => other,
    })
}

/// Probe settings; the timeout is checked even when probes are off, as in the reference.
fn health(given: &Given) -> Result<AppHealth, ConfigError> {
    let positive = |name: &str, default: u64| {
        u64::try_from(given.int(name))
            .ok()
            .filter(|value| *value > 0)
            .unwrap_or(default)
    };
    let interval = Duration::from_secs(positive("app-health-probe-interval", 5));
    let timeout = Duration::from_millis(positive("app-health-probe-timeout", 500));
    if timeout > interval {
        return Err(runtime(
            "value for 'health-probe-timeout' must be smaller than 'health-probe-interval'",
        ));
    }
    let threshold = u32::try_from(given.int("app-health-threshold"))
        .ok()
        .filter(|n| *n > 0)
        .unwrap_or(3);
    let text = given.text("app-health-check-path");
    let path = if text.starts_with('/') {
        text.into()
    } else {
        format!("/{text}").into()
    };
    Ok(AppHealth {
        path,
        interval,
        timeout,
        threshold,
    })
}

fn listen(given: &Given, env: &Environment) -> Result<Listen, ConfigError> {
    let internal = match given.text("dapr-internal-grpc-port") {
        "" => 0,
        text => port("dapr-internal-grpc-port", text)?,
    };
    let metrics_port = port("metrics-port", given.text("metrics-port"))?;
    let public = match given.text("dapr-public-port") {
        "" => None,
        text => Some((
            given.text("dapr-public-listen-address").to_owned(),
            port("dapr-public-port", text)?,
        )),
    };
    if given.bool("enable-profiling") {
        port("profile-port", given.text("profile-port"))?;
    }
    Ok(Listen {
        addresses: given
            .text("dapr-listen-addresses")
            .split(',')
            .map(str::to_owned)
            .collect(),
        http_port: port("dapr-http-port", given.text("dapr-http-port"))?,
        grpc_port: port("dapr-grpc-port", given.text("dapr-grpc-port"))?,
        unix_socket: path(given.text("unix-domain-socket")),
        internal_port: Some(internal).filter(|port| *port != 0),
        internal_address: given.text("dapr-internal-grpc-listen-address").to_owned(),
        public,
        metrics: given.bool("enable-metrics").then(|| {
            (
                given.text("metrics-listen-address").to_owned(),
                metrics_port,
            )
        }),
        h2c: !env.is_on("DAPR_HTTP_DISABLE_H2C"),
    })
}

fn port(name: &str, text: &str) -> Result<u16, ConfigError> {
    let number = parse_decimal(text)
        .map_err(|cause| runtime(format!("error parsing {name} flag: {text:?}: {cause}")))?;
    u16::try_from(number).map_err(|_range| {
        runtime(format!(
            "error parsing {name} flag: {number} is not a port (0 to 65535)"
        ))
    })
}

fn hosts(
    env: &Environment,
    machine: &Machine,
    listen: &Listen,
) -> Result<(IpAddr, Box<str>), ConfigError> {
    let address = match env.non_empty("DAPR_HOST_IP") {
        None => machine.address,
        Some(text) => text
            .parse()
            .map_err(|_syntax| runtime(format!("DAPR_HOST_IP {text:?} is not an IP address")))?,
    };
    let announced = match listen.internal_address.as_str() {
        own if ANNOUNCED_AS_IS.contains(&own) => own.trim_matches(['[', ']']).into(),
        _ => address.to_string().into(),
    };
    Ok((address, announced))
}

/// The three limits, in bytes.
struct Limits {
    body: Option<u64>,
    message: usize,
    head: usize,
}

impl Limits {
    fn read(given: &Given) -> Result<Self, ConfigError> {
        let body = size(
            given,
            "max-body-size",
            "dapr-http-max-request-size",
            1 << 20,
            DEFAULT_BODY,
        )?;
        let head = size(
            given,
            "read-buffer-size",
            "dapr-http-read-buffer-size",
            1 << 10,
            DEFAULT_BUFFER,
        )?;
        let body = u64::try_from(body).ok().filter(|bytes| *bytes > 0);
        Ok(Self {
            body,
            // The reference gives gRPC a limit of 0 bytes where HTTP has none, which nobody can use.
            message: body
                .and_then(|bytes| usize::try_from(bytes).ok())
                .unwrap_or(usize::MAX),
            head: usize::try_from(head)
                .ok()
                .filter(|bytes| *bytes > 0)
                .unwrap_or(usize::try_from(DEFAULT_BUFFER).unwrap_or(usize::MAX)),
        })
    }
}

/// A size in bytes: the quantity, else the old flag in its unit, else the default, which is also what -1 means.
fn size(given: &Given, name: &str, old: &str, unit: i64, default: i64) -> Result<i64, ConfigError> {
    let bytes = if given.given(name) || !given.given(old) {
        let text = given.text(name);
        let refuse = |cause| {
            flags(format!(
                "invalid value for '{name}' option: {text:?}: {cause}"
            ))
        };
        parse_quantity(text).map_err(refuse)?
    } else {
        match given.int(old) {
            -1 => -1,
            count => count.saturating_mul(unit),
        }
    };
    Ok(if bytes == -1 { default } else { bytes })
}

fn workers(given: &Given) -> Result<NonZeroUsize, ConfigError> {
    let count = given.uint("data-workers");
    let fits = usize::try_from(count)
        .ok()
        .and_then(NonZeroUsize::new)
        .filter(|_| count <= MAX_WORKERS);
    fits.ok_or_else(|| {
        flags(format!(
            "invalid value for 'data-workers': {count} is not 1 to {MAX_WORKERS}"
        ))
    })
}

fn grace(given: &Given, warnings: &mut Vec<String>) -> Option<Duration> {
    match u64::try_from(given.int("dapr-graceful-shutdown-seconds")) {
        Ok(0) => {
            warnings.push(
                "Graceful shutdown timeout is infinite, will wait indefinitely to shutdown"
                    .to_owned(),
            );
            None
        }
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_negative) => Some(DEFAULT_GRACE),
    }
}

fn identity(
    given: &Given,
    env: &Environment,
    app_id: &AppId,
) -> Result<Option<IdentityConfig>, ConfigError> {
    let domain = given.text_or(
        "control-plane-trust-domain",
        env.non_empty("DAPR_CONTROLPLANE_TRUST_DOMAIN"),
    );
    let domain = TrustDomain::parse(domain).map_err(runtime)?;
    let namespace = given.text_or(
        "control-plane-namespace",
        env.non_empty("DAPR_CONTROLPLANE_NAMESPACE"),
    );
    let min_tls = match given.text("tls-min-version") {
        "1.2" => MinTls::V1_2,
        "1.3" => MinTls::V1_3,
        other => {
            return Err(flags(format!(
                "invalid value for 'tls-min-version': {other} is not 1.2 or 1.3"
            )));
        }
    };
    if !given.bool("enable-mtls") {
        return Ok(None);
    }
    let sentry_id = SpiffeId::parse(&format!("spiffe://{domain}/ns/{namespace}/dapr-sentry"))
        .map_err(runtime)?;
    let trust_anchors = env.non_empty("DAPR_TRUST_ANCHORS").map(Into::into);
    let trust_anchors_file = env.non_empty("DAPR_TRUST_ANCHORS_FILE").map(PathBuf::from);
    if trust_anchors.is_none() && trust_anchors_file.is_none() {
        return Err(runtime("trust anchors are required"));
    }
    if given.text("sentry-address").is_empty() {
        return Err(runtime(
            "sentry address is required: mTLS is on and --sentry-address is empty",
        ));
    }
    let token = TokenSource::choose(env.get("DAPR_SENTRY_TOKEN_FILE"), false).map_err(runtime)?;
    let request_id = match env.non_empty("SENTRY_LOCAL_IDENTITY") {
        Some(text) => AppId::parse(text).map_err(runtime)?,
        None => app_id.clone(),
    };
    Ok(Some(IdentityConfig {
        sentry_address: given.text("sentry-address").into(),
        sentry_id,
        trust_anchors,
        trust_anchors_file,
        request_id,
        token,
        jwt_audiences: given.list("sentry-request-jwt-audiences").to_vec(),
        min_tls,
    }))
}

fn files(given: &Given) -> Files {
    let resources = match given.list("resources-path") {
        [] => path(given.text("components-path")).into_iter().collect(),
        some => some.iter().map(PathBuf::from).collect(),
    };
    Files {
        configurations: given.list("config").iter().map(PathBuf::from).collect(),
        resources,
        relist: given
            .duration("hot-reload-reconcile-interval")
            .to_std()
            .filter(|period| !period.is_zero())
            .unwrap_or(DEFAULT_RELIST),
    }
}

fn app_config_call(given: &Given) -> Result<AppConfigCall, ConfigError> {
    let mut call = AppConfigCall::Once;
    for word in given.list("disable-init-endpoints") {
        match word.trim().to_ascii_lowercase().as_str() {
            "config" => call = AppConfigCall::Skipped,
            // The app's subscriptions are never asked for: publish and subscribe is not offered.
            "subscribe" => {}
            _ => {
                let known = "config, subscribe";
                return Err(flags(format!(
                    "invalid value for 'disable-init-endpoints': {word:?} is not one of {known}"
                )));
            }
        }
    }
    Ok(call)
}

fn check_other_blocks(given: &Given, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    if given.duration("actors-disseminate-timeout") <= GoDuration::ZERO {
        return Err(flags(
            "invalid value for 'actors-disseminate-timeout': must be greater than 0",
        ));
    }
    let names = given.of_other_blocks();
    if !names.is_empty() {
        let list: Vec<String> = names.iter().map(|name| format!("--{name}")).collect();
        warnings.push(format!(
            "flags of building blocks that are not offered have no effect: {}",
            list.join(", ")
        ));
    }
    if given.bool("enable-profiling") {
        warnings.push("profiling is not offered: --enable-profiling has no effect".to_owned());
    }
    Ok(())
}

/// A positive duration from the environment; anything else is a warning and the default.
fn variable(
    env: &Environment,
    name: &str,
    default: Duration,
    warnings: &mut Vec<String>,
) -> Duration {
    let Some(text) = env.non_empty(name) else {
        return default;
    };
    let given = text
        .parse::<GoDuration>()
        .ok()
        .and_then(GoDuration::to_std)
        .filter(|d| !d.is_zero());
    given.unwrap_or_else(|| {
        let default_text = GoDuration::from(default);
        warnings.push(format!(
            "invalid value {text:?} of {name}: using the default {default_text}"
        ));
        default
    })
}

fn token(env: &Environment, name: &str) -> Option<Secret<Box<str>>> {
    env.non_empty(name).map(|text| Secret::new(text.into()))
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

fn flags(cause: impl ToString) -> ConfigError {
    ConfigError::Flags(cause.to_string())
}

fn runtime(cause: impl ToString) -> ConfigError {
    ConfigError::Runtime(cause.to_string())
}
