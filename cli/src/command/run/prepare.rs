//! From what is asked for to what is started: id, ports, files checked, words for sidecar and app.
//!
//! Facts: cli-and-clients 1.4, CL-26, CL-27, CL-39.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rand::Rng;

use super::spec::AppSpec;
use super::vector::{self, ChosenPorts, LogForm, MutualTls};
use super::yaml;
use crate::api::{Api, Endpoint};
use crate::env::Environment;
use crate::folders;
use crate::instances::{self, Instance};
use crate::locks::{Lock, Locks};
use crate::names;
use crate::own_sentry::Joined;
use crate::ports::{Held, Ports};
use crate::process::{Launch, child::Streams};

/// How many generated ids are tried.
const ID_TRIES: usize = 1_000;
/// Where a Sentry is looked for when a Configuration asks for mutual TLS (cli-and-clients 1.4).
const SENTRY: &str = "localhost:50001";
/// Variables that would tell a sidecar of another Sentry than this user's.
const OF_ANOTHER_SENTRY: [&str; 5] = [
    "DAPR_TRUST_ANCHORS",
    "DAPR_TRUST_ANCHORS_FILE",
    "DAPR_CONTROLPLANE_TRUST_DOMAIN",
    "DAPR_CONTROLPLANE_NAMESPACE",
    "DAPR_SENTRY_TOKEN_FILE",
];

/// All that is needed to start one app and its sidecar.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What was asked for, with the id decided.
    pub spec: AppSpec,
    /// The sidecar's ports.
    pub ports: ChosenPorts,
    held: Vec<Held>,
    _id: Lock,
    /// Keeps this user's Sentry serving.
    _sentry: Option<Joined>,
    sidecar: PathBuf,
    arguments: Vec<OsString>,
    app: Option<PathBuf>,
    sidecar_environment: Vec<(OsString, OsString)>,
    app_environment: Vec<(OsString, OsString)>,
}

/// What preparing needs to know about this machine.
pub(crate) struct Surroundings<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// The form of sidecar logs.
    pub log: LogForm,
    /// Extra variables for sidecars.
    pub sidecar_variables: Vec<(OsString, OsString)>,
}

/// Checks a spec and decides what it left open; `sentry` is this user's, if the spec asks for it.
pub(crate) fn prepare(
    mut spec: AppSpec,
    around: &Surroundings<'_>,
    sentry: Option<Joined>,
    rng: &mut impl Rng,
) -> anyhow::Result<Plan> {
    for folder in &spec.resources {
        check_resources(folder).with_context(|| {
            format!(
                "error validating resources path {:?}",
                folder.display().to_string()
            )
        })?;
    }
    let private = folders::private(around.environment).ok();
    let running = instances::found();
    let id = claim_id(&mut spec, private.as_deref(), &running, rng)?;
    let locks = Locks::below(private.as_deref(), "ports");
    let mut held = Vec::new();
    let ports = choose(
        &spec,
        &mut Ports::new(locks, used(&running)),
        &mut held,
        rng,
    )?;
    let mutual_tls = match (&sentry, &spec.config) {
        (Some(sentry), _) => MutualTls::From(sentry.address.clone()),
        (None, Some(file)) => mutual_tls(file)?,
        (None, None) => MutualTls::Off,
    };
    let environment = around.environment;
    let sidecar = folders::sidecar(spec.home.as_ref(), environment)?;
    let mut sidecar_environment: Vec<(OsString, OsString)> = environment
        .all()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    sidecar_environment.extend(around.sidecar_variables.iter().cloned());
    if let Some(sentry) = &sentry {
        sidecar_environment.retain(|(name, _)| OF_ANOTHER_SENTRY.iter().all(|other| name != other));
        sidecar_environment.extend(trust(sentry, &sidecar)?);
    }
    Ok(Plan {
        ports,
        held,
        _id: id,
        _sentry: sentry,
        sidecar,
        arguments: vector::arguments(&spec, ports, &mutual_tls, around.log)?,
        app: None,
        sidecar_environment,
        app_environment: vector::environment(&spec, ports, environment),
        spec,
    })
}

/// What a sidecar is told to believe. Ours follows the file of roots; another one reads its anchors once, as text.
fn trust(sentry: &Joined, sidecar: &Path) -> anyhow::Result<Vec<(OsString, OsString)>> {
    let mut variables = vec![(
        "DAPR_TRUST_ANCHORS_FILE".into(),
        sentry.anchors.clone().into_os_string(),
    )];
    let is_ours = fs::canonicalize(sidecar).ok() == fs::canonicalize(std::env::current_exe()?).ok();
    if !is_ours {
        let text = fs::read_to_string(&sentry.anchors)
            .with_context(|| format!("reading {}", sentry.anchors.display()))?;
        variables.push(("DAPR_TRUST_ANCHORS".into(), text.into()));
    }
    Ok(variables)
}

/// Takes the app's id, making one up if there is none.
fn claim_id(
    spec: &mut AppSpec,
    private: Option<&Path>,
    running: &[Instance],
    rng: &mut impl Rng,
) -> anyhow::Result<Lock> {
    let locks = Locks::below(private, "ids");
    let is_free = |id: &str| running.iter().all(|one| one.vector.app_id != id);
    if !spec.app_id.is_empty() {
        // Two instances of one app are fine, so a given id is not locked.
        return Ok(Lock::none());
    }
    let found = (0..ID_TRIES).find_map(|_| {
        let id = names::any(rng);
        let lock = if is_free(&id) { locks.take(&id) } else { None };
        lock.map(|lock| (id, lock))
    });
    let Some((id, lock)) = found else {
        bail!("no free app id found: give one with --app-id");
    };
    spec.app_id = id;
    Ok(lock)
}

/// The ports that listed instances use.
fn used(running: &[Instance]) -> Vec<u16> {
    running
        .iter()
        .flat_map(|one| {
            [
                one.vector.app_port,
                one.vector.http_port,
                one.vector.grpc_port,
            ]
        })
        .filter(|&port| port > 0)
        .collect()
}

fn choose(
    spec: &AppSpec,
    ports: &mut Ports,
    held: &mut Vec<Held>,
    rng: &mut impl Rng,
) -> anyhow::Result<ChosenPorts> {
    let mut take = |what, asked| -> anyhow::Result<u16> {
        let port = ports.port(what, asked, rng)?;
        let number = port.number();
        held.push(port);
        Ok(number)
    };
    let asked = spec.ports;
    Ok(ChosenPorts {
        http: take("HTTPPort", asked.http)?,
        grpc: take("GRPCPort", asked.grpc)?,
        metrics: take("MetricsPort", asked.metrics)?,
        internal: take("InternalGRPCPort", asked.internal)?,
        profile: if spec.enable_profiling {
            Some(take("ProfilePort", asked.profile)?)
        } else {
            None
        },
    })
}

/// Checks that a folder of resource files is there and that its files are YAML.
///
/// What kinds and types they are is the sidecar's business.
fn check_resources(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_yaml = path
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("yaml") || end.eq_ignore_ascii_case("yml"));
        if is_yaml && path.is_file() {
            yaml::check(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

fn mutual_tls(config: &Path) -> anyhow::Result<MutualTls> {
    // The sidecar says what is wrong with a file that is missing or no YAML.
    let Ok(text) = fs::read_to_string(config) else {
        return Ok(MutualTls::Off);
    };
    let on = yaml::mutual_tls(&text).with_context(|| format!("reading {}", config.display()))?;
    Ok(if on {
        MutualTls::From(SENTRY.to_owned())
    } else {
        MutualTls::Off
    })
}

// === impl Plan ===

impl Plan {
    /// The endpoint of one of the sidecar's APIs.
    pub(crate) fn endpoint(&self, api: ApiKind) -> Endpoint {
        let (name, port) = match api {
            ApiKind::Http => ("http", self.ports.http),
            ApiKind::Grpc => ("grpc", self.ports.grpc),
        };
        match &self.spec.unix_domain_socket {
            Some(folder) => Endpoint::socket(&self.socket_folder(folder), &self.spec.app_id, name),
            None => Endpoint::tcp(port, &self.spec.listen_addresses),
        }
    }

    /// The sidecar's HTTP API.
    pub(crate) fn api(&self, token: Option<&str>) -> Api {
        Api {
            endpoint: self.endpoint(ApiKind::Http),
            token: token.map(str::to_owned),
        }
    }

    fn socket_folder(&self, folder: &Path) -> PathBuf {
        match &self.spec.folder {
            Some(base) => base.join(folder),
            None => folder.to_path_buf(),
        }
    }

    /// How the sidecar is started. Its ports are free from here on.
    pub(crate) fn sidecar(&mut self, streams: Streams) -> Launch {
        self.held.iter_mut().for_each(Held::make_way);
        Launch {
            name: self.sidecar.clone().into_os_string(),
            file: self.sidecar.clone(),
            args: self.arguments.clone(),
            environment: self.sidecar_environment.clone(),
            folder: self.spec.folder.clone(),
            streams,
        }
    }

    /// How the app is started; none without a command.
    ///
    /// # Errors
    /// If its first word is blank or nowhere to be found.
    pub(crate) fn app(&mut self, streams: Streams) -> anyhow::Result<Option<Launch>> {
        let Some((name, args)) = self.spec.command.split_first() else {
            return Ok(None);
        };
        if name.is_empty() {
            bail!("exec: no command");
        }
        let file = match &self.app {
            Some(file) => file.clone(),
            None => self.look_up(name)?,
        };
        self.app = Some(file.clone());
        Ok(Some(Launch {
            file,
            name: name.clone(),
            args: args.to_vec(),
            environment: self.app_environment.clone(),
            folder: self.spec.folder.clone(),
            streams,
        }))
    }

    fn look_up(&self, name: &OsString) -> anyhow::Result<PathBuf> {
        let path = self
            .app_environment
            .iter()
            .find(|(name, _)| name == "PATH")
            .map(|(_, value)| value);
        let folder = match &self.spec.folder {
            Some(folder) => folder.clone(),
            None => std::env::current_dir()?,
        };
        which::which_in(name, path, folder)
            .with_context(|| format!("Failed to find command {}", name.display()))
    }

    /// Removes what a killed sidecar would leave behind.
    pub(crate) fn clean_up(&self) {
        for api in [ApiKind::Http, ApiKind::Grpc] {
            if let Endpoint::Socket(path) = self.endpoint(api) {
                // Gone already after a graceful end.
                let _gone = fs::remove_file(path);
            }
        }
    }
}

/// One of the two APIs of a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ApiKind {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resources_folder_must_be_there_and_hold_yaml() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_resources(&folder.path().join("missing")).is_err());
        fs::write(
            folder.path().join("redis.yaml"),
            "kind: Component\nspec:\n  type: state.redis\n",
        )
        .unwrap();
        fs::write(folder.path().join("notes.txt"), "a: b: c").unwrap();
        assert!(check_resources(folder.path()).is_ok());
        fs::write(folder.path().join("bad.yml"), "a: [1").unwrap();
        let error = format!("{:#}", check_resources(folder.path()).unwrap_err());
        assert!(error.contains("bad.yml"), "{error}");
    }

    #[test]
    fn the_configuration_decides_about_mutual_tls() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.yaml");
        for (text, expected) in [
            (
                "kind: Configuration\nspec:\n  mtls:\n    enabled: true\n",
                MutualTls::From(SENTRY.to_owned()),
            ),
            (
                "kind: Configuration\nspec:\n  mtls:\n    enabled: false\n",
                MutualTls::Off,
            ),
            ("kind: Configuration\nspec: {}\n", MutualTls::Off),
            ("", MutualTls::Off),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(mutual_tls(&file).unwrap(), expected, "{text}");
        }
        assert_eq!(mutual_tls(Path::new("/nowhere")).unwrap(), MutualTls::Off);
    }
}
