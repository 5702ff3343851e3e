//! The wiring of the injector: the only place that knows all parts.
//!
//! Owns the order of start and stop (process-interface 5). Ports are taken first, so that health can be asked from the
//! first moment; anchors, certificate and the webhook's configuration come when they come, and readiness says which of
//! them is missing. Decides nothing.

use crate::PROGRAM;
use crate::bundle::Keeper;
use crate::config::{Config, Identity};
use crate::metrics::Metrics;
use crate::mtls;
use crate::serve::{Server, Webhook};
use ironside_chassis::health::{Health, Target};
use ironside_chassis::logging::LogHandle;
use ironside_chassis::program::{Failure, FrameError, Life};
use ironside_chassis::{Clock, Tasks, build_info, fatal};
use ironside_cluster::{ConnectError, Recorder, connect};
use ironside_transport::sentry_client::Event;
use ironside_transport::{AnchorsRx, ControlPlane, IdentityRx, Now, OneSidedTlsServer};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

const SCOPE: &str = "dapr.injector";
const SCOPE_SERVICE: &str = "dapr.injector.service";
/// What is in flight at the stop has so long to end.
const STOP_LIMIT: Duration = Duration::from_secs(8);
/// The wall clock may be set, so it is looked at this often.
const LOOK: Duration = Duration::from_secs(30);
/// The own name as a reporter.
const REPORTER: &str = "dapr-injector";

/// Why the injector ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
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
    tokio::select! {
        started = Box::pin(start(config, &tasks)) => started?,
        () = life.signal() => return stop_all(life).await,
    }
    tokio::select! {
        () = life.signal() => {}
        () = stop.cancelled() => {}
    }
    stop_all(life).await
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
        tasks,
    };
    // All parts are named before the first answer, so that none is healthy by omission.
    let security = health.register("security-provider");
    let service = health.register("injector-service");
    let configuration = health.register("webhook-configuration");
    let exposition = metrics.exposition();
    let metrics_address = metrics_address.as_ref();
    PROGRAM
        .serve_metrics(metrics_address, &health, exposition, tasks)
        .await?;
    PROGRAM.serve_health(&healthz, &health, tasks).await?;
    let webhook_port = webhook.listen("failed to start the webhook server");
    let listener = webhook_port.await?.listener;

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
    let (recorder, writing) = Recorder::new(client.clone(), REPORTER, &instance);
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
async fn stop_all(life: Life) -> Result<(), RunError> {
    life.end_whole(STOP_LIMIT).await?;
    info!(target: SCOPE, "Dapr sidecar injector shut down gracefully");
    Ok(())
}
