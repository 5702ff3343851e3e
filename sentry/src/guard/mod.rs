//! What keeps the authority in effect the right one: its store, its rotation, its end.
//!
//! Owns the one task that reads the store and changes it: fact O-S8 (a changed issuer is verified and swapped in
//! place, a bad one is reported and the old one kept) and the steps of a rotation, each of which is verified before
//! it is stored, and stored before it is in effect. Listeners and connections never notice. Which step is due is
//! `rotation`'s decision.

pub(crate) mod expiry;
mod look;

use crate::authority::{Authority, AuthorityError};
use crate::metrics::Metrics;
use crate::rotation::{AdvanceError, Maker, Step};
use crate::store::{Change, Changes, Store, StoreError, Stored, Texts, Wrote};
use expiry::{Herald, Tender};
use ironside_chassis::Clock;
use ironside_transport::Utc;
use look::Look;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The logger of the reference.
const SCOPE: &str = "dapr.sentry";
const SCOPE_CA: &str = "dapr.sentry.ca";
/// The files count as written when they have been quiet for so long (the reference collects changes for 2 s).
pub(crate) const SETTLE: Duration = Duration::from_secs(2);
/// The clock is looked at this often, so that a suspended machine rotates in time.
pub(crate) const LOOK: Duration = Duration::from_secs(60);
/// Reasons that are reported to those who look after the store.
const UNUSABLE: &str = "IssuerCredentialsUnusable";
const NOT_ROTATED: &str = "RotationFailed";
const DECLINED: &str = "RotationDeclined";
/// Others may change the store while it is being changed; so often the change is tried anew.
const TRIES: usize = 5;

/// Reads, rotates, publishes.
pub(crate) struct Guard {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) maker: Maker,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    /// What is in effect.
    pub(crate) held: Option<Held>,
    /// The last trouble with the store, so that it is told once.
    pub(crate) trouble: Option<String>,
}

/// The authority in effect.
pub(crate) struct Held {
    texts: Texts,
    authority: Arc<Authority>,
    tender: Tender,
    /// When there is something to do.
    due: Option<SystemTime>,
}

/// Why there is no authority in the store, or no better one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the issuer credentials are gone")]
    Gone,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("rotation: {0}")]
    Advance(#[from] AdvanceError),
    #[error("what others read of the issuer credentials is not up to date: {0}")]
    Tidy(StoreError),
}

/// Why the guard looks at the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// Somebody has written.
    Change,
    /// Somebody has written, perhaps.
    Hint,
    Clock,
}

// === impl Guard ===

impl Guard {
    /// Loads the authority, or makes one where there is nothing at all; does what is due.
    ///
    /// # Errors
    /// [`GuardError`] if what is there can't be used.
    pub(crate) async fn start(&mut self) -> Result<Arc<Authority>, GuardError> {
        let begun = self.begin().await;
        if let Err(cause) = &begun
            && !matches!(cause, GuardError::Store(store) if store.is_out_of_reach())
        {
            self.report(UNUSABLE, &cause.to_string()).await;
        }
        begun
    }

    async fn begin(&mut self) -> Result<Arc<Authority>, GuardError> {
        match self.store.read().await?.stored {
            Stored::Nothing => self.create().await?,
            Stored::Supplied(_) | Stored::Own(_) => {
                info!(target: SCOPE_CA, "Root and issuer certs found: using credentials from store");
            }
        }
        let look = self.look().await?;
        Ok(self.take(look).await)
    }

    async fn create(&self) -> Result<(), GuardError> {
        info!(target: SCOPE_CA, "Root and issuer certs not found: generating self signed CA");
        let state = self.maker.first(self.clock.now())?;
        info!(target: SCOPE_CA, "Generating self-signed CA certs and persisting to store");
        match self.store.commit(None, &state).await {
            Ok(()) => {
                self.metrics.count_issuer_changed();
                info!(target: SCOPE_CA, "Self-signed certs generated and persisted successfully");
                Ok(())
            }
            // Another one was quicker, and its authority serves as well.
            Err(StoreError::Conflict) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Follows the store and the clock; for ever.
    pub(crate) async fn follow(
        mut self,
        mut changes: Box<dyn Changes>,
        publish: watch::Sender<Arc<Authority>>,
        mut herald: Herald,
    ) {
        loop {
            if let Some(held) = &self.held {
                herald.look(&held.authority, held.tender, self.clock.now());
                self.metrics.show_expiry(
                    held.authority.issuer_not_after(),
                    held.authority.bundle().earliest_expiry(),
                );
            }
            let woken = tokio::select! {
                change = changes.changed() => match change {
                    Change::Written => Woken::Change,
                    Change::Perhaps => Woken::Hint,
                },
                () = tokio::time::sleep(self.pause()) => Woken::Clock,
            };
            if self.refresh(&publish, woken).await == Wrote::Yes {
                // What this process has written is no news to it. The next look finds what others wrote meanwhile.
                changes = self.store.watch();
            }
        }
    }

    /// The time to the next step, at most a minute. Trouble is looked into once a minute.
    fn pause(&self) -> Duration {
        let due = self.held.as_ref().and_then(|held| held.due);
        let Some(due) = due.filter(|_| self.trouble.is_none()) else {
            return LOOK;
        };
        due.duration_since(self.clock.now())
            .unwrap_or_default()
            .min(LOOK)
    }

    /// Looks at the store and publishes what has become of it; says whether something was written on the way.
    async fn refresh(&mut self, publish: &watch::Sender<Arc<Authority>>, woken: Woken) -> Wrote {
        let mut look = self.look().await;
        if woken == Woken::Clock && !self.expects(look.as_ref()) {
            // A change that was not announced; perhaps somebody is still writing.
            tokio::time::sleep(SETTLE).await;
            look = self.look().await;
        }
        let look = match look {
            Ok(look) => look,
            Err(cause) => {
                self.complain(&cause, woken).await;
                return Wrote::No;
            }
        };
        let wrote = look.wrote;
        // A file that was only touched counts as changed, a wish does not.
        let reloads = woken == Woken::Change && wrote == Wrote::No;
        if !reloads && self.is_in_effect(&look.held.texts) {
            self.take(look).await;
            return wrote;
        }
        self.metrics.count_issuer_changed();
        if look.steps.is_empty() {
            warn!(target: SCOPE, "Issuer credentials changed; reloading");
        }
        publish.send_replace(self.take(look).await);
        info!(target: SCOPE, "CA certificate key pair ready");
        wrote
    }

    /// Tells of a store that can't be used: once, or whenever it changes.
    async fn complain(&mut self, error: &GuardError, woken: Woken) {
        let cause = error.to_string();
        if woken != Woken::Change && self.trouble.as_ref() == Some(&cause) {
            return;
        }
        if matches!(error, GuardError::Store(store) if store.is_out_of_reach()) {
            error!(target: SCOPE, "The issuer credentials stay in effect, but cannot be looked after: {cause}");
            self.trouble = Some(cause);
            return;
        }
        self.metrics.count_issuer_changed();
        self.metrics.reload_failed.inc();
        warn!(target: SCOPE, "Issuer credentials changed; reloading");
        error!(target: SCOPE, "Issuer credentials cannot be used, the old ones stay in effect: {cause}");
        self.report(UNUSABLE, &cause).await;
        self.trouble = Some(cause);
    }

    async fn report(&self, reason: &'static str, note: &str) {
        self.store.report(self.clock.now(), reason, note).await;
    }

    /// Says whether a look showed what is known, or what was done on the way.
    fn expects(&self, look: Result<&Look, &GuardError>) -> bool {
        look.is_ok_and(|look| !look.steps.is_empty() || self.is_in_effect(&look.held.texts))
    }

    fn is_in_effect(&self, texts: &Texts) -> bool {
        self.held.as_ref().is_some_and(|held| held.texts == *texts)
    }

    /// Takes over what a look showed, and tells of it.
    async fn take(&mut self, look: Look) -> Arc<Authority> {
        let Look {
            held,
            wrote: _,
            steps,
            state,
            next,
            trouble,
        } = look;
        for step in steps {
            self.metrics.count_step(step);
            tell(step, next);
        }
        self.metrics
            .show_rotation(state.as_ref().map(|state| state.phase_name()), next);
        let is_rotation = !matches!(trouble, Some(GuardError::Tidy(_)));
        let trouble = trouble.map(|trouble| trouble.to_string());
        if let Some(cause) = &trouble
            && self.trouble.as_ref() != Some(cause)
        {
            if is_rotation {
                self.metrics.rotation_failed.inc();
                error!(target: SCOPE, "The certificate authority cannot be rotated, trying again in {LOOK:?}: {cause}");
                self.report(NOT_ROTATED, cause).await;
            } else {
                error!(target: SCOPE, "Trying again in {LOOK:?}: {cause}");
            }
        }
        self.trouble = trouble;
        let before = self.held.as_ref().map(|held| held.tender);
        if before.is_some_and(|before| before != Tender::User) && held.tender == Tender::User {
            warn!(
                target: SCOPE,
                "The issuer credentials were replaced by others: they count as supplied from now on, and Sentry does \
                 not rotate them"
            );
        }
        let authority = Arc::clone(&held.authority);
        self.held = Some(held);
        authority
    }
}

/// One line for what a person may want to know.
fn tell(step: Step, next: Option<(SystemTime, Step)>) {
    let what = match step {
        Step::Remember => return,
        Step::ForgetRootKey => "The root key is not kept any more",
        Step::Distribute => "New root and issuer made; the new root is in every answer from now on",
        Step::Reissue => "New issuer made below the same root; it signs from now on",
        Step::Sign => "The new issuer signs from now on; the old root is still in every answer",
        Step::Withdraw => "The old root is withdrawn",
        Step::DropCross => "Expired certificates of older roots are not sent any more",
    };
    match next {
        Some((due, next)) => info!(
            target: SCOPE,
            step = step.as_str(),
            next = next.as_str(),
            due = %Utc(due),
            "{what}"
        ),
        None => info!(target: SCOPE, step = step.as_str(), "{what}"),
    }
}

#[cfg(test)]
mod tests;
