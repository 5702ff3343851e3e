//! The wiring of the injector: the only place that knows all parts.
//!
//! Owns the order of start and stop (process-interface 5). Ports are taken first, so that health can be asked from the
//! first moment; anchors, certificate and the webhook's configuration come when they come, and readiness says which of
//! them is missing. Decides nothing.

use crate::bundle::Keeper;
use crate::config::{Address, Config, Identity};
use crate::metrics::Metrics;
use crate::mtls;
use crate::serve::{Server, Webhook};
use ironside_chassis::health::{self, Health, Target};
use ironside_chassis::listen::{self, BindError, Binding};
use ironside_chassis::logging::LogHandle;
use ironside_chassis::signals::{Signal, Signals};
use ironside_chassis::{Clock, Tasks, build_info, fatal, metrics_server};
use ironside_cluster::{ConnectError, Recorder, connect};
use ironside_transport::sentry_client::Event;
use ironside_transport::{AnchorsRx, ControlPlane, IdentityRx, Now, OneSidedTlsServer};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

const SCOPE: &str = "dapr.injector";
const SCOPE_SERVICE: &str = "dapr.injector.service";
const SCOPE_SIGNALS: &str = "dapr.signals";
/// What is in flight at the stop has so long to end.
const STOP_LIMIT: Duration = Duration::from_secs(8);
/// The wall clock may be set, so it is looked at this often.
const LOOK: Duration = Duration::from_secs(30);
/// The own name as a reporter.
const PROGRAM: &str = "dapr-injector";

/// Why the injector ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{what}: {cause}")]
    Bind {
        what: &'static str,
        cause: BindError,
    },
    #[error("{what}: {cause}")]
    Listener {
        what: &'static str,
        cause: io::Error,
    },
    #[error("task {task} failed: {message}")]
    Panic {
        task: &'static str,
        message: Box<str>,
    },
    #[error("tasks did not end in time: {0}")]
    Stuck(String),
    #[error("stopped by a second signal")]
    Interrupted,
}

/// Runs until a signal.
///
/// # Errors
/// [`RunError`] for what ended the process before its time; it is logged by the caller.
pub(crate) async fn run(config: Config, log: &LogHandle) -> Result<(), RunError> {
    let levels = log.follow_signals().map_err(RunError::Signals)?;
    let mut signals =
        Signals::install(&[Signal::Interrupt, Signal::Terminate]).map_err(RunError::Signals)?;
    let tasks = Tasks::new();
    let stop = tasks.token();
    tasks.spawn("log-level", levels.run(tasks.token()));
    tokio::select! {
        started = Box::pin(start(config, &tasks)) => started?,
        signal = signals.next() => {
            tell(signal);
            return stop_all(&tasks, &mut signals).await;
        }
    }
    tokio::select! {
        signal = signals.next() => tell(signal),
        () = stop.cancelled() => {}
    }
    stop_all(&tasks, &mut signals).await
}

/// Starts everything; what it leaves behind are tasks.
async fn start(config: Config, tasks: &Tasks) -> Result<(), RunError> {
    let Config {
        webhook,
        healthz,
        metrics: metrics_address,
        kubeconfig,
        instance,
        anchors,
        configuration: configuration_name,
        identity,
        settings,
        callers,
    } = config;
    let (clock, metrics, health) = (Clock::system(), Metrics::default(), Health::new());
    let agent = format!("dapr-injector/{}", build_info::VERSION);
    let client = connect(kubeconfig.as_deref(), &agent).await?;
    let setup = Setup {
        clock: clock.clone(),
        metrics: metrics.clone(),
        health: health.clone(),
        tasks,
    };
    // All parts are named before the first answer, so that none is healthy by omission.
    let security = health.register("security-provider");
    let service = health.register("injector-service");
    let configuration = health.register("webhook-configuration");
    setup.serve_metrics(metrics_address).await?;
    setup.serve_health(healthz).await?;
    let listener = bind("failed to start the webhook server", &webhook).await?;

    let (publish, roots) = watch::channel(None);
    setup.spawn("trust-anchors", anchors.follow(client.clone(), publish));
    let identity = setup.identity(identity, roots.clone());
    setup.spawn(
        "certificate-validity",
        watch_validity(identity.clone(), security, metrics.clone(), clock.clone()),
    );
    let (publish, mtls) = watch::channel(true);
    let (client_of_mtls, namespace) = (client.clone(), settings.namespace.clone());
    setup.spawn("mtls", async move {
        mtls::follow(client_of_mtls, (&namespace, &configuration_name), publish).await;
    });
    let (recorder, writing) = Recorder::new(client.clone(), PROGRAM, &instance);
    setup.spawn("events", writing);
    let keeper = Keeper {
        client,
        anchors: roots.clone(),
        ready: configuration,
        metrics: metrics.clone(),
    };
    setup.spawn("webhook-configuration", keeper.follow());
    let webhook = Webhook {
        settings,
        callers,
        anchors: roots,
        mtls,
        recorder,
        metrics,
        clock,
    };
    setup.serve_webhook(listener, webhook, identity, service);
    Ok(())
}

/// What the steps of the start have in common.
struct Setup<'a> {
    clock: Clock,
    metrics: Metrics,
    health: Health,
    tasks: &'a Tasks,
}

// === impl Setup ===

impl Setup<'_> {
    /// Obtains the certificate and renews it.
    fn identity(&self, identity: Identity, anchors: AnchorsRx) -> IdentityRx {
        let Identity {
            sentry_address,
            trust_domain,
            namespace,
            app_id,
            token,
        } = identity;
        let program = ControlPlane {
            sentry_address,
            trust_domain,
            namespace,
            app_id,
            token,
            anchors,
        };
        let metrics = self.metrics.clone();
        let events = move |event| match event {
            Event::InitFailed { reason } | Event::RenewalFailed { reason } => {
                metrics.count_identity_failed(reason);
            }
            Event::Initialized | Event::Renewed => {}
        };
        let (publish, obtained) = watch::channel(None);
        let now = self.now();
        self.spawn("identity", async move {
            let Err(cause) = program.follow(now, events, publish).await;
            fatal!(target: SCOPE, "No identity: {cause}");
        });
        obtained
    }

    async fn serve_metrics(&self, address: Option<Address>) -> Result<(), RunError> {
        let Some(address) = address else {
            return Ok(());
        };
        let target = self.health.register("metrics-exporter");
        let listener = bind("failed to start the metrics server", &address).await?;
        let (host, port) = (&address.host, local(&listener, &address));
        info!(target: SCOPE, "metrics server started on {host}:{port}/");
        target.ready();
        let (exposition, tasks) = (self.metrics.exposition(), self.tasks.clone());
        self.tasks.spawn("metrics", async move {
            metrics_server::serve(listener, exposition, &tasks).await;
            drop(target);
        });
        Ok(())
    }

    async fn serve_health(&self, address: Address) -> Result<(), RunError> {
        let target = self.health.register("healthz-server");
        let listener = bind("failed to start the healthz server", &address).await?;
        let port = local(&listener, &address);
        info!(target: SCOPE, "Healthz server is listening on {}:{port}", address.host);
        target.ready();
        let (health, tasks) = (self.health.clone(), self.tasks.clone());
        self.tasks.spawn("healthz", async move {
            health::serve(listener, health, &tasks).await;
            drop(target);
        });
        Ok(())
    }

    fn serve_webhook(
        &self,
        listener: TcpListener,
        webhook: Webhook,
        mut identity: IdentityRx,
        ready: Target,
    ) {
        let tls = OneSidedTlsServer::web(identity.clone(), self.now());
        let server = Server::new(tls, webhook, self.tasks);
        let connections = self.tasks.group("webhook-connection");
        let at = listener.local_addr();
        let at = at.map_or_else(|cause| cause.to_string(), |at| at.to_string());
        info!(target: SCOPE_SERVICE, "Sidecar injector is listening on {at}, patching Dapr-enabled pods");
        let stop = self.tasks.token();
        self.tasks.spawn("webhook", async move {
            let first = async {
                if identity.wait_for(Option::is_some).await.is_ok() {
                    ready.ready();
                }
                stop.cancelled().await;
                // Whoever asks is sent elsewhere from now on.
                ready.not_ready();
            };
            tokio::join!(server.run(listener, connections), first);
        });
    }

    /// Spawns a task that has no end of its own.
    fn spawn(&self, name: &'static str, endless: impl Future<Output = ()> + Send + 'static) {
        let stop = self.tasks.token();
        self.tasks.spawn(name, async move {
            stop.run_until_cancelled_owned(endless).await;
        });
    }

    fn now(&self) -> Now {
        let clock = self.clock.clone();
        Arc::new(move || clock.now())
    }
}

/// Keeps `target` ready for as long as the own certificate is valid, and shows when that and the roots end.
async fn watch_validity(mut identity: IdentityRx, target: Target, metrics: Metrics, clock: Clock) {
    loop {
        let held = identity.borrow_and_update().clone();
        let not_after = held.as_ref().map(|held| held.svid.not_after());
        if let Some(held) = held {
            metrics.show_expiry(held.svid.not_after(), held.bundle.earliest_expiry());
        }
        let left = not_after.and_then(|end| end.duration_since(clock.now()).ok());
        match left {
            Some(left) if !left.is_zero() => target.ready(),
            Some(_) | None => target.not_ready(),
        }
        tokio::select! {
            Ok(()) = identity.changed() => {}
            () = tokio::time::sleep(left.map_or(LOOK, |left| left.min(LOOK))) => {}
        }
    }
}

/// Ends all tasks; a second signal ends the wait.
async fn stop_all(tasks: &Tasks, signals: &mut Signals) -> Result<(), RunError> {
    let stuck = tokio::select! {
        stuck = tasks.shutdown(STOP_LIMIT) => stuck,
        signal = signals.next() => {
            fatal!(target: SCOPE_SIGNALS, "Received signal '{signal}' during shutdown; exiting immediately");
            return Err(RunError::Interrupted);
        }
    };
    if let Some(panic) = tasks.panic() {
        return Err(RunError::Panic {
            task: panic.task,
            message: panic.message.clone(),
        });
    }
    if !stuck.is_empty() {
        return Err(RunError::Stuck(stuck.join(", ")));
    }
    info!(target: SCOPE, "Dapr sidecar injector shut down gracefully");
    Ok(())
}

fn tell(signal: Signal) {
    info!(target: SCOPE_SIGNALS, "Received signal '{signal}'; beginning shutdown");
}

async fn bind(what: &'static str, address: &Address) -> Result<TcpListener, RunError> {
    let hosts = [address.host.clone()];
    let bound = listen::bind(&Binding::new(&hosts, address.port)).await;
    let bound = bound.map_err(|cause| RunError::Bind { what, cause })?;
    let listener = bound.workers.into_iter().flatten().next();
    let listener = listener
        .ok_or_else(|| io::Error::other("no listener"))
        .and_then(TcpListener::from_std);
    listener.map_err(|cause| RunError::Listener { what, cause })
}

/// The port that was bound, which differs from the one asked for when that was 0.
fn local(listener: &TcpListener, address: &Address) -> u16 {
    listener.local_addr().map_or(address.port, |at| at.port())
}
