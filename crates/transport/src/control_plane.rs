//! The identity of a program of the control plane itself.
//!
//! Owns what injector and operator ask Sentry for: a certificate with an ECDSA key, because API servers refuse the
//! keys of sidecars, under roots that are published in the process. Unlike a sidecar, such a program asks for ever:
//! its readiness says that it has none yet, and a restart would only cost time. Where the roots come from is not
//! known here.

use crate::sentry_client::{Event, KeyKind, SCOPE, TokenSource};
use crate::{AnchorsRx, Identity, MinTls, Now, SentryClient, SentryClientConfig};
use ironside_identity::{AppId, AppIdError, Namespace, SpiffeId, SpiffeIdError, TrustDomain};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::error;

/// Sentry's app ID.
const SENTRY: &str = "dapr-sentry";
/// Pause after Sentry has said no several times.
const PAUSE: Duration = Duration::from_secs(5);

/// Who the program is, and whom it asks.
#[derive(Clone)]
pub struct ControlPlane {
    /// Sentry's `host:port`.
    pub sentry_address: String,
    /// The trust domain of the control plane.
    pub trust_domain: TrustDomain,
    /// The namespace of the control plane.
    pub namespace: Namespace,
    /// The own name, as `dapr-injector`.
    pub app_id: AppId,
    /// Where the bearer token comes from.
    pub token: TokenSource,
    /// The roots.
    pub anchors: AnchorsRx,
}

/// Why the names make no identity.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// Not an app ID.
    #[error(transparent)]
    AppId(#[from] AppIdError),
    /// Trust domain and namespace make no SPIFFE ID.
    #[error("trust domain and namespace make no SPIFFE ID: {0}")]
    Id(#[from] SpiffeIdError),
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Returns who Sentry must be, which is also the audience of tokens for it.
    ///
    /// # Errors
    /// [`NameError`] if the names may not stand in a certificate.
    pub fn sentry_id(
        trust_domain: &TrustDomain,
        namespace: &Namespace,
    ) -> Result<SpiffeId, NameError> {
        let app = AppId::parse(SENTRY)?;
        Ok(SpiffeId::new(trust_domain.clone(), namespace.clone(), app)?)
    }

    /// Obtains the identity, publishes it and renews it, for ever; failures are logged and told to `events`. To stop,
    /// drop the future.
    ///
    /// # Errors
    /// [`NameError`] at once, if the names may not stand in a certificate.
    pub async fn follow(
        self,
        now: Now,
        events: impl Fn(Event) + Clone + Send + Sync + 'static,
        publish: watch::Sender<Option<Arc<Identity>>>,
    ) -> Result<std::convert::Infallible, NameError> {
        let config = SentryClientConfig {
            address: self.sentry_address,
            sentry_id: Self::sentry_id(&self.trust_domain, &self.namespace)?,
            trust_anchors_pem: None,
            trust_anchors_file: None,
            trust_anchors_cache: None,
            app_id: self.app_id,
            namespace: self.namespace,
            trust_domain: Some(self.trust_domain),
            token: self.token,
            jwt_audiences: Vec::new(),
            min_tls: MinTls::default(),
        };
        loop {
            let client = SentryClient::new(config.clone(), Arc::clone(&now));
            let client = client
                .key(KeyKind::EcdsaP256)
                .live_anchors(self.anchors.clone())
                .on_event(events.clone());
            let Err(cause) = client.run(publish.clone()).await;
            error!(target: SCOPE, "{cause}; asking again in {PAUSE:?}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}
