//! One look at the store: what is there, and what is due.
//!
//! Owns the order of a step: made, verified, stored, and only then in effect; and what becomes of a look when others
//! write at the same time. What is told and published of it is the guard's matter.

use super::expiry::Tender;
use super::{DECLINED, Guard, GuardError, Held, SCOPE, TRIES};
use crate::authority::{Authority, AuthorityError};
use crate::rotation::{AdvanceError, Plan, State, Step};
use crate::store::{StoreError, Stored, Texts, Wrote};
use std::sync::Arc;
use std::time::SystemTime;
use tracing::{error, warn};

/// What a look at the store showed.
pub(super) struct Look {
    pub(super) held: Held,
    pub(super) wrote: Wrote,
    /// What was done on the way.
    pub(super) steps: Vec<Step>,
    pub(super) state: Option<Box<State>>,
    pub(super) next: Option<(SystemTime, Step)>,
    /// A step that is due and could not be done.
    pub(super) trouble: Option<GuardError>,
}

// === impl Guard ===

impl Guard {
    /// Reads the store and does what is due.
    pub(super) async fn look(&self) -> Result<Look, GuardError> {
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
                // Nothing that does not work is shown to others.
                let held = Held::new(texts, Tender::User, None, self.clock.now())?;
                let (tidied, trouble) = match self.store.tidy(&held.texts, None).await {
                    Ok(wrote) => (wrote, None),
                    Err(conflict @ StoreError::Conflict) => return Err(conflict.into()),
                    Err(cause) => (Wrote::No, Some(GuardError::Tidy(cause))),
                };
                Ok(Look {
                    held,
                    wrote: Wrote::of(found.requested).or(tidied),
                    steps: Vec::new(),
                    state: None,
                    next: None,
                    trouble,
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
        let note = "the certificate authority was supplied: put another in its place";
        self.report(DECLINED, note).await;
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
        let (tidied, trouble) = match self.store.tidy(&held.texts, Some(&advanced.state)).await {
            Ok(wrote) => (wrote, None),
            Err(StoreError::Conflict) if advanced.steps.is_empty() => {
                return Err(StoreError::Conflict.into());
            }
            // The step is done. Whoever was in the way has written too, and the next look finds what.
            Err(StoreError::Conflict) => (Wrote::Yes, None),
            Err(cause) => (Wrote::No, Some(GuardError::Tidy(cause))),
        };
        let answered = match requested {
            true => self.store.answer().await,
            false => Ok(()),
        };
        let trouble = match answered {
            Ok(()) => trouble,
            // A wish that is still there is answered by the next look, and is not granted twice.
            Err(cause) if advanced.steps.is_empty() => return Err(cause.into()),
            Err(cause) => trouble.or(Some(cause.into())),
        };
        Ok(Look {
            held,
            wrote: Wrote::of(requested || !advanced.steps.is_empty()).or(tidied),
            steps: advanced.steps,
            state: Some(Box::new(advanced.state)),
            next: Some(advanced.next),
            trouble,
        })
    }

    pub(super) fn tender(&self) -> Tender {
        let Plan { ca_ttl, .. } = self.maker.plan;
        Tender::Sentry { ca_ttl }
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
