//! A sidecar under test: how it is started, where it listens, how it is asked.

use std::{io, path::PathBuf, process::Command, time::Duration};

use anyhow::Result;
use ironside_testkit::{
    grpc::GrpcClient,
    http::{self, Reply, Request},
};

use crate::{binaries, ports, program::Program, wait, world::World};

/// The address that the sidecars of a test announce in `Forwarded`; the golden transcripts hold it.
pub const HOST_IP: &str = "10.9.0.1";

/// How a sidecar is started.
#[derive(Clone, Debug)]
pub struct Spec {
    app_id: String,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    spec: String,
    resources: Vec<(String, String)>,
    ports: Ports,
    resolution: Resolution,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    http: u16,
    grpc: u16,
    internal: u16,
    metrics: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    Sqlite,
    Default,
}

impl Spec {
    /// A sidecar without app, with name resolution through the world's database.
    #[must_use]
    pub fn new(app_id: &str) -> Self {
        let ports = Ports {
            http: ports::free(),
            grpc: ports::free(),
            internal: ports::free(),
            metrics: ports::free(),
        };
        Self {
            app_id: app_id.to_owned(),
            // Most rows count what reaches the app.
            flags: vec!["--disable-init-endpoints".to_owned(), "config".to_owned()],
            environment: vec![("DAPR_HOST_IP".to_owned(), HOST_IP.to_owned())],
            spec: String::new(),
            resources: Vec::new(),
            ports,
            resolution: Resolution::Sqlite,
        }
    }

    /// Port that the HTTP API will have.
    #[must_use]
    pub fn http(&self) -> u16 {
        self.ports.http
    }

    /// Port that the gRPC API will have.
    #[must_use]
    pub fn grpc(&self) -> u16 {
        self.ports.grpc
    }

    /// The app's port.
    #[must_use]
    pub fn app(self, port: u16) -> Self {
        self.flag("--app-port", &port.to_string())
    }

    /// The app's protocol.
    #[must_use]
    pub fn protocol(self, protocol: &str) -> Self {
        self.flag("--app-protocol", protocol)
    }

    /// Lets the sidecar ask the app for its configuration, as it does by default.
    #[must_use]
    pub fn init_endpoints(mut self) -> Self {
        self.flags.drain(..2);
        self
    }

    /// A flag with a value.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// An argument as it is.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.flags.push(argument.to_owned());
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(key, _)| key != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// More keys below `spec:` of the configuration, indented by two spaces.
    #[must_use]
    pub fn configure(mut self, yaml: &str) -> Self {
        self.spec.push_str(yaml);
        self
    }

    /// A file in the resource folder.
    #[must_use]
    pub fn resource(mut self, name: &str, yaml: &str) -> Self {
        self.resources.push((name.to_owned(), yaml.to_owned()));
        self
    }

    /// Name resolution as it is without configuration.
    #[must_use]
    pub fn default_resolution(mut self) -> Self {
        self.resolution = Resolution::Default;
        self
    }

    /// Trust anchors and the address of a Sentry.
    #[must_use]
    pub fn mtls(self, sentry: &crate::Sentry) -> Self {
        self.argument("--enable-mtls")
            .flag("--sentry-address", &format!("127.0.0.1:{}", sentry.port()))
            .env("DAPR_TRUST_ANCHORS", &sentry.anchors())
    }

    /// Starts the program and does not wait.
    pub fn launch(&self, world: &World) -> Sidecar {
        let config = world.write(
            &world.fresh(&self.app_id, "yaml"),
            &self.configuration(world),
        );
        let mut command = Command::new(binaries::path("daprd"));
        command
            .env_clear()
            .env("XDG_RUNTIME_DIR", world.path())
            .env("TMPDIR", world.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let Ports {
            http,
            grpc,
            internal,
            metrics,
        } = self.ports;
        command.args(["--app-id", &self.app_id]);
        for (flag, port) in [
            ("--dapr-http-port", http),
            ("--dapr-grpc-port", grpc),
            ("--dapr-internal-grpc-port", internal),
            ("--metrics-port", metrics),
        ] {
            command.args([flag, &port.to_string()]);
        }
        for flag in [
            "--dapr-listen-addresses",
            "--dapr-internal-grpc-listen-address",
            "--metrics-listen-address",
        ] {
            if !self.flags.iter().any(|given| given == flag) {
                command.args([flag, "127.0.0.1"]);
            }
        }
        command.arg("--config").arg(config);
        if let Some(folder) = self.write_resources(world) {
            command.arg("--resources-path").arg(folder);
        }
        command.args(&self.flags);
        let program = Program::start(world, &self.app_id, &mut command);
        Sidecar {
            app_id: self.app_id.clone(),
            program,
            ports: self.ports,
        }
    }

    /// Starts the program and waits until outbound calls work.
    ///
    /// # Errors
    /// When it ends or does not get there in time.
    pub async fn start(&self, world: &World) -> Result<Sidecar> {
        let mut sidecar = self.launch(world);
        sidecar.healthy("/v1.0/healthz/outbound").await?;
        Ok(sidecar)
    }

    /// Starts the program and waits until its app was found.
    ///
    /// # Errors
    /// When it ends or does not get there in time.
    pub async fn ready(&self, world: &World) -> Result<Sidecar> {
        let mut sidecar = self.launch(world);
        sidecar.healthy("/v1.0/healthz").await?;
        Ok(sidecar)
    }

    fn write_resources(&self, world: &World) -> Option<PathBuf> {
        let folder = world.fresh(&format!("{}-resources", self.app_id), "d");
        for (name, yaml) in &self.resources {
            world.write(&format!("{folder}/{name}"), yaml);
        }
        (!self.resources.is_empty()).then(|| world.path().join(folder))
    }

    fn configuration(&self, world: &World) -> String {
        let resolution = match self.resolution {
            Resolution::Default => String::new(),
            Resolution::Sqlite => format!(
                "  nameResolution:\n    component: sqlite\n    configuration:\n      connectionString: \"{}\"\n",
                world.path().join("names.db").display()
            ),
        };
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: rig\nspec:\n  features: []\n{resolution}{}",
            self.spec
        )
    }
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    app_id: String,
    /// The process behind it.
    pub program: Program,
    ports: Ports,
}

impl Sidecar {
    /// The app id.
    #[must_use]
    pub fn app_id(&self) -> &str {
        &self.app_id
    }

    /// Port of the HTTP API.
    #[must_use]
    pub fn http(&self) -> u16 {
        self.ports.http
    }

    /// Port of the gRPC API.
    #[must_use]
    pub fn grpc(&self) -> u16 {
        self.ports.grpc
    }

    /// Port for other sidecars.
    #[must_use]
    pub fn internal(&self) -> u16 {
        self.ports.internal
    }

    /// Port of the metrics.
    #[must_use]
    pub fn metrics(&self) -> u16 {
        self.ports.metrics
    }

    /// Sends a request to the HTTP API, over a connection of its own.
    ///
    /// # Errors
    /// When the connection fails before an answer.
    pub async fn send(&self, request: &Request) -> io::Result<Reply> {
        http::send(self.ports.http, request).await
    }

    /// `GET` from the HTTP API.
    ///
    /// # Errors
    /// When the connection fails before an answer.
    pub async fn get(&self, path: &str) -> io::Result<Reply> {
        self.send(&Request::get(path)).await
    }

    /// Connects to the gRPC API.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn client(&self) -> io::Result<GrpcClient> {
        GrpcClient::connect(self.ports.grpc).await
    }

    /// Waits until a health path answers 204.
    ///
    /// # Errors
    /// When the process ends first, or the deadline passes.
    pub async fn healthy(&mut self, path: &str) -> Result<()> {
        let limit = wait::LONG;
        let watch = wait::Stopwatch::start();
        loop {
            if self
                .get(path)
                .await
                .is_ok_and(|reply| reply.status() == 204)
            {
                return Ok(());
            }
            let ended = self.program.ended();
            if ended.is_some() || watch.elapsed() > limit {
                self.program.show();
                anyhow::bail!(
                    "{} is not healthy at {path} (ended: {ended:?})",
                    self.app_id
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
