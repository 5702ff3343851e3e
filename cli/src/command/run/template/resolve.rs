//! From a template to apps with every setting decided.
//!
//! Pure but for looking whether paths exist, which a caller may answer from a table. Facts: cli-and-clients 1.9, CL-63
//! to CL-69, CH8.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::model::{Own, Shared, Template};
use crate::command::run::spec::{AppSpec, AskedPorts, Health};
use crate::folders::Home;

/// One app of a template.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TemplateApp {
    /// What is to be run.
    pub spec: AppSpec,
    /// The app's folder, which holds `.dapr/logs`.
    pub folder: PathBuf,
    /// Where its output goes.
    pub app_log: Destination,
    /// Where the sidecar's log goes.
    pub daprd_log: Destination,
    /// What it is in a cluster.
    pub container: Container,
}

/// An app in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    /// The image; empty if the template names none.
    pub image: String,
    /// When it is pulled.
    pub pull_policy: String,
    /// Whether a Service for callers outside is wanted.
    pub has_service: bool,
}

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To the console.
    Console,
    /// To a file.
    File,
    /// To both.
    FileAndConsole,
}

/// Where things are, for a template.
pub(crate) struct Place<'a> {
    /// The folder that the template lies in.
    pub base: &'a Path,
    /// The user's home folder, for `~/`.
    pub user: Option<&'a Path>,
    /// The folder `.dapr` unless the template names another.
    pub home: Option<&'a Home>,
    /// Whether a path exists.
    pub exists: &'a dyn Fn(&Path) -> bool,
}

/// Decides every setting of every app.
///
/// # Errors
/// With the key that is missing or wrong.
pub(crate) fn resolve(template: Template, place: &Place<'_>) -> anyhow::Result<Vec<TemplateApp>> {
    let Template {
        version,
        name: _,
        common,
        apps,
        unknown: _,
    } = template;
    if version.unwrap_or(0) == 0 {
        bail!("required field 'version' not found in the provided run template file");
    }
    if apps.is_empty() {
        bail!("No apps to run");
    }
    apps.into_iter()
        .map(|(own, shared)| app(own, shared, &common, place))
        .collect()
}

fn app(
    own: Own,
    shared: Shared,
    common: &Shared,
    place: &Place<'_>,
) -> anyhow::Result<TemplateApp> {
    let Some(folder) = own.app_dir_path.as_deref().filter(|path| !path.is_empty()) else {
        bail!("required field 'appDirPath' not found in the provided app config file");
    };
    let folder = place.existing("appDirPath", place.base, folder)?;
    let container = Container {
        image: own.container_image.clone().unwrap_or_default(),
        pull_policy: pull_policy(own.container_image_pull_policy.as_deref())?.to_owned(),
        has_service: own.create_service.unwrap_or(false),
    };
    let home = home(&shared, common, &folder, place)?;
    let config = config(&shared, common, &folder, home.as_ref(), place)?;
    let resources = resources(&shared, common, &folder, home.as_ref(), place)?;
    let values = merge(shared, common);
    let app_log = destination(
        "appLogDestination",
        values.app_log_destination.as_deref(),
        Destination::FileAndConsole,
    )?;
    let daprd_log = destination(
        "daprdLogDestination",
        values.daprd_log_destination.as_deref(),
        Destination::File,
    )?;
    let mut spec = spec(own, values, &folder);
    spec.config = config;
    spec.resources = resources;
    spec.home = home;
    Ok(TemplateApp {
        spec,
        folder,
        app_log,
        daprd_log,
        container,
    })
}

fn spec(own: Own, values: Shared, folder: &Path) -> AppSpec {
    let defaults = AppSpec::default();
    let text = |value: Option<String>, default: String| {
        value.filter(|text| !text.is_empty()).unwrap_or(default)
    };
    let base_name = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let max_body = values
        .max_request_size
        .map(|mebi| format!("{mebi}Mi"))
        .unwrap_or(defaults.max_body_size);
    let read_buffer = values
        .http_read_buffer_size
        .map(|kibi| format!("{kibi}Ki"))
        .unwrap_or(defaults.read_buffer_size);
    AppSpec {
        app_id: text(own.app_id, base_name),
        command: own
            .command
            .unwrap_or_default()
            .into_iter()
            .map(|word| word.unwrap_or_default().into())
            .collect(),
        app_port: own.app_port.unwrap_or(defaults.app_port),
        app_protocol: text(values.app_protocol, defaults.app_protocol),
        app_channel_address: text(own.app_channel_address, defaults.app_channel_address),
        app_max_concurrency: values
            .app_max_concurrency
            .unwrap_or(defaults.app_max_concurrency),
        app_ssl: values.app_ssl.unwrap_or(false),
        config: None,
        resources: Vec::new(),
        ports: AskedPorts {
            http: own.http_port.unwrap_or(-1),
            grpc: own.grpc_port.unwrap_or(-1),
            internal: own.internal_port.unwrap_or(-1),
            metrics: own.metrics_port.unwrap_or(-1),
            profile: own.profile_port.unwrap_or(-1),
        },
        enable_profiling: values.enable_profiling.unwrap_or(false),
        log_level: text(values.log_level, defaults.log_level),
        max_body_size: text(values.max_body_size, max_body),
        read_buffer_size: text(values.read_buffer_size, read_buffer),
        unix_domain_socket: own
            .unix_domain_socket
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        health: Health {
            enabled: values.enable_app_health_check.unwrap_or(false),
            path: values.app_health_check_path.unwrap_or_default(),
            interval: values.app_health_probe_interval.unwrap_or(0),
            timeout: values.app_health_probe_timeout.unwrap_or(0),
            threshold: values.app_health_threshold.unwrap_or(0),
        },
        api_logging: values.enable_api_logging,
        listen_addresses: values.api_listen_addresses.unwrap_or_default(),
        placement_host_address: text(values.placement_host_address, String::new()),
        scheduler_host_address: text(values.scheduler_host_address, String::new()),
        folder: Some(folder.to_path_buf()),
        environment: values
            .env
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name, value.unwrap_or_default()))
            .collect(),
        own_sentry: values.mtls.unwrap_or(false),
        home: None,
    }
}

/// The app's value where it wrote one, zero or not, else the common one.
fn merge(app: Shared, common: &Shared) -> Shared {
    let common = common.clone();
    Shared {
        resources_paths: app.resources_paths.or(common.resources_paths),
        resources_path: app.resources_path.or(common.resources_path),
        config_file_path: app.config_file_path.or(common.config_file_path),
        app_protocol: app.app_protocol.or(common.app_protocol),
        api_listen_addresses: app.api_listen_addresses.or(common.api_listen_addresses),
        log_level: app.log_level.or(common.log_level),
        placement_host_address: app.placement_host_address.or(common.placement_host_address),
        scheduler_host_address: app.scheduler_host_address.or(common.scheduler_host_address),
        max_body_size: app.max_body_size.or(common.max_body_size),
        read_buffer_size: app.read_buffer_size.or(common.read_buffer_size),
        max_request_size: app.max_request_size.or(common.max_request_size),
        http_read_buffer_size: app.http_read_buffer_size.or(common.http_read_buffer_size),
        app_health_check_path: app.app_health_check_path.or(common.app_health_check_path),
        app_max_concurrency: app.app_max_concurrency.or(common.app_max_concurrency),
        app_health_probe_interval: app
            .app_health_probe_interval
            .or(common.app_health_probe_interval),
        app_health_probe_timeout: app
            .app_health_probe_timeout
            .or(common.app_health_probe_timeout),
        app_health_threshold: app.app_health_threshold.or(common.app_health_threshold),
        enable_profiling: app.enable_profiling.or(common.enable_profiling),
        app_ssl: app.app_ssl.or(common.app_ssl),
        enable_app_health_check: app
            .enable_app_health_check
            .or(common.enable_app_health_check),
        enable_api_logging: app.enable_api_logging.or(common.enable_api_logging),
        mtls: app.mtls.or(common.mtls),
        runtime_path: app.runtime_path.or(common.runtime_path),
        env: match (app.env, common.env) {
            (Some(app), Some(mut common)) => {
                common.extend(app);
                Some(common)
            }
            (app, common) => app.or(common),
        },
        daprd_log_destination: app.daprd_log_destination.or(common.daprd_log_destination),
        app_log_destination: app.app_log_destination.or(common.app_log_destination),
    }
}

fn home(
    shared: &Shared,
    common: &Shared,
    folder: &Path,
    place: &Place<'_>,
) -> anyhow::Result<Option<Home>> {
    let own = place.optional("runtimePath", folder, shared.runtime_path.as_deref())?;
    let path = match own {
        Some(path) => Some(path),
        None => place.optional("runtimePath", place.base, common.runtime_path.as_deref())?,
    };
    Ok(path
        .map(|path| Home::under(&path))
        .or_else(|| place.home.cloned()))
}

/// The app's, else the one in its folder, else the common one, else that of `.dapr`.
fn config(
    shared: &Shared,
    common: &Shared,
    folder: &Path,
    home: Option<&Home>,
    place: &Place<'_>,
) -> anyhow::Result<Option<PathBuf>> {
    let given = place.optional("configFilePath", folder, shared.config_file_path.as_deref())?;
    let common = place.optional(
        "configFilePath",
        place.base,
        common.config_file_path.as_deref(),
    )?;
    let beside = folder.join(".dapr").join("config.yaml");
    let standard = home.map(Home::configuration);
    Ok(given
        .or_else(|| Some(beside).filter(|path| (place.exists)(path)))
        .or(common)
        .or_else(|| standard.filter(|path| (place.exists)(path))))
}

/// The app's, else those in its folder, else the common ones, else those of `.dapr`.
fn resources(
    shared: &Shared,
    common: &Shared,
    folder: &Path,
    home: Option<&Home>,
    place: &Place<'_>,
) -> anyhow::Result<Vec<PathBuf>> {
    let given = place.list(folder, shared)?;
    let common = place.list(place.base, common)?;
    if !given.is_empty() {
        return Ok(given);
    }
    let beside = folder.join(".dapr").join("resources");
    if (place.exists)(&beside) {
        return Ok(vec![beside]);
    }
    if !common.is_empty() {
        return Ok(common);
    }
    let standard = home
        .map(Home::resources)
        .filter(|path| (place.exists)(path));
    Ok(standard.into_iter().collect())
}

fn destination(
    key: &str,
    value: Option<&str>,
    default: Destination,
) -> anyhow::Result<Destination> {
    match value.unwrap_or_default() {
        "" => Ok(default),
        "console" => Ok(Destination::Console),
        "file" => Ok(Destination::File),
        "fileAndConsole" => Ok(Destination::FileAndConsole),
        other => bail!("{key}: invalid log destination type: {other}"),
    }
}

fn pull_policy(value: Option<&str>) -> anyhow::Result<&str> {
    match value.unwrap_or_default() {
        "" => Ok("Always"),
        known @ ("Always" | "Never" | "IfNotPresent") => Ok(known),
        other => bail!(
            "containerImagePullPolicy: invalid value {other:?}: it should be Always, Never or IfNotPresent"
        ),
    }
}

// === impl Destination ===

impl Destination {
    /// Whether a file is written.
    pub(crate) fn has_file(self) -> bool {
        matches!(self, Self::File | Self::FileAndConsole)
    }

    /// Whether the console is written to.
    pub(crate) fn has_console(self) -> bool {
        matches!(self, Self::Console | Self::FileAndConsole)
    }
}

// === impl Place ===

impl Place<'_> {
    /// A path as it is written: absolute, below the home folder, or relative to `base`.
    fn path(&self, base: &Path, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), self.user) {
            (Some(rest), Some(user)) => user.join(rest),
            (Some(_) | None, _) => base.join(text),
        }
    }

    fn existing(&self, key: &str, base: &Path, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(base, text);
        // Normalised, because a path such as `./app/` becomes the name of the app.
        let path: PathBuf = path.components().collect();
        if !(self.exists)(&path) {
            bail!("{key}: the path {} does not exist", path.display());
        }
        Ok(path)
    }

    fn optional(
        &self,
        key: &str,
        base: &Path,
        text: Option<&str>,
    ) -> anyhow::Result<Option<PathBuf>> {
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| self.existing(key, base, text)).transpose()
    }

    fn list(&self, base: &Path, values: &Shared) -> anyhow::Result<Vec<PathBuf>> {
        let many = values
            .resources_paths
            .iter()
            .flatten()
            .map(|text| ("resourcesPaths", text));
        let one = values
            .resources_path
            .iter()
            .map(|text| ("resourcesPath", text));
        many.chain(one)
            .filter(|(_, text)| !text.is_empty())
            .map(|(key, text)| self.existing(key, base, text))
            .collect()
    }
}

#[cfg(test)]
mod tests;
