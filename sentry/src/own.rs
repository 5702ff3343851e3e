//! Sentry's own certificate, which it shows to everyone who asks for one.
//!
//! Owns its issue and its renewal: after half of its life, and at once when the authority changes. It is published
//! like any identity, so that the TLS server follows it without a new listener.

use crate::authority::{Authority, NotReady};
use crate::issue::leaf::{self, LeafError, Names};
use crate::metrics::Metrics;
use crate::settings::Settings;
use ironside_chassis::Clock;
use ironside_identity::{SpiffeId, Svid, SvidError};
use ironside_transport::{Identity, Utc};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tracing::{error, info};

/// The logger that the reference uses for identities.
const SCOPE: &str = "dapr.runtime.security";
/// The clock is looked at this often, so that a suspended machine renews in time.
const RECHECK: Duration = Duration::from_secs(60);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(10);

/// Issues and renews.
pub(crate) struct Own {
    pub(crate) id: SpiffeId,
    pub(crate) authority: watch::Receiver<Arc<Authority>>,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    /// When the certificate in use is to be renewed.
    pub(crate) renew_at: SystemTime,
}

/// Why Sentry has no certificate of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnError {
    #[error(transparent)]
    NotReady(#[from] NotReady),
    #[error("failed to generate a key: {0}")]
    Key(#[from] rcgen::Error),
    #[error("failed to sign: {0}")]
    Leaf(#[from] LeafError),
    #[error(transparent)]
    Svid(#[from] SvidError),
}

// === impl Own ===

impl Own {
    /// Issues the first certificate.
    ///
    /// # Errors
    /// [`OwnError`]; without it nobody can be served.
    pub(crate) fn start(&mut self) -> Result<watch::Sender<Option<Arc<Identity>>>, OwnError> {
        info!(target: SCOPE, "Fetching initial identity");
        let identity = self.issue(1)?;
        info!(target: SCOPE, "Security is initialized successfully");
        let (expiry, renewal) = (Utc(identity.svid.not_after()), Utc(self.renew_at));
        info!(
            target: SCOPE,
            "Starting workload identity expiry watcher; cert expires on: {expiry}, renewal at: {renewal}"
        );
        Ok(watch::Sender::new(Some(Arc::new(identity))))
    }

    /// Renews for ever.
    pub(crate) async fn follow(mut self, publish: watch::Sender<Option<Arc<Identity>>>) {
        loop {
            self.wait().await;
            let generation = publish
                .borrow()
                .as_ref()
                .map_or(1, |held| held.generation + 1);
            match self.issue(generation) {
                Ok(identity) => {
                    let (expiry, renewal) = (Utc(identity.svid.not_after()), Utc(self.renew_at));
                    info!(
                        target: SCOPE,
                        "Successfully renewed workload identity; cert expires on: {expiry}, renewal at: {renewal}"
                    );
                    publish.send_replace(Some(Arc::new(identity)));
                }
                Err(cause) => {
                    self.metrics.count_server_certificate_failed();
                    error!(target: SCOPE, "Error renewing identity, trying again in {RETRY:?}: {cause}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Waits until the renewal is due, or for another authority.
    async fn wait(&mut self) {
        while let Ok(left) = self.renew_at.duration_since(self.clock.now()) {
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(RECHECK)) => {}
                changed = self.authority.changed() => match changed {
                    Ok(()) => return,
                    Err(_no_more_changes) => tokio::time::sleep(left.min(RECHECK)).await,
                }
            }
        }
    }

    fn issue(&mut self, generation: u64) -> Result<Identity, OwnError> {
        let authority = Arc::clone(&self.authority.borrow_and_update());
        let now = self.clock.now();
        authority.check_ready(now)?;
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let validity = self.settings.leaf_validity(now, &authority);
        // Own certificates cost nothing: half of the life, without jitter.
        self.renew_at = now + validity.not_after.duration_since(now).unwrap_or_default() / 2;
        let names = Names {
            id: self.id.clone(),
            dns: Vec::new(),
            images: None,
        };
        let spki = key.subject_public_key_info();
        let leaf = leaf::write(authority.signer(), &spki, &names, validity, rand::random())?;
        let chain = [&leaf].into_iter().chain(authority.chain(now));
        let chain = chain.cloned().collect();
        let svid = Arc::new(Svid::new(chain, key.into())?);
        Ok(Identity {
            svid,
            bundle: Arc::new(authority.bundle().clone()),
            generation,
        })
    }
}
