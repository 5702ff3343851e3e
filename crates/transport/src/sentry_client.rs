//! Obtains an identity from Sentry and keeps it fresh.
//!
//! Owns the loop: the first certificate, its renewal, the roots from environment, file and answer, and the one
//! published [`Identity`] made of them. Dropping the future of [`SentryClient::run`] ends everything at once. What
//! one request is lies in `attempt`; when to renew is arithmetic of the identity crate.

mod attempt;
mod cache;
mod jwt;
mod token;

pub use attempt::{AnchorsFileError, ObtainError};
pub use jwt::Jwts;
pub use token::{TokenError, TokenSource, Validator};

use crate::file_watch::FileWatch;
use crate::tls::MinTls;
use crate::{AnchorsRx, Identity, Now, Utc};
use attempt::Obtained;
use cache::Cache;
use ironside_identity::renewal::{Backoff, renew_at};
use ironside_identity::{AppId, BundleError, Namespace, SpiffeId, Svid, TrustBundle, TrustDomain};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The logger that the reference uses for all of this (security 2.3).
pub(crate) const SCOPE: &str = "dapr.runtime.security";
/// After so many permanent failures in a row at start, asking ends (fact O-C4).
const PERMANENT_ATTEMPTS: u32 = 5;
/// The clock is looked at this often while waiting for the renewal, so that a suspended machine renews in time.
const RECHECK: Duration = Duration::from_secs(60);
/// A file of trust anchors counts as written after this pause.
const SETTLE: Duration = Duration::from_millis(200);

/// Whom to ask, as whom, and what to believe.
#[derive(Clone)]
pub struct SentryClientConfig {
    /// Sentry's `host:port`.
    pub address: String,
    /// Who Sentry must be: `spiffe://<control-plane trust domain>/ns/<control-plane namespace>/dapr-sentry`.
    pub sentry_id: SpiffeId,
    /// Roots as PEM text (`DAPR_TRUST_ANCHORS`).
    pub trust_anchors_pem: Option<String>,
    /// A watched file of roots (`DAPR_TRUST_ANCHORS_FILE`), in addition.
    pub trust_anchors_file: Option<PathBuf>,
    /// A file that keeps the roots which Sentry delivered (`DAPR_TRUST_ANCHORS_CACHE`), for the next start.
    pub trust_anchors_cache: Option<PathBuf>,
    /// The app ID to ask for; `SENTRY_LOCAL_IDENTITY` replaces it.
    pub app_id: AppId,
    /// The namespace to ask for.
    pub namespace: Namespace,
    /// The trust domain to ask for; apps ask for none (security 1.6).
    pub trust_domain: Option<TrustDomain>,
    /// Where the bearer token comes from.
    pub token: TokenSource,
    /// Audiences of JWTs to ask for.
    pub jwt_audiences: Vec<String>,
    /// The oldest TLS version to speak with Sentry.
    pub min_tls: MinTls,
}

/// The kind of the own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// What sidecars have.
    #[default]
    Ed25519,
    /// What every API server takes from a webhook (kubernetes 1).
    EcdsaP256,
}

/// Obtains and renews an identity.
pub struct SentryClient {
    config: SentryClientConfig,
    key: KeyKind,
    live: Option<AnchorsRx>,
    now: Now,
    events: Box<dyn Fn(Event) + Send + Sync>,
    jwts: watch::Sender<Option<Arc<Jwts>>>,
    rng: SmallRng,
}

/// What happened, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The first identity was obtained.
    Initialized,
    /// The identity was renewed.
    Renewed,
    /// Asking for the first identity failed.
    InitFailed {
        /// Value of the label `reason`.
        reason: &'static str,
    },
    /// Asking for a new identity failed.
    RenewalFailed {
        /// Value of the label `reason`.
        reason: &'static str,
    },
}

/// Why there will be no identity.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Neither environment nor file names roots.
    #[error("trust anchors are required")]
    NoAnchors,
    /// The roots in the environment can't be read.
    #[error("trust anchors cannot be read: {0}")]
    Anchors(#[from] BundleError),
    /// Sentry said no, several times.
    #[error("failed to retrieve the initial identity: {0}\nno X509 SVID available")]
    Refused(Box<ObtainError>),
}

/// The state between renewals.
struct Held {
    svid: Arc<Svid>,
    delivered: TrustBundle,
    renew_at: SystemTime,
}

// === impl SentryClient ===

impl SentryClient {
    /// Makes a client; nothing is asked before [`SentryClient::run`].
    #[must_use]
    pub fn new(config: SentryClientConfig, now: Now) -> Self {
        Self {
            config,
            key: KeyKind::default(),
            live: None,
            now,
            events: Box::new(|_event| {}),
            jwts: watch::Sender::new(None),
            rng: SmallRng::from_os_rng(),
        }
    }

    /// Sets the kind of the own key.
    #[must_use]
    pub fn key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    /// Adds roots that change while the process runs, wherever they come from. While they are the only ones,
    /// nothing is asked before they are there.
    #[must_use]
    pub fn live_anchors(mut self, anchors: AnchorsRx) -> Self {
        self.live = Some(anchors);
        self
    }

    /// Has every event told to `events`, for metrics.
    #[must_use]
    pub fn on_event(mut self, events: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.events = Box::new(events);
        self
    }

    /// Returns the newest JWTs; `None` while Sentry delivers none.
    #[must_use]
    pub fn jwts(&self) -> watch::Receiver<Option<Arc<Jwts>>> {
        self.jwts.subscribe()
    }

    /// Obtains an identity, publishes it, and renews it for ever. To stop, drop the future: it owns all it does.
    ///
    /// # Errors
    /// [`StartError`] if no first identity is to be had; once there is one, failures are logged and repeated.
    pub async fn run(
        mut self,
        publish: watch::Sender<Option<Arc<Identity>>>,
    ) -> Result<Infallible, StartError> {
        let mut anchors = Anchors::new(&self.config, self.live.take())?;
        anchors.first().await;
        info!(target: SCOPE, "Fetching initial identity");
        let mut held = self.obtain_first(&mut anchors).await?;
        info!(target: SCOPE, "Security is initialized successfully");
        (self.events)(Event::Initialized);
        let (expiry, renewal) = (Utc(held.svid.not_after()), Utc(held.renew_at));
        info!(
            target: SCOPE,
            "Starting workload identity expiry watcher; cert expires on: {expiry}, renewal at: {renewal}"
        );
        held.publish(&anchors, &publish);
        loop {
            tokio::select! {
                () = self.until(held.renew_at) => held = self.renew(held, &mut anchors, &publish).await,
                () = anchors.changed() => held.publish(&anchors, &publish),
            }
        }
    }

    /// Asks until there is an identity, or until Sentry has said no often enough.
    async fn obtain_first(&mut self, anchors: &mut Anchors) -> Result<Held, StartError> {
        let mut backoff = Backoff::start();
        let mut refusals = 0;
        loop {
            let error = match self.obtain(anchors, &TrustBundle::default()).await {
                Ok(held) => return Ok(held),
                Err(error) => error,
            };
            (self.events)(Event::InitFailed {
                reason: error.reason(),
            });
            refusals = if error.is_permanent() {
                refusals + 1
            } else {
                0
            };
            if refusals >= PERMANENT_ATTEMPTS {
                return Err(StartError::Refused(Box::new(error)));
            }
            let pause = backoff.pause(&mut self.rng);
            warn!(target: SCOPE, "Error retrieving the initial identity, trying again in {pause:.1?}: {error}");
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks until there is a new identity. The old one stays published, and roots keep being followed.
    async fn renew(
        &mut self,
        held: Held,
        anchors: &mut Anchors,
        publish: &watch::Sender<Option<Arc<Identity>>>,
    ) -> Held {
        let mut backoff = Backoff::renewal();
        let mut expiry_told = false;
        info!(target: SCOPE, "Renewing workload identity; cert expires on: {}", Utc(held.svid.not_after()));
        loop {
            let error = match self.obtain(anchors, &held.delivered).await {
                Ok(renewed) => {
                    let (expiry, renewal) = (Utc(renewed.svid.not_after()), Utc(renewed.renew_at));
                    info!(
                        target: SCOPE,
                        "Successfully renewed workload identity; cert expires on: {expiry}, renewal at: {renewal}"
                    );
                    (self.events)(Event::Renewed);
                    renewed.publish(anchors, publish);
                    return renewed;
                }
                Err(error) => error,
            };
            (self.events)(Event::RenewalFailed {
                reason: error.reason(),
            });
            let pause = backoff.pause(&mut self.rng);
            warn!(target: SCOPE, "Error renewing identity, trying again in {pause:.1?}: {error}");
            if !expiry_told && (self.now)() > held.svid.not_after() {
                expiry_told = true;
                error!(target: SCOPE, "Workload identity expired; peers refuse it until sentry can be reached");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = anchors.changed() => held.publish(anchors, publish),
            }
        }
    }

    async fn obtain(
        &mut self,
        anchors: &mut Anchors,
        known: &TrustBundle,
    ) -> Result<Held, ObtainError> {
        anchors.need()?;
        let obtained = Box::pin(attempt::obtain(
            &self.config,
            self.key,
            &anchors.base(),
            known,
            &self.now,
        ))
        .await;
        let Obtained {
            svid,
            delivered,
            jwts,
        } = obtained?;
        // Certificate and tokens are renewed together, when the first of them needs it (security 2.3).
        let tokens_end = jwts.as_ref().and_then(Jwts::expires);
        let end = tokens_end.map_or(svid.not_after(), |end| end.min(svid.not_after()));
        let renew_at = renew_at((self.now)(), end, &mut self.rng);
        self.jwts.send_replace(jwts.map(Arc::new));
        anchors.delivered(&delivered);
        Ok(Held {
            svid: Arc::new(svid),
            delivered,
            renew_at,
        })
    }

    async fn until(&self, instant: SystemTime) {
        while let Ok(left) = instant.duration_since((self.now)()) {
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(RECHECK)).await;
        }
    }
}

// === impl Held ===

impl Held {
    fn publish(&self, anchors: &Anchors, publish: &watch::Sender<Option<Arc<Identity>>>) {
        let svid = Arc::clone(&self.svid);
        let bundle = Arc::new(anchors.base().merge(&self.delivered));
        publish.send_modify(|held| {
            let generation = held.as_ref().map_or(1, |identity| identity.generation + 1);
            *held = Some(Arc::new(Identity {
                svid,
                bundle,
                generation,
            }));
        });
    }
}

/// The roots that this process didn't get from Sentry: environment and file (fact O-C6), what is published in the
/// process, and what an earlier process of the same pod got.
struct Anchors {
    fixed: TrustBundle,
    cache: Option<Cache>,
    file: Option<(PathBuf, FileWatch)>,
    /// What the file last held that could be read.
    filed: Option<TrustBundle>,
    live: Option<AnchorsRx>,
}

// === impl Anchors ===

impl Anchors {
    fn new(config: &SentryClientConfig, live: Option<AnchorsRx>) -> Result<Self, StartError> {
        let text = config.trust_anchors_pem.as_ref();
        let fixed = text
            .map(|text| TrustBundle::from_pem(text.as_bytes()))
            .transpose()?;
        let cache = config.trust_anchors_cache.clone().map(Cache::read);
        let has_cached = cache.as_ref().is_some_and(|cache| !cache.is_empty());
        let has_own = fixed.is_some() || config.trust_anchors_file.is_some() || has_cached;
        if !has_own && live.is_none() {
            return Err(StartError::NoAnchors);
        }
        let watch = |path: &PathBuf| (path.clone(), FileWatch::new(vec![path.clone()], SETTLE));
        let file = config.trust_anchors_file.as_ref().map(watch);
        Ok(Self {
            fixed: fixed.unwrap_or_default(),
            cache,
            file,
            filed: None,
            live,
        })
    }

    fn base(&self) -> TrustBundle {
        let mut base = self.fixed.clone();
        if let Some(filed) = &self.filed {
            base = base.merge(filed);
        }
        if let Some(live) = &self.live
            && let Some(live) = live.borrow().as_deref()
        {
            base = base.merge(live);
        }
        if let Some(cache) = &self.cache {
            base = base.merge(cache.bundle());
        }
        base
    }

    /// Sentry, which had proved who it is, delivered these roots: they count from now on, and for the next start.
    fn delivered(&mut self, delivered: &TrustBundle) {
        if let Some(cache) = &mut self.cache {
            cache.keep(delivered);
        }
    }

    /// Waits for the published roots when there is no other source.
    async fn first(&mut self) {
        let has_cached = self.cache.as_ref().is_some_and(|cache| !cache.is_empty());
        if self.file.is_some() || has_cached || !self.fixed.anchors().is_empty() {
            return;
        }
        if let Some(live) = &mut self.live
            && live.wait_for(Option::is_some).await.is_err()
        {
            // Nobody publishes any more: there will be none.
            std::future::pending().await
        }
    }

    /// Sees to it that the file, if there is one, was read once. Without it the other roots have to do.
    fn need(&mut self) -> Result<(), ObtainError> {
        match (self.read(), self.base().anchors().is_empty()) {
            (Ok(_), _) | (Err(_), false) => Ok(()),
            (Err(error), true) => Err(error),
        }
    }

    /// Reads the file; `true` if the roots are now others.
    fn read(&mut self) -> Result<bool, ObtainError> {
        let Some((path, _)) = &self.file else {
            return Ok(false);
        };
        let read = std::fs::read(path).map_err(AnchorsFileError::from);
        let read = read.and_then(|text| Ok(TrustBundle::from_pem(&text)?));
        let bundle = read.map_err(|cause| ObtainError::AnchorsFile {
            path: path.clone(),
            cause,
        })?;
        let changed = self.filed.as_ref() != Some(&bundle);
        self.filed = Some(bundle);
        Ok(changed)
    }

    /// Waits for other roots. A bad file is reported and the old roots stay.
    async fn changed(&mut self) {
        loop {
            tokio::select! {
                () = file_changed(&mut self.file) => {}
                () = published(&mut self.live) => return,
            }
            match self.read() {
                Ok(true) => {
                    info!(target: SCOPE, "Trust anchors file changed, reloading trust anchors");
                    return;
                }
                Ok(false) => {}
                Err(error) => warn!(target: SCOPE, "{error}; the old trust anchors stay in effect"),
            }
        }
    }
}

async fn file_changed(file: &mut Option<(PathBuf, FileWatch)>) {
    match file {
        Some((_, watch)) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn published(live: &mut Option<AnchorsRx>) {
    if let Some(live) = live
        && live.changed().await.is_ok()
    {
        return;
    }
    // Nothing is published, or nothing more.
    std::future::pending().await
}
