//! What keeps the key of JWTs the right one: its store, and changes of it.
//!
//! Owns how a key begins (both parts are made where neither is there, the set is made where only the key is) and how
//! it changes: another key and set are verified and swapped in place, bad ones are reported and the old ones kept
//! (fact O-S8). What cannot be read is never replaced (fact O-S9), and nothing is shown to others before it was judged.

use super::issuer::{IssuerError, JwtIssuer, Terms};
use crate::metrics::Metrics;
use crate::store::StoreError;
use crate::store::jwt::{JwtStore, JwtTexts};
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The logger of the reference.
const SCOPE: &str = "dapr.sentry";
/// Others may fill the store while it is being filled; so often the look is repeated.
const TRIES: usize = 5;

/// Reads, fills, publishes.
pub(crate) struct JwtGuard {
    store: Arc<dyn JwtStore>,
    terms: Terms,
    metrics: Metrics,
}

/// What a store means that holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nothing {
    /// A beginning: key and set are made.
    IsFilled,
    /// Somebody took away what was there.
    IsALoss,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JwtGuardError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the JWT key set {set} is there and its key {key} is not: restore the key, or move the set away to have both \
         made anew"
    )]
    KeyGone { key: String, set: String },
    #[error("JWT key {key} and key set {set} are gone; a restart makes new ones")]
    Gone { key: String, set: String },
    #[error("{cause} ({key}, {set})")]
    Issuer {
        key: String,
        set: String,
        cause: IssuerError,
    },
}

// === impl JwtGuard ===

impl JwtGuard {
    /// Makes a guard; nothing is read before [`JwtGuard::start`].
    pub(crate) fn new(store: Arc<dyn JwtStore>, terms: Terms, metrics: Metrics) -> Self {
        Self {
            store,
            terms,
            metrics,
        }
    }

    /// Loads the key, or makes one where there is nothing at all.
    ///
    /// # Errors
    /// [`JwtGuardError`] if what is there can't be used.
    pub(crate) async fn start(&self) -> Result<Arc<JwtIssuer>, JwtGuardError> {
        let issuer = self.load(Nothing::IsFilled).await?;
        self.show(&issuer).await;
        Ok(issuer)
    }

    /// Follows the store; for ever.
    pub(crate) async fn follow(self, publish: watch::Sender<Arc<JwtIssuer>>) {
        let mut changes = self.store.watch();
        // What changed between the start and the watch.
        self.refresh(&publish).await;
        loop {
            changes.changed().await;
            self.refresh(&publish).await;
        }
    }

    async fn load(&self, nothing: Nothing) -> Result<Arc<JwtIssuer>, JwtGuardError> {
        for _try in 1..TRIES {
            match self.look(nothing).await {
                Err(JwtGuardError::Store(StoreError::Conflict)) => {}
                looked => return looked.map(Arc::new),
            }
        }
        self.look(nothing).await.map(Arc::new)
    }

    async fn refresh(&self, publish: &watch::Sender<Arc<JwtIssuer>>) {
        let issuer = match self.load(Nothing::IsALoss).await {
            Ok(issuer) => issuer,
            Err(cause) => {
                self.metrics.issuer_changed.inc();
                self.metrics.reload_failed.inc();
                error!(target: SCOPE, "JWT credentials cannot be used, the old ones stay in effect: {cause}");
                return;
            }
        };
        self.show(&issuer).await;
        let is_same = {
            let held = publish.borrow();
            held.key_id() == issuer.key_id() && held.set() == issuer.set()
        };
        if is_same {
            return;
        }
        self.metrics.issuer_changed.inc();
        warn!(target: SCOPE, "JWT credentials changed; reloading");
        info!(target: SCOPE, "JWT key in use: {}", issuer.key_id());
        publish.send_replace(issuer);
    }

    /// Shows others the set of a key that works. What is written is what was judged: members of the store's text that
    /// nobody has looked at stay where they are.
    async fn show(&self, issuer: &JwtIssuer) {
        let shown = self.store.show(issuer.set().to_json().as_bytes()).await;
        if let Err(cause) = shown {
            error!(target: SCOPE, "The JWT key set cannot be shown to others: {cause}");
        }
    }

    async fn look(&self, nothing: Nothing) -> Result<JwtIssuer, JwtGuardError> {
        let found = self.store.read().await?;
        let JwtTexts { key, set } = match found {
            JwtTexts {
                key: Some(key),
                set: Some(set),
            } => return self.issuer(&key, &set),
            JwtTexts {
                key: Some(key),
                set: None,
            } => {
                let set =
                    JwtIssuer::set_of(&self.terms, &key).map_err(|cause| self.named(cause))?;
                info!(target: SCOPE, "JWT key found without a key set: writing the set");
                JwtTexts {
                    key: None,
                    set: Some(set.into_bytes()),
                }
            }
            JwtTexts {
                key: None,
                set: Some(_),
            } => {
                let [key, set] = self.store.names();
                return Err(JwtGuardError::KeyGone { key, set });
            }
            JwtTexts {
                key: None,
                set: None,
            } => {
                if nothing == Nothing::IsALoss {
                    let [key, set] = self.store.names();
                    return Err(JwtGuardError::Gone { key, set });
                }
                info!(target: SCOPE, "JWT signing key not found: generating a key for {}", self.terms.algorithm);
                self.generate().map_err(|cause| self.named(cause))?
            }
        };
        self.store.fill(&JwtTexts { key, set }).await?;
        // As others read it.
        let JwtTexts { key, set } = self.store.read().await?;
        match (key, set) {
            (Some(key), Some(set)) => self.issuer(&key, &set),
            _ => Err(StoreError::Conflict.into()),
        }
    }

    fn generate(&self) -> Result<JwtTexts, IssuerError> {
        let key = JwtIssuer::generate(&self.terms)?;
        let set = JwtIssuer::set_of(&self.terms, key.as_bytes())?;
        Ok(JwtTexts {
            key: Some(key.into_bytes()),
            set: Some(set.into_bytes()),
        })
    }

    fn issuer(&self, key: &[u8], set: &[u8]) -> Result<JwtIssuer, JwtGuardError> {
        JwtIssuer::new(self.terms.clone(), key, set).map_err(|cause| self.named(cause))
    }

    fn named(&self, cause: IssuerError) -> JwtGuardError {
        let [key, set] = self.store.names();
        JwtGuardError::Issuer { key, set, cause }
    }
}

#[cfg(test)]
mod tests;
