//! The identity of this process: obtained before anything listens, renewed by a task.
//!
//! Owns the wait for the first certificate, readiness while there is a valid one (O-C5), and what the series
//! count of it. Refuses to own how it is asked for: the transport crate does.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ironside_chassis::{Clock, Tasks, health::Target};
use ironside_identity::TrustDomain;
use ironside_telemetry::metrics::{Metrics, RotationFailure};
use ironside_transport::{
    Identity, IdentityRx, MinTls, Now, SentryClient, SentryClientConfig, TlsClient, TlsServer,
    sentry_client::Event,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::lines;
use crate::{
    config::{Config, IdentityConfig},
    server::data::Tls,
};

/// The newest identity and what its consumers need besides.
#[derive(Clone)]
pub(super) struct Held {
    /// The newest identity.
    pub(super) identity: IdentityRx,
    /// What happened to it, for the series.
    pub(super) events: Events,
    now: Now,
    min_tls: MinTls,
}

/// Obtains the first identity; `None` while mTLS is off. Later failures are logged by the renewal, and only
/// one that can never be repaired arrives at `fatal`.
///
/// # Errors
/// Why there will be no identity.
pub(super) async fn obtain(
    config: &Config,
    clock: &Clock,
    tasks: &Tasks,
    fatal: &mpsc::Sender<String>,
) -> Result<Option<Held>, String> {
    let Some(settings) = &config.identity else {
        lines::no_mtls();
        return Ok(None);
    };
    let now: Now = {
        let clock = clock.clone();
        Arc::new(move || clock.now())
    };
    let events = Events::default();
    let client = SentryClient::new(request(config, settings), Arc::clone(&now));
    let told = events.clone();
    let client = client.on_event(move |event| told.record(event));
    let (sender, mut identity) = watch::channel::<Option<Arc<Identity>>>(None);
    let (stop, fatal) = (tasks.token(), fatal.clone());
    let (gave_up, refused) = tokio::sync::oneshot::channel();
    tasks.spawn("identity", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            Err(cause) = client.run(sender) => {
                // Whoever still waits for the first identity hears it; later nobody does, and the process ends.
                if let Err(cause) = gave_up.send(cause.to_string()) {
                    let _ending = fatal.send(cause).await;
                }
            }
        }
    });
    let first = async { identity.wait_for(Option::is_some).await.is_ok() };
    tokio::select! {
        biased;
        Ok(cause) = refused => return Err(cause),
        true = first => {}
    }
    Ok(Some(Held {
        identity,
        events,
        now,
        min_tls: settings.min_tls,
    }))
}

fn request(config: &Config, settings: &IdentityConfig) -> SentryClientConfig {
    let IdentityConfig {
        sentry_address,
        sentry_id,
        trust_anchors,
        trust_anchors_file,
        trust_anchors_cache,
        request_id,
        token,
        jwt_audiences,
        min_tls,
    } = settings.clone();
    SentryClientConfig {
        address: sentry_address.into(),
        sentry_id,
        trust_anchors_pem: trust_anchors.map(Into::into),
        trust_anchors_file,
        trust_anchors_cache,
        app_id: request_id,
        namespace: config.namespace.clone(),
        trust_domain: None,
        token,
        jwt_audiences,
        min_tls,
    }
}

/// Events of the identity. The first ones come before there are series: these count once there are.
#[derive(Clone, Default)]
pub(super) struct Events(Arc<Mutex<Kept>>);

#[derive(Default)]
enum Kept {
    #[default]
    Nothing,
    Early(Vec<Event>),
    Measured(Arc<Metrics>),
}

/// Events that are kept at most; a start that fails for hours need not be counted to the last try.
const EARLY: usize = 1024;

// === impl Events ===

impl Events {
    /// Counts from now on, and what was kept.
    pub(super) fn measure(&self, metrics: &Arc<Metrics>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Kept::Early(events) =
            std::mem::replace(&mut *kept, Kept::Measured(Arc::clone(metrics)))
        {
            events.into_iter().for_each(|event| count(metrics, event));
        }
    }

    fn record(&self, event: Event) {
        // Every state of the value is whole.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *kept {
            Kept::Nothing => *kept = Kept::Early(vec![event]),
            Kept::Early(events) if events.len() < EARLY => events.push(event),
            Kept::Early(_) => {}
            Kept::Measured(metrics) => count(metrics, event),
        }
    }
}

fn count(metrics: &Metrics, event: Event) {
    match event {
        Event::Initialized => {
            metrics.mtls_initialised();
            metrics.certificate_rotated();
        }
        Event::Renewed => metrics.certificate_rotated(),
        Event::InitFailed { reason } => {
            let reason = failure(reason);
            metrics.mtls_initialisation_failed(reason);
            metrics.certificate_rotation_failed(reason);
        }
        Event::RenewalFailed { reason } => metrics.certificate_rotation_failed(failure(reason)),
    }
}

fn failure(reason: &str) -> RotationFailure {
    match reason {
        "sentry_conn" => RotationFailure::SentryConnection,
        "sentry_token" => RotationFailure::SentryToken,
        "invalid_ts" => RotationFailure::InvalidTime,
        _ => RotationFailure::Sign,
    }
}

/// Keeps `target` ready for as long as the own certificate is valid (O-C5), and shows when that and the trust anchors
/// end (O-C12).
pub(super) async fn watch_validity(
    mut identity: IdentityRx,
    target: Target,
    metrics: Arc<Metrics>,
    clock: Clock,
    stop: CancellationToken,
) {
    /// The wall clock may be set; so it is read at least this often.
    const LOOK: Duration = Duration::from_secs(30);
    loop {
        let held = identity.borrow_and_update().clone();
        let not_after = held.as_ref().map(|held| held.svid.not_after());
        if let Some(held) = held {
            let anchors = held.bundle.valid_at(clock.now());
            let anchors = anchors.map(|anchor| unix_seconds(anchor.not_after())).min();
            metrics.certificates_expire(unix_seconds(held.svid.not_after()), anchors);
        }
        let left = not_after.and_then(|end| end.duration_since(clock.now()).ok());
        match left {
            Some(left) if !left.is_zero() => target.ready(),
            Some(_) | None => target.not_ready(),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = identity.changed() => {}
            () = tokio::time::sleep(left.map_or(LOOK, |left| left.min(LOOK))) => {}
        }
    }
}

fn unix_seconds(instant: SystemTime) -> i64 {
    let since = instant.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

// === impl Held ===

impl Held {
    /// The trust domain that Sentry gave this app; without one the default (security 1.6).
    pub(super) fn trust_domain(&self) -> TrustDomain {
        let identity = self.identity.borrow();
        let id = identity.as_ref().map(|identity| identity.svid.id());
        id.map(|id| id.trust_domain().clone()).unwrap_or_default()
    }

    /// The calling side of TLS, for control work.
    pub(super) fn client(&self) -> TlsClient {
        let client = TlsClient::new(self.identity.clone(), Arc::clone(&self.now));
        client.min_tls(self.min_tls)
    }

    /// Both sides of TLS for one data thread; each caches its own configuration.
    pub(super) fn tls(&self) -> Tls {
        let server = TlsServer::new(self.identity.clone(), Arc::clone(&self.now));
        let client = TlsClient::new(self.identity.clone(), Arc::clone(&self.now));
        Tls {
            server: server.min_tls(self.min_tls),
            client: client.min_tls(self.min_tls),
            identity: self.identity.clone(),
        }
    }
}
