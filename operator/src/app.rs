//! The wiring: from a [`Config`] to tasks, and to their end.
//!
//! Owns the order of the start. Health and metrics answer first; then the Configuration of the control plane and the
//! own certificate are awaited; watches and the gRPC port begin on every replica, and what writes to the cluster acts
//! where the lease is held. The process is ready when everything was read once.

use crate::cluster::Calls;
use crate::config::Config;
use crate::convert::Webhook;
use crate::index::status::Mtls;
use crate::lease::{Election, Leadership};
use crate::metrics::Metrics;
use crate::reconcile::access::{self, AccessMetrics, Relayed};
use crate::reconcile::{Common, crds, services, watchdog};
use crate::relay::Follower;
use crate::serve::api::{Api, Parts, Shelves};
use crate::serve::assigned::LivePods;
use crate::serve::secrets::Secrets;
use crate::serve::{self, AccessControl, Server, relay, sources};
use crate::system::System;
use crate::{PROGRAM, SCOPE};
use ironside_chassis::health::{self, Health};
use ironside_chassis::logging::LogHandle;
use ironside_chassis::program::{Failure, FrameError, Life, Port};
use ironside_chassis::{Clock, Tasks};
use ironside_cluster::Recorder;
use ironside_discovery::Discovery;
use ironside_identity::{AppId, AppIdError, SpiffeId};
use ironside_transport::control_plane::NameError;
use ironside_transport::sentry_client::{TokenSource, Validator};
use ironside_transport::{
    AnchorsRx, ControlPlane, IdentityRx, Now, OneSidedTlsServer, TlsClient, TlsServer,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::{error, info};

/// Who this program is.
const APP_ID: &str = "dapr-operator";
/// What the API server sees of this program.
const USER_AGENT: &str = concat!("ironside-operator/", env!("CARGO_PKG_VERSION"));
/// What other replicas told and nobody took yet.
const RELAYED: usize = 64;
/// What is in flight at the stop has so long to end; streams are ended at once (kubernetes 3.9).
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Why the operator ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Connect(#[from] ironside_cluster::ConnectError),
    #[error("the own name: {0}")]
    AppId(#[from] AppIdError),
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Failure for RunError {
    fn is_told(&self) -> bool {
        matches!(self, Self::Frame(FrameError::Interrupted))
    }
}

/// Runs until a signal.
///
/// # Errors
/// [`RunError`] for what ended the process before its time; it is logged by the caller.
pub(crate) async fn run(config: Config, log: &LogHandle) -> Result<(), RunError> {
    let mut life = Life::begin(log)?;
    let tasks = life.tasks().clone();
    let stop = tasks.token();
    info!(target: SCOPE, "Dapr Operator is starting");
    tokio::select! {
        started = Box::pin(start(config, &tasks)) => started?,
        () = life.signal() => return stop_all(life).await,
        () = stop.cancelled() => return stop_all(life).await,
    }
    info!(target: SCOPE, "Dapr Operator started");
    tokio::select! {
        () = life.signal() => {}
        () = stop.cancelled() => {}
    }
    stop_all(life).await
}

/// What the steps of the start have in common.
struct Setup<'a> {
    config: Config,
    clock: Clock,
    metrics: Metrics,
    health: Health,
    tasks: &'a Tasks,
}

/// Starts everything; what it leaves behind are tasks.
async fn start(config: Config, tasks: &Tasks) -> Result<(), RunError> {
    let setup = Setup {
        config,
        clock: Clock::system(),
        metrics: Metrics::default(),
        health: Health::new(),
        tasks,
    };
    // All parts are named before the first answer, so that none is healthy by omission.
    let security = setup.health.register("operator-security");
    let server = setup.health.register("operator-api-server");
    let cache = setup.health.register("operator-cache");
    let webhook = setup.config.webhook.is_some();
    let webhook = webhook.then(|| setup.health.register("operator-webhook"));
    let config = &setup.config;
    PROGRAM
        .serve_health(&config.healthz, &setup.health, tasks)
        .await?;
    let client = ironside_cluster::connect(config.kubeconfig.as_deref(), USER_AGENT).await?;
    let (recorder, events) = Recorder::new(client.clone(), APP_ID, &config.instance);
    setup.spawn("events", events);
    let calls = Calls::new(client);
    let leadership = setup.elect(&calls);
    let common = Common {
        calls: calls.clone(),
        namespace: config.namespace.clone(),
        watch_namespace: config.watch_namespace.clone(),
        leadership,
        recorder: recorder.clone(),
        metrics: setup.metrics.clone(),
        clock: setup.clock.clone(),
    };
    let discovery = setup.discovery();
    let gauges = AccessMetrics::default();
    let shown = gauges.clone();
    setup.metrics.register(move |all| shown.register(all));
    // Metrics of all parts are registered by now.
    let exposition = setup.metrics.exposition();
    PROGRAM
        .serve_metrics(config.metrics.as_ref(), &setup.health, exposition, tasks)
        .await?;
    let shelves = Arc::new(Shelves::new(&setup.clock, &setup.metrics));
    let pods = Arc::new(LivePods::default());
    setup.follow(&common, &shelves, &pods, cache);
    let system = System::wait(&calls, &config.namespace, &config.configuration).await;
    let (roots, anchors) = watch::channel(None);
    let source = config.anchors.clone();
    setup.spawn(
        "trust-anchors",
        source.follow(calls.client().clone(), roots),
    );
    let identity = setup.identity(&system, anchors.clone(), security)?;
    if let Some(ready) = webhook {
        setup
            .serve_webhook(&calls, identity.clone(), anchors, ready)
            .await?;
    }
    if config.manages_crds {
        setup.spawn("definitions", crds::run(common.clone()));
    }
    let watchdog = watchdog::Watchdog::new(common.clone(), Arc::clone(&pods), config.watchdog);
    setup.spawn("watchdog", watchdog.run());
    if config.services {
        let settings = services::Settings {
            rollouts: config.rollouts,
            mtls: system.mtls,
        };
        let reconciler = services::Reconciler::new(common.clone(), settings);
        setup.spawn("services", reconciler.run());
    }
    let access = setup.access_control(&common, &system, discovery, identity.clone(), gauges)?;
    let api = Api::new(Parts {
        shelves,
        pods,
        secrets: Secrets::new(
            calls.clone(),
            setup.clock.clone(),
            setup.metrics.clone(),
            recorder,
        ),
        calls,
        metrics: setup.metrics.clone(),
        clock: setup.clock.clone(),
        stop: tasks.token(),
    });
    setup
        .serve_grpc(identity.clone(), api, access, server)
        .await?;
    Ok(())
}

// === impl Setup ===

impl Setup<'_> {
    /// Stands for election, if there is one.
    fn elect(&self, calls: &Calls) -> watch::Receiver<Leadership> {
        let config = &self.config;
        let port = config.grpc.port;
        let ip = config.pod_ip.as_ref();
        let address = ip.map(|ip| match ip.contains(':') {
            true => format!("[{ip}]:{port}"),
            false => format!("{ip}:{port}"),
        });
        if !config.elects {
            info!(target: SCOPE, "No election: this replica acts as the only one");
            self.metrics.show_leader(true);
            let only = Leadership {
                is_leader: true,
                leader_address: None,
            };
            let (keep, leadership) = watch::channel(only);
            self.spawn("leadership", async move {
                let _keep = keep;
                std::future::pending::<()>().await;
            });
            return leadership;
        }
        let name = format!("{}_{:016x}", config.instance, rand::random::<u64>());
        let (election, leadership) = Election::new(
            calls.clone(),
            config.namespace.clone(),
            (name, address),
            self.clock.clone(),
            self.metrics.clone(),
        );
        self.tasks
            .spawn("election", election.run(self.tasks.token()));
        leadership
    }

    /// The service of access control, which shares the port.
    fn discovery(&self) -> Discovery {
        let (ticks, wall) = (self.clock.clone(), self.clock.clone());
        let time = ironside_discovery::Time {
            monotonic: Arc::new(move || ticks.monotonic().since_start()),
            wall: Arc::new(move || wall.now()),
        };
        let sessions = Arc::new(self.tasks.group("discovery"));
        let settings = ironside_discovery::Settings::default();
        Discovery::new(settings, time, sessions, self.tasks.token())
    }

    /// Distributes access control and keeps its status; a replica that does not lead tells the one that does.
    fn access_control(
        &self,
        common: &Common,
        system: &System,
        discovery: Discovery,
        identity: IdentityRx,
        metrics: AccessMetrics,
    ) -> Result<AccessControl, RunError> {
        let config = &self.config;
        let own = SpiffeId::new(
            system.trust_domain.clone(),
            config.namespace.clone(),
            AppId::parse(APP_ID)?,
        );
        let own = own.map_err(NameError::from)?;
        let (told, relayed) = mpsc::channel::<Relayed>(RELAYED);
        let instance: Arc<str> = config.instance.as_str().into();
        let reconciler = access::Reconciler::new(access::Parts {
            calls: common.calls.clone(),
            discovery: discovery.clone(),
            recorder: common.recorder.clone(),
            clock: self.clock.clone(),
            instance: Arc::clone(&instance),
            only: config
                .watch_namespace
                .as_ref()
                .map(|only| only.as_str().into()),
            leadership: common.leadership.clone(),
            relayed,
            deny_by_default: config.denies_by_default,
            mtls: match system.mtls {
                true => Mtls::On,
                false => Mtls::Off,
            },
            metrics,
        });
        let stop = self.tasks.token();
        self.tasks
            .spawn("access-control", reconciler.run(stop.clone()));
        let follower = Follower {
            discovery: discovery.clone(),
            tls: Arc::new(TlsClient::new(identity, now(&self.clock))),
            own: own.clone(),
            instance,
            leadership: common.leadership.clone(),
            connections: self.tasks.group("relay-connection"),
            clock: self.clock.clone(),
        };
        self.tasks.spawn("relay", follower.run(stop.clone()));
        let streams = self.tasks.group("relay-stream");
        let relay = relay::Relay::new(own, common.leadership.clone(), told, streams, stop);
        Ok(AccessControl { discovery, relay })
    }

    /// Keeps what is known of resources and pods up to date; the cache is ready when all of it was read once.
    fn follow(
        &self,
        common: &Common,
        shelves: &Arc<Shelves>,
        pods: &Arc<LivePods>,
        cache: health::Target,
    ) {
        let following = sources::follow(common, Arc::clone(shelves), Arc::clone(pods));
        self.spawn("resources", following);
        let (shelves, pods) = (Arc::clone(shelves), Arc::clone(pods));
        self.spawn("cache", async move {
            sources::whole(&shelves, &pods).await;
            cache.ready();
            // It is ready for as long as it lives.
            std::future::pending::<()>().await;
        });
    }

    /// Obtains the own certificate and keeps it fresh.
    fn identity(
        &self,
        system: &System,
        anchors: AnchorsRx,
        security: health::Target,
    ) -> Result<IdentityRx, RunError> {
        let config = &self.config;
        let token = match &config.token_file {
            Some(path) => TokenSource::File {
                path: path.clone(),
                validator: Validator::Kubernetes,
            },
            None => TokenSource::Kubernetes,
        };
        let control_plane = ControlPlane {
            sentry_address: system.sentry_address.clone(),
            trust_domain: system.trust_domain.clone(),
            namespace: config.namespace.clone(),
            app_id: AppId::parse(APP_ID)?,
            token,
            anchors,
        };
        // Names that make no identity are told before anything is asked.
        ControlPlane::sentry_id(&system.trust_domain, &config.namespace)?;
        let (publish, identity) = watch::channel(None);
        let now = now(&self.clock);
        self.spawn("identity", async move {
            let Err(cause) = control_plane.follow(now, |_event| {}, publish).await;
            error!(target: SCOPE, "no certificate can be asked for: {cause}");
        });
        let mut first = identity.clone();
        self.spawn("security", async move {
            if first.wait_for(Option::is_some).await.is_ok() {
                security.ready();
            }
            std::future::pending::<()>().await;
        });
        Ok(identity)
    }

    /// Serves the conversion webhook.
    async fn serve_webhook(
        &self,
        calls: &Calls,
        identity: IdentityRx,
        anchors: AnchorsRx,
        ready: health::Target,
    ) -> Result<(), RunError> {
        let Some(address) = &self.config.webhook else {
            return Ok(());
        };
        let port = address.listen("failed to start the webhook server").await?;
        let webhook = Webhook {
            calls: calls.clone(),
            namespace: self.config.namespace.clone(),
            anchors,
            tls: OneSidedTlsServer::web(identity, now(&self.clock)),
            listener: port.listener,
            ready,
            connections: self.tasks.group("webhook-connection"),
            stop: self.tasks.token(),
        };
        self.tasks.spawn("webhook", webhook.run());
        Ok(())
    }

    async fn serve_grpc(
        &self,
        identity: IdentityRx,
        api: Api,
        access: AccessControl,
        target: health::Target,
    ) -> Result<(), RunError> {
        let address = &self.config.grpc;
        let Port { listener, number } = address.listen("failed to start the gRPC server").await?;
        info!(target: serve::SCOPE, "Running gRPC server on port {number}");
        target.ready();
        let tls = TlsServer::new(identity, now(&self.clock));
        let server = Server::new(tls, api, access, self.clock.clone(), self.tasks);
        let connections = self.tasks.group("grpc-connection");
        self.tasks.spawn("grpc", async move {
            server.run(listener, connections).await;
            info!(target: serve::SCOPE, "Shutting down gRPC server");
            drop(target);
        });
        Ok(())
    }

    /// Spawns a task that has no end of its own.
    fn spawn(&self, name: &'static str, endless: impl Future<Output = ()> + Send + 'static) {
        let stop = self.tasks.token();
        self.tasks.spawn(name, async move {
            stop.run_until_cancelled_owned(endless).await;
        });
    }
}

/// Ends all tasks; a second signal ends the wait. What does not end in time is cut off, as the reference does with
/// streams that stay open.
async fn stop_all(life: Life) -> Result<(), RunError> {
    let stuck = life.end(STOP_LIMIT).await?;
    if stuck.is_empty() {
        info!(target: SCOPE, "operator shut down gracefully");
    } else {
        info!(target: SCOPE, "operator shut down; cut off after {STOP_LIMIT:?}: {}", stuck.join(", "));
    }
    Ok(())
}

fn now(clock: &Clock) -> Now {
    let clock = clock.clone();
    Arc::new(move || clock.now())
}
