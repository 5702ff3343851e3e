//! The order of a start, step by step (process-interface 2.5).
//!
//! Owns the sequence and what it makes: [`Running`]. With mTLS on, nothing listens before the first identity.
//! Every step is either quick or can be dropped at any point: a stop signal during the start is a clean end.

use std::{path::PathBuf, sync::Arc, thread::JoinHandle};

use ironside_chassis::{
    Clock, Tasks, Tick,
    health::{Health, Target},
    listen::{self, UnixSocket},
};
use ironside_telemetry::metrics::Metrics;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    LOG,
    announce::Announcing,
    cluster,
    identity::{self, Held},
    lines, measure,
    ports::{ApiPorts, InternalPort, PortError, take_one},
    ready,
};
use crate::{
    api::{
        metadata::MetadataStore,
        shutdown::{self, ShutdownRequests},
    },
    channel::admission::Admission,
    config::{Config, Listen, env::Environment},
    decisions::{self, Decisions, file::Writing},
    inbound::rates::Rates,
    live::Live,
    middleware::KeySource,
    outbound::replicas::Fleet,
    peers::verified::VerifiedPeers,
    server::{accept::Listener, data::DataThread, public},
    sources::{
        access, advice,
        compile::Compiled,
        components,
        disk::{Disk, DiskError, Snapshot},
        reload::{Reloader, Told},
        resiliency,
        stream::{self, Streamed, Update},
    },
    traces,
    worker::Shared,
};

/// Why a sidecar does not start; the line says `Fatal error from runtime: ` before it.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// No identity is to be had.
    #[error("{0}")]
    Identity(String),
    /// A port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The announced host makes no address.
    #[error("cannot announce {host:?}: {cause}")]
    Announce {
        /// The host.
        host: Box<str>,
        /// What is wrong with it.
        cause: String,
    },
    /// Patterns of the metrics' paths.
    #[error("error loading configuration: spec.metrics.http.pathMatching: {0}")]
    PathMatching(String),
    /// The access log file.
    #[error("failed to open the access log file {}: {cause}", path.display())]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// A thread or a runtime.
    #[error("cannot start a data thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A sidecar that serves.
pub(super) struct Running {
    /// What requests reach.
    pub(super) shared: Arc<Shared>,
    /// Its servers.
    pub(super) served: Served,
    /// Owner of what was announced.
    pub(super) resolver: Tasks,
    /// Asks for a reload.
    pub(super) hangup: mpsc::Sender<()>,
    /// Requests for an end over the API.
    pub(super) requests: ShutdownRequests,
    /// Errors that end the process.
    pub(super) fatal: mpsc::Receiver<String>,
    /// Whether the app was seen.
    pub(super) app_up: watch::Receiver<bool>,
    /// Owner of what sends spans.
    pub(super) exporting: Tasks,
    /// Writes the access log file; the last lines when it is dropped.
    _writing: Option<Writing>,
    /// Part of readiness while there is no identity to watch.
    _security: Option<Target>,
}

/// The servers and what ends them.
pub(super) struct Served {
    /// Owner of all servers.
    pub(super) serving: Tasks,
    /// Owner of all outgoing connections.
    pub(super) clients: Tasks,
    /// Sends peers elsewhere.
    pub(super) depart: CancellationToken,
    /// Closes listeners and idle connections.
    pub(super) drain: CancellationToken,
    /// Ends the data threads.
    pub(super) stop: CancellationToken,
    /// The data threads.
    pub(super) threads: Vec<JoinHandle<()>>,
    /// Where the HTTP API listens.
    pub(super) http: Vec<String>,
    /// Socket files.
    pub(super) sockets: Vec<UnixSocket>,
    _targets: [Target; 2],
    _outbound: Target,
}

/// What the whole start is given.
pub(super) struct Beginning {
    /// What flags and environment said.
    pub(super) config: Config,
    /// The environment.
    pub(super) env: Environment,
    /// Time.
    pub(super) clock: Clock,
    /// When the process began.
    pub(super) began: Tick,
}

/// Starts a sidecar.
///
/// # Errors
/// [`StartError`] names the step.
pub(super) async fn start(beginning: Beginning, tasks: &Tasks) -> Result<Running, StartError> {
    let Beginning {
        config,
        env,
        clock,
        began,
    } = beginning;
    let config = Arc::new(config);
    let (fatal_sender, fatal) = mpsc::channel(8);
    let obtained = identity::obtain(&config, &clock, tasks, &fatal_sender).await;
    let held = obtained.map_err(StartError::Identity)?;
    let internal =
        InternalPort::take(&config, &std::env::current_dir().unwrap_or_default()).await?;
    let env = own_variables(env, &config, internal.port());
    let keys = KeySource::new(&tasks.scope(), &clock);
    let domain = held.as_ref().map(Held::trust_domain).unwrap_or_default();
    let mut disk = Disk::new(Arc::clone(&config), env.clone(), clock.clone(), keys).within(domain);
    let health = Health::new();
    if let Some((states, kubernetes)) =
        cluster::follow(&config, held.as_ref(), tasks).zip(config.kubernetes.as_ref())
    {
        let target = health.register("operator");
        let ready = cluster::readiness(states.clone(), target, tasks.token());
        tasks.spawn("operator-readiness", ready);
        disk = disk.following(states);
        cluster::arrived(&mut disk, kubernetes).await;
    }
    let snapshot = disk.read()?;
    let streamed = if config.stream.is_some() || config.is_operator_unasked {
        Streamed::Pending
    } else {
        Streamed::Absent
    };
    let compiled = disk.compile(&snapshot, &streamed, None);
    let mut compiled = compiled.map_err(DiskError::from)?;
    compiled.live.snapshot = access::first(&streamed, clock.now());
    lines::configured(&config, &snapshot.configuration, compiled.live.trace);
    warn_all(&compiled);
    let metrics = measure::metrics(&config, &snapshot, &health, tasks).await?;
    access::measure(&metrics, &compiled.live, &streamed, 0);
    resiliency::announce(&[], &snapshot.loaded.resiliencies, &metrics);
    let security = secured(held.as_ref(), &health, &metrics, &clock, tasks);
    components::count(&[], &snapshot.loaded.components, &compiled.failed, &metrics);
    // The name resolver is one of its own.
    metrics.component_loaded();
    let resolver_tasks = tasks.scope();
    let announcing = Announcing {
        config: &config,
        env: &env,
        port: internal.port(),
        clock: &clock,
    };
    let resolver = announcing
        .start(&snapshot, &resolver_tasks, &fatal_sender)
        .await?;
    lines::loaded(&compiled.components, compiled.live.endpoints.len());
    let is_filed = config.access_log_file.is_some();
    let decisions = Arc::new(Decisions::new(
        Arc::clone(&metrics),
        clock.clone(),
        is_filed,
    ));
    let writing = writing(&config, &decisions)?;
    let report = decisions::report(Arc::clone(&decisions), clock.clone(), tasks.token());
    tasks.spawn("decisions", report);
    let (live_sender, live) = watch::channel(Arc::new(compiled.live));
    let (spans, exporting) = exporting(&live, &metrics, &clock, tasks);
    let (handle, requests) = shutdown::channel();
    // In a cluster there is an identity even where peers speak plaintext.
    let peers = held.as_ref().filter(|_| config.is_mtls);
    let shared = Arc::new(Shared {
        admission: Admission::new(config.app_max_concurrency, config.app_health.is_none()),
        config,
        live,
        resolver,
        fleet: Fleet::new(clock.clone(), Arc::clone(&metrics)),
        identity: peers.map(|held| held.identity.clone()),
        rates: Rates::default(),
        verified: VerifiedPeers::default(),
        health,
        outbound: Health::new(),
        traffic: Arc::default(),
        metadata: MetadataStore::default(),
        shutdown: handle,
        decisions,
        spans,
        metrics,
        clock,
    });
    let advice = advice::follow(shared.live.clone(), tasks.token());
    tasks.spawn("policy-advice", advice);
    let told = Told {
        live: live_sender,
        metrics: Arc::clone(&shared.metrics),
        clock: shared.clock.clone(),
        said: [compiled.warnings, compiled.errors].concat(),
    };
    let updates = streaming(&shared, held.as_ref(), tasks);
    let hangup = reloading(disk, snapshot, told, updates, tasks);
    let served = serve(&shared, held, internal, tasks, &fatal_sender).await?;
    let app_up = getting_ready(&shared, began, tasks);
    Ok(Running {
        shared,
        served,
        resolver: resolver_tasks,
        hangup,
        requests,
        fatal,
        app_up,
        exporting,
        _writing: writing,
        _security: security,
    })
}

/// Readiness and series of the identity; without mTLS there is nothing to wait for.
fn secured(
    held: Option<&Held>,
    health: &Health,
    metrics: &Arc<Metrics>,
    clock: &Clock,
    tasks: &Tasks,
) -> Option<Target> {
    let target = health.register("security-provider");
    let Some(held) = held else {
        target.ready();
        return Some(target);
    };
    held.events.measure(metrics);
    let watching = identity::watch_validity(
        held.identity.clone(),
        target,
        Arc::clone(metrics),
        clock.clone(),
        tasks.token(),
    );
    tasks.spawn("security", watching);
    None
}

/// Opens the access log file: a path that cannot be written is told at once, not later.
fn writing(config: &Config, decisions: &Arc<Decisions>) -> Result<Option<Writing>, StartError> {
    let Some(file) = &config.access_log_file else {
        return Ok(None);
    };
    let started = decisions::file::start(file, decisions);
    started.map(Some).map_err(|cause| StartError::AccessLog {
        path: file.path.clone(),
        cause,
    })
}

/// Sends spans where the Configuration says, until its owner ends.
fn exporting(
    live: &watch::Receiver<Arc<Live>>,
    metrics: &Arc<Metrics>,
    clock: &Clock,
    tasks: &Tasks,
) -> (Arc<traces::Queue>, Tasks) {
    let (queue, spans) = traces::queue::new(metrics, clock);
    let owner = tasks.scope();
    let parts = traces::export::Parts {
        spans,
        live: live.clone(),
        metrics: Arc::clone(metrics),
        tasks: owner.clone(),
    };
    owner.spawn("trace-export", traces::export::run(parts));
    (queue, owner)
}

fn warn_all(compiled: &Compiled) {
    for warning in &compiled.warnings {
        warn!(target: LOG, "{warning}");
    }
    for text in &compiled.errors {
        error!(target: LOG, "{text}");
    }
}

/// What the reference sets in its own environment: usable in `--config` files (process-interface 2.2).
fn own_variables(env: Environment, config: &Config, internal_port: u16) -> Environment {
    let Listen {
        http_port,
        grpc_port,
        metrics,
        ..
    } = &config.listen;
    env.with([
        ("APP_ID", config.app_id.to_string()),
        (
            "APP_PORT",
            config.app.as_ref().map_or(0, |app| app.port).to_string(),
        ),
        ("HOST_ADDRESS", config.host_address.to_string()),
        ("DAPR_PORT", internal_port.to_string()),
        ("DAPR_GRPC_PORT", grpc_port.to_string()),
        ("DAPR_HTTP_PORT", http_port.to_string()),
        (
            "DAPR_METRICS_PORT",
            metrics.as_ref().map_or(0, |(_, port)| *port).to_string(),
        ),
    ])
}

/// Watches the operator from now on, if there is one.
fn streaming(
    shared: &Shared,
    held: Option<&Held>,
    tasks: &Tasks,
) -> Option<mpsc::Receiver<Update>> {
    let (config, held) = shared.config.stream.clone().zip(held)?;
    let (updates, received) = mpsc::channel(1);
    let parts = stream::Parts {
        config,
        namespace: shared.config.namespace.clone(),
        tls: Arc::new(held.client()),
        updates,
        target: shared.health.register("access-control"),
        tally: Arc::clone(shared.decisions.tally()),
        metrics: Arc::clone(&shared.metrics),
        clock: shared.clock.clone(),
    };
    let source = stream::Source::new(parts, tasks);
    tasks.spawn("access-control", source.run(tasks.token()));
    Some(received)
}

/// Watches files from now on.
fn reloading(
    disk: Disk,
    snapshot: Snapshot,
    told: Told,
    updates: Option<mpsc::Receiver<Update>>,
    tasks: &Tasks,
) -> mpsc::Sender<()> {
    let (hangup, asked) = mpsc::channel(1);
    let is_unasked = disk.is_operator_unasked();
    let mut reloader = Reloader::new(disk, snapshot, told, asked);
    if updates.is_some() || is_unasked {
        reloader = reloader.streaming(updates);
    }
    let watch = reloader.watch();
    if reloader.watches() {
        lines::hot_reload();
    }
    tasks.spawn("reload", reloader.run(watch, tasks.token()));
    hangup
}

/// Takes the API ports and starts the threads that serve all of them.
async fn serve(
    shared: &Arc<Shared>,
    held: Option<Held>,
    internal: InternalPort,
    tasks: &Tasks,
    fatal: &mpsc::Sender<String>,
) -> Result<Served, StartError> {
    let targets =
        ["grpc-api-server", "grpc-internal-server"].map(|name| shared.health.register(name));
    let outbound = shared.outbound.register("outbound");
    let ApiPorts {
        threads: ports,
        http,
        sockets,
    } = ApiPorts::take(&shared.config, internal).await?;
    // Every port is taken: whoever connects now is answered, so nobody may hear otherwise.
    for target in &targets {
        target.ready();
    }
    outbound.ready();
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    // Whoever ends everything sends peers elsewhere as well.
    let depart = drain.child_token();
    let (serving, clients) = (tasks.scope(), tasks.scope());
    let mut threads = Vec::new();
    for (number, ports) in ports.into_iter().enumerate() {
        let thread = DataThread {
            shared: Arc::clone(shared),
            ports,
            serving: serving.clone(),
            clients: clients.clone(),
            depart: depart.clone(),
            drain: drain.clone(),
            stop: stop.clone(),
        };
        let peers = held.as_ref().filter(|_| shared.config.is_mtls);
        let (tls, fatal) = (peers.map(Held::tls), fatal.clone());
        let name = format!("data-{number}");
        threads.push(
            std::thread::Builder::new()
                .name(name)
                .spawn(move || thread.supervised(tls, &fatal))?,
        );
    }
    if let Some((address, port)) = &shared.config.listen.public {
        let (listener, local) = take_one("public HTTP", address, *port, listen::PATIENCE).await?;
        info!(target: "dapr.runtime.http", "HTTP server listening on TCP address: {local}");
        let run = public::run(
            Listener::tcp(listener)?,
            Arc::clone(shared),
            serving.group("public-connection"),
            drain.clone(),
        );
        serving.spawn("public", run);
    }
    Ok(Served {
        serving,
        clients,
        depart,
        drain,
        stop,
        threads,
        http,
        sockets,
        _targets: targets,
        _outbound: outbound,
    })
}

fn getting_ready(shared: &Arc<Shared>, began: Tick, tasks: &Tasks) -> watch::Receiver<bool> {
    let (sender, app_up) = watch::channel(false);
    let runtime = shared.health.register("runtime");
    let ready = ready::become_ready(Arc::clone(shared), runtime, sender, began, tasks.clone());
    let stop = tasks.token();
    tasks.spawn("ready", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            target = ready => {
                // The target leaves the registry when it is dropped.
                stop.cancelled().await;
                drop(target);
            }
        }
    });
    app_up
}
