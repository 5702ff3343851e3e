//! Which step is due, and when the next one will be: arithmetic on instants.
//!
//! Owns the two promises of a rotation. A root signs only after it has been in every answer for a whole life of a
//! leaf, so that whoever holds a valid leaf has heard of it. A root is withdrawn only after the last leaf below it
//! has ended. Everything else (how early to begin, what to do when it is late) follows from these two.

use std::time::{Duration, SystemTime};

/// A rotation takes two holds; it begins a little earlier than it must.
const HOLDS_OF_A_ROTATION: f64 = 2.25;
/// The least life of an authority, in holds: one rotation must be over before the next one begins, and a leaf should
/// never be cut short by much.
const HOLDS_OF_A_LIFE: f64 = 2.5;
/// Other replicas hear of a change within this time at the latest.
const HEARSAY: Duration = Duration::from_secs(30);

/// What rotation is asked to keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Life of a leaf.
    pub(crate) leaf_ttl: Duration,
    /// How far clocks may differ.
    pub(crate) skew: Duration,
    /// Life of an issuer from the moment it signs, and of a root whose key is not kept.
    pub(crate) ca_ttl: Duration,
    /// Life of a root whose key is kept: it outlives its issuers.
    pub(crate) root_ttl: Duration,
    pub(crate) root_key: RootKey,
}

/// What becomes of the private key of a new root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootKey {
    /// It is dropped as soon as it has signed the issuer.
    Discard,
    /// It is stored, and signs later issuers.
    Keep,
}

/// What matters of an authority's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Situation {
    pub(crate) phase: Instants,
    pub(crate) issuer_ends: SystemTime,
    pub(crate) root_ends: SystemTime,
    pub(crate) has_root_key: bool,
    /// When the first certificate that vouches for the root by an older one ends.
    pub(crate) cross_ends: Option<SystemTime>,
    /// The longest hold since the last rotation.
    pub(crate) hold: Duration,
    /// Somebody wants a rotation now.
    pub(crate) requested: bool,
}

/// A phase with the instants that count in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instants {
    Steady,
    Distribute {
        since: SystemTime,
    },
    Sign {
        since: SystemTime,
        /// When the old issuer, and with it the last leaf below it, ends.
        old_ends: SystemTime,
    },
}

/// One change of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Notes that leaves live longer than they did.
    Remember,
    /// Drops a root key that is not to be kept any more.
    ForgetRootKey,
    /// Makes a new root and issuer, and puts the root into every answer.
    Distribute,
    /// Makes a new issuer below the same root.
    Reissue,
    /// Lets the new issuer sign.
    Sign,
    /// Takes the old root out of the answers.
    Withdraw,
    /// Takes expired certificates out of the issuer's chain.
    DropCross,
}

// === impl Plan ===

impl Plan {
    /// Returns how long a phase lasts: a leaf's life, the clocks' difference, and the time for all to hear of it.
    pub(crate) fn hold(&self) -> Duration {
        self.leaf_ttl + self.skew + HEARSAY.min(self.leaf_ttl / 10)
    }

    /// Returns the least life of an authority that can be rotated in peace.
    pub(crate) fn least_ca_ttl(&self) -> Duration {
        self.hold().mul_f64(HOLDS_OF_A_LIFE)
    }

    /// Returns how long before the end of the authority a rotation begins: at a quarter of its life, or as early as
    /// two phases need, but not before the last rotation is over.
    pub(crate) fn lead(&self, hold: Duration) -> Duration {
        let needed = hold.mul_f64(HOLDS_OF_A_ROTATION);
        let latest = self.ca_ttl.saturating_sub(hold);
        (self.ca_ttl / 4).max(needed).min(latest)
    }

    /// Returns the next step and when it is due; an instant that has passed means now.
    pub(crate) fn next(&self, situation: &Situation, now: SystemTime) -> (SystemTime, Step) {
        if self.hold() > situation.hold {
            return (now, Step::Remember);
        }
        match situation.phase {
            Instants::Distribute { since } => (self.sign_at(situation, since), Step::Sign),
            Instants::Sign { since, old_ends } => {
                let over = (old_ends + self.skew).min(since + situation.hold);
                (over, Step::Withdraw)
            }
            Instants::Steady => self.next_when_steady(situation, now),
        }
    }

    fn next_when_steady(&self, situation: &Situation, now: SystemTime) -> (SystemTime, Step) {
        if situation.has_root_key && self.root_key == RootKey::Discard {
            return (now, Step::ForgetRootKey);
        }
        let end = situation.issuer_ends.min(situation.root_ends);
        let due = match situation.requested {
            true => now,
            false => end - self.lead(situation.hold),
        };
        // A root that ends before the new issuer would is replaced with it.
        let root_serves = situation.root_ends >= due.max(now) + self.ca_ttl;
        let renewal = match situation.has_root_key && root_serves {
            true => (due, Step::Reissue),
            false => (due, Step::Distribute),
        };
        match situation.cross_ends {
            Some(ended) if ended < renewal.0 => (ended, Step::DropCross),
            _ => renewal,
        }
    }

    /// A hold after the distribution began. If the old issuer ends too soon for that, then at two thirds of what is
    /// left to it: better that a few have not heard of the new root, for which the old one vouches as long as it
    /// lives, than that nobody can sign.
    fn sign_at(&self, situation: &Situation, since: SystemTime) -> SystemTime {
        let end = situation.issuer_ends.min(situation.root_ends);
        let left = end.duration_since(since).unwrap_or_default();
        since + situation.hold.min(left.mul_f64(2.0 / 3.0))
    }
}

// === impl Step ===

impl Step {
    /// The word that log and metrics use.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Remember => "remember",
            Self::ForgetRootKey => "forget-root-key",
            Self::Distribute => "distribute",
            Self::Reissue => "reissue",
            Self::Sign => "sign",
            Self::Withdraw => "withdraw",
            Self::DropCross => "drop-cross",
        }
    }
}
