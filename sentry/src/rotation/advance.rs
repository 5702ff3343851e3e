//! A state goes over a step and becomes the next one.
//!
//! Owns what is made on the way: roots, issuers, and the certificates by which an old authority vouches for a new
//! one. The instant is an argument; keys and serial numbers are drawn here. Whether a step is due is `plan`'s matter.

use super::plan::{Plan, RootKey, Step};
use super::state::{Ca, Phase, State, StateError, not_after, whole_seconds};
use crate::issue::leaf::Validity;
use crate::issue::root::{self, Elder, Root};
use ironside_identity::SpiffeId;
use ironside_identity::pem::{self, PemError};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use std::time::SystemTime;

/// More certificates of older authorities are not sent: verifiers follow a path of six at most, and two rotations
/// within one root's life are two more than a quiet year has.
const MAX_CROSS: usize = 4;
/// More steps than this are never due at once; a loop would be a defect of the plan.
const MAX_STEPS: usize = 8;

/// Makes authorities for one Sentry.
#[derive(Debug, Clone)]
pub(crate) struct Maker {
    /// The Sentry that will sign; its trust domain is the new roots'.
    pub(crate) own: SpiffeId,
    pub(crate) plan: Plan,
}

/// What became of a state.
pub(crate) struct Advanced {
    pub(crate) state: State,
    /// What was done, in order; empty if nothing was due.
    pub(crate) steps: Vec<Step>,
    /// The next step and when it is due.
    pub(crate) next: (SystemTime, Step),
}

/// Why a step can't be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdvanceError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("stored certificates: {0}")]
    Pem(#[from] PemError),
    #[error("failed to make certificates: {0}")]
    Make(#[from] rcgen::Error),
}

// === impl Maker ===

impl Maker {
    /// Makes the first state, out of nothing.
    ///
    /// # Errors
    /// [`AdvanceError::Make`] if there is no randomness.
    pub(crate) fn first(&self, now: SystemTime) -> Result<State, AdvanceError> {
        let (active, _root) = self.make(now, now)?;
        Ok(State::new(active, self.plan.hold()))
    }

    /// Takes a state over everything that is due at `now`.
    ///
    /// # Errors
    /// [`AdvanceError`] if a step can't be done; the state stays as it was.
    pub(crate) fn advance(
        &self,
        state: &State,
        requested: bool,
        now: SystemTime,
    ) -> Result<Advanced, AdvanceError> {
        let (mut current, mut steps, mut wanted) = (state.clone(), Vec::new(), requested);
        loop {
            let next = self.plan.next(&current.situation(wanted)?, now);
            let (due, step) = next;
            if due > now || steps.len() == MAX_STEPS {
                break Ok(Advanced {
                    state: if steps.is_empty() {
                        current
                    } else {
                        as_one_change(state, current)
                    },
                    steps,
                    next,
                });
            }
            current = self.step(&current, step, now)?;
            steps.push(step);
            // One wish is one rotation.
            wanted &= !matches!(step, Step::Distribute | Step::Reissue);
        }
    }

    fn step(&self, state: &State, step: Step, now: SystemTime) -> Result<State, AdvanceError> {
        let mut state = state.clone();
        match step {
            Step::Remember => {
                state.hold_seconds = whole_seconds(self.plan.hold()).max(state.hold_seconds);
            }
            Step::ForgetRootKey => state.active.root_key = None,
            Step::Distribute => {
                let next = self.make_next(&state, now)?;
                state.phase = Phase::Distribute { since: now, next };
            }
            Step::Reissue => self.reissue(&mut state.active, now)?,
            Step::Sign => sign(&mut state, now)?,
            Step::Withdraw => {
                state.phase = Phase::Steady;
                state.hold_seconds = whole_seconds(self.plan.hold());
            }
            Step::DropCross => state.active.cross = living(&state.active.cross, now)?,
        }
        Ok(state)
    }

    /// Makes root and issuer; the issuer lives its whole life from `signs`.
    fn make(&self, now: SystemTime, signs: SystemTime) -> Result<(Ca, Root), AdvanceError> {
        let root_ttl = match self.plan.root_key {
            RootKey::Discard => self.plan.ca_ttl,
            RootKey::Keep => self.plan.root_ttl.max(self.plan.ca_ttl),
        };
        let root_span = self.span(now, signs + root_ttl);
        let issuer_span = self.span(now, signs + self.plan.ca_ttl);
        let root = Root::generate(self.own.trust_domain(), root_span, rand::random())?;
        let (issuer, key) = root::issuer(&root.as_elder(), &self.own, issuer_span, rand::random())?;
        let ca = Ca {
            root: pem::encode_certificates([root.certificate()]),
            issuer: pem::encode_certificates([&issuer]),
            issuer_key: encode_key(key.serialized_der()),
            root_key: match self.plan.root_key {
                RootKey::Discard => None,
                RootKey::Keep => Some(encode_key(root.key_der())),
            },
            cross: String::new(),
        };
        Ok((ca, root))
    }

    /// Makes root and issuer that the ones in effect vouch for.
    fn make_next(&self, state: &State, now: SystemTime) -> Result<Ca, AdvanceError> {
        let (mut next, root) = self.make(now, now + state.hold())?;
        let active = &state.active;
        let situation = state.situation(false)?;
        // The issuer vouches where the root's key is gone; its own certificate is then part of the path.
        let (certificate, key, ends) = match &active.root_key {
            Some(key) => (&active.root, key, situation.root_ends),
            None => {
                let ends = situation.issuer_ends.min(situation.root_ends);
                (&active.issuer, &active.issuer_key, ends)
            }
        };
        if ends <= now {
            return Ok(next);
        }
        let (certificate, key) = (only_certificate(certificate)?, read_key(key)?);
        let elder = Elder {
            certificate: &certificate,
            key: &key,
        };
        let cross = root.cross_signed(&elder, self.span(now, ends), rand::random())?;
        let mut path = vec![cross];
        if active.root_key.is_none() {
            path.push(certificate);
        }
        if !active.cross.is_empty() {
            path.extend(pem::certificates(active.cross.as_bytes())?);
        }
        path.truncate(MAX_CROSS);
        next.cross = pem::encode_certificates(&path);
        Ok(next)
    }

    /// Makes an issuer below the root in effect.
    fn reissue(&self, active: &mut Ca, now: SystemTime) -> Result<(), AdvanceError> {
        let Some(root_key) = &active.root_key else {
            return Ok(());
        };
        let (certificate, key) = (only_certificate(&active.root)?, read_key(root_key)?);
        let elder = Elder {
            certificate: &certificate,
            key: &key,
        };
        let span = self.span(now, now + self.plan.ca_ttl);
        let (issuer, key) = root::issuer(&elder, &self.own, span, rand::random())?;
        active.issuer = pem::encode_certificates([&issuer]);
        active.issuer_key = encode_key(key.serialized_der());
        Ok(())
    }

    fn span(&self, now: SystemTime, not_after: SystemTime) -> Validity {
        Validity {
            not_before: now - self.plan.skew,
            not_after,
        }
    }
}

/// Several steps at once are stored as one change.
fn as_one_change(from: &State, mut to: State) -> State {
    let successor = from.successor();
    to.generation = successor.generation;
    to.previous = successor.previous;
    to
}

fn sign(state: &mut State, now: SystemTime) -> Result<(), AdvanceError> {
    let old_ends = state.situation(false)?.issuer_ends;
    let phase = std::mem::replace(&mut state.phase, Phase::Steady);
    let Phase::Distribute { next, .. } = phase else {
        state.phase = phase;
        return Ok(());
    };
    let old = std::mem::replace(&mut state.active, next);
    state.active.cross = living(&state.active.cross, now)?;
    state.phase = Phase::Sign {
        since: now,
        old_root: old.root,
        old_ends,
    };
    Ok(())
}

/// The certificates of a path up to the first one that has ended: what lies behind that one leads nowhere.
fn living(path: &str, now: SystemTime) -> Result<String, AdvanceError> {
    if path.is_empty() {
        return Ok(String::new());
    }
    let mut living = Vec::new();
    for certificate in pem::certificates(path.as_bytes())? {
        if not_after(&certificate)? <= now {
            break;
        }
        living.push(certificate);
    }
    Ok(pem::encode_certificates(&living))
}

fn only_certificate(text: &str) -> Result<CertificateDer<'static>, AdvanceError> {
    let mut certificates = pem::certificates(text.as_bytes())?;
    Ok(certificates.swap_remove(0))
}

fn read_key(text: &str) -> Result<KeyPair, AdvanceError> {
    Ok(KeyPair::try_from(&pem::private_key(text.as_bytes())?)?)
}

fn encode_key(der: &[u8]) -> String {
    pem::encode("PRIVATE KEY", der)
}
