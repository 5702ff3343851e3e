//! The processes of the demo: Sentry, two sidecars, two apps; where they listen and how they are started and ended.
//!
//! Everything is on the loopback interface, on free ports, in a temporary folder that goes with the demo: it needs no
//! home folder, no multicast and no IPv6, and disturbs nothing that runs already.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::future::join;
use http::{HeaderMap, Method};
use ironside_chassis::tasks::Tasks;
use ironside_resolution::registry;
use rand::Rng;
use tempfile::TempDir;

use super::actor::Actor;
use crate::api::{Api, Endpoint};
use crate::env::Environment;
use crate::folders;
use crate::locks::{Lock, Locks};
use crate::names;
use crate::ports::{Held, Ports};
use crate::process::Launch;
use crate::process::child::Streams;

/// How many names are tried until one is free.
const NAME_TRIES: usize = 100;

/// The folder that sidecars read their policies from, below that of the demo.
const POLICIES: &str = "policies";

/// How long any part may take to be ready.
const READY: Duration = Duration::from_secs(10);
/// How often that is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How long any part may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Everything that runs.
pub(super) struct Stage {
    /// What the parts share.
    pub set: Set,
    /// The HTTP app and its sidecar.
    pub orders: Pair,
    /// The gRPC app and its sidecar.
    pub greeter: Pair,
}

/// What the parts of the demo share.
pub(super) struct Set {
    tasks: Tasks,
    folder: TempDir,
    program: PathBuf,
    sidecar_program: PathBuf,
    anchors: String,
    sentry_port: Held,
    health_port: Held,
    sentry: Option<Actor>,
    _name: Lock,
}

/// An app and its sidecar.
pub(super) struct Pair {
    /// The app's id.
    pub id: String,
    sample: &'static str,
    protocol: &'static str,
    ports: PairPorts,
    app: Option<Actor>,
    /// The sidecar, while it runs.
    pub sidecar: Option<Actor>,
}

struct PairPorts {
    app: Held,
    http: Held,
    grpc: Held,
    internal: Held,
}

/// How much a sidecar logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Talk {
    /// Every peer that it verifies.
    Debug,
    /// Changes of state only.
    Info,
}

// === impl Pair ===

impl Pair {
    fn new(
        name: &str,
        sample: &'static str,
        protocol: &'static str,
        ports: &mut Ports,
    ) -> anyhow::Result<Self> {
        let mut rng = rand::rng();
        let mut port = |what| ports.port(what, -1, &mut rng);
        Ok(Self {
            id: format!("{sample}-{name}"),
            sample,
            protocol,
            ports: PairPorts {
                app: port("the app")?,
                http: port("HTTPPort")?,
                grpc: port("GRPCPort")?,
                internal: port("InternalGRPCPort")?,
            },
            app: None,
            sidecar: None,
        })
    }

    /// Where the app listens.
    pub(super) fn app_port(&self) -> u16 {
        self.ports.app.number()
    }

    /// Where the sidecar's HTTP API listens.
    pub(super) fn http_port(&self) -> u16 {
        self.ports.http.number()
    }

    /// Where the sidecar's gRPC API listens.
    pub(super) fn grpc_port(&self) -> u16 {
        self.ports.grpc.number()
    }
}

// === impl Stage ===

impl Stage {
    /// Finds free ports and a folder; starts nothing yet.
    pub(super) fn build(environment: &Environment) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("ironside-demo-")
            .tempdir_in(environment.temporary())
            .context("making a temporary folder")?;
        let private = folders::private(environment).ok();
        let mut ports = Ports::new(Locks::below(private.as_deref(), "ports"), []);
        let mut rng = rand::rng();
        let (name, lock) = free_name(&Locks::below(private.as_deref(), "ids"), &mut rng)?;
        let mut pair = |sample, protocol| Pair::new(&name, sample, protocol, &mut ports);
        let (orders, greeter) = (pair("orders", "http")?, pair("greeter", "grpc")?);
        fs::create_dir(folder.path().join(POLICIES)).context("making the folder of policies")?;
        Ok(Self {
            set: Set {
                tasks: Tasks::new(),
                program: std::env::current_exe().context("finding this program")?,
                sidecar_program: folders::link(&folder.path().join("bin"))?,
                folder,
                anchors: String::new(),
                sentry_port: ports.port("Sentry", -1, &mut rng)?,
                health_port: ports.port("Sentry's health", -1, &mut rng)?,
                sentry: None,
                _name: lock,
            },
            orders,
            greeter,
        })
    }

    /// The last lines of every log, to explain a failure.
    pub(super) fn last_lines(&self) -> String {
        let actors = [
            &self.set.sentry,
            &self.orders.app,
            &self.orders.sidecar,
            &self.greeter.app,
            &self.greeter.sidecar,
        ];
        let told = actors.into_iter().flatten();
        told.map(|actor| format!("last lines of {}:\n{}", actor.name, actor.last_lines()))
            .collect()
    }

    /// Ends everything, apps first.
    pub(super) async fn strike(self) {
        let Self {
            set,
            mut orders,
            mut greeter,
        } = self;
        join(orders.stop_app(), greeter.stop_app()).await;
        join(orders.stop_sidecar(), greeter.stop_sidecar()).await;
        if let Some(mut sentry) = set.sentry {
            sentry.stop(GRACE).await;
        }
        let _journals = set.tasks.shutdown(POLL).await;
    }
}

/// A name that tells this demo's apps from those of another one, here or elsewhere in this network.
fn free_name(locks: &Locks, rng: &mut impl Rng) -> anyhow::Result<(String, Lock)> {
    let tried = (0..NAME_TRIES).find_map(|_| {
        let name = names::any(rng);
        locks.take(&name).map(|lock| (name, lock))
    });
    tried.context("no free name for the apps")
}

// === impl Set ===

impl Set {
    /// The owner of the demo's own tasks.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Starts Sentry and waits until it has made its certificates.
    pub(super) async fn start_sentry(&mut self) -> anyhow::Result<()> {
        self.sentry_port.make_way();
        let credentials = self.folder.path().join("sentry");
        let configuration = self.folder.path().join("sentry.yaml");
        fs::create_dir(&credentials)?;
        fs::write(&configuration, "")?;
        let port = self.sentry_port.number().to_string();
        self.health_port.make_way();
        let health_port = self.health_port.number().to_string();
        let words = [
            "sentry",
            "--port",
            &port,
            "--listen-address",
            "127.0.0.1",
            "--healthz-port",
            &health_port,
            "--healthz-listen-address",
            "127.0.0.1",
            "--enable-metrics=false",
            "--log-as-json",
        ];
        let mut args: Vec<OsString> = words.map(OsString::from).to_vec();
        for (flag, path) in [
            ("--issuer-credentials", &credentials),
            ("--config", &configuration),
        ] {
            args.push(flag.into());
            args.push(path.into());
        }
        let launch = self.launch(&self.program, args, &[]);
        self.sentry = Some(Actor::start("Sentry", launch, &self.tasks)?);
        let root = credentials.join("ca.crt");
        let endpoint = Endpoint::tcp(self.sentry_port.number(), "127.0.0.1");
        let ready = async || {
            let text = fs::read_to_string(&root).unwrap_or_default();
            (text.contains("END CERTIFICATE") && endpoint.accepts().await).then_some(text)
        };
        self.anchors = until(ready, self.sentry.as_mut()).await?;
        Ok(())
    }

    /// Starts an app, waits until it listens.
    pub(super) async fn start_app(&self, pair: &mut Pair) -> anyhow::Result<()> {
        pair.ports.app.make_way();
        let port = pair.app_port();
        let args = ["sample", pair.sample, &port.to_string()]
            .map(OsString::from)
            .to_vec();
        let launch = self.launch(&self.program, args, &[]);
        pair.app = Some(Actor::start(&pair.id, launch, &self.tasks)?);
        let endpoint = Endpoint::tcp(port, "127.0.0.1");
        until(
            async || endpoint.accepts().await.then_some(()),
            pair.app.as_mut(),
        )
        .await
    }

    /// Starts a sidecar, waits until it is ready.
    pub(super) async fn start_sidecar(&self, pair: &mut Pair, talk: Talk) -> anyhow::Result<()> {
        let PairPorts {
            app,
            http,
            grpc,
            internal,
        } = &mut pair.ports;
        for port in [&mut *http, grpc, internal] {
            port.make_way();
        }
        let number = |port: &Held| port.number().to_string();
        let level = match talk {
            Talk::Debug => "debug",
            Talk::Info => "info",
        };
        let sentry = format!("127.0.0.1:{}", self.sentry_port.number());
        let policies = self.folder.path().join(POLICIES);
        let args = [
            "--app-id",
            &pair.id,
            "--app-port",
            &number(app),
            "--app-protocol",
            pair.protocol,
            "--dapr-http-port",
            &number(http),
            "--dapr-grpc-port",
            &number(grpc),
            "--dapr-internal-grpc-port",
            &number(internal),
            "--dapr-internal-grpc-listen-address",
            "127.0.0.1",
            "--dapr-listen-addresses",
            "127.0.0.1",
            "--enable-metrics=false",
            "--enable-mtls",
            "--sentry-address",
            &sentry,
            "--log-level",
            level,
            "--log-as-json",
        ];
        let mut args = args.map(OsString::from).to_vec();
        args.extend(["--resources-path".into(), policies.into()]);
        let variables = [("DAPR_TRUST_ANCHORS", self.anchors.as_str())];
        let launch = self.launch(&self.sidecar_program, args, &variables);
        let name = format!("the sidecar of {}", pair.id);
        pair.sidecar = Some(Actor::start(&name, launch, &self.tasks)?);
        let api = Api {
            endpoint: Endpoint::tcp(pair.http_port(), "127.0.0.1"),
            token: None,
        };
        let ready = async || {
            let answer = api
                .call(
                    Method::GET,
                    "/v1.0/healthz",
                    HeaderMap::new(),
                    Default::default(),
                    Some(READY),
                )
                .await;
            answer
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(())
        };
        until(ready, pair.sidecar.as_mut()).await
    }

    /// Puts a policy where the sidecars find it, whole at once.
    pub(super) fn write_policy(&self, text: &str) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let made = folder.join("policy.yaml");
        fs::write(&made, text).context("writing the policy")?;
        fs::rename(&made, self.policy()).context("putting the policy in its place")
    }

    /// Takes the policy away.
    pub(super) fn remove_policy(&self) -> anyhow::Result<()> {
        fs::remove_file(self.policy()).context("removing the policy")
    }

    fn policy(&self) -> PathBuf {
        self.folder.path().join(POLICIES).join("demo.yaml")
    }

    /// What sidecars announced: app ids and addresses.
    pub(super) fn announced(&self) -> Vec<(String, String)> {
        let folder = registry::folder(Some(self.folder.path()), self.folder.path(), 0);
        let mut found: Vec<(String, String)> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| fs::read(entry.ok()?.path()).ok())
            .filter_map(|bytes| registry::Entry::parse(&bytes).ok())
            .map(|entry| (entry.app_id.to_string(), entry.authority.to_string()))
            .collect();
        found.sort();
        found
    }

    fn launch(&self, file: &Path, args: Vec<OsString>, variables: &[(&str, &str)]) -> Launch {
        let name = file.file_name().unwrap_or(file.as_os_str()).to_owned();
        // Only what the demo itself decides: a variable of the user's shell must not change it.
        let runtime = self.folder.path().to_string_lossy().into_owned();
        let own = [
            ("XDG_RUNTIME_DIR", runtime.as_str()),
            ("TMPDIR", runtime.as_str()),
            ("DAPR_HOST_IP", "127.0.0.1"),
            ("NO_COLOR", "1"),
        ];
        let all = own.iter().chain(variables).copied();
        Launch {
            file: file.to_path_buf(),
            name,
            args,
            environment: all
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            folder: Some(self.folder.path().to_path_buf()),
            streams: Streams::Piped,
        }
    }
}

impl Pair {
    /// Ends the sidecar, which finishes the calls it has.
    pub(super) async fn stop_sidecar(&mut self) {
        if let Some(mut sidecar) = self.sidecar.take() {
            sidecar.stop(GRACE).await;
        }
    }

    /// Ends the app.
    pub(super) async fn stop_app(&mut self) {
        if let Some(mut app) = self.app.take() {
            app.stop(GRACE).await;
        }
    }
}

/// Waits until something holds, within the limit and while the process lives that is to bring it about.
async fn until<T>(
    mut holds: impl AsyncFnMut() -> Option<T>,
    actor: Option<&mut Actor>,
) -> anyhow::Result<T> {
    let Some(actor) = actor else {
        bail!("nothing was started");
    };
    let name = actor.name.clone();
    let wait = async {
        loop {
            if let Some(value) = holds().await {
                return value;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::select! {
        value = wait => Ok(value),
        ended = actor.ended() => bail!("{name} ended: {ended}\n{}", actor.last_lines()),
        () = tokio::time::sleep(READY) => bail!("{name} was not ready within {READY:?}"),
    }
}
