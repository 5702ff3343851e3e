//! What keeps the authority in effect the right one: its store, its rotation, its end.
//!
//! Owns the one task that reads the store and changes it: fact O-S8 (a changed issuer is verified and swapped in
//! place, a bad one is reported and the old one kept) and the steps of a rotation, each of which is verified before
//! it is stored, and stored before it is in effect. Listeners and connections never notice. Which step is due is
//! `rotation`'s decision.

pub(crate) mod expiry;

use crate::authority::{Authority, AuthorityError};
use crate::metrics::Metrics;
use crate::rotation::{AdvanceError, Maker, Plan, State, Step};
use crate::store::{Changes, Store, StoreError, Stored, Texts};
use expiry::{Herald, Tender};
use ironside_chassis::Clock;
use ironside_transport::Utc;
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
const LOOK: Duration = Duration::from_secs(60);
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
}

/// Why the guard looks at the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    ByChange,
    ByClock,
}

/// Whether a look has changed the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrote {
    Yes,
    No,
}

/// What a look at the store showed.
struct Look {
    held: Held,
    wrote: Wrote,
    /// What was done on the way.
    steps: Vec<Step>,
    state: Option<Box<State>>,
    next: Option<(SystemTime, Step)>,
    /// A step that is due and could not be done.
    trouble: Option<GuardError>,
}

// === impl Guard ===

impl Guard {
    /// Loads the authority, or makes one where there is nothing at all; does what is due.
    ///
    /// # Errors
    /// [`GuardError`] if what is there can't be used.
    pub(crate) async fn start(&mut self) -> Result<Arc<Authority>, GuardError> {
        match self.store.read().await?.stored {
            Stored::Nothing => self.create().await?,
            Stored::Supplied(_) | Stored::Own(_) => {
                info!(target: SCOPE_CA, "Root and issuer certs found: using credentials from store");
            }
        }
        let look = self.look().await?;
        Ok(self.take(look))
    }

    async fn create(&self) -> Result<(), GuardError> {
        info!(target: SCOPE_CA, "Root and issuer certs not found: generating self signed CA");
        let state = self.maker.first(self.clock.now())?;
        info!(target: SCOPE_CA, "Generating self-signed CA certs and persisting to store");
        match self.store.commit(None, &state).await {
            Ok(()) => {
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
                () = changes.changed() => Woken::ByChange,
                () = tokio::time::sleep(self.pause()) => Woken::ByClock,
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
        if woken == Woken::ByClock && !self.expects(look.as_ref()) {
            // A change that was not announced; perhaps somebody is still writing.
            tokio::time::sleep(SETTLE).await;
            look = self.look().await;
        }
        let look = match look {
            Ok(look) => look,
            Err(cause) => {
                self.complain(&cause, woken);
                return Wrote::No;
            }
        };
        let wrote = look.wrote;
        // A file that was only touched counts as changed, a wish does not.
        let reloads = woken == Woken::ByChange && wrote == Wrote::No;
        if !reloads && self.is_in_effect(&look.held.texts) {
            self.take(look);
            return wrote;
        }
        self.metrics.issuer_changed.inc();
        if look.steps.is_empty() {
            warn!(target: SCOPE, "Issuer credentials changed; reloading");
        }
        publish.send_replace(self.take(look));
        info!(target: SCOPE, "CA certificate key pair ready");
        wrote
    }

    /// Tells of a store that can't be used: once, or whenever it changes.
    fn complain(&mut self, cause: &GuardError, woken: Woken) {
        let cause = cause.to_string();
        if woken == Woken::ByClock && self.trouble.as_ref() == Some(&cause) {
            return;
        }
        self.metrics.issuer_changed.inc();
        self.metrics.reload_failed.inc();
        warn!(target: SCOPE, "Issuer credentials changed; reloading");
        error!(target: SCOPE, "Issuer credentials cannot be used, the old ones stay in effect: {cause}");
        self.trouble = Some(cause);
    }

    /// Says whether a look showed what is known, or what was done on the way.
    fn expects(&self, look: Result<&Look, &GuardError>) -> bool {
        look.is_ok_and(|look| !look.steps.is_empty() || self.is_in_effect(&look.held.texts))
    }

    fn is_in_effect(&self, texts: &Texts) -> bool {
        self.held.as_ref().is_some_and(|held| held.texts == *texts)
    }

    /// Takes over what a look showed, and tells of it.
    fn take(&mut self, look: Look) -> Arc<Authority> {
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
        let trouble = trouble.map(|trouble| trouble.to_string());
        if let Some(cause) = &trouble
            && self.trouble.as_ref() != Some(cause)
        {
            self.metrics.rotation_failed.inc();
            error!(target: SCOPE, "The certificate authority cannot be rotated, trying again in {LOOK:?}: {cause}");
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

    /// Reads the store and does what is due.
    async fn look(&self) -> Result<Look, GuardError> {
        for _try in 1..TRIES {
            match self.look_once().await {
                Err(GuardError::Store(StoreError::Conflict)) => {}
                looked => return looked,
            }
        }
        self.look_once().await
    }

    async fn look_once(&self) -> Result<Look, GuardError> {
        let found = self.store.read().await?;
        match found.stored {
            Stored::Nothing => Err(GuardError::Gone),
            Stored::Supplied(texts) => {
                if found.requested {
                    self.decline().await;
                }
                let now = self.clock.now();
                Ok(Look {
                    held: Held::new(texts, Tender::User, None, now)?,
                    wrote: Wrote::of(found.requested),
                    steps: Vec::new(),
                    state: None,
                    next: None,
                    trouble: None,
                })
            }
            Stored::Own(state) => self.look_at(state, found.requested).await,
        }
    }

    /// Says no to a rotation of what is not ours.
    async fn decline(&self) {
        warn!(
            target: SCOPE,
            "A rotation was asked for, but this certificate authority was supplied and is not Sentry's to replace"
        );
        if let Err(cause) = self.store.answer().await {
            error!(target: SCOPE, "{cause}");
        }
    }

    async fn look_at(&self, state: Box<State>, requested: bool) -> Result<Look, GuardError> {
        let now = self.clock.now();
        match self.advance(&state, requested, now).await {
            Ok(look) => Ok(look),
            Err(conflict @ GuardError::Store(StoreError::Conflict)) => Err(conflict),
            // What can't be rotated now may serve all the same.
            Err(trouble) => {
                let situation = state.situation(requested).map_err(AdvanceError::from)?;
                let next = self.maker.plan.next(&situation, now);
                Ok(Look {
                    held: Held::new(state.texts(), self.tender(), Some(next.0), now)?,
                    wrote: Wrote::No,
                    steps: Vec::new(),
                    state: Some(state),
                    next: Some(next),
                    trouble: Some(trouble),
                })
            }
        }
    }

    /// Does what is due: makes it, verifies it, stores it.
    async fn advance(
        &self,
        state: &State,
        requested: bool,
        now: SystemTime,
    ) -> Result<Look, GuardError> {
        let advanced = self.maker.advance(state, requested, now)?;
        let (due, _step) = advanced.next;
        let held = Held::new(advanced.state.texts(), self.tender(), Some(due), now)?;
        if !advanced.steps.is_empty() {
            self.store
                .commit(Some(state.generation), &advanced.state)
                .await?;
        }
        self.store.tidy(&advanced.state).await?;
        if requested {
            self.store.answer().await?;
        }
        Ok(Look {
            held,
            wrote: Wrote::of(requested || !advanced.steps.is_empty()),
            steps: advanced.steps,
            state: Some(Box::new(advanced.state)),
            next: Some(advanced.next),
            trouble: None,
        })
    }

    fn tender(&self) -> Tender {
        let Plan { ca_ttl, .. } = self.maker.plan;
        Tender::Sentry { ca_ttl }
    }
}

// === impl Wrote ===

impl Wrote {
    fn of(wrote: bool) -> Self {
        match wrote {
            true => Self::Yes,
            false => Self::No,
        }
    }
}

// === impl Held ===

impl Held {
    fn new(
        texts: Texts,
        tender: Tender,
        due: Option<SystemTime>,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let authority = Arc::new(Authority::from_texts(&texts, now)?);
        Ok(Self {
            texts,
            authority,
            tender,
            due,
        })
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
