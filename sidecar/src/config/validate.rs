//! From what was given to a [`Config`], or to the reason why not.
//!
//! Owns the checks and defaults of process-interface 2.1 and 2.2, with the reference's texts. Pure: the facts
//! about the machine come in as [`Machine`]. Refuses to own files: paths are not looked at here.

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use ironside_chassis::{
    args::GoDuration,
    logging::{Level, LogOptions},
    secret::Secret,
};
use ironside_identity::{AppId, Namespace, id::DEFAULT_NAMESPACE};

use super::{
    AppConfigCall, AppHealth, AppProtocol, AppTarget, Config, Files, Listen, Startup,
    env::{self, Environment},
    flags::Given,
};
use crate::payload::{Names, Payloads};

mod access;
mod access_log;
mod identity;
mod kubernetes;
mod limits;
mod listen;
#[cfg(test)]
mod tests;

use self::{
    access_log::access_log_file,
    identity::identity,
    limits::Limits,
    listen::{hosts, listen, port},
};

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

/// What the machine says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// Address for other machines.
    pub(crate) address: IpAddr,
    /// Host name.
    pub(crate) hostname: Box<str>,
    /// This process runs as UID 0.
    pub(crate) is_root: bool,
}

/// Where this runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// By itself, with files.
    Standalone,
    /// In a pod, with an operator.
    Kubernetes,
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
    let mode = mode(given)?;
    if mode == Mode::Kubernetes {
        kubernetes::check_user(env, &machine)?;
    }
    let app_id = AppId::parse(given.text("app-id")).map_err(runtime)?;
    let namespace =
        Namespace::parse(env.get("NAMESPACE").unwrap_or(DEFAULT_NAMESPACE)).map_err(runtime)?;
    let limits = Limits::read(given)?;
    let health = health(given)?;
    let listen = listen(given, env)?;
    let app = app(given, &listen)?;
    let (host_address, announced_host) = hosts(env, &machine, &listen)?;
    let identity = identity(given, env, &app_id, mode)?;
    let kubernetes = match mode {
        Mode::Standalone => None,
        Mode::Kubernetes => kubernetes::read(given, env, identity.as_ref(), &mut warnings)?,
    };
    let machine_name = &machine.hostname;
    let stream = access::stream(given, env, identity.as_ref(), machine_name, &mut warnings)?;
    let is_operator_unasked = stream.is_none() && !given.text("control-plane-address").is_empty();
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
        identity,
        is_mtls: given.bool("enable-mtls"),
        stream,
        is_operator_unasked,
        files: files(given, mode),
        kubernetes,
        allowed_origins: given.text("allowed-origins").into(),
        api_logging: given
            .given("enable-api-logging")
            .then(|| given.bool("enable-api-logging")),
        access_control_strict: given.bool("access-control-strict"),
        access_log_file: access_log_file(given)?,
        payloads: payloads(given)?,
        app_config_call: app_config_call(given)?,
        app_id,
        namespace,
    };
    check_other_blocks(given, &mut warnings)?;
    Ok(Startup { config, warnings })
}

/// Bytes of a body that may be logged: more is no log.
const MAX_PAYLOAD: usize = 1 << 20;

/// `--log-payloads` and its bounds.
fn payloads(given: &Given) -> Result<Option<Payloads>, ConfigError> {
    let max = usize::try_from(given.uint("log-payload-max-bytes"));
    let max = max.ok().filter(|max| *max <= MAX_PAYLOAD);
    let max = max.ok_or_else(|| {
        let given = given.uint("log-payload-max-bytes");
        runtime(format!(
            "invalid value for 'log-payload-max-bytes': {given} is more than {MAX_PAYLOAD}"
        ))
    })?;
    let names = given.list("log-payload-redact");
    let names = Names::new(names.iter().map(AsRef::as_ref));
    let is_on = given.bool("log-payloads");
    Ok(is_on.then(|| Payloads::new(max, names)))
}

fn mode(given: &Given) -> Result<Mode, ConfigError> {
    match given.text("mode") {
        "standalone" => Ok(Mode::Standalone),
        "kubernetes" => Ok(Mode::Kubernetes),
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

/// Files of a sidecar; in a cluster there are none, its objects come from the operator.
fn files(given: &Given, mode: Mode) -> Files {
    let relist = given.duration("hot-reload-reconcile-interval").to_std();
    let relist = relist
        .filter(|period| !period.is_zero())
        .unwrap_or(DEFAULT_RELIST);
    if mode == Mode::Kubernetes {
        return Files {
            relist,
            ..Files::default()
        };
    }
    let resources = match given.list("resources-path") {
        [] => path(given.text("components-path")).into_iter().collect(),
        some => some.iter().map(PathBuf::from).collect(),
    };
    Files {
        configurations: given.list("config").iter().map(PathBuf::from).collect(),
        resources,
        relist,
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
