//! What is stored of an authority that Sentry made itself: one value, one write, every phase.
//!
//! Owns the form of `ca-state.json` and how the three files of the reference follow from it ([`State::texts`]). The
//! state is the truth and the files are its image: a crash between the two is repaired by writing the image again.
//! Holds private keys; `Debug` shows none.

use super::plan::{Instants, Situation};
use crate::store::Texts;
use ironside_identity::pem::{self, PemError};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The form that this build writes and reads.
const VERSION: u32 = 1;

/// An authority of our own, in one of its phases.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct State {
    version: u32,
    /// Counts the changes; who writes a change names the number it was made from.
    pub(crate) generation: u64,
    /// The longest hold since the last rotation, in seconds.
    pub(crate) hold_seconds: u64,
    pub(crate) phase: Phase,
    /// What signs.
    pub(crate) active: Ca,
    /// What the three files were before this change; none if there were none.
    pub(crate) previous: Option<Marks>,
}

/// Where a rotation is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, tag = "name")]
pub(crate) enum Phase {
    /// Nowhere.
    Steady,
    /// The next root is in every answer.
    Distribute {
        #[serde(with = "instant")]
        since: SystemTime,
        next: Ca,
    },
    /// The next root has become the active one; the old one is still in every answer.
    #[serde(rename_all = "camelCase")]
    Sign {
        #[serde(with = "instant")]
        since: SystemTime,
        old_root: String,
        #[serde(with = "instant")]
        old_ends: SystemTime,
    },
}

/// A root and the issuer below it, in PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Ca {
    pub(crate) root: String,
    pub(crate) issuer: String,
    pub(crate) issuer_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root_key: Option<String>,
    /// The root as signed by an older authority, and that one's chain; empty if nobody needs it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) cross: String,
}

/// SHA-256 of the three files, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Marks {
    pub(crate) root: String,
    pub(crate) issuer: String,
    pub(crate) key: String,
}

/// Why a text is no state. It is never overwritten.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("not readable: {0}")]
    Json(#[from] serde_json::Error),
    #[error("version {0} is not known to this build")]
    Version(u32),
    #[error("certificates: {0}")]
    Pem(#[from] PemError),
    #[error("certificates: {0}")]
    Certificate(Box<str>),
}

// === impl State ===

impl State {
    /// The first state of a new authority.
    pub(crate) fn new(active: Ca, hold: Duration) -> Self {
        Self {
            version: VERSION,
            generation: 1,
            hold_seconds: whole_seconds(hold),
            phase: Phase::Steady,
            active,
            previous: None,
        }
    }

    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// [`StateError`] for anything else, a form of a later build included.
    pub(crate) fn from_json(text: &[u8]) -> Result<Self, StateError> {
        let state: Self = serde_json::from_slice(text)?;
        if state.version != VERSION {
            return Err(StateError::Version(state.version));
        }
        state.situation(false)?;
        Ok(state)
    }

    /// Writes the state, keys included.
    ///
    /// # Errors
    /// [`StateError::Json`], which a state that was made here never gives.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, StateError> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// The state after this one, with other content to be put in.
    pub(crate) fn successor(&self) -> Self {
        Self {
            generation: self.generation + 1,
            previous: Some(self.texts().marks()),
            ..self.clone()
        }
    }

    /// The three files of this state: the roots of every answer, what is sent behind a leaf, and what signs.
    pub(crate) fn texts(&self) -> Texts {
        let other_root = match &self.phase {
            Phase::Steady => "",
            Phase::Distribute { next, .. } => &next.root,
            Phase::Sign { old_root, .. } => old_root,
        };
        let Ca {
            root,
            issuer,
            issuer_key,
            cross,
            root_key: _,
        } = &self.active;
        Texts {
            root: [root, other_root].concat().into_bytes(),
            issuer: [issuer.as_str(), cross].concat().into_bytes(),
            key: issuer_key.clone().into_bytes(),
        }
    }

    /// What matters of this state for the next step.
    ///
    /// # Errors
    /// [`StateError`] if a certificate in it can't be read.
    pub(crate) fn situation(&self, requested: bool) -> Result<Situation, StateError> {
        let phase = match &self.phase {
            Phase::Steady => Instants::Steady,
            Phase::Distribute { since, next } => {
                end_of(&next.root)?;
                Instants::Distribute { since: *since }
            }
            Phase::Sign {
                since, old_ends, ..
            } => Instants::Sign {
                since: *since,
                old_ends: *old_ends,
            },
        };
        Ok(Situation {
            phase,
            issuer_ends: end_of(&self.active.issuer)?,
            root_ends: end_of(&self.active.root)?,
            has_root_key: self.active.root_key.is_some(),
            cross_ends: match self.active.cross.is_empty() {
                true => None,
                false => Some(end_of(&self.active.cross)?),
            },
            hold: self.hold(),
            requested,
        })
    }

    /// The longest hold since the last rotation.
    pub(crate) fn hold(&self) -> Duration {
        Duration::from_secs(self.hold_seconds)
    }

    /// The word that log and metrics use for the phase.
    pub(crate) fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Steady => "steady",
            Phase::Distribute { .. } => "distribute",
            Phase::Sign { .. } => "sign",
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("generation", &self.generation)
            .field("phase", &self.phase_name())
            .finish_non_exhaustive()
    }
}

/// Seconds, rounded up.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The instant at which the first of some certificates ends.
fn end_of(text: &str) -> Result<SystemTime, StateError> {
    let ends = pem::certificates(text.as_bytes())?;
    let ends = ends
        .iter()
        .map(not_after)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .min();
    ends.ok_or_else(|| StateError::Certificate("none".into()))
}

/// The end of one certificate.
pub(crate) fn not_after(certificate: &CertificateDer<'_>) -> Result<SystemTime, StateError> {
    let (_rest, parsed) = X509Certificate::from_der(certificate)
        .map_err(|cause| StateError::Certificate(cause.to_string().into()))?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Instants as people read them, to the nanosecond.
mod instant {
    use jiff::Timestamp;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};
    use std::time::SystemTime;

    pub(super) fn serialize<S: Serializer>(
        instant: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let instant = Timestamp::try_from(*instant).map_err(S::Error::custom)?;
        serializer.collect_str(&instant)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        let instant: Timestamp = text.parse().map_err(D::Error::custom)?;
        Ok(instant.into())
    }
}
