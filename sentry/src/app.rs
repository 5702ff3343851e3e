//! The wiring of Sentry: the only place that knows all parts.
//!
//! Owns the order of start and stop (process-interface 3): settings, authority, own certificate, ports, tasks; then a
//! signal, and everything back. Decides nothing.

use crate::PROGRAM;
use crate::cluster::ConnectError;
use crate::config::{Config, JwtConfig, Lives, OidcConfig};
use crate::guard::expiry::Herald;
use crate::guard::{Guard, GuardError};
use crate::jwt::{JwtGuard, JwtGuardError, JwtIssuer};
use crate::metrics::Metrics;
use crate::oidc::serve::OidcServer;
use crate::oidc::{self, Documents};
use crate::origin::Origin;
use crate::own::{Own, OwnError};
use crate::rotation::Maker;
use crate::serve::ca::CertificateAuthority;
use crate::serve::{self, Server};
use crate::settings::{Loaded, Settings, SettingsError};
use crate::shared::ClaimError;
use crate::store::Store;
use crate::validator::jwks::{KeyError, KeySet};
use crate::validator::{Insecure, Jwks};
use ironside_chassis::logging::LogHandle;
use ironside_chassis::program::{Address, Failure, FrameError, Life, Port};
use ironside_chassis::{Clock, Tasks, health};
use ironside_transport::{Now, OneSidedTlsServer};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tracing::info;

const SCOPE: &str = "dapr.sentry";
const SCOPE_CA: &str = "dapr.sentry.ca";
/// What is in flight at the stop has so long to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Why Sentry ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Authority(#[from] GuardError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Jwt(#[from] JwtGuardError),
    #[error("token validator 'jwks': {0}")]
    Keys(#[from] KeyError),
    #[error("error issuing sentry's own certificate: {0}")]
    Own(#[from] OwnError),
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
    let (sharing, metrics) = (config.sharing.clone(), Metrics::default());
    let mut claim = sharing.claim().await?;
    let port = tokio::select! {
        started = Box::pin(start(config, metrics.clone(), &tasks)) => started?,
        () = life.signal() => return stop_all(life).await,
    };
    if let Some(claim) = &mut claim {
        claim.announce(port)?;
    }
    let (clock, requests) = (Clock::system(), || metrics.received.get());
    // Held to the end: whoever waits for this Sentry to be gone starts another one.
    let _unneeded = tokio::select! {
        () = life.signal() => None,
        unneeded = sharing.until_unneeded(claim.as_ref(), requests, &clock) => {
            info!(target: SCOPE, "{}", unneeded.text());
            Some(unneeded)
        }
        () = stop.cancelled() => None,
    };
    stop_all(life).await
}

/// Starts everything; what it leaves behind are tasks. Returns the port of the certificate service.
async fn start(config: Config, counted: Metrics, tasks: &Tasks) -> Result<u16, RunError> {
    let Config {
        grpc,
        healthz,
        metrics,
        own,
        store,
        cluster,
        file,
        lives,
        control_plane_allowed,
        sharing: _,
        jwt,
        oidc,
    } = config;
    let clock = Clock::system();
    let origin = Origin::open(cluster, &own).await?;
    let Loaded { settings, jwks } = origin.settings(&file).await?;
    settings.warn_of_loops();
    let names = origin.validators(jwks.is_some());
    for name in &names {
        info!(target: SCOPE, "Adding validator '{name}'");
    }
    let keys = jwks.map(|options| KeySet::open(options, clock.clone(), tasks.group("key-fetch")));
    let keys = keys.transpose()?;
    let store = origin.store(store);
    info!(target: SCOPE_CA, "Using {} for trust bundle storage", store.place());
    let mut setup = Setup {
        own,
        settings,
        clock,
        metrics: counted,
        tasks,
    };
    let mut guard = setup.guard(store, &lives);
    let authority = guard.start().await?;
    let changes = guard.store.watch();
    info!(target: SCOPE, "CA certificate key pair ready");
    let jwt = setup.jwt(jwt, &origin).await?;
    for name in names.iter().take(1) {
        info!(target: SCOPE, "Using validator '{name}'");
    }
    let health = health::Health::new();
    // All parts are named before the first answer, so that none is healthy by omission.
    let security = health.register("security-provider");
    let server = health.register("sentry-server");
    let workloads = origin.workloads();
    if let Some(workloads) = workloads.clone() {
        let ready = health.register("sentry-kubernetes-validator");
        setup.spawn("workloads", workloads.follow(ready));
    }
    let exposition = setup.metrics.exposition();
    PROGRAM
        .serve_metrics(metrics.as_ref(), &health, exposition, tasks)
        .await?;
    PROGRAM.serve_health(&healthz, &health, tasks).await?;
    setup.serve_oidc(oidc, jwt.clone(), &health).await?;
    let (publish, authority) = watch::channel(authority);
    let herald = Herald {
        health: security,
        again: None,
    };
    setup.spawn("issuer", guard.follow(changes, publish, herald));
    let jwks = keys.map(|keys| setup.validator(keys, &health));
    let insecure = Insecure::new(control_plane_allowed);
    let validators = origin.judges(workloads, &setup.own, insecure, jwks);
    let ca = CertificateAuthority {
        authority,
        jwt,
        validators,
        settings: setup.settings,
        own: setup.own.clone(),
        dns_domain: origin.dns_domain(&setup.own),
        limiter: Default::default(),
        metrics: setup.metrics.clone(),
        clock: setup.clock.clone(),
    };
    setup.serve_ca(grpc, ca, server).await
}

/// What the steps of the start have in common.
struct Setup<'a> {
    own: ironside_identity::SpiffeId,
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    tasks: &'a Tasks,
}

// === impl Setup ===

impl Setup<'_> {
    fn guard(&self, store: Arc<dyn Store>, lives: &Lives) -> Guard {
        Guard {
            store,
            maker: Maker {
                own: self.own.clone(),
                plan: lives.plan(&self.settings),
            },
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            held: None,
            trouble: None,
        }
    }

    /// The validator of these keys, which are followed from now on.
    fn validator(&self, keys: Arc<KeySet>, health: &health::Health) -> Jwks {
        let ready = health.register("sentry-jwks-validator");
        self.spawn("jwks", Arc::clone(&keys).follow(ready));
        Jwks {
            keys,
            audience: self.own.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Loads the key of JWTs, which is followed from now on.
    async fn jwt(
        &self,
        config: Option<JwtConfig>,
        origin: &Origin,
    ) -> Result<Option<watch::Receiver<Arc<JwtIssuer>>>, RunError> {
        let Some(config) = config else {
            return Ok(None);
        };
        let (terms, files) = config.into_terms(self.settings.allowed_clock_skew);
        let store = origin.jwt_store(files);
        let mut guard = JwtGuard::new(store, terms, self.metrics.clone());
        let issuer = guard.start().await?;
        let (key, algorithm) = (issuer.key_id().to_owned(), issuer.algorithm());
        info!(target: SCOPE, "JWTs are issued, signed with key {key} by {algorithm}");
        let (publish, issuer) = watch::channel(issuer);
        self.spawn("jwt-key", guard.follow(publish));
        Ok(Some(issuer))
    }

    /// Serves discovery, if it is wanted and there is something to discover.
    async fn serve_oidc(
        &self,
        config: Option<OidcConfig>,
        jwt: Option<watch::Receiver<Arc<JwtIssuer>>>,
        health: &health::Health,
    ) -> Result<(), RunError> {
        let (Some(config), Some(jwt)) = (config, jwt) else {
            info!(target: SCOPE, "OIDC HTTP server is disabled");
            return Ok(());
        };
        let target = health.register("oidc-server");
        let port = config
            .address
            .listen("failed to start the OIDC HTTP server");
        let listener = port.await?.listener;
        let local = listener.local_addr();
        let local = local.map_or_else(
            |_gone| config.address.port.to_string(),
            |local| local.to_string(),
        );
        let documents = Documents::new(&config);
        let (publish, tls) = watch::channel(None);
        let is_plain = config.tls.is_none();
        if let Some(files) = config.tls {
            self.spawn("oidc-certificate", oidc::tls::follow(files, publish));
        }
        let server = Arc::new(OidcServer {
            documents,
            jwt,
            tls: (!is_plain).then(|| tls.clone()),
            stop: self.tasks.token(),
        });
        let connections = self.tasks.group("oidc-connection");
        info!(target: SCOPE, "OIDC HTTP server is listening on {local}");
        self.spawn("oidc", async move {
            let ready = async {
                if !is_plain && wait_for(tls).await.is_err() {
                    return std::future::pending().await;
                }
                target.ready();
                std::future::pending::<()>().await
            };
            tokio::join!(server.run(listener, connections), ready);
        });
        Ok(())
    }

    async fn serve_ca(
        &mut self,
        address: Address,
        ca: CertificateAuthority,
        health: health::Target,
    ) -> Result<u16, RunError> {
        let mut own = Own {
            id: self.own.clone(),
            authority: ca.authority.clone(),
            settings: self.settings,
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            renew_at: SystemTime::UNIX_EPOCH,
        };
        let publish = own.start()?;
        let tls = OneSidedTlsServer::new(publish.subscribe(), now(&self.clock));
        self.spawn("own-certificate", own.follow(publish));
        let port = address.listen("failed to start the gRPC server").await?;
        let Port { listener, number } = port;
        info!(target: serve::SCOPE, "Running gRPC server on port {number}");
        health.ready();
        let server = Server::new(tls, ca, self.tasks);
        let connections = self.tasks.group("grpc-connection");
        self.tasks.spawn("grpc", async move {
            server.run(listener, connections).await;
            info!(target: serve::SCOPE, "Shutting down gRPC server");
            drop(health);
        });
        Ok(number)
    }

    /// Spawns a task that has no end of its own.
    fn spawn(&self, name: &'static str, endless: impl Future<Output = ()> + Send + 'static) {
        let stop = self.tasks.token();
        self.tasks.spawn(name, async move {
            stop.run_until_cancelled_owned(endless).await;
        });
    }
}

/// Ends all tasks; a second signal ends the wait.
async fn stop_all(life: Life) -> Result<(), RunError> {
    life.end_whole(STOP_LIMIT).await?;
    info!(target: SCOPE, "Sentry shut down gracefully");
    Ok(())
}

/// Waits for the first value of a kind that comes late.
async fn wait_for<T>(mut late: watch::Receiver<Option<T>>) -> Result<(), watch::error::RecvError> {
    late.wait_for(Option::is_some).await.map(drop)
}

fn now(clock: &Clock) -> Now {
    let clock = clock.clone();
    Arc::new(move || clock.now())
}
