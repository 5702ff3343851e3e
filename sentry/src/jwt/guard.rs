//! What keeps the key of JWTs the right one: its store, and changes of it.
//!
//! Owns how a key begins (both parts are made where neither is there, the set is made where only the key is) and how it
//! changes: another key and set are verified and swapped in place, bad ones are reported and the old ones kept (fact
//! O-S8). It looks once a minute even if nobody says that something changed: a watch may be dead without a word, and a
//! read that failed is made up for. What cannot be read is never replaced (fact O-S9), and nothing is shown to others
//! before it was judged.

use super::issuer::{IssuerError, JwtIssuer, Terms};
use crate::guard::{LOOK, SETTLE};
use crate::metrics::Metrics;
use crate::store::jwt::{JwtStore, JwtTexts};
use crate::store::{Change, StoreError};
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
    /// The last trouble, so that it is told once.
    trouble: Option<String>,
}

/// Why the guard looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// Somebody has written.
    Change,
    /// Somebody has written, perhaps.
    Hint,
    Clock,
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
            trouble: None,
        }
    }

    /// Loads the key, or makes one where there is nothing at all.
    ///
    /// # Errors
    /// [`JwtGuardError`] if what is there can't be used.
    pub(crate) async fn start(&mut self) -> Result<Arc<JwtIssuer>, JwtGuardError> {
        let issuer = self.load(Nothing::IsFilled).await?;
        self.show(&issuer).await;
        Ok(issuer)
    }

    /// Follows the store; for ever.
    pub(crate) async fn follow(mut self, publish: watch::Sender<Arc<JwtIssuer>>) {
        let mut changes = self.store.watch();
        // What changed between the start and the watch.
        let mut woken = Woken::Hint;
        loop {
            self.refresh(&publish, woken).await;
            woken = tokio::select! {
                change = changes.changed() => match change {
                    Change::Written => Woken::Change,
                    Change::Perhaps => Woken::Hint,
                },
                () = tokio::time::sleep(LOOK) => Woken::Clock,
            };
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

    async fn refresh(&mut self, publish: &watch::Sender<Arc<JwtIssuer>>, woken: Woken) {
        if woken == Woken::Clock && !self.shows(publish).await {
            // A change that was not announced; perhaps somebody is still writing.
            tokio::time::sleep(SETTLE).await;
        }
        let issuer = match self.load(Nothing::IsALoss).await {
            Ok(issuer) => issuer,
            Err(cause) => {
                self.complain(&cause, woken);
                return;
            }
        };
        self.show(&issuer).await;
        if is_same(&publish.borrow(), &issuer) {
            return;
        }
        self.metrics.count_issuer_changed();
        warn!(target: SCOPE, "JWT credentials changed; reloading");
        info!(target: SCOPE, "JWT key in use: {}", issuer.key_id());
        publish.send_replace(issuer);
    }

    /// Whether the store holds what is in effect, as far as a read can tell.
    async fn shows(&self, publish: &watch::Sender<Arc<JwtIssuer>>) -> bool {
        let Ok(JwtTexts {
            key: Some(key),
            set: Some(set),
        }) = self.store.read().await
        else {
            return false;
        };
        let issuer = self.issuer(&key, &set);
        issuer.is_ok_and(|issuer| is_same(&publish.borrow(), &issuer))
    }

    /// Tells of a key that can't be used: once, or whenever it changes.
    fn complain(&mut self, error: &JwtGuardError, woken: Woken) {
        let cause = error.to_string();
        if woken != Woken::Change && self.trouble.as_ref() == Some(&cause) {
            return;
        }
        if matches!(error, JwtGuardError::Store(store) if store.is_out_of_reach()) {
            error!(target: SCOPE, "The JWT credentials stay in effect, but cannot be looked after: {cause}");
        } else {
            self.metrics.count_issuer_changed();
            self.metrics.reload_failed.inc();
            error!(target: SCOPE, "JWT credentials cannot be used, the old ones stay in effect: {cause}");
        }
        self.trouble = Some(cause);
    }

    /// Shows others the set of a key that works. What is written is what was judged: members of the store's text that
    /// nobody has looked at stay where they are.
    async fn show(&mut self, issuer: &JwtIssuer) {
        let shown = self.store.show(issuer.set().to_json().as_bytes()).await;
        let trouble = shown.err().map(|cause| cause.to_string());
        if let Some(cause) = &trouble
            && self.trouble != trouble
        {
            error!(target: SCOPE, "The JWT key set cannot be shown to others, trying again in {LOOK:?}: {cause}");
        }
        self.trouble = trouble;
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

/// Whether two sign and are believed alike.
fn is_same(one: &JwtIssuer, other: &JwtIssuer) -> bool {
    one.key_id() == other.key_id() && one.set() == other.set()
}

#[cfg(test)]
mod tests;
